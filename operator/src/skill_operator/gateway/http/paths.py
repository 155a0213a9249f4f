"""What paths of requests mean. One slash at the end means nothing; each other path has one way to write its slashes."""

from __future__ import annotations


def has_encoded_slash(path: bytes) -> bool:
    """Return whether a raw path hides a slash. A proxy in front, which may allow by path, could read it otherwise."""
    return b"%2f" in path.lower()
