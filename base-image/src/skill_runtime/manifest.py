"""The manifest: what a skill can import, reported by the image itself.

It is the one source for prompt, policy, type checker and production.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime.check.policy import ALLOWED_STANDARD

_RUNTIME_MODULES = frozenset(("h11", "jsonschema_rs", "skill_runtime"))
"""Importable, but not promised: the runtime may do without them one day."""


def main() -> int:
    """Print the manifest."""
    sys.stdout.write(json.dumps(describe(Path("/")), indent=1, sort_keys=True) + "\n")
    return 0


def describe(root: Path) -> dict[str, Any]:
    """Return the manifest of this interpreter, and of the root file system that it lies in."""
    installed = {found.name: found.version for found in metadata.distributions()}
    provided = metadata.packages_distributions()
    modules = {name: min(by) for name, by in provided.items() if _is_public(name) and name not in _RUNTIME_MODULES}
    return {
        oc.MANIFEST_PYTHON: platform.python_version(),
        oc.MANIFEST_DISTRIBUTIONS: installed,
        oc.MANIFEST_MODULES: modules,
        oc.MANIFEST_STANDARD: sorted(name for name in ALLOWED_STANDARD if find_spec(name)),
        oc.MANIFEST_ROOT_ENTRIES: sorted(entry.name for entry in root.iterdir() if entry.name != "skill"),
    }


def _is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_")
