"""The diff that people read: right for any two texts, and linear in them."""

from __future__ import annotations

import difflib
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.untrusted import line_diff
from skill_operator.untrusted.line_diff import unified_diff

TEXTS = st.lists(st.sampled_from(["a", "b", "", "c", "def f():", "    return 1"]), max_size=30).map("\n".join)


def patched(before: str, diff: list[str]) -> list[str]:
    """Return the lines after a unified diff is applied, as `patch` does it."""
    lines, made, position = before.splitlines(), list[str](), 0
    for line in diff[2:]:
        if head := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@", line):
            start = int(head[1]) - (head[2] != "0")
            made += lines[position:start]
            position = start
        elif line[0] in " -":
            assert lines[position] == line[1:]
            position += 1
            made += [line[1:]] * (line[0] == " ")
        else:
            made.append(line[1:])
    return made + lines[position:]


@given(TEXTS, TEXTS)
def test_a_diff_makes_the_one_text_of_the_other(before: str, after: str) -> None:
    diff = list(unified_diff(before, after, "a", "b"))
    assert patched(before, diff) == after.splitlines()
    assert bool(diff) == (before.splitlines() != after.splitlines())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nc\n", "a\nx\nc\n"),
        ("a\nb\n", "a\nb\nc\n"),
        ("", "a\n"),
        ("a\n", ""),
        ("".join(f"{n}\n" for n in range(50)), "".join(f"{n if n not in {5, 40} else -n}\n" for n in range(50))),
    ],
)
def test_plain_changes_look_as_those_of_difflib(before: str, after: str) -> None:
    expected = difflib.unified_diff(before.splitlines(), after.splitlines(), "a", "b", lineterm="")
    assert list(unified_diff(before, after, "a", "b")) == list(expected)


@pytest.mark.parametrize("values", [1, 2, 130, 10**9])
def test_the_work_is_linear(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred different lines in random order keep difflib busy for minutes."""
    compared = 0

    class Counted(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        def __ne__(self, other: object) -> bool:
            return not self == other

    def text(seed: int, size: int) -> list[str]:
        chance = random.Random(seed)
        return [Counted(chance.randrange(values)) for _ in range(size)]

    for size in (1000, 2000):
        compared = 0
        line_diff._PatienceMatcher(text(1, size), text(2, size)).get_opcodes()
        assert compared <= 20 * size
