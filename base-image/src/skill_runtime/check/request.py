"""The request of a check: what the operator put into the environment, read and taken out of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from skill_runtime import operator_contract as oc
from skill_runtime import strict_json
from skill_runtime.contract import SkillContract
from skill_runtime.settings import RuntimeSettingsError

_MAX_BYTES = 1 << 25
"""The largest request, decompressed."""


@dataclass(frozen=True)
class CheckExample:
    """CheckExample is one expectation of the candidate."""

    name: str
    input: Any
    has_output: bool
    output: Any
    error: str
    """Name of an exception's class; empty: none is expected."""
    hidden: bool


@dataclass(frozen=True)
class CheckRequest:
    """CheckRequest is a candidate and what it is checked against."""

    source: str
    types: str
    contract: SkillContract
    examples: tuple[CheckExample, ...]
    deterministic: bool
    """The same input must get the same output."""
    granted: bool
    """It uses a network or secrets, of which there are none in a check."""
    digest: str
    """The digest of the whole: the subject of the report."""
    reference: str = ""
    """The accepted program that the candidate is compared with; empty: with none."""


@dataclass(frozen=True)
class EncodedRequest:
    """EncodedRequest is the request as it came, base64 of gzip of JSON, and the key of the report."""

    data: str
    key: bytes

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> EncodedRequest:
        """Take the request out of the environment, which children might read. Raises RuntimeSettingsError."""
        names = [oc.ENV_CHECK_PART.format(number=number) for number in range(oc.MAX_CHECK_PARTS)]
        parts = [environment.pop(name, "") for name in names]
        key = environment.pop(oc.ENV_REPORT_KEY, "")
        try:
            secret = bytes.fromhex(key)
        except ValueError:
            raise RuntimeSettingsError(f"{oc.ENV_REPORT_KEY} is not hexadecimal") from None
        if not secret:
            raise RuntimeSettingsError(f"{oc.ENV_REPORT_KEY} is not set")
        return cls("".join(parts), secret)

    def sign(self, text: str) -> str:
        """Return the HMAC-SHA256 of the text, by the key of the report."""
        return hmac.new(self.key, text.encode(), "sha256").hexdigest()

    def decode(self) -> CheckRequest:
        """Decode the request. Raises RuntimeSettingsError where it is malformed."""
        try:
            inflate = zlib.decompressobj(wbits=31)
            text = inflate.decompress(base64.b64decode(self.data, validate=True), _MAX_BYTES)
            if not inflate.eof:
                raise RuntimeSettingsError("the check request is cut short, or too large")
            # Not strictly: the source may hold anything, and is checked later.
            document = strict_json.parse_lenient(text)
            return CheckRequest(
                _text_member(document, oc.CHECK_SOURCE),
                _text_member(document, oc.CHECK_TYPES),
                SkillContract.from_document(document),
                tuple(_parse_example(entry) for entry in document[oc.CHECK_EXAMPLES]),
                deterministic=document.get(oc.CHECK_DETERMINISTIC) is not False,
                granted=document.get(oc.CHECK_GRANTED) is True,
                digest=hashlib.sha256(text).hexdigest(),
                reference=_text_member(document, oc.CHECK_REFERENCE) if oc.CHECK_REFERENCE in document else "",
            )
        except (binascii.Error, zlib.error, strict_json.StrictJsonError, KeyError, TypeError, AttributeError) as error:
            raise RuntimeSettingsError(f"the check request is malformed: {type(error).__name__}: {error}") from error


def _text_member(document: dict[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value


def _parse_example(entry: dict[str, Any]) -> CheckExample:
    return CheckExample(
        str(entry.get(oc.EXAMPLE_NAME, "")),
        entry[oc.EXAMPLE_INPUT],
        oc.EXAMPLE_OUTPUT in entry,
        entry.get(oc.EXAMPLE_OUTPUT),
        str(entry.get(oc.EXAMPLE_ERROR) or ""),
        bool(entry.get(oc.EXAMPLE_HIDDEN)),
    )
