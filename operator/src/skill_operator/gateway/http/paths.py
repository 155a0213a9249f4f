"""The meaning of paths. One slash at the end has none, and there is one way to write each other slash."""

from __future__ import annotations


def has_encoded_slash(path: bytes) -> bool:
    """Return whether a raw path hides a slash. A proxy in front, which may allow by path, could read it otherwise."""
    return b"%2f" in path.lower()
