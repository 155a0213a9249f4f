"""The file in a block of a reply, without what wraps it: quotation, indentation, line numbers, signs of a diff."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_NUMBERED_LINE: Final = re.compile(r"[> ]?[ ]*+(?:L|\[)?(\d{1,6})\]?")
_FIRST_SEPARATOR: Final = re.compile(r"[ ]?[|:│┃.)\]→][ ]?|\t|[ ]{1,4}")
_SIGNS: Final = ("|", ":", ".")
_MARGIN: Final = re.compile(r"[> ]?[ ]*+\d+[ |:.]+(?=[^ |:.])")  # of the first line with code, which is not indented
_DIFF_HEADER: Final = re.compile(r"(?:diff |index |new file|--- |\+\+\+ |@@ |\\ No newline)")
_FILE_NAME: Final = re.compile(r"\s*(?:python3?|py|skill\.py:?|%%writefile[ ][^\n]{1,80})[ \t]*\n", re.IGNORECASE)
_DIFF_LINE: Final = re.compile(
    r"^[> ]*(?:@@ -\d|\+\+\+ \S|<<<<<<< ?SEARCH|[-+](?:[ ]{4}|\t)*+(?:def |import |from |return ))", re.MULTILINE
)


def unwrap(text: str, quotation: int) -> Iterator[str]:
    """Yield the readings of a block as a file, the likeliest first. Not a byte inside the file is changed.

    `quotation` is how many signs of quotation (`>`) each line begins with.
    """
    if quotation:
        text = _without_quotation(text, quotation)
    yield _as_file(without_indentation(text))
    for stripped in (*_without_line_numbers(text), _without_added_signs(text)):
        if stripped:
            yield _as_file(without_indentation(stripped))
    if (name := _FILE_NAME.match(text)) is not None:
        yield _as_file(without_indentation(text[name.end() :]))


def looks_like_a_change(text: str) -> bool:
    """Return whether a text shows changes of a file, and not the file."""
    return _DIFF_LINE.search(text) is not None


def indented_part(text: str, key: str) -> str:
    """Return the lines around the one that begins with `key` that are indented like it, or the whole text."""
    lines = text.split("\n")
    place = next((number for number, line in enumerate(lines) if line.lstrip(" \t").startswith(key)), None)
    prefix = lines[place][: len(lines[place]) - len(lines[place].lstrip(" \t"))] if place is not None else ""
    if place is None or not prefix:
        return text
    outside = [number for number, line in enumerate(lines) if line.strip() and not line.startswith(prefix)]
    first = next((number + 1 for number in reversed(outside) if number < place), 0)
    last = next((number for number in outside if number > place), len(lines))
    return without_indentation("\n".join(lines[first:last]))


def without_indentation(text: str) -> str:
    """Return the text without the indentation of its first line, which in a file has none.

    A line of blanks that lacks it is left alone. A line of code that is indented less belongs to a string that was not
    indented with the rest.
    """
    first = next((line for line in text.split("\n") if line.strip()), "")
    prefix = first[: len(first) - len(first.lstrip(" \t"))]
    if not prefix:
        return text
    return "\n".join(_without_prefix(line, prefix) for line in text.split("\n"))


def _without_prefix(line: str, prefix: str) -> str:
    if line.startswith(prefix):
        return line[len(prefix) :]
    return line.lstrip(" \t") if line.strip() else line


def _as_file(text: str) -> str:
    return text.strip("\n") + "\n"


def _without_quotation(text: str, quotation: int) -> str:
    signs = re.compile(rf"(?:[ \t]*+>){{{quotation}}}")
    lines = [line[match.end() :] if (match := signs.match(line)) else line for line in text.split("\n")]
    has_space = all(line.startswith(" ") for line in lines if line.strip())
    return "\n".join(line.removeprefix(" ") for line in lines) if has_space else "\n".join(lines)


def _without_line_numbers(text: str) -> tuple[str, ...]:
    """Return the readings of the text without line numbers; none if its lines are not numbered one after the other.

    Numbers before blanks are aligned more often than not, others are not.
    """
    lines = text.strip("\n").split("\n")
    numbers = [match for line in lines if (match := _NUMBERED_LINE.match(line)) is not None]
    if len(lines) < 2 or len(numbers) < len(lines):
        return ()
    start = int(numbers[0][1])
    if any(int(number[1]) != start + place for place, number in enumerate(numbers)):
        return ()
    rests = [line[number.end() :] for line, number in zip(lines, numbers, strict=True)]
    readings = (_without_separator(rests), _without_margin(lines))
    return readings[::-1] if rests[0].startswith(" ") and not rests[0].strip(" ").startswith(_SIGNS) else readings


def _without_separator(rests: list[str]) -> str:
    """Return the lines without the separator that each begins with; the first line of a file is not indented."""
    first = next((rest for rest in rests if rest.strip(" \t|:")), "")
    separator = _FIRST_SEPARATOR.match(first)
    if separator is None:
        return ""
    sign = separator[0]
    if not all(rest.startswith(sign) or rest.rstrip() == sign.rstrip() for rest in rests):
        return ""
    return "\n".join(rest[len(sign) :] for rest in rests)


def _without_margin(lines: list[str]) -> str:
    """Return the lines without a margin of one width, in which the numbers are aligned to the left."""
    margin = next((match for line in lines if (match := _MARGIN.match(line)) is not None), None)
    if margin is None or not all(line[: margin.end()].strip("> |:.").isdecimal() for line in lines):
        return ""
    return "\n".join(line[margin.end() :] for line in lines)


def _without_added_signs(text: str) -> str:
    """Return the file that a diff creates, or an empty string where it has other lines than added ones."""
    lines = text.strip("\n").split("\n")
    while lines and _DIFF_HEADER.match(lines[0]):
        del lines[0]
    return "\n".join(line[1:] for line in lines) if lines and all(line.startswith("+") for line in lines) else ""
