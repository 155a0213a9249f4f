"""Search with patterns of schemas in an engine whose time is linear in the text, and bound each validation's work.

The operator refuses the same patterns, in `skill_operator.untrusted.patterns`. Linear is not cheap: the worst pattern
takes about a microsecond for each character and each KiB that it compiles to, so both are measured and multiplied.
"""

from __future__ import annotations

import json
from typing import Any

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from skill_runtime import operator_contract as oc

OPTIONS = RegexOptions(size_limit=oc.PATTERN_SIZES_KIB[-1] << 10)
EXHAUSTED = "the patterns of the schema are too large to be tried on so much text"
_TRIALS = tuple((kib, RegexOptions(size_limit=kib << 10)) for kib in oc.PATTERN_SIZES_KIB)
_SHOWN_CHARACTERS = 200


class PatternError(ValueError):
    """A pattern, or all of a schema's together, cannot be compiled within the limits."""


class Patterns:
    """The compiled patterns of one schema, and the work that is left for the present validation."""

    def __init__(self, document: Any) -> None:
        """Measure the patterns that are tried on names of members. Raises PatternError."""
        self._compiled: dict[str, tuple[Draft202012Validator, int]] = {}
        self._left = 0
        self._names_kib = sum(self._compile(pattern)[1] for pattern in _name_patterns(document))

    def start(self, value: Any) -> None:
        """Start a validation of the value. What its names cost is paid at once."""
        self._left = oc.MAX_SEARCH_WORK
        if self._names_kib:
            self._left -= 2 * self._names_kib * sum(map(len, _names(value)))

    @property
    def exhausted(self) -> bool:
        """True if the validation needs more work than it may do: its outcome means nothing."""
        return self._left < 0

    def keyword(self, _schema: Any, pattern: str, _path: Any) -> _Keyword:
        """Return the keyword `pattern` of one schema. Raises PatternError."""
        return _Keyword(self, pattern, *self._compile(pattern))

    def matches(self, pattern: str, name: str) -> bool:
        """Return whether a pattern for names of members matches a name that `start` has paid for."""
        return self._compile(pattern)[0].is_valid(name)

    def pay(self, work: int) -> bool:
        """Take work from what is left; return False where that is too little."""
        self._left -= work
        return self._left >= 0

    def _compile(self, pattern: str) -> tuple[Draft202012Validator, int]:
        if pattern not in self._compiled:
            self._compiled[pattern] = compiled = _compile(pattern)
            if sum(kib for _, kib in self._compiled.values()) > oc.MAX_PATTERNS_KIB:
                raise PatternError("the patterns are too large to compile together")
            return compiled
        return self._compiled[pattern]


class _Keyword:
    """The keyword `pattern`, as the library calls it."""

    def __init__(self, patterns: Patterns, pattern: str, validator: Draft202012Validator, kib: int) -> None:
        self._patterns = patterns
        self._pattern = pattern
        self._validator = validator
        self._kib = kib

    def validate(self, value: Any) -> None:
        """Raise ValueError for a text that does not match."""
        if not isinstance(value, str):
            return
        if not self._patterns.pay(self._kib * len(value)):
            raise ValueError(EXHAUSTED)
        if not self._validator.is_valid(value):
            shown = json.dumps(value[:_SHOWN_CHARACTERS], ensure_ascii=False)
            raise ValueError(f"{shown} does not match {json.dumps(self._pattern, ensure_ascii=False)}")


def _compile(pattern: str) -> tuple[Draft202012Validator, int]:
    for kib, options in _TRIALS:
        try:
            return Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=options), kib
        except ValidationError:
            continue
    raise PatternError(f"the pattern {pattern[:_SHOWN_CHARACTERS]!r} is wrong, too large, or needs to look around")


def _name_patterns(document: Any) -> set[str]:
    """Return what may be patterns for names of members, wherever in the schema."""
    found: set[str] = set()
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            inner = node.get("patternProperties")
            found.update(inner if isinstance(inner, dict) else ())
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found


def _names(value: Any) -> list[str]:
    found: list[str] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found.extend(node)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found
