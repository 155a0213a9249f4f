"""Nothing that others wrote sends a terminal a command, and machines read back what was there."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubectl_skill import output
from kubectl_skill.output import Color, OutputFormat

HOSTILE = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202eevil\u200b\r\n\x00"
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def hidden(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in HIDDEN and c != "\n"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text(max_size=200))
def test_text_has_nothing_hidden(text: str) -> None:
    assert not hidden(output.clean(text))


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_cell_is_one_line_and_has_nothing_hidden(one: str, other: str) -> None:
    shown = output.table(("A", "B"), [(one, other), ("x", "y")])
    assert len(shown.split("\n")) == 3
    assert not hidden(shown)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_loses_nothing_and_hides_nothing(value: object) -> None:
    text = output.format_json(value)
    assert json.loads(text) == value
    assert not hidden(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_yaml_loses_nothing_and_hides_nothing(text: str) -> None:
    shown = output.format_yaml({"a": text, "ß": [text, 1]})
    assert yaml.safe_load(shown) == {"a": text, "ß": [text, 1]}
    assert not hidden(shown)


def test_an_answer_as_it_came_keeps_its_numbers() -> None:
    text = '{"n": 1.00, "big": 12345678901234567890, "s": "a\u202eb\u009b\U000e0041"}'
    shown = output.escape_json(text)
    assert shown.startswith('{"n": 1.00, "big": 12345678901234567890, "s": "a\\u202eb\\u009b')
    assert json.loads(shown) == json.loads(text)
    assert not hidden(shown)


def test_every_door_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    output.write(HOSTILE)
    output.write_parts(output.paint(HOSTILE, Color.RED))
    output.note(HOSTILE)
    output.fail(HOSTILE)
    output.write_object({"a": HOSTILE}, OutputFormat.JSON)
    output.write_object({"a": HOSTILE}, OutputFormat.YAML)
    output.write_object({}, OutputFormat.NAME, HOSTILE)
    captured = capsys.readouterr()
    assert not hidden(captured.out)
    assert not hidden(captured.err)
    assert "\\x1b[31mred" in captured.out


@pytest.mark.parametrize(
    ("environment", "colored"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_colors_are_for_terminals_that_want_them(
    environment: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b" in output.paint("x", Color.RED, Terminal())) is colored
    assert "\x1b" not in output.paint("x", Color.RED, io.StringIO())


def test_wide_letters_keep_the_columns() -> None:
    lines = output.table(("A", "B"), [("発注", "x"), ("abcd", "y")]).split("\n")
    assert lines == ["A      B", "発注   x", "abcd   y"]


def test_an_empty_column_is_left_out() -> None:
    assert output.table(("A", "B"), [("", "x")]) == "B\nx"
