"""The meaning of paths. One slash at the end has none, and there is one way to write each other slash."""

from __future__ import annotations

from typing import Final

from starlette.convertors import StringConvertor

LABEL = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
"""The pattern of a label of DNS (RFC 1123), as a namespace is."""
PAGE_PREFIX: Final = "/ui"
"""The path of the page for people, which has more below it."""


class LabelConvertor(StringConvertor):
    """LabelConvertor lets a part of a path through that is a label of DNS."""

    regex = LABEL


def has_encoded_slash(path: bytes) -> bool:
    """Return whether a raw path hides a slash. A proxy in front, which may allow by path, could read it otherwise."""
    return b"%2f" in path.lower()


def is_page_path(path: str) -> bool:
    """Return whether a path is one of the page for people."""
    return path == PAGE_PREFIX or path.startswith(f"{PAGE_PREFIX}/")
