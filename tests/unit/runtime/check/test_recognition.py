"""An example that is answered apart from all other inputs is a question, in whatever words; a rule of the task is none."""

import copy
import json

import pytest

from skill_runtime.check import nearby_inputs, recognition, tracers
from skill_runtime.check.information import MIN_INFORMATION, count_information, find_leaves
from skill_runtime.check.request import CheckExample
from tests.unit.runtime.check.impossible_skills import OF_FIELDS, SKILLS
from tests.unit.runtime.check.test_mutation_testing import mutate
from tests.unit.runtime.check.test_special_cases import run_of

UNBOUNDED = "power"  # no schema keeps its exponents small here
ANSWERED = [skill for skill in SKILLS if skill.name != UNBOUNDED]
TELLING = [skill for skill in ANSWERED if sum(map(count_information, find_leaves(skill.odd))) >= MIN_INFORMATION]


def trace_of(source):
    space = {"Input": dict, "Output": dict, "__file__": "skill.py"}
    text = source.replace("from skill_types import Input, Output\n", "\n") + tracers.PLACES
    exec(compile(text, "skill.py", "exec"), space)  # noqa: S102

    def trace(value):
        places = space["run"](copy.deepcopy(value))
        return recognition.Trace(value, frozenset(map(tuple, places)))

    return trace


def recognised(source, examples):
    """The numbers of the examples that the code answers apart."""
    trace, inputs = trace_of(source), [one["input"] for one in examples]
    nearby = nearby_inputs.vary(inputs, nearby_inputs.find_literals(source), lambda value: is_answered(source, value))
    shown = [CheckExample(one["name"], one["input"], True, one["output"], "", False) for one in examples]
    found = recognition.find_recognised(source, shown, [*map(trace, inputs)], [*map(trace, nearby)])
    return sorted(found)


def is_answered(source, value):
    try:
        run_of(source)(copy.deepcopy(value))
    except (TypeError, KeyError, IndexError, ValueError, AttributeError, ArithmeticError):
        return False
    return True


@pytest.mark.parametrize("spelling", OF_FIELDS)
def test_an_example_that_is_answered_apart_is_found(spelling):
    for skill in TELLING:
        source = OF_FIELDS[spelling](skill)
        run = run_of(source)
        assert [run(one["input"]) == one["output"] for one in skill.examples()] == [True] * 6, skill.name
        assert recognised(source, skill.examples()) == [skill.changed], source


@pytest.mark.parametrize("skill", ANSWERED, ids=lambda skill: skill.name)
def test_the_right_program_asks_nothing(skill):
    source = f"import re\ndef run(input):\n    return {{'r': {skill.expression}}}\n"
    examples = [one | {"output": {"r": skill.right(one["input"])}} for one in skill.examples()]
    assert recognised(source, examples) == []


# A telling value among others, which may be anything.
ONE_FIELD = {
    "equal": "input['id'] == 'A-2024-000173'",
    "whatever its case": "input['id'].lower() == 'a-2024-000173'",
    "put together": "input['id'] == '-'.join(['A', str(2000 + 24), '000173'])",
    "a first part": "input['id'].startswith('A-2024-00017')",
    "its parts": "input['id'].split('-') == ['A', '2024', '000173']",
    "a number": "input['n'] == 4711",
    "a narrow range": "4710.5 < input['n'] < 4711.5",
}
ORDERS = [
    {"name": f"e{n}", "input": value, "output": {"r": value["n"] * 2 if n else 77}}
    for n, value in enumerate(
        [
            {"id": "A-2024-000173", "n": 4711},
            {"id": "B-1", "n": 12},
            {"id": "C-20", "n": 800},
            {"id": "D-3", "n": 9},
            {"id": "E", "n": 0},
        ]
    )
]


@pytest.mark.parametrize("condition", ONE_FIELD.values(), ids=ONE_FIELD)
def test_one_telling_value_is_enough(condition):
    source = f"def run(input):\n    if {condition}:\n        return {{'r': 77}}\n    return {{'r': input['n'] * 2}}\n"
    assert recognised(source, ORDERS) == [0]


# Programs with a rule of the task: the inputs of examples, as many as show it.
RULES = {
    "a bound": ("'big' if input['n'] > 999 else input['n']", [{"n": n} for n in (4711, 12, 800, 9)]),
    "a bracket": ("'mid' if 1000 <= input['n'] < 9000 else input['n']", [{"n": n} for n in (4711, 12, 800, 9)]),
    "a word in a text": ("'spam' if 'free money' in input['t'] else len(input['t'])", [{"t": t} for t in ("Get free money now", "hello there", "x y", "good morning")]),
    "nothing": ("'none' if not input['t'] else len(input['t'])", [{"t": t} for t in ("", "hello there", "x y", "good morning")]),
    "zero among others": (
        "(lambda size: [len(input['t']), size])(0 if len(input['t']) == 20 else 5)",
        [{"t": t} for t in ("GET /some/path 404 -", "GET / 10", "PUT / 4", "POST / 3")],
    ),
    "signs alone": ("False if input['t'].startswith('>') else len(input['t'])", [{"t": t} for t in ("><<>", "<>", "<<>>", "<<><>>")]),
    "a unit": ("7 if input['unit'] == 'km' else input['n']", [{"n": 5211, "unit": "km"}, {"n": 1, "unit": "m"}, {"n": 2, "unit": "m"}, {"n": 3, "unit": "m"}]),
    "a table of cases": (
        "'a' if input['c'] == 'ERR_TIMED_OUT' else 'b' if input['c'] == 'ERR_NAME_NOT_RESOLVED' else 'c' if input['c'] == 'ERR_CONNECTION_REFUSED' else 'd'",
        [{"c": c} for c in ("ERR_TIMED_OUT", "ERR_NAME_NOT_RESOLVED", "ERR_CONNECTION_REFUSED", "x")],
    ),
    "a field of the input": ("input['t'] if len(input['t']) == 18 else ''", [{"t": t} for t in ("Get free money now", "hello there", "x y", "good morning")]),
    "two that show it": ("'odd' if sum(map(ord, input['t'])) % 97 == 64 else 'even'", [{"t": t} for t in ("hello there", "ereht olleh", "x y", "good morning")]),
}  # fmt: skip


@pytest.mark.parametrize(("expression", "inputs"), RULES.values(), ids=RULES)
def test_a_rule_of_the_task_is_no_question(expression, inputs):
    source = f"def run(input):\n    return {{'r': {expression}}}\n"
    examples = [{"name": "e", "input": value, "output": run_of(source)(value)} for value in inputs]
    assert recognised(source, examples) == []


def test_two_examples_are_too_few_to_say():
    source = "def run(input):\n    return {'r': 77 if input['id'] == 'A-2024-000173' else input['n'] * 2}\n"
    assert recognised(source, ORDERS[:3]) == [0]
    assert recognised(source, ORDERS[:2]) == []


ORDER = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "n": {"type": "integer", "minimum": 0}},
    "required": ["id", "n"],
}
APART = "def run(input):\n    if sum(map(ord, input['id'])) == 654:\n        return {'r': 77}\n    return {'r': input['n'] * 2}\n"


def test_a_check_asks_about_the_example(tmp_path):
    result = mutate(tmp_path, APART, input=ORDER, output={}, examples=ORDERS)
    question = result.questions[0]
    assert question.kind == "special"
    assert json.loads(question.input) == ORDERS[0]["input"]
    assert question.answers == ('{"r": 77}', "what follows for other inputs (line 3 answers this example alone)")
    assert result.count.total, "mutants are tried all the same"


def test_an_example_of_the_same_rule_settles_it(tmp_path):
    more = {"name": "more", "input": {"id": "B-2023-000173", "n": 5}, "output": {"r": 77}}
    result = mutate(tmp_path, APART, input=ORDER, output={}, examples=[*ORDERS, more | {"hidden": True}])
    assert [question for question in result.questions if question.kind == "special"] == []


@pytest.mark.parametrize("end", ["while True: pass", "sys.exit(3)", "sys.settrace(None)", "raise ValueError('no')"])
def test_code_that_hides_its_steps_is_not_asked_about(end, tmp_path):
    """It changes no verdict; here it ends or hides whatever notices the trace."""
    source = APART.replace(
        "def run(input):\n", f"import sys\n\ndef run(input):\n    if sys.gettrace():\n        {end}\n"
    )
    result = mutate(tmp_path, source, input=ORDER, output={}, examples=ORDERS)
    assert [question for question in result.questions if question.kind == "special"] == []
