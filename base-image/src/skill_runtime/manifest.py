"""The manifest: what a skill can import, reported by the image itself.

It is the one source for prompt, policy, type checker and production.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime.check.allowed_modules import ALLOWED_STANDARD, DENIED_MODULES

_RUNTIME_MODULES = frozenset(("h11", "jsonschema_rs", "skill_runtime"))
"""Importable, but not promised: the runtime may do without them one day."""

_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*")


def main(requirements: Sequence[str] = ()) -> int:
    """Print the manifest. `requirements` are the paths of the files that list what the image's maker asked for."""
    asked_for = [line for path in requirements for line in Path(path).read_text(encoding="utf-8").splitlines()]
    sys.stdout.write(json.dumps(describe(Path("/"), asked_for), indent=1, sort_keys=True) + "\n")
    return 0


def describe(root: Path, requirements: Iterable[str] = ()) -> dict[str, Any]:
    """Return the manifest of this interpreter, and of the root file system that it lies in.

    `requirements` are lines as pip reads them. Without any, every module counts as asked for.
    """
    installed = {found.name: found.version for found in metadata.distributions()}
    provided = metadata.packages_distributions()
    modules = {name: min(by) for name, by in provided.items() if _is_public(name) and name not in _RUNTIME_MODULES}
    names = {_normalize(match[0]) for line in requirements if (match := _REQUIREMENT.match(line)) is not None}
    libraries = [name for name, by in modules.items() if not names or _normalize(by) in names]
    return {
        oc.MANIFEST_PYTHON: platform.python_version(),
        oc.MANIFEST_DISTRIBUTIONS: installed,
        oc.MANIFEST_MODULES: modules,
        oc.MANIFEST_LIBRARIES: sorted(set(libraries) - DENIED_MODULES),
        oc.MANIFEST_STANDARD: sorted(name for name in ALLOWED_STANDARD if find_spec(name)),
        oc.MANIFEST_ROOT_ENTRIES: sorted(entry.name for entry in root.iterdir() if entry.name != "skill"),
    }


def _normalize(name: str) -> str:
    """Return the name of a distribution in its one spelling (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_")
