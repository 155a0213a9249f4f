"""The redaction of secrets in responses and logs: a guard against accidents, which malicious code can walk around.

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

MIN_VALUE_BYTES = 8
"""Shorter values stand in too many innocent texts; they are not looked for."""
_MAX_ENCODED_BYTES = 1 << 14
"""The encodings of longer values are not looked for, to bound what PID 1 holds."""
_MIN_LINE_BYTES = 16
"""The length from which one line of a value of many lines is looked for alone."""
_MAX_VERSIONS = 4
"""Versions of a value that are kept: what a worker read before a change may come out after it."""
_DATA_LINK = "..data"
"""The link that the kubelet moves when any of the files changes."""


class Redactor:
    """Redactor replaces the values of a folder's files, followed as they change.

    `open_names` are the secrets whose values a response may carry.
    """

    def __init__(self, folder: Path, open_names: Collection[str] = ()) -> None:
        self._folder, self._open = folder, frozenset(open_names)
        self._version: object = None
        self._values: dict[str, list[bytes]] = {}
        self._all: Needles = ()
        self._closed: Needles = ()
        self.refresh()
        for name, values in self._values.items():
            if not any(_needles(value) for value in values):
                log.write("warning", "a secret is too short to be recognised in responses and logs", secret=name)

    @property
    def overlap_bytes(self) -> int:
        """The longest part of a value that may lie beyond a cut through a text."""
        return min(max((len(needle) for _, needle in self._all), default=1) - 1, _MAX_ENCODED_BYTES)

    def refresh(self) -> None:
        """Read again what has changed. Costs a microsecond where nothing has."""
        try:
            version: object = (self._folder / _DATA_LINK).readlink()
        except OSError:
            version = "" if self._version is None and self._folder.is_dir() else self._version
        if version is None or version == self._version:
            return
        self._version = version
        for file in sorted(self._folder.glob("[!.]*")):
            with contextlib.suppress(OSError):
                value = file.read_bytes()
                previous = [old for old in self._values.get(file.name, []) if old != value]
                self._values[file.name] = [*previous, value][-_MAX_VERSIONS:]
        names = {
            needle: name for name, values in self._values.items() for value in values for needle in _needles(value)
        }
        # The longest first: a line of a key must not break the key apart.
        ordered = sorted(names, key=lambda needle: (-len(needle), needle))
        self._all = tuple((names[needle], needle) for needle in ordered)
        self._closed = tuple((name, needle) for name, needle in self._all if name not in self._open)

    def redact_line(self, data: bytes) -> bytes:
        """Redact a piece of output on its way into the log, which no secret may reach."""
        self.refresh()
        return _replace(data, self._all)

    def redact_log_text(self, text: str) -> str:
        """Redact a short text for the log, perhaps cut by its sender."""
        self.refresh()
        return _replace_in_text(text, self._all)

    def redact_message(self, text: str) -> str:
        """Redact a short text for the caller, perhaps cut by its sender."""
        self.refresh()
        return _replace_in_text(text, self._closed)

    def redact_output(self, value: Any, text: bytes) -> tuple[Any, bytes, bool]:
        """Redact an output and its JSON, and return with them whether anything was replaced."""
        self.refresh()
        if not any(_find(text, self._closed)):
            return value, text, False
        clean = _replace_in_value(value, self._closed)
        return clean, json.dumps(clean, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode(), True


Needles = tuple[tuple[str, bytes], ...]
"""Name of a secret and one spelling of its value, both without backslashes: JSON puts them anywhere, at any depth."""


def _find(data: bytes, needles: Needles) -> Iterator[tuple[str, bytes]]:
    bare = data.replace(b"\\", b"") if needles else b""
    return (needle for needle in needles if needle[1] in bare)


def _replace(data: bytes, needles: Needles) -> bytes:
    for name, needle in _find(data, needles):
        data = _pattern(needle).sub(f"[secret {name}]".encode(), data)
    return data


@lru_cache(maxsize=64)
def _pattern(needle: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\\*".join(re.escape(needle[at : at + 1]) for at in range(len(needle))))


def _replace_in_text(text: str, needles: Needles) -> str:
    """Replace values, and the beginning of a value at the very end, where a cut may have left it."""
    if not needles:
        return text
    data = _replace(text.encode("utf-8", "surrogatepass"), needles)
    for name, needle in needles:
        at = data.rfind(needle[:MIN_VALUE_BYTES], max(0, len(data) - len(needle)))
        if at >= 0 and needle.startswith(data[at:].removesuffix("…".encode())):
            data = data[:at] + f"[secret {name}]".encode()
    return data.decode("utf-8", "surrogatepass")


def _replace_in_value(value: Any, needles: Needles) -> Any:
    """Replace values in strings, keys and numbers alike. A document is at most `strict_json.MAX_DEPTH` deep."""
    match value:
        case str():
            return _replace(value.encode("utf-8", "surrogatepass"), needles).decode("utf-8", "surrogatepass")
        case dict():
            return {_replace_in_value(key, needles): _replace_in_value(item, needles) for key, item in value.items()}
        case list():
            return [_replace_in_value(item, needles) for item in value]
        case bool() | None:
            return value
        case _:
            text = json.dumps(value)
            clean = _replace(text.encode(), needles).decode()
            return value if clean == text else clean


def _needles(value: bytes) -> set[bytes]:
    """Return all spellings to look for: of the value without surrounding white space, and of its longer lines."""
    whole = value.strip()
    parts = {whole, *(line for line in map(bytes.strip, whole.splitlines()) if len(line) >= _MIN_LINE_BYTES)}
    bare = {
        spelling.replace(b"\\", b"") for part in parts if len(part) >= MIN_VALUE_BYTES for spelling in _spellings(part)
    }
    return {spelling for spelling in bare if len(spelling) >= MIN_VALUE_BYTES}


def _spellings(value: bytes) -> Iterator[bytes]:
    yield value
    text = value.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape")
    if len(value) > _MAX_ENCODED_BYTES:
        return
    yield from (value.hex().encode(), value.hex().upper().encode())
    for quoted in (quote_from_bytes(value), quote_from_bytes(value, safe=""), quote_plus(value)):
        yield quoted.encode()
        yield re.sub("%..", lambda match: match[0].lower(), quoted).encode()
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        for offset in range(3):  # the value may stand at any place in what was encoded
            first = (0, 2, 3)[offset]
            whole_characters = (offset + len(value)) * 8 // 6
            yield encode(bytes(offset) + value)[first:whole_characters]
