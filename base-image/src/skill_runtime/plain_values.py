"""The JSON (RFC 8259) of what `run` returns: numbers and arrays of numpy and pandas are what they hold.

Only what can mean one thing is converted. Anything else is refused, in words that say how the code converts it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_CONVERTED = {"numpy": ("generic", "ndarray"), "pandas": ("Series", "Index")}
"""Classes of libraries whose objects are what they hold."""
_ADVICE = {
    "set": "return `sorted(...)` of it",
    "frozenset": "return `sorted(...)` of it",
    "Decimal": "return `float(...)` or `str(...)` of it, as the output schema says",
    "Fraction": "return `float(...)` or `str(...)` of it, as the output schema says",
    "datetime": "return its `.isoformat()`",
    "date": "return its `.isoformat()`",
    "time": "return its `.isoformat()`",
    "timedelta": "return its `.total_seconds()`",
    "bytes": "return its `.decode()`, or base64 as text",
    "bytearray": "return its `.decode()`, or base64 as text",
    "complex": "return its `.real` and `.imag`",
    "Enum": "return its `.value`",
    "UUID": "return `str(...)` of it",
    "PurePath": "return `str(...)` of it",
    "DataFrame": "return its `.to_dict('records')`",
    "BaseModel": "return its `.model_dump(mode='json')`",
    "NAType": "return None",
    "NaTType": "return None",
    "function": "call it, and return what it returns",
    "coroutine": "`run` must not be asynchronous",
}
"""What code does with an object of a class, by the name of the class or of a base of it."""


def encode(value: Any) -> bytes:
    """Return the JSON of a value in UTF-8.

    Raises TypeError for what is no JSON, and ValueError for NaN, infinity and objects inside of themselves.
    """
    try:
        text = _dumps(value)
    except TypeError:
        if "numpy" not in sys.modules:
            raise
        text = _dumps(_with_plain_keys(value))
    return text.encode()


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False, default=_to_plain)


def _to_plain(value: Any) -> Any:
    """Return what a number or an array holds. Raises TypeError for everything else.

    The libraries are looked up and never imported: a value of theirs cannot exist without them.
    """
    for module, names in _CONVERTED.items():
        library: Any = sys.modules.get(module)
        if library is not None and any(isinstance(value, getattr(library, name)) for name in names):
            plain = value.tolist()
            return float(plain) if type(plain) is type(value) else plain  # a number with more digits than Python's
    name = type(value).__name__
    raise TypeError(f"Object of type {name} is not JSON serializable: {_advise(value)}")


def _with_plain_keys(value: Any) -> Any:
    """Return a value with numpy's numbers as keys made Python's; JSON makes them texts like other numbers."""
    if isinstance(value, dict):
        generic = sys.modules["numpy"].generic
        return {
            (key.item() if isinstance(key, generic) else key): _with_plain_keys(part) for key, part in value.items()
        }
    return [_with_plain_keys(part) for part in value] if isinstance(value, list | tuple) else value


def _advise(value: Any) -> str:
    advice = next((_ADVICE[cls.__name__] for cls in type(value).__mro__ if cls.__name__ in _ADVICE), None)
    if advice is None and hasattr(type(value), "__dataclass_fields__"):
        advice = "return `dataclasses.asdict(...)` of it"
    if advice is None and hasattr(type(value), "__iter__"):
        advice = "return `list(...)` of it"
    return advice or "return a dict, a list, a text, a number, a truth value or None"
