"""Write deploy/argocd/argocd-cm.yaml, the settings of Argo CD for Skills, from the Lua files beside it.

python3 -m hack.argocd [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from hack.cluster.identity import CHECKOUT
from hack.cluster.shell import say

FOLDER = CHECKOUT / "deploy" / "argocd"
TARGET = FOLDER / "argocd-cm.yaml"
KEY = "skill-operator.dev_Skill"
_HEAD = """\
# Made by `make generate` from the Lua files beside it. Merge it into the ConfigMap of your Argo CD:
# kubectl -n argocd patch configmap argocd-cm --patch-file argocd-cm.yaml
data:
"""


def render(folder: Path = FOLDER / "skill-operator.dev" / "Skill") -> str:
    """Return the settings: the health of Skills, what actions there are, and each action."""
    health, discovery = ((folder / name).read_text() for name in ("health.lua", "actions/discovery.lua"))
    actions = sorted(path.parent for path in folder.glob("actions/*/action.lua"))
    definitions = "".join(
        f"      - name: {action.name}\n        action.lua: |\n{_indented((action / 'action.lua').read_text(), 10)}"
        for action in actions
    )
    return (
        f"{_HEAD}  resource.customizations.health.{KEY}: |\n{_indented(health, 4)}"
        f"  resource.customizations.actions.{KEY}: |\n"
        f"    discovery.lua: |\n{_indented(discovery, 6)}    definitions:\n{definitions}"
    )


def _indented(text: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}\n" if line else "\n" for line in text.splitlines())


def main(arguments: list[str]) -> int:
    """Write the file, or say whether it is up to date."""
    if arguments != ["--check"]:
        TARGET.write_text(render())
    elif not TARGET.exists() or TARGET.read_text() != render():
        say(f"{TARGET.relative_to(CHECKOUT)} is not up to date: run `make generate`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
