"""Two programs that pass the same examples: where they differ is asked, and who is right is not decided."""

import json

import pytest

from skill_runtime import operator_contract as oc
from tests.unit.runtime.harness import EXAMPLES, HIDDEN, check

LIST = {"type": "object", "properties": {"xs": {"type": "array", "items": {"type": "integer"}}}, "required": ["xs"]}
ANY = {"type": "object"}
HEAD = "def run(input):\n"
SUM = HEAD + "    return {'n': sum(input['xs'])}\n"
REFUSING = HEAD + "    if not input['xs']:\n        raise ValueError('empty')\n    return {'n': sum(input['xs'])}\n"
EXAMPLE = {"name": "two", "input": {"xs": [1, 2]}, "output": {"n": 3}}


def compare(folder, accepted, other, examples=(EXAMPLE,), *, given=LIST, **more):
    """The report on `other`, compared with `accepted`."""
    ended = check(
        folder,
        other,
        reference=accepted,
        input=given,
        output=ANY,
        types="Input = Output = dict\n",
        examples=examples,
        **more,
    )
    return ended.report


@pytest.mark.parametrize(
    ("accepted", "other"),
    [
        (SUM, SUM),
        (SUM, HEAD + "    total = 0.0\n    for x in input['xs']:\n        total += x\n    return {'n': total}\n"),
        (SUM, HEAD + "    return {'n': sum(input['xs']) * (1 + 1e-13)}\n"),
        (REFUSING, REFUSING.replace("'empty'", "'nothing there'")),
        (REFUSING, "class Empty(ValueError): pass\n\n\n" + REFUSING.replace("ValueError(", "Empty(")),
        ("class Empty(ValueError): pass\n\n\n" + REFUSING.replace("ValueError(", "Empty("), REFUSING),
    ],
    ids=["same", "whole-floats", "rounding", "message", "subclass", "base-class"],
)
def test_programs_that_do_the_same_agree(tmp_path, accepted, other):
    report = compare(tmp_path, accepted, other)
    assert (report["passed"], report["questions"]) == (True, [])


@pytest.mark.parametrize(
    ("accepted", "other", "answers"),
    [
        (SUM, REFUSING, ['{"n":0}', "ValueError"]),
        (REFUSING, SUM, ["ValueError", '{"n":0}']),
        (SUM, REFUSING.replace("ValueError('empty')", "KeyError('xs')"), ['{"n":0}', "KeyError"]),
        (REFUSING, REFUSING.replace("ValueError", "LookupError"), ["ValueError", "LookupError"]),
        (SUM, HEAD + "    return {'n': sum(input['xs']) if input['xs'] else None}\n", ['{"n":0}', '{"n":null}']),
        (SUM, HEAD + "    return {'n': sum(input['xs']) if input['xs'] else {1}}\n", ['{"n":0}', "an output that JSON does not have"]),
        (SUM, HEAD + "    import sys\n    if not input['xs']:\n        sys.exit()\n    return {'n': sum(input['xs'])}\n", ['{"n":0}', "SystemExit"]),
    ],
    ids=["refused", "answered", "crash", "other-error", "null", "no-json", "exit"],
)  # fmt: skip
def test_where_programs_differ_is_asked(tmp_path, accepted, other, answers):
    report = compare(tmp_path, accepted, other)
    assert report["passed"]
    assert report["questions"][0] == {"kind": "opinion", "input": '{"xs": []}', "answers": answers}


def test_the_smallest_inputs_are_asked_first_and_three_at_most(tmp_path):
    biased = HEAD + "    return {'n': sum(input['xs']) + (input['xs'] != [1, 2])}\n"
    inputs = [question["input"] for question in compare(tmp_path, SUM, biased)["questions"]]
    assert len(inputs) == oc.MAX_QUESTIONS
    assert inputs == sorted(inputs, key=len)
    assert inputs[0] == '{"xs": []}'


def test_what_differs_far_inside_a_long_output_is_named(tmp_path):
    long = HEAD + "    return {'all': [*range(500)], 'last': 0 if not input['xs'] else sum(input['xs'])}\n"
    other = long.replace("0 if", "7 if")
    example = EXAMPLE | {"output": {"all": [*range(500)], "last": 3}}
    one, two = compare(tmp_path, long, other, (example,))["questions"][0]["answers"]
    assert one.startswith('{"all":[0,1,2')
    assert two == "the same, but /last is 7, not 0"


@pytest.mark.parametrize(
    "other",
    [
        HEAD + "    import random\n    return {'n': sum(input['xs']) + (input['xs'] != [1, 2]) * random.random()}\n",
        HEAD + "    import time\n    if input['xs'] != [1, 2]:\n        time.sleep(9)\n    return {'n': 3}\n",
        HEAD + "    if input['xs'] != [1, 2]:\n        raise MemoryError\n    return {'n': 3}\n",
    ],
    ids=["chance", "time", "memory"],
)
def test_an_answer_that_is_not_certain_asks_nothing(tmp_path, other):
    assert compare(tmp_path, SUM, other, callTimeoutSeconds=0.2)["questions"] == []


@pytest.mark.parametrize(
    ("other", "gate"),
    [
        (HEAD + "    return {'n': 4}\n", "examples"),
        (HEAD + "    import subprocess\n    return {'n': sum(input['xs'])}\n", "policy"),
        (HEAD + "    return {'n': total}\n", "ruff"),
        (HEAD + "    return {'n': 3 / 0}\n", "examples"),
        ("raise SystemExit\n\n\n" + SUM, "examples"),
        (HEAD + "    if input['xs'] != [1, 2]:\n        raise MemoryError\n    return {'n': 3}\n", "schema"),
    ],
    ids=["wrong", "policy", "ruff", "raises", "load", "nothing-compared"],
)
def test_a_program_that_is_refused_has_no_opinion(tmp_path, other, gate):
    report = compare(tmp_path, SUM, other)
    assert (report["passed"], report["gate"], report["questions"]) == (False, gate, [])


def test_a_program_that_fails_what_is_held_out_has_no_opinion(tmp_path):
    given = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    right = HEAD + "    if input['n'] < 0:\n        raise ValueError\n    return {'n': input['n'] + 1}\n"
    report = compare(tmp_path, right, right.replace("+ 1", f"+ 1 - (input['n'] == {HIDDEN})"), EXAMPLES, given=given)
    assert (report["passed"], report["gate"]) == (False, "hidden")
    assert str(HIDDEN) not in report["message"]


def test_no_question_is_about_what_is_held_out(tmp_path):
    hidden = {"name": "kept", "input": {"xs": [HIDDEN]}, "output": {"n": HIDDEN}, "hidden": True}
    biased = HEAD + f"    return {{'n': sum(input['xs']) + (input['xs'] not in ([1, 2], [{HIDDEN}]))}}\n"
    report = compare(tmp_path, SUM, biased, (EXAMPLE, hidden))
    assert report["questions"]
    assert str(HIDDEN) not in json.dumps(report["questions"])
    assert report["passedExamples"] == 2


def test_the_accepted_program_is_not_judged_again(tmp_path):
    """It passed before, with what the tools said then."""
    report = compare(tmp_path, SUM.replace("return", "import subprocess\n    return"), SUM)
    assert (report["passed"], report["questions"]) == (True, [])
