"""Quantities of Kubernetes (`resource.Quantity` of apimachinery): their text, and its canonical form.

The API server returns quantities in this form. What is compared with its objects must have it, too.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

# Of exponents two digits: with nine of them a number takes minutes to be compared.
QUANTITY: Final = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]{1,2})?$"
MAX_LENGTH: Final = 20
MAX_VALUE: Final = 2**63 - 1
_PARTS: Final = re.compile(
    r"\+?(?P<number>[0-9.]+)(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE](?P<exponent>[-+]?[0-9]{1,2})|)"
)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def canonical(text: str) -> str:
    """Return the quantity as the API server writes it in the resources of a pod, rounded up to thousandths.

    A text that is no quantity is returned as it is.
    """
    if (parts := _parse(text)) is None:
        return text
    milli = min(1000 * MAX_VALUE, -(-_exact(parts) * 1000 // 1))
    if not milli:
        return "0"
    if parts["suffix"] in _BINARY[1:] and milli % (1024 * 1000) == 0:
        return _binary(milli // 1000)
    return _decimal(milli, as_exponent=parts["exponent"] is not None)


def value(text: str) -> Fraction:
    """Return the value of a quantity. A text that is no quantity counts as 0."""
    parts = _parse(text)
    return Fraction(0) if parts is None else _exact(parts)


def _parse(text: str) -> re.Match[str] | None:
    """Return the parts of a quantity, or None."""
    return _PARTS.fullmatch(text) if re.match(QUANTITY, text) else None


def _exact(parts: re.Match[str]) -> Fraction:
    """Return the value of what was parsed."""
    suffix = parts["suffix"]
    binary = suffix in _BINARY
    factor = Fraction(1024) ** _BINARY.index(suffix) if binary else Fraction(10) ** _exponent(suffix, parts["exponent"])
    return Fraction(parts["number"]) * factor


def _exponent(suffix: str, exponent: str | None) -> int:
    return _DECIMAL[suffix] if exponent is None else int(exponent)


def _binary(value: int) -> str:
    """Return a whole number with the largest suffix that leaves it whole."""
    power = 0
    while value % 1024 == 0 and power < len(_BINARY) - 1:
        value, power = value // 1024, power + 1
    return f"{value}{_BINARY[power]}"


def _decimal(milli: int, *, as_exponent: bool) -> str:
    """Return thousandths with the largest suffix, or exponent, that leaves a whole number."""
    exponent = -3
    while milli % 1000 == 0 and exponent < _DECIMAL["E"]:
        milli, exponent = milli // 1000, exponent + 3
    if as_exponent:
        return f"{milli}e{exponent}" if exponent else str(milli)
    return f"{milli}{next(suffix for suffix, power in _DECIMAL.items() if power == exponent)}"
