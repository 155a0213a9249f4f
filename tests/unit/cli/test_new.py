"""What `kubectl skill new` writes passes the check, and writes over nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_skill.errors import CliError
from kubectl_skill.example_text import parse_example
from kubectl_skill.scaffold import infer_schema, make_spec, parse_field, render, schema_of_fields
from kubectl_skill.spec_check import check_manifests
from kubectl_skill.yaml_files import parse_documents
from skill_operator.untrusted.json_schema import CompiledSchema
from tests.unit.cli.scripted import invoke, skill_command

EXAMPLES = ("--example", '{"text": "a"} => {"n": 1}', "--example", '{"text": ""} => !ValueError')


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_options_are_enough(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ended = skill_command(capsys, "new", "letters", "-d", "Count: letters\n# all", *EXAMPLES)
    assert ended.code == 0, ended
    text = (tmp_path / "letters.yaml").read_text()
    (document,) = parse_documents(text, "f")
    spec = document.value["spec"]
    assert spec["description"] == "Count: letters\n# all\n"
    assert spec["input"] == {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    assert [e.get("error") for e in spec["examples"]] == [None, "ValueError"]
    assert "# egress:" in text
    assert skill_command(capsys, "check", "letters.yaml").code == 0


def test_a_file_that_is_there_stays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "letters.yaml"
    file.write_text("mine")
    ended = skill_command(capsys, "new", "letters", "-d", "x", *EXAMPLES)
    assert (ended.code, file.read_text()) == (2, "mine")
    assert skill_command(capsys, "new", "letters", "-d", "x", *EXAMPLES, "--force").code == 0
    assert "kind: Skill" in file.read_text()
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert skill_command(capsys, "new", "letters", "-d", "x", *EXAMPLES).code == 2
    assert not (tmp_path / "elsewhere").exists()


def test_it_asks_and_asks_again(tmp_path: Path) -> None:
    answers = 'letters\nCount letters.\n{"text": \n{"text": "a"}\n{"n": 1}\n{"text": "a"} => {"n": 2}\n{"text": "b"} => {"n": 1}\n\n'
    ended = invoke("new", stdin=answers)
    assert ended.exit_code == 0, ended.output
    assert "That cannot be: the input is no JSON" in ended.stderr
    assert "contradicts" in ended.stderr
    (document,) = parse_documents((tmp_path / "letters.yaml").read_text(), "f")
    assert [e["input"] for e in document.value["spec"]["examples"]] == [{"text": "a"}, {"text": "b"}]
    assert ended.stdout == ""


@pytest.mark.parametrize(
    "answers", ["", "letters\n", "letters\nx\n", 'letters\nx\n{"a": 1}\n', "letters\nx\n\n", "No Name\n"]
)
def test_where_nobody_answers_nothing_is_written(tmp_path: Path, answers: str) -> None:
    assert invoke("new", stdin=answers).exit_code != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("Bad_Name", "-d", "x", *EXAMPLES),
        ("a", "-d", " ", *EXAMPLES),
        ("a", "-d", "x", "--example", "1 => 2"),
        ("a", "-d", "x", "--example", '{"a": 1}'),
        ("a", "-d", "x", "--example", '{"a": 1} => {'),
        ("a", "-d", "x", "--example", '{"a": 1} => !1'),
        ("a", "-d", "x", "--example", '{"a": 1} => 1', "--example", '{"a": 1} => 2'),
        ("a", "-d", "x", "--input", "b:string", "--example", '{"b": 1} => 2'),
        ("a", "-d", "x", "--input", "b:colour", "--example", '{"b": 1} => 2'),
        ("a", "-d", "x", "--input", "b:string", "--input", "b:string", "--example", '{"b": "1"} => 2'),
        ("a", "-d", "x", "--example", '{"a": 1} => 1', "-f", "/none/at/all.yaml"),
        ("a", "-d", "x", *(("--example", '{"a": 1} => 1') * 65)),
    ],
)
def test_what_would_not_pass_is_not_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ended = skill_command(capsys, "new", *arguments)
    assert ended.code == 2, ended
    assert ended.err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("qty:number", ("qty", {"type": "number"}, True)),
        ("note?:string", ("note", {"type": "string"}, False)),
        ("tags:string[]", ("tags", {"type": "array", "items": {"type": "string"}}, True)),
    ],
)
def test_fields(text: str, found: tuple[str, dict[str, Any], bool]) -> None:
    assert parse_field(text) == found
    name, schema, required = found
    made = schema_of_fields([text])
    assert made["properties"] == {name: schema}
    assert ("required" in made) == required


def test_an_example_may_hold_the_arrow() -> None:
    assert parse_example('{"a => b": "=>"} => "=> !"') == {"input": {"a => b": "=>"}, "output": "=> !"}
    with pytest.raises(CliError):
        parse_example("=> 1")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(st.lists(_JSON, min_size=1, max_size=4))
def test_every_value_fits_the_schema_that_is_made_of_it(values: list[Any]) -> None:
    schema = infer_schema(values)
    compiled = CompiledSchema(schema)
    assert all(compiled.surely_fits(value, 100, 1000, 10**9) for value in values), schema


@settings(deadline=None, max_examples=50)
@given(
    st.text(min_size=1, max_size=80).filter(str.strip),
    st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3),
)
def test_whatever_is_said_the_manifest_says_it(words: str, value: dict[str, str]) -> None:
    spec = make_spec(words, "", [], [], [{"name": "e", "input": value, "output": [value]}])
    (document,) = parse_documents(render("a", "a.yaml", spec), "f")
    assert document.value["spec"] == spec
    (checked,) = check_manifests([document])
    assert [p for p in checked.problems if p.severity == "error" and "pattern" not in p.message] == []
