"""What the cache of built images keeps, on a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

from hack.image_cache import prune


def made(cache: Path, name: str, number: int, *, archive: bool = True) -> Path:
    """Return an image that was used `number` seconds after the epoch."""
    path = cache / f"{name}-{number:016x}{'.tar' if archive else ''}"
    if archive:
        path.write_text("image")
    else:
        (path / "blobs").mkdir(parents=True)
    os.utime(path, (number, number))
    return path


def test_what_was_used_last_is_kept_of_each_name(tmp_path: Path) -> None:
    proxies = [made(tmp_path, "egress-proxy", number) for number in range(1, 6)]
    layouts = [made(tmp_path, "runtime", number, archive=False) for number in range(1, 6)]
    others = [made(tmp_path, "kaniko-1", 1), tmp_path / "lock", tmp_path / f"runtime-{9:016x}.draft"]
    others[1].touch()
    others[2].touch()
    used = [proxies[0], layouts[4]]
    deleted = prune(tmp_path, used, kept=2)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {path.name for path in (proxies[0], proxies[4], layouts[3], layouts[4], *others)}
    assert set(deleted) == {
        *(f"egress-proxy:{number:016x}" for number in (2, 3, 4)),
        *(f"runtime:{number:016x}" for number in (1, 2, 3)),
    }
    assert prune(tmp_path, used, kept=2) == []


def test_what_is_used_is_kept_however_much_is_newer(tmp_path: Path) -> None:
    images = [made(tmp_path, "operator", 2_000_000_000 * 4 + number) for number in range(4)]  # a clock that went back
    prune(tmp_path, images[:1], kept=1)
    assert images[0].exists()
