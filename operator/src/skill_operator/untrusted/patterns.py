"""Measure what strangers' patterns compile to, in an engine whose time is linear in the text.

The runtime's copy is in `skill_runtime.patterns`: both sides refuse the same. Linear is not cheap: the worst pattern
takes about a microsecond for each character and each KiB that it compiles to, so both are measured and multiplied.
"""

from __future__ import annotations

import re
from typing import Final

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from skill_operator import runtime_contract as rc

OPTIONS: Final = RegexOptions(size_limit=rc.PATTERN_SIZES_KIB[-1] << 10, dfa_size_limit=1 << 16)
TOO_LARGE: Final = "is too large to compile: use maxLength instead of a long repetition"
TOO_LARGE_TOGETHER: Final = "is too large to compile beside the other patterns: use maxLength instead"
UNKNOWN: Final = "names characters that are not known, such as half of a surrogate pair, or nests too deeply"
NOT_LINEAR: Final = "looks around or refers back, which no pattern may: write several patterns under allOf or not"

_TRIALS: Final = tuple(
    (kib, RegexOptions(size_limit=kib << 10, dfa_size_limit=1 << 16)) for kib in rc.PATTERN_SIZES_KIB
)
_TOKEN: Final = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\(\?<?[=!]|\(\?>|.", re.DOTALL)
_REPETITION: Final = re.compile(r"\{\d+(?:,\d*)?\}")
_NEEDS_MEMORY: Final = re.compile(r"\(\?.+|\\[1-9k]")
_SYNTAX: Final = Draft202012Validator({"format": "regex"}, validate_formats=True)


def compiled_kib(pattern: str, max_kib: int = rc.PATTERN_SIZES_KIB[-1]) -> int | None:
    """Return the size of the compiled pattern, rounded up; None where it is more than `max_kib`, or no pattern."""
    for kib, options in _TRIALS:
        if kib > max_kib:
            break
        try:
            Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=options)
        except ValidationError:
            continue
        return kib
    return None


def refusal(pattern: str) -> str:
    """Return why a pattern that has no compiled size is refused."""
    if any(_NEEDS_MEMORY.fullmatch(part) for part in _TOKEN.findall(pattern)):
        return NOT_LINEAR
    if not _SYNTAX.is_valid(pattern):
        return 'is not a "regex"'
    return UNKNOWN if compiled_kib(_REPETITION.sub("{1}", pattern)) is None else TOO_LARGE
