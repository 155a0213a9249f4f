import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.untrusted.text import printable, single_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, 漢字 🎉", "plain, ünïcode, 漢字 🎉"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\x00b\x7fc\x9bd", "a\\x00b\\x7fc\\x9bd"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth \U000e0041", "zero\\u200bwidth \\U000e0041"),
        ("line\u2028\u2029end", "line\\u2028\\u2029end"),
        ("half \ud800", "half \\ud800"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text, shown):
    assert printable(text, 100) == shown


def test_lines_keep_their_ends_and_nothing_else():
    assert printable("a\nb\r\x0b", 100, lines=True) == "a\nb\\r\\x0b"


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("ab\x1b", 6, "ab\\x1b"),
        ("ab\x1b", 5, "ab…"),  # never half an escape
        ("ab\x1bc", 6, "ab…"),
        ("\x1b", 3, "…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("", 0, ""),
    ],
)
def test_cut(text, limit, shown):
    assert printable(text, limit) == shown


@given(st.text(st.characters()), st.integers(0, 40), st.booleans())
def test_always_printable_and_within_the_limit(text, limit, lines):
    shown = printable(text, limit, lines=lines)
    assert len(shown) <= limit
    for character in shown:
        assert character.isprintable() or unicodedata.category(character) == "Zs" or (lines and character == "\n")
    assert printable(shown, limit, lines=lines) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("spec.a: bad\nspec.b: worse", "spec.a: bad; spec.b: worse"),
        ("a\r\nb\n\n  > 7 |  x = 1\n", "a; b; > 7 | x = 1"),
        ("no\nEvents:  <none>\nStatus:\n  Ready", "no; Events: <none>; Status: Ready"),
        ("A test fails.\nexample one\nexample two;", "A test fails. example one; example two;"),
        ("a\rb\x0bc\x0cd\x85e\u2028f\u2029g\x1c", "a\\rb\\x0bc\\x0cd\\x85e\\u2028f\\u2029g\\x1c"),
        ("\n\n", ""),
    ],
)
def test_lines_become_one(text, shown):
    assert single_line(text, 200) == shown


@given(st.text(st.characters()), st.integers(0, 40))
def test_no_text_makes_a_second_line(text, limit):
    shown = single_line(text, limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    assert all(character.isprintable() or unicodedata.category(character) == "Zs" for character in shown)
