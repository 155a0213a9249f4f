"""The programs that the tests take from npm: installed from a lock of hashes, once, and kept by the content of that."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from hack.cluster import packages, records
from hack.cluster.binaries import CACHE
from hack.cluster.identity import CHECKOUT
from hack.cluster.shell import ClusterError, run, step

SOURCE = CHECKOUT / "tests" / "npm"
OLDEST_NODE = 20


def ensure() -> Path:
    """Return the folder of the programs and of what they depend on. Raises ClusterError where Node.js is missing."""
    content = b"".join(path.name.encode() + path.read_bytes() for path in sorted(SOURCE.iterdir()) if path.is_file())
    folder = CACHE / "npm" / hashlib.sha256(content).hexdigest()[:16]
    with records.locked(CACHE / "npm"):
        if not folder.exists():
            _check_node()
            draft = folder.with_suffix(".draft")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(SOURCE, draft)
            with step("installed the npm packages of the tests"):
                run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", draft)
            draft.rename(folder)
    return folder


def _check_node() -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        packages.ensure(("nodejs", "npm"))
    found = re.match(r"v(\d+)", run("node", "--version", check=False))
    if found is None or int(found[1]) < OLDEST_NODE:
        raise ClusterError(f"the tests need Node.js {OLDEST_NODE} or newer in PATH, and npm")
