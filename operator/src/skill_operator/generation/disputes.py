"""A dispute is an example that different programs answer alike, and not as it wants.

Either the programs or the example may be wrong, and only a person can tell. The words that are read here are those of
the checker's report (skill_runtime/check/examples.py). A dispute may be about a held-out example: it is for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_VALUE_CHARACTERS: Final = 200  # of each value in the sentence for people
_FAILED_EXAMPLE: Final = re.compile(
    r"^example (?P<name>.*):\n  input:    .*\n  expected: (?P<expected>.*)\n  got:      (?P<answer>.*)"
    r"(?:\n  differs:  (?P<difference>.*))?$",
    re.MULTILINE,
)
_NO_ANSWER: Final = ", which does not fit the output schema: "
_JSON_VALUE: Final = re.compile(r'[{["\d-]|(?:true|false|null)$')


@dataclass(frozen=True)
class WrongAnswer:
    """WrongAnswer is what a program returned for an example that wants something else; the values are JSON texts.

    Texts that the report has cut are compared as far as they go, and by their first difference.
    """

    name: str
    expected: str
    answer: str
    difference: str = ""


@dataclass(frozen=True)
class Dispute:
    """Dispute is a wrong answer that `programs` different programs give. `held_out`: no prompt may hold it."""

    answer: WrongAnswer
    programs: int
    held_out: bool

    @property
    def message(self) -> str:
        """The sentence says what is known, and what a person can do; no model may read it."""
        values = self.answer
        kind = "held-out example" if self.held_out else "example"
        return (
            f"{self.programs} different programs answer {_shorten(values.answer)} where the {kind} {values.name} wants "
            f"{_shorten(values.expected)}: either may be wrong. If the example is right, describe what leads to it; "
            "else correct the example"
        )


def read_wrong_answers(report: str) -> list[WrongAnswer]:
    """Return the wrong answers in a report of the checker. An exception or a broken output is no answer."""
    found = [
        WrongAnswer(match["name"], match["expected"], match["answer"], match["difference"] or "")
        for match in _FAILED_EXAMPLE.finditer(report)
    ]
    return [answer for answer in found if _JSON_VALUE.match(answer.answer) and _NO_ANSWER not in answer.answer]


def find_dispute(reports: Iterable[str], *, held_out: bool) -> Dispute | None:
    """Return the wrong answer that most reports share, if two do. Each report is about a program of its own."""
    counts: dict[WrongAnswer, int] = {}
    for report in reports:
        for answer in dict.fromkeys(read_wrong_answers(report)):
            counts[answer] = counts.get(answer, 0) + 1
    ranked = sorted(counts.items(), key=lambda count: -count[1])
    if not ranked or ranked[0][1] < 2:
        return None
    answer, programs = ranked[0]
    return Dispute(answer, programs, held_out)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"
