"""Mutants are programs with one small mistake, on a line that runs; inputs near an example differ in one place."""

import ast
import calendar
import copy
import csv
import inspect
import json
import statistics
import textwrap

import pytest

from skill_runtime.check.mutants import MAX_MUTANTS, make_mutants
from skill_runtime.check.nearby_inputs import MAX_INPUTS, find_literals, vary

PROGRAMS = {module.__name__: inspect.getsource(module) for module in (calendar, copy, csv, statistics, textwrap)}
ONE_LINE = {
    "a - b": {"a + b", "b - a"},
    "a < b": {"a <= b", "a > b"},
    "a == 3": {"a != 3", "a == 4", "a == 2"},
    "not a": {"a"},
    "a and b": {"a or b", "a", "b"},
    "a in b": {"a not in b"},
    "a if b else c": {"a", "c"},
    "True": {"False"},
    "-a": {"a"},
    "sorted(a)": {"a"},
    "max(a)": {"min(a)"},
    "f(a, b)": {"f(b, a)"},
    "f(a, key=b)": {"f(a)"},
    "a.strip()": {"a"},
    "a[1:]": {"a", "a[2:]", "a[0:]"},
    "[x for x in a if x]": {"[x for x in a]"},
    "any(x for x in a if x)": {"any((x for x in a))", "all((x for x in a if x))"},
    "round(a, 2)": {"a", "round(2, a)", "round(a, 3)", "round(a, 1)"},
}


def same(one: str, other: str) -> bool:
    return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))


@pytest.mark.parametrize(("text", "mistakes"), ONE_LINE.items())
def test_the_mistakes_that_can_be_made_in_an_expression(text, mistakes):
    made = [mutant.source.removeprefix("x = ") for mutant in make_mutants(f"x = {text}", None)]
    assert sorted(ast.unparse(ast.parse(source)) for source in made) == sorted(
        ast.unparse(ast.parse(mistake)) for mistake in mistakes
    )


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("if a:\n    b = c", "if False:\n    b = c"),
        ("if a:\n    b = c", "if True:\n    b = c"),
        ("while a:\n    b = c", "while False:\n    b = c"),
        ("raise a", "pass"),
        ("for a in b:\n    break", "for a in b:\n    pass"),
        ("for a in b:\n    continue", "for a in b:\n    pass"),
        ("f()", "pass"),
        ("a += b", "a -= b"),
        ("a += b", "pass"),
    ],
)
def test_the_mistakes_that_can_be_made_in_a_statement(text, mistake):
    assert any(same(mutant.source, mistake) for mutant in make_mutants(text, None))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_mutant_is_the_program_with_one_change(name):
    source = PROGRAMS[name]
    lines = source.splitlines()
    found = [*make_mutants(source, None)]
    assert found == [*make_mutants(source, None)], "always the same"
    assert len({mutant.source for mutant in found}) == len(found) == MAX_MUTANTS
    for mutant in found:
        changed = mutant.source.splitlines()
        assert changed[: mutant.line - 1] == lines[: mutant.line - 1]
        assert mutant.source != source


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_mistake_is_made_where_nothing_runs(name):
    tree = ast.parse(PROGRAMS[name])
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    run = next(function for function in functions if len(function.body) > 3)
    lines = set(range(run.body[0].lineno, run.end_lineno + 1))
    inside = [mutant.line for mutant in make_mutants(PROGRAMS[name], lines, 10_000) if not mutant.is_outside]
    assert inside
    assert {*inside} <= lines


def test_many_lines_have_a_mistake_before_one_has_two():
    source = "def run(input):\n" + "".join(f"    x{n} = input - {n} + {n} * 7\n" for n in range(30)) + "    return x1\n"
    assert len({mutant.line for mutant in make_mutants(source, None, 30)}) == 30


def test_only_texts_and_types_are_left_alone():
    source = 'x: "a - b" = 1 - 2\ndef f(a: int | None = 1) -> 3 - 2:\n    return f"{a - 1}" "b"\n'
    assert {mutant.source.splitlines()[1][:18] for mutant in make_mutants(source, None)} == {"def f(a: int | Non"}
    assert all('f"{a - 1}" "b"' in mutant.source for mutant in make_mutants(source, None))


@pytest.mark.parametrize("source", ["", "def run(:", "x = " + "(" * 5000 + ")" * 5000, "x = 1\x00", "# only words"])
def test_what_cannot_be_parsed_has_no_mutants(source):
    assert [*make_mutants(source, None)] == []


@pytest.mark.parametrize(
    "source", ["ä = '💥' if x else 'ü' < y\r\nb = 1 - 2\n", "a = 1\x0c\nb = 2 - 1", "a = (\n  1 -\n  2)\n"]
)
def test_a_change_meets_its_place_whatever_letters_are_before_it(source):
    for mutant in make_mutants(source, None):
        ast.parse(mutant.source)


SAMPLES = [
    {"n": 1},
    {"xs": [1, 2, 3], "name": "Ada", "on": True, "deep": {"rate": 0.5, "tags": ["a", "b"]}},
    {"xs": [], "name": "", "deep": {}},
    {"x": None},
    {},
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_input_near_an_example_has_its_form_and_is_none(sample):
    before = json.dumps(SAMPLES)
    made = vary([sample, *SAMPLES], [7, "seven"], lambda _: True)
    assert made == vary([sample, *SAMPLES], [7, "seven"], lambda _: True), "always the same"
    assert len(made) == len({json.dumps(value, sort_keys=True) for value in made}) <= MAX_INPUTS
    assert all(isinstance(value, dict) and value not in SAMPLES for value in made)
    assert json.dumps(SAMPLES) == before


def test_an_input_near_an_example_fits():
    assert all(value["n"] > 5 for value in vary([{"n": 6}, {"n": 60}], [], lambda value: value.get("n", 0) > 5))


def test_what_the_code_names_is_tried_where_it_fits():
    source = "RATES = {'gold': 0.5}\ndef run(input):\n    return input['n'] >= 250 or input['kind'] == 'gold'\n"
    made = vary([{"n": 1, "kind": "x", "rate": 2.0}], find_literals(source), lambda _: True)
    assert {249, 250, 251} <= {value.get("n") for value in made}
    assert "gold" in {value.get("kind") for value in made}
    assert {0.5, -0.5, 1.5} <= {value.get("rate") for value in made}


@pytest.mark.parametrize("source", ["def run(:", "x = " + "(" * 5000, "x = 1\x00"])
def test_code_that_cannot_be_parsed_names_nothing(source):
    assert find_literals(source) == []


def test_without_examples_nothing_is_near_one():
    assert vary([], [1], lambda _: True) == []
