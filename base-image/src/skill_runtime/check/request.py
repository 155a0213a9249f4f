"""The order of a check: what the operator put into the environment, read and taken out of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from skill_runtime import strict_json
from skill_runtime.contract import Contract
from skill_runtime.settings import RuntimeSettingsError

PARTS = 8
_MOST = 1 << 25


@dataclass(frozen=True)
class CheckExample:
    """One expectation."""

    name: str
    input: Any
    has_output: bool
    output: Any
    error: str
    """Name of an exception's class; empty: none is expected."""
    hidden: bool


@dataclass(frozen=True)
class CheckRequest:
    """A candidate and what it is judged by."""

    source: str
    types: str
    contract: Contract
    examples: tuple[CheckExample, ...]
    deterministic: bool
    """The same input is to get the same output."""
    granted: bool
    """It uses a network or secrets, of which there are none in a check."""
    digest: str
    """Of the whole: what the verdict is about."""


@dataclass(frozen=True)
class Order:
    """The bundle as it came, and the key of the report."""

    data: str
    key: bytes

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Order:
        """Raises SettingsError. Nothing of it stays in the environment, of which children might get to know."""
        parts = [environment.pop(f"SKILL_CHECK_{number}", "") for number in range(PARTS)]
        key = environment.pop("SKILL_REPORT_KEY", "")
        try:
            secret = bytes.fromhex(key)
        except ValueError:
            raise RuntimeSettingsError("SKILL_REPORT_KEY is not hexadecimal") from None
        if not secret:
            raise RuntimeSettingsError("SKILL_REPORT_KEY is not set")
        return cls("".join(parts), secret)

    def read(self) -> CheckRequest:
        """Raises SettingsError."""
        try:
            inflate = zlib.decompressobj(wbits=31)
            text = inflate.decompress(base64.b64decode(self.data, validate=True), _MOST)
            if not inflate.eof:
                raise RuntimeSettingsError("the bundle is cut short, or too large")
            # Not strictly: the source may hold anything, and is judged later.
            document = strict_json.lenient(text)
            return CheckRequest(
                _text(document, "source"),
                _text(document, "types"),
                Contract.of(document),
                tuple(_example(entry) for entry in document["examples"]),
                deterministic=document.get("deterministic") is not False,
                granted=document.get("granted") is True,
                digest=hashlib.sha256(text).hexdigest(),
            )
        except (binascii.Error, zlib.error, strict_json.DocumentError, KeyError, TypeError, AttributeError) as error:
            raise RuntimeSettingsError(f"the bundle cannot be read: {type(error).__name__}: {error}") from error


def _text(document: dict[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value


def _example(entry: dict[str, Any]) -> CheckExample:
    return CheckExample(
        str(entry.get("name", "")),
        entry["input"],
        "output" in entry,
        entry.get("output"),
        str(entry.get("error") or ""),
        bool(entry.get("hidden")),
    )
