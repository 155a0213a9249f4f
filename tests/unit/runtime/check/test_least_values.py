"""A failure on a least value that no example shows is a question; every other one refuses as ever."""

import json

import pytest

from skill_runtime.check import least_values
from tests.unit.runtime.check.test_check import behave
from tests.unit.runtime.harness import HEAD

RECORD = frozenset({"xs", "s", "n", "note", "inner"})


@pytest.mark.parametrize(
    ("value", "samples", "places"),
    [
        ({"xs": []}, [{"xs": [1]}], [("xs",)]),
        ({"xs": []}, [{"xs": [1]}, {"xs": []}], []),
        ({"s": ""}, [{"s": "a"}], [("s",)]),
        ({"n": 0}, [{"n": 1}], [("n",)]),
        ({"n": 0.0}, [{"n": 1}], [("n",)]),
        ({"n": 0.0}, [{"n": 0}], []),
        ({"n": None}, [{"n": 0}], [("n",)]),
        ({"inner": {}}, [{"inner": {"a": 1}}], [("inner",)]),
        ({"n": False, "s": " "}, [{"n": True, "s": "a"}], []),
        ({"n": 0}, [{"n": False}], [("n",)]),
        ({"n": 1}, [{"n": 1, "note": "a"}], [("note",)]),
        ({"n": 1}, [{"n": 1, "note": "a"}, {"n": 2}], []),
        ({"n": 1}, [{"n": 1, "unknown": "a"}], []),
        ({"xs": [0, 1, ""]}, [{"xs": [1, 2, "a"]}], [("xs", 0), ("xs", 2)]),
        ({"xs": [0]}, [{"xs": [1, 0]}], []),
        ({"inner": {"n": 0}}, [{"inner": {"n": 1}}, {"inner": None}], [("inner", "n")]),
        ({"inner": {"a": 0}}, [{"inner": {"b": 1}}], [("inner", "a")]),
        ({"inner": {"a": 0}}, [{"inner": {"b": 0}}], []),
        ([], [[1]], [()]),
        ("", ["a"], [()]),
        ({"xs": []}, [], [("xs",)]),
    ],
)
def test_the_places_are_found(value, samples, places):
    assert least_values.find_unshown(value, samples, RECORD) == places
    ordinary = least_values.make_ordinary(value, places, samples, RECORD)
    if samples:
        assert least_values.find_unshown(ordinary, samples, RECORD) == []
    for place in places:
        kept = least_values.make_ordinary(value, places, samples, RECORD, place)
        if samples:
            assert least_values.find_unshown(kept, samples, RECORD) == [place]


def test_fields_are_those_that_the_schema_names_anywhere():
    item = {"type": "object", "properties": {"b": {}}}
    schema = {"properties": {"a": {"anyOf": [{"items": item}]}}, "$defs": {"x": {"properties": {"c": True}}}}
    assert least_values.field_names(schema) == {"a", "b", "c"}
    assert least_values.field_names(True) == frozenset()


def schema(required=("xs",), **fields):
    return {"type": "object", "properties": fields, "required": list(required)}


NUMBERS = {"type": "array", "items": {"type": "number"}}
LIST, TEXT, NUMBER = schema(xs=NUMBERS), schema(("s",), s={"type": "string"}), schema(("n",), n={"type": "number"})
OPTIONAL = schema(("n",), n={"type": "number"}, note={"type": "string"})
NESTED = schema(("inner",), inner=schema(xs=NUMBERS, s={"type": "string"}, required=("xs", "s")))
NULLABLE = schema(("s",), s={"type": ["string", "null"]})
ROWS = schema(("rows",), rows={"type": "array", "items": schema(xs=NUMBERS)})
EDGES = {
    "the largest of none": (LIST, "sorted(input['xs'])[-1]", [{"xs": [1, 2]}], {"xs": []}, "IndexError"),
    "the mean of none": (LIST, "sum(input['xs']) / len(input['xs'])", [{"xs": [1]}], {"xs": []}, "ZeroDivision"),
    "nothing instead of a number": (LIST, "max(input['xs'], default=None)", [{"xs": [1]}], {"xs": []}, '{"n":null}, which does not fit the output schema'),
    "an endless number": (LIST, "min(input['xs'] + [1e999] if not input['xs'] else input['xs'])", [{"xs": [1]}], {"xs": []}, "ValueError: Out of range"),
    "a loop that never ran": (LIST, "[last for last in input['xs']] and last", [{"xs": [1]}], {"xs": []}, "UnboundLocal"),
    "the first letter": (TEXT, "ord(input['s'][0])", [{"s": "a"}], {"s": ""}, "IndexError"),
    "one divided by it": (NUMBER, "1 / input['n']", [{"n": 1}], {"n": 0}, "ZeroDivisionError"),
    "a field that may be absent": (OPTIONAL, "len(input['note'])", [{"n": 1, "note": "a"}], {"n": 1}, "KeyError: 'note'"),
    "deep inside": (NESTED, "input['inner']['xs'][0]", [{"inner": {"xs": [1], "s": ""}}], {"inner": {"xs": [], "s": ""}}, "IndexError"),
    "one of two": (NESTED, "input['inner']['xs'][0]", [{"inner": {"xs": [1], "s": "a"}}], {"inner": {"xs": [], "s": "a"}}, "IndexError"),
    "null": (NULLABLE, "len(input['s'])", [{"s": "a"}, {"s": ""}], {"s": None}, "TypeError"),
    "no rows": (ROWS, "len(input['rows'][0]['xs'])", [{"rows": [{"xs": [1]}]}], {"rows": []}, "IndexError"),
}  # fmt: skip
BODY = "    {}\n    return {{'n': {}}}\n"
OUTPUT = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}


def judged(folder, given, expression, samples, more="pass"):
    """The result of a program whose examples are right by its own word."""
    source = HEAD + BODY.format(more, expression)
    if "last for last" in expression:
        source = HEAD + "    for last in input['xs']:\n        pass\n    return {'n': last}\n"
    space = {}
    exec(compile(source.replace("from skill_types import Input, Output", "Input = Output = dict"), "x", "exec"), space)  # noqa: S102
    examples = [{"name": f"e{n}", "input": value, "output": space["run"](value)} for n, value in enumerate(samples)]
    return behave(folder, source, input=given, output=OUTPUT, examples=examples)


@pytest.mark.parametrize("name", EDGES)
def test_what_fails_on_a_least_value_alone_is_asked(name, tmp_path):
    given, expression, samples, edge, happens = EDGES[name]
    result = judged(tmp_path, given, expression, samples)
    assert result.finding is None
    (question,) = result.questions
    assert question.kind == "edge"
    assert json.loads(question.input) == edge
    assert happens in question.answers[0]
    assert question.answers[1] == "an answer, or ValueError?"


@pytest.mark.parametrize(
    ("given", "expression", "samples", "more"),
    [
        # wrong on what is no least value
        (LIST, "sorted(input['xs'])[-1] if len(input['xs']) < 3 else None", [{"xs": [1]}], "pass"),
        (NUMBER, "1 / input['n'] if input['n'] >= 0 else None", [{"n": 1}], "pass"),
        # a least value that the schema does not call empty
        (schema(("n",), n={"type": "number", "minimum": 3}), "1 / (input['n'] - 3)", [{"n": 4}], "pass"),
        (schema(xs=NUMBERS | {"minItems": 1}), "1 / (len(input['xs']) - 1)", [{"xs": [1, 2]}], "pass"),
        # the end of the process, and a name that is nowhere
        (LIST, "len(input['xs'])", [{"xs": [1]}], "if not input['xs']: raise SystemExit"),
        (LIST, "len(input['xs'])", [{"xs": [1]}], "if not input['xs']: raise KeyboardInterrupt"),
        (LIST, "len(input['xs'])", [{"xs": [1]}], "if not input['xs']: raise NameError('x')"),
        (LIST, "len(input['xs'])", [{"xs": [1]}], "if not input['xs']: from math import nothing"),
        # not the same each time
        (LIST, "__import__('random').random() if not input['xs'] else 1", [{"xs": [1]}], "pass"),
    ],
)
def test_all_else_refuses(given, expression, samples, more, tmp_path):
    result = judged(tmp_path, given, expression, samples, more)
    assert result.finding is not None
    assert result.finding.gate == "schema"
    assert result.questions == ()


def test_one_reason_is_asked_about_once(tmp_path):
    three = schema(("a", "b", "c"), **{name: {"type": "number"} for name in "abc"})
    result = judged(tmp_path, three, "1 / input['a']", [{"a": 1, "b": 2, "c": 3}])
    assert [json.loads(question.input) for question in result.questions] == [{"a": 0, "b": 2, "c": 3}]


def test_right_answers_ask_nothing(tmp_path):
    result = judged(tmp_path, LIST, "sum(input['xs'])", [{"xs": [1]}])
    assert (result.finding, result.questions) == (None, ())
