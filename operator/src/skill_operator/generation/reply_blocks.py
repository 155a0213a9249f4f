"""The file in a block of a reply, without what wraps it: quotation, indentation, line numbers, a diff, JSON."""

from __future__ import annotations

import ast
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from skill_operator.generation.python_text import find_literals, parse

MAX_JSON_TEXTS: Final = 64
_JSON: Final = json.JSONDecoder(strict=False)  # models write line breaks into strings as they are
_JSON_TEXT: Final = re.compile(r'\s*+"(?:[^"\\]|\\.)++"\s*+', re.DOTALL)
_JSON_START: Final = re.compile(r"^[ \t]*[{\[]", re.MULTILINE)
_CLOSED_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?P<end>")?', re.DOTALL)
_TRIPLE_QUOTES: Final = (3 * "'", 3 * '"')

_NUMBERED_LINE: Final = re.compile(r"[> ]?[ ]*+(?:L|\[)?(\d{1,6})\]?")
_FIRST_SEPARATOR: Final = re.compile(r"[ ]?[|:│┃.)\]→][ ]?|\t|[ ]{1,4}")
_SIGNS: Final = ("|", ":", ".")
_MARGIN: Final = re.compile(r"[> ]?[ ]*+\d+[ |:.]+(?=[^ |:.])")  # of the first line with code, which is not indented
_DIFF_HEADER: Final = re.compile(
    r"(?:diff |index |new file|--- |\+\+\+ |@@ |\\ No newline|\*\*\* (?:Begin Patch|Add File: ))"
)
_PATCH_END: Final = re.compile(r"\*\*\* End (?:Patch|of File)")
_LABEL: Final = re.compile(
    r"\s*+(?:%%writefile[ ][^\n]{1,80}"
    r"|(?!(?:import|from|def|class|global|del|return)\b)"
    r"(?:[^\n='\"#]{0,80}?\bpy\b[^\n='\"#]{0,12}|python3?|[a-z]{1,20}(?:[ ][a-z]{1,20}){0,3}:?))[ \t]*\n",
    re.IGNORECASE,
)
_SCALAR: Final = re.compile(r"^[ -]*+[\w.-]{1,40}+:[ ]*+[|>][-+]?[ \t]*+\n", re.MULTILINE)  # a text in YAML
_NEW_FILE: Final = re.compile(r"\s*+<{7} ?SEARCH\n={7}\n(?P<file>.*)\n>{7} ?REPLACE\s*+", re.DOTALL)
_MIN_ESCAPED_LINES: Final = 2
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_QUOTED_FILE: Final = re.compile(r"\s*+(?P<quote>'''|\"\"\"|`(?!`))(?P<file>.*)(?P=quote)\s*+", re.DOTALL)
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
    if (name := _LABEL.match(text)) is not None:
        yield _as_file(without_indentation(text[name.end() :]))
    if (scalar := _SCALAR.search(text)) is not None:
        yield _as_file(_indented_lines(text[scalar.end() :]))
    if (quoted := _QUOTED_FILE.fullmatch(text)) is not None and quoted["quote"] not in quoted["file"]:
        yield _as_file(quoted["file"])
    if (unescaped := unescape_lines(text.strip("\n"))) is not None:
        yield _as_file(unescaped)
    if (change := _NEW_FILE.fullmatch(text)) is not None:
        yield _as_file(change["file"])


def unescape_lines(text: str) -> str | None:
    """Return a text of one line in which the ends of lines are escaped, as in a string of Python or JSON; else None."""
    if "\n" in text or text.count("\\n") < _MIN_ESCAPED_LINES:
        return None
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text)


def find_json(text: str) -> int | None:
    """Return where a JSON text in a text may begin, or None."""
    if _JSON_TEXT.fullmatch(text) is not None:
        return len(text) - len(text.lstrip())
    start = _JSON_START.search(text)
    return start.end() - 1 if start is not None else None


def decode_json(text: str) -> Any:
    """Return the JSON value that a text begins with, or None."""
    try:
        return _JSON.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def decode_literal(text: str) -> Any:
    """Return the value of a Python literal that models write instead of JSON, or None.

    A backslash between triple quotes has two readings: one of the literal, and one of the file in it.
    """
    long_texts = [part for part in find_literals(text, 0, len(text)) if text.startswith(_TRIPLE_QUOTES, part.start)]
    if not long_texts and not text[1:].lstrip().startswith("'"):
        return None
    if any("\\" in text[part.start : part.end] for part in long_texts):
        return None
    tree = parse(text[: max(text.rfind("}"), text.rfind("]")) + 1])
    try:
        match tree:
            case ast.Module(body=[ast.Expr(value=value)]):
                return ast.literal_eval(value)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
    return None


def closed_texts(text: str, key: str) -> Iterator[str]:
    """Yield the first closed strings with a key, of a JSON text that is broken or cut off."""
    matches = (match[0] for match in _CLOSED_TEXT.finditer(text) if match["end"] and key in match[0])
    for _, string in zip(range(MAX_JSON_TEXTS), matches, strict=False):
        if isinstance(value := decode_json(string), str):
            yield value


def find_texts(value: Any, key: str) -> Iterator[str]:
    """Yield the first texts with a key in a JSON value. A list of lines is one text."""
    pending, count = deque([value]), 0
    while pending and count < MAX_JSON_TEXTS:
        part = pending.popleft()
        if isinstance(part, dict):
            pending += part.values()
        elif isinstance(part, list):
            pending += [_joined_lines(part)] if _is_list_of_lines(part) else part
        elif isinstance(part, str) and key in part:
            count += 1
            yield part


def _is_list_of_lines(values: list[Any]) -> bool:
    return len(values) > 1 and all(isinstance(value, str) and "\n" not in value[:-1] for value in values)


def _joined_lines(lines: list[str]) -> str:
    return ("" if any(line.endswith("\n") for line in lines) else "\n").join(lines)


def _indented_lines(text: str) -> str:
    """Return the lines that are indented like the first one, up to one that is not."""
    lines = text.strip("\n").split("\n")
    prefix = lines[0][: len(lines[0]) - len(lines[0].lstrip(" "))]
    last = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith(prefix)), len(lines))
    return without_indentation("\n".join(lines[:last]))


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
    first = next((number for number, line in enumerate(lines) if not _DIFF_HEADER.match(line)), len(lines))
    last = next((number for number in range(len(lines), first, -1) if not _PATCH_END.match(lines[number - 1])), first)
    added = lines[first:last]
    return "\n".join(line[1:] for line in added) if added and all(line.startswith("+") for line in added) else ""
