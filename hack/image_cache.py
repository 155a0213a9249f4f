"""The cache of built images forgets what was not used for longest: each change of the code makes a GB of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

KEPT = 8
"""So many images of each name are kept, those that were used last, whichever checkout they belong to."""
KEY_DIGITS = 16
"""The length of the key after an image's name."""


def prune(cache: Path, used: Iterable[Path], kept: int = KEPT) -> list[str]:
    """Note that these are used now, and delete all but the last `kept` images of each of their names.

    Return the names of those that are deleted, each with its key as the tag.
    """
    paths = list(used)
    for path in paths:
        os.utime(path)
    deleted = []
    for name in sorted({_split(path)[0] for path in paths}):
        images = [path for path in cache.iterdir() if _split(path)[0] == name and not path.name.endswith(".draft")]
        for path in sorted(images, key=lambda each: each.stat().st_mtime_ns, reverse=True)[kept:]:
            if path in paths:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            deleted.append(":".join(_split(path)))
    return deleted


def _split(path: Path) -> tuple[str, str]:
    """Return name and key of an image in the cache."""
    name, _, key = path.name.removesuffix(".tar").rpartition("-")
    return (name, key) if len(key) == KEY_DIGITS else ("", "")
