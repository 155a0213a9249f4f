"""Code, diffs and attempts as the page shows them: bounded, and with everything visible that an editor might hide.

What is read here comes from ConfigMaps of the Skill's namespace, which the caller's own token has fetched.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from skill_operator.gateway import json_bounds
from skill_operator.k8s.interface import Object
from skill_operator.untrusted.text import printable

MAX_CODE_CHARACTERS: Final = 1 << 17
MAX_LINES: Final = 3000
MAX_LINE_CHARACTERS: Final = 2000
MAX_ATTEMPTS: Final = 12
MAX_TEXT_CHARACTERS: Final = 8192
MAX_DIFFERENCES: Final = 8
# Each alternative is linear: no part of it can match one text in two ways.
_PYTHON: Final = re.compile(
    r"(?P<comment>\#.*)"
    r"|(?P<string>[rbfuRBFU]{0,2}(?:\"\"\".*?(?:\"\"\"|$)|'''.*?(?:'''|$)|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?))"
    r"|(?P<number>\b[0-9][0-9A-Za-z_.]*)"
    r"|(?P<word>[^\W0-9]\w*)"
)
_KEYWORDS: Final = frozenset(keyword.kwlist)


class CodeSpan(NamedTuple):
    """CodeSpan is a piece of a line, and what it is: keyword, string, comment, number, or nothing of these."""

    kind: str
    text: str


class CodeLine(NamedTuple):
    """CodeLine is a line with its number."""

    number: int
    spans: list[CodeSpan]


class DiffLine(NamedTuple):
    """DiffLine is a line of a unified diff; `kind` is add, del, at or same."""

    kind: str
    text: str


class AttemptView(NamedTuple):
    """AttemptView is one attempt of a model: how it was judged, by which gate, and how it differs from the last one."""

    title: str
    tone: str
    verdict: str
    gate: str
    line: int | None
    model: str
    tokens: str
    message: str
    code: list[CodeLine]
    diff: list[DiffLine]


class Disagreement(NamedTuple):
    """Disagreement is an input that two programs for one task answer differently: the question for the author."""

    input: str
    accepted: str
    other: str


class GenerationView(NamedTuple):
    """GenerationView is what models wrote for a Skill."""

    attempts: list[AttemptView]
    tokens: int
    stop: str
    opinion: str
    disagreements: list[Disagreement]


def code_lines(source: str) -> list[CodeLine]:
    """Return the lines of a program of Python, coloured as far as one line tells."""
    text = printable(source[:MAX_CODE_CHARACTERS].replace("\r\n", "\n").expandtabs(8), MAX_CODE_CHARACTERS, lines=True)
    lines = text.removesuffix("\n").split("\n")
    shown = [CodeLine(n, _spans(_shortened(line))) for n, line in enumerate(lines[:MAX_LINES], 1)]
    if len(lines) > MAX_LINES:
        shown.append(CodeLine(MAX_LINES + 1, [CodeSpan("comment", f"… {len(lines) - MAX_LINES} more lines")]))
    return shown


def diff_lines(diff: str) -> list[DiffLine]:
    """Return the lines of a unified diff."""
    text = printable(diff[:MAX_CODE_CHARACTERS].expandtabs(8), MAX_CODE_CHARACTERS, lines=True)
    kinds = {"+": "add", "-": "del", "@": "at"}
    return [
        DiffLine("at" if line.startswith(("+++", "---")) else kinds.get(line[:1], "same"), _shortened(line))
        for line in text.split("\n")[:MAX_LINES]
    ]


def _spans(line: str) -> list[CodeSpan]:
    spans: list[CodeSpan] = []
    end = 0
    for match in _PYTHON.finditer(line):
        kind = match.lastgroup or ""
        if kind == "word":
            if match[0] not in _KEYWORDS:
                continue
            kind = "keyword"
        if match.start() > end:
            spans.append(CodeSpan("", line[end : match.start()]))
        spans.append(CodeSpan(kind, match[0]))
        end = match.end()
    if end < len(line) or not spans:
        spans.append(CodeSpan("", line[end:]))
    return spans


def _shortened(line: str) -> str:
    return line if len(line) <= MAX_LINE_CHARACTERS else f"{line[:MAX_LINE_CHARACTERS]}…"


def read_source(config_map: Object | None) -> str:
    """Return the accepted code, or nothing."""
    return _text(_data(config_map), "skill.py")


def read_generation(config_map: Object | None) -> GenerationView | None:
    """Return what models wrote for the Skill, newest first, or None where no model did."""
    data = _data(config_map)
    text = _text(data, "ledger.json")
    if not json_bounds.is_small(text.encode("utf-8", "replace")):
        return None
    try:
        ledger = json.loads(text)
        found = [one for one in ledger["attempts"] if isinstance(one, dict)]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    attempts = [_attempt(one, data) for one in found[-MAX_ATTEMPTS:]]
    stop = ledger.get("stop")
    opinion = ledger.get("secondOpinion")
    return GenerationView(
        attempts[::-1],
        _number(ledger.get("tokens")),
        f"{_words(stop.get('reason'), 64)}: {_words(stop.get('message'))}" if isinstance(stop, dict) else "",
        _words(opinion.get("message")) if isinstance(opinion, dict) else "",
        _disagreements(opinion) if isinstance(opinion, dict) else [],
    )


def _attempt(figures: Mapping[str, Any], data: Mapping[str, Any]) -> AttemptView:
    number, state = _number(figures.get("number")), _words(figures.get("state"), 32)
    gate, line = _words(figures.get("gate"), 64), figures.get("line")
    verdict, tone = _VERDICTS.get(state, (state, "busy"))
    message = _words(figures.get("message"))
    if private := _words(figures.get("private")):
        message = f"{message}\n\nWhat no model is shown:\n{private}".strip()
    name = f"attempt-{number}"
    estimated = ", estimated" if figures.get("estimated") is True else ""
    source = _text(data, f"{name}.py")
    diff = _text(data, f"{name}.diff")
    return AttemptView(
        f"Attempt {number}" if number else "Accepted before",
        tone,
        f"refused by {gate}" if state == "failed" and gate else verdict,
        gate if state == "failed" else "",
        line if isinstance(line, int) and not isinstance(line, bool) else None,
        _words(figures.get("endpoint"), 120),
        f"{_number(figures.get('tokens')):,} tokens{estimated}",
        message,
        code_lines(source) if source else [],
        diff_lines(diff) if diff else [],
    )


_VERDICTS: Final = {
    "candidate": ("being checked", "busy"),
    "passed": ("passed every check", "good"),
    "repeat": ("not checked again: it was refused before", "quiet"),
    "failed": ("refused", "bad"),
}


def _disagreements(opinion: Mapping[str, Any]) -> list[Disagreement]:
    listed = opinion.get("differences")
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [
        Disagreement(*(_words(one.get(name), 600) for name in ("input", "accepted", "other")))
        for one in found[:MAX_DIFFERENCES]
    ]


def _data(config_map: Object | None) -> Mapping[str, Any]:
    data = (config_map or {}).get("data")
    return data if isinstance(data, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key, "")
    return value if isinstance(value, str) else ""


def _words(value: object, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Return a text of others as it may be shown; a value of another type is none."""
    return printable(value[: limit + 1], limit, lines=True) if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12 else 0
