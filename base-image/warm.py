"""Has mypy read all that a skill can import, once, while the image is built: a check takes a second then, not twenty.

    warm.py CACHE CONFIGURATION PYTHON [MODULE...]

PYTHON is the one that has mypy; without modules it is all that the interpreter running this can import. It is apart
from the package whose cache it fills, so that a change there does not have everything read again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path


def main(cache: str, configuration: str, python: str, *modules: str) -> int:
    """The exit code."""
    names = modules or sorted(filter(_importable, {*sys.stdlib_module_names, *metadata.packages_distributions()}))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "skill.py"
        source.write_text("".join(f"import {name}\n" for name in names))
        options = ("--config-file", configuration, "--cache-dir", cache, "--sqlite-cache")
        ended = subprocess.run([python, "-I", "-m", "mypy", *options, source.name], cwd=folder, check=False)
    sys.stdout.write(f"mypy has read {len(names)} modules\n")
    return 0 if ended.returncode in (0, 1) else ended.returncode  # 1: some of them have no types


def _importable(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and find_spec(name) is not None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
