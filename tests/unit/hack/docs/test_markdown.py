"""Markdown is put together so that no text of ours breaks a page."""

from __future__ import annotations

import pytest

from hack.docs import markdown


def test_a_page_has_its_title_and_says_that_it_is_generated() -> None:
    assert markdown.page("Title", "one\n", "", "two") == f"# Title\n\n{markdown.HEADER}\n\none\n\ntwo\n"


def test_a_column_that_nobody_fills_is_left_out() -> None:
    text = markdown.table(("A", "B", "C"), [("1", "", "2"), ("3", "", "")])
    assert text == "| A | C |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |"


def test_a_cell_is_one_line() -> None:
    assert markdown.table(("A",), [("1\n 2",)]).endswith("| 1 2 |")


def test_code_with_a_bar_does_not_end_its_cell() -> None:
    assert markdown.code("a|<b>") == "<code>a&#124;&lt;b&gt;</code>"
    assert markdown.code("a<b>") == "`a<b>`"
    assert markdown.code("") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("two\n words", "Two words."),
        ("such a thing,", "Such a thing."),
        ("spec.egress is a field", "spec.egress is a field."),
        ("false: none", "false: none."),
        ("kubernetes.io/tls Secret", "kubernetes.io/tls Secret."),
        ("Names (of things.)", "Names (of things.)"),
        ("A file /run/<name>", "A file /run/&lt;name&gt;."),
        ("A file `/run/<name>`.", "A file `/run/<name>`."),
    ],
)
def test_sentences(text: str, expected: str) -> None:
    assert markdown.sentence(text) == expected


def test_a_link_leads_to_the_heading() -> None:
    assert markdown.link("spec.egress[].host") == "[spec.egress[].host](#specegresshost)"
