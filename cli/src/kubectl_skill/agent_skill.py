"""Write a Skill as a folder of the Agent Skills format (agentskills.io): SKILL.md, scripts/ and references/."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from kubectl_skill.manifest_text import dump_yaml
from skill_operator import naming
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.generation.typed_dicts import types_module
from skill_operator.untrusted.text import printable

MAX_NAME_CHARACTERS: Final = 64
MAX_DESCRIPTION_CHARACTERS: Final = 1024
MAX_COMPATIBILITY_CHARACTERS: Final = 500
MAX_SHOWN_EXAMPLES: Final = 5
RUN_SCRIPT: Final = '''"""Call the skill: JSON of the input on standard input, JSON of the output on standard output."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from skill import run  # noqa: E402

try:
    answer = run(json.load(sys.stdin))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
json.dump(answer, sys.stdout, ensure_ascii=False)
sys.stdout.write("\\n")
'''


def folder_name(skill: str) -> str:
    """Return the name that the format allows: lower-case letters, digits and single hyphens, at most 64 of them."""
    return re.sub(r"-{2,}", "-", skill.replace(".", "-"))[:MAX_NAME_CHARACTERS].strip("-")


def folder_files(skill: str, spec: SkillSpec, source: str, revision: str) -> Mapping[str, str]:
    """Return the texts of the folder by their paths; equal Skills give equal texts."""
    return {
        "SKILL.md": _skill_md(skill, spec, source, revision),
        "scripts/run.py": RUN_SCRIPT,
        "scripts/skill.py": source,
        "scripts/skill_types.py": types_module(spec.input, spec.output),
        "references/schemas.json": _json({"input": spec.input, "output": spec.output}),
        "references/examples.json": _json([_example(example) for example in spec.examples]),
    }


def _skill_md(skill: str, spec: SkillSpec, source: str, revision: str) -> str:
    head: dict[str, Any] = {
        "name": folder_name(skill),
        "description": _description(spec),
        "compatibility": _compatibility(spec),
        "metadata": {
            "skill-operator-name": skill,
            "skill-operator-revision": revision,
            "source-sha256": naming.source_digest(source),
        },
    }
    return f"---\n{dump_yaml(head)}---\n\n{_body(skill, spec)}"


def _description(spec: SkillSpec) -> str:
    """Return what it does and when to use it, on one line."""
    text = spec.summary.strip() or spec.description.strip().partition("\n\n")[0]
    return printable(" ".join(text.split()), MAX_DESCRIPTION_CHARACTERS) or "A skill."


def _compatibility(spec: SkillSpec) -> str:
    needs = ["Needs Python 3.11 or newer"]
    if hosts := sorted({way.to for way in spec.egress}):
        needs.append(f"calls {', '.join(hosts)}")
    if names := sorted(grant.name for grant in spec.secrets):
        needs.append(f"reads the secrets {', '.join(names)} as files below /run/secrets/skill")
    return printable("; ".join(needs) + ".", MAX_COMPATIBILITY_CHARACTERS)


def _body(skill: str, spec: SkillSpec) -> str:
    shown = spec.examples[:MAX_SHOWN_EXAMPLES]
    examples = "".join(f"\n{_fenced(_json(_example(example)))}" for example in shown)
    return (
        f"# {skill}\n\n{spec.description.strip()}\n\n"
        "## How to call it\n\n"
        "Give the input as JSON to `scripts/run.py`; it prints the answer as JSON, or one line that says why not:\n\n"
        f"{_fenced(_call(spec), 'sh')}\n"
        "The code runs here with your own rights. Where the Skill runs in a cluster, call its tool there:\n"
        "it is isolated, and input and output are validated.\n\n"
        f"## Input\n\n{_fenced(_json(spec.input))}\n## Output\n\n{_fenced(_json(spec.output))}"
        + (f"\n## Examples\n{examples}" if shown else "")
        + ("\nAll examples are in [references/examples.json](references/examples.json).\n" if spec.examples else "")
    )


def _call(spec: SkillSpec) -> str:
    value = spec.examples[0].input if spec.examples else {}
    quoted = json.dumps(value, ensure_ascii=False).replace("'", "'\\''")
    return f"echo '{quoted}' | python3 scripts/run.py\n"


def _fenced(text: str, language: str = "json") -> str:
    """Return a block of Markdown whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}{fence}\n"


def _example(example: Any) -> dict[str, Any]:
    outcome = {"output": example.output} if example.error is None else {"error": example.error}
    return {"name": example.name, "input": example.input, **outcome}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
