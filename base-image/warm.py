"""Fill the cache of mypy with all that a skill can import, while the image is built.

A check takes a second then, not twenty.

    warm.py CACHE CONFIGURATION PYTHON [MODULE...]

PYTHON is the interpreter that has mypy. Without modules mypy reads all that the interpreter running this can import.
The script lies apart from skill_runtime, so that a change there does not fill the cache again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path


def main(cache: str, configuration: str, python: str, *modules: str) -> int:
    """Run mypy and return the exit code."""
    names = modules or sorted(filter(_importable, {*sys.stdlib_module_names, *metadata.packages_distributions()}))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "skill.py"
        source.write_text("".join(f"import {name}\n" for name in names))
        options = ("--config-file", configuration, "--cache-dir", cache, "--sqlite-cache")
        result = subprocess.run([python, "-I", "-m", "mypy", *options, source.name], cwd=folder, check=False)
    sys.stdout.write(f"mypy has read {len(names)} modules\n")
    return 0 if result.returncode in (0, 1) else result.returncode  # 1: some of them have no types


def _importable(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and find_spec(name) is not None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
