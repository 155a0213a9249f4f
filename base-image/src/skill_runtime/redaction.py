"""Secrets kept out of answers and logs: a guard against accidents, which code that means harm can walk around.

PID 1 reads the same files as the skill does, and looks for their values in whatever leaves the pod: as they are, in
base64, hexadecimal, percent-encoded, and as JSON spells them, however deep in strings of strings.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, quote_plus

from skill_runtime import log

SHORTEST = 8
"""Bytes. Shorter values stand in too many innocent texts; they are not looked for."""
_LONGEST_ENCODED = 1 << 14
"""Of longer values the encodings are not looked for, to bound what PID 1 holds."""
_LINE = 16
"""Bytes from which one line of a value of many lines is looked for alone."""
_REMEMBERED = 4
"""Versions of a value: what a worker read before a change may come out after it."""
_DATA = "..data"
"""The link that the kubelet moves when any of the files changes."""


class Redactor:
    """The values of a folder's files, followed as they change. `open_names`: those that answers may carry."""

    def __init__(self, folder: Path, open_names: Collection[str] = ()) -> None:
        self._folder, self._open = folder, frozenset(open_names)
        self._seen: object = None
        self._values: dict[str, list[bytes]] = {}
        self._all: Needles = ()
        self._closed: Needles = ()
        self.follow()
        for name, values in self._values.items():
            if not any(_needles(value) for value in values):
                log.write("warning", "a secret is too short to be recognised in answers and logs", secret=name)

    @property
    def overlap(self) -> int:
        """Bytes that a value may stretch beyond a cut through a text."""
        return min(max((len(needle) for _, needle in self._all), default=1) - 1, _LONGEST_ENCODED)

    def follow(self) -> None:
        """Read again what has changed. Costs a microsecond where nothing has."""
        try:
            version: object = (self._folder / _DATA).readlink()
        except OSError:
            version = "" if self._seen is None and self._folder.is_dir() else self._seen
        if version is None or version == self._seen:
            return
        self._seen = version
        for file in sorted(self._folder.glob("[!.]*")):
            with contextlib.suppress(OSError):
                value = file.read_bytes()
                known = [old for old in self._values.get(file.name, []) if old != value]
                self._values[file.name] = [*known, value][-_REMEMBERED:]
        found = {
            needle: name for name, values in self._values.items() for value in values for needle in _needles(value)
        }
        # The longest first: a line of a key must not break the key apart.
        ordered = sorted(found, key=lambda needle: (-len(needle), needle))
        self._all = tuple((found[needle], needle) for needle in ordered)
        self._closed = tuple((name, needle) for name, needle in self._all if name not in self._open)

    def line(self, data: bytes) -> bytes:
        """A piece of output on its way into the log, which no secret may reach."""
        self.follow()
        return _replaced(data, self._all)

    def note(self, text: str) -> str:
        """A short text for the log, perhaps cut by whoever sent it."""
        self.follow()
        return _text(text, self._all)

    def message(self, text: str) -> str:
        """A short text for the caller, perhaps cut by whoever sent it."""
        self.follow()
        return _text(text, self._closed)

    def answer(self, value: Any, text: bytes) -> tuple[Any, bytes, bool]:
        """A result and its JSON, and whether anything was taken out of them."""
        self.follow()
        if not any(_found(text, self._closed)):
            return value, text, False
        clean = _walk(value, self._closed)
        return clean, json.dumps(clean, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode(), True


Needles = tuple[tuple[str, bytes], ...]
"""Name of a secret and one spelling of its value, both without backslashes: JSON puts them anywhere, at any depth."""


def _found(data: bytes, needles: Needles) -> Iterator[tuple[str, bytes]]:
    bare = data.replace(b"\\", b"") if needles else b""
    return (needle for needle in needles if needle[1] in bare)


def _replaced(data: bytes, needles: Needles) -> bytes:
    for name, needle in _found(data, needles):
        data = _pattern(needle).sub(f"[secret {name}]".encode(), data)
    return data


@lru_cache(maxsize=64)
def _pattern(needle: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\\*".join(re.escape(needle[at : at + 1]) for at in range(len(needle))))


def _text(text: str, needles: Needles) -> str:
    """Also without the beginning of a value at its very end, where a cut may have left it."""
    if not needles:
        return text
    data = _replaced(text.encode("utf-8", "surrogatepass"), needles)
    for name, needle in needles:
        at = data.rfind(needle[:SHORTEST], max(0, len(data) - len(needle)))
        if at >= 0 and needle.startswith(data[at:].removesuffix("…".encode())):
            data = data[:at] + f"[secret {name}]".encode()
    return data.decode("utf-8", "surrogatepass")


def _walk(value: Any, needles: Needles) -> Any:
    """Strings, keys and numbers alike. A document is at most `documents.MAX_DEPTH` deep."""
    match value:
        case str():
            return _replaced(value.encode("utf-8", "surrogatepass"), needles).decode("utf-8", "surrogatepass")
        case dict():
            return {_walk(key, needles): _walk(item, needles) for key, item in value.items()}
        case list():
            return [_walk(item, needles) for item in value]
        case bool() | None:
            return value
        case _:
            spelled = json.dumps(value)
            clean = _replaced(spelled.encode(), needles).decode()
            return value if clean == spelled else clean


def _needles(value: bytes) -> set[bytes]:
    """All spellings that are looked for: of the value, without the white space around it, and of its longer lines."""
    whole = value.strip()
    parts = {whole, *(line for line in map(bytes.strip, whole.splitlines()) if len(line) >= _LINE)}
    bare = {spelling.replace(b"\\", b"") for part in parts if len(part) >= SHORTEST for spelling in _spellings(part)}
    return {spelling for spelling in bare if len(spelling) >= SHORTEST}


def _spellings(value: bytes) -> Iterator[bytes]:
    yield value
    text = value.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape")
    if len(value) > _LONGEST_ENCODED:
        return
    yield from (value.hex().encode(), value.hex().upper().encode())
    for quoted in (quote_from_bytes(value), quote_from_bytes(value, safe=""), quote_plus(value)):
        yield quoted.encode()
        yield re.sub("%..", lambda found: found[0].lower(), quoted).encode()
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        for before in range(3):  # the value may stand at any place in what was encoded
            first = (0, 2, 3)[before]
            whole_characters = (before + len(value)) * 8 // 6
            yield encode(bytes(before) + value)[first:whole_characters]
