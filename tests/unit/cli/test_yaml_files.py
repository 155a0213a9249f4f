"""YAML of users is read as kubectl reads it, with the line of every value, and within bounds."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_skill import yaml_files
from kubectl_skill.manifest_text import dump_flow, dump_yaml
from kubectl_skill.yaml_files import DocumentError, UnreadableFileError, parse_documents, read_documents


def value_of(text: str) -> Any:
    (found,) = parse_documents(text, "f.yaml")
    return found.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-7", -7), ("0x1F", 31), ("010", 8), ("0o10", 8), ("1_000", 1000), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0),
        ("true", True), ("y", True), ("off", False), ("~", None), ("null", None), ("", None),
        ("2020-01-01", "2020-01-01"), ("1:30", "1:30"), ("'y'", "y"), ('"1"', "1"), ("abc", "abc"), ("1.2.3", "1.2.3"),
        ("!!str 1", "1"), ("09", 9.0),
    ],
)  # fmt: skip
def test_a_plain_value_means_what_it_means_to_kubectl(text: str, value: Any) -> None:
    found = value_of(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [\n", 3, "expected the node content"),
        ("a: 1\na: 2\n", 2, "the key a stands here twice"),
        ("b: 1\ny: 1\n", 2, "the key y is not text"),
        ("? [a]\n: 1\n", 1, "a key must be text"),
        ("a: !!python/object/apply:os.system [x]\n", 1, "has no meaning in Kubernetes"),
        ("a: !!int '1'\n", 1, "has no meaning in Kubernetes"),
        ("a: .inf\n", 1, "is no number of JSON"),
        ("a: 1e999\n", 1, "larger than any number"),
        (f"a: {'9' * 500}\n", 1, "so many digits"),
        ("a:\n  <<: {b: 1}\n", 2, "merge keys"),
        ("a: *x\n", 1, "undefined alias"),
        ("a: &x [*x]\n", 1, "more than 64 levels"),
        ("x: 1\na: \x07\n", 2, "U+0007"),
        ("a: 'b\n", 2, "unexpected end"),
        ("\ta: 1\n", 1, "cannot start any token"),
    ],
)
def test_what_kubectl_would_misread_is_an_error_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        list(parse_documents(text, "f.yaml"))
    assert words in caught.value.message
    assert caught.value.line == line
    assert str(caught.value).startswith(f"f.yaml:{line}: ")


def test_every_value_knows_its_line_and_the_lines_of_its_text() -> None:
    text = '# first\nspec:\n  a:\n    - name: x\n      "b c": 1\n  source:\n    inline: |\n      one\n      two\n  folded: >\n    x\n'
    (found,) = parse_documents(text, "f.yaml")
    lines = {
        path: found.line_of(path) for path in ("spec.a", "spec.a[0].name", 'spec.a[0]["b c"]', "spec.source.inline")
    }
    assert lines == {"spec.a": 3, "spec.a[0].name": 4, 'spec.a[0]["b c"]': 5, "spec.source.inline": 7}
    assert found.line_of("spec.a[0].none.deeper[3]") == 4
    assert found.line_of("nothing") == 2
    assert found.line_inside("spec.source.inline", 2) == 9
    assert found.line_inside("spec.folded", 1) is None


def test_documents_are_counted_and_empty_ones_left_out() -> None:
    assert [d.line for d in parse_documents("---\n---\na: 1\n---\n# none\n---\nb: 1\n", "f")] == [3, 7]
    with pytest.raises(DocumentError, match="more than 200 documents"):
        list(parse_documents("---\na: 1\n" * 300, "f"))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{k}: &{k} [{','.join(['*' + chr(ord(k) - 1)] * 9)}]\n" for k in "bcdefghi"),
        "[" * 100_000,
        "a: {" * 50_000,
        "- " * 100_000,
    ],
    ids=["aliases", "lists", "maps", "dashes"],
)
def test_a_bomb_ends_soon(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(DocumentError):
        list(parse_documents(text, "f"))
    assert time.monotonic() - began < 10


def test_files_are_bounded_and_their_faults_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableFileError, match="No such file"):
        list(read_documents([str(tmp_path / "none.yaml")]))
    with pytest.raises(UnreadableFileError, match="without YAML"):
        list(read_documents([str(tmp_path)]))
    big = tmp_path / "big.yaml"
    big.write_text("a: " + "x" * yaml_files.MAX_FILE_BYTES)
    with pytest.raises(DocumentError, match="larger than 2 MiB"):
        list(read_documents([str(big)]))
    big.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(DocumentError, match="UTF-8") as caught:
        list(read_documents([str(tmp_path)]))
    assert caught.value.line == 2
    big.write_bytes(b"\xef\xbb\xbfa: 1\n")
    (tmp_path / "a.json").write_text('{"b": 2}')
    (tmp_path / "notes.txt").write_text("no")
    assert [d.value for d in read_documents([str(tmp_path)])] == [{"b": 2}, {"a": 1}]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"c: 3\n")))
    assert [(d.file, d.value) for d in read_documents(["-"])] == [("-", {"c": 3})]


def test_an_error_shows_no_escape_of_the_file() -> None:
    with pytest.raises(DocumentError) as caught:
        list(parse_documents('"\\e[2J": 1\n"\\e[2J": 2\n', "f\x1b[2J"))
    assert "\x1b" not in str(caught.value)


_NASTY = st.text(alphabet="ab \n\t:#-'\"\\{}[]&*!|>%@`,?=<~y1.e\u202e\x85\u2028\x07\r", max_size=30)
_TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30) | _NASTY
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(_VALUES)
def test_what_is_written_is_read_back_equal(value: Any) -> None:
    text = dump_yaml({"a": value})
    assert value_of(text) == {"a": value}
    assert text.replace("\n", "").replace("\t", "").isprintable()
    assert dump_yaml({"a": value}) == text
    line = dump_flow({"a": value})
    assert "\n" not in line
    assert value_of(line) == {"a": value}


@pytest.mark.parametrize(
    "text", ["1e3", "y", "010", "2020-01-01", "1:30", ".5", "0x1", "null", "=", "<<", "~", "-1", "+1", "on"]
)
def test_a_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    assert dump_yaml({"a": text}).strip() in {f"a: '{text}'", f'a: "{text}"'}


def test_code_with_blanks_at_line_ends_stays_readable() -> None:
    assert dump_yaml({"a": "def f():\n    \n\treturn 1\n"}) == "a: |\n  def f():\n      \n  \treturn 1\n"


def test_json_is_yaml(tmp_path: Path) -> None:
    assert value_of(json.dumps({"a": [1, None, "x\u2028"]})) == {"a": [1, None, "x\u2028"]}
