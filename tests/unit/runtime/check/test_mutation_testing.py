"""What the examples leave open is found by mistakes that they do not find; whatever a mutant does, the verdict stands."""

import asyncio
import json
import time

import pytest

from skill_runtime import operator_contract, process
from skill_runtime.check import dynamic, mutation_testing
from skill_runtime.check.candidate import NOTHING_WRITABLE
from skill_runtime.check.request import EncodedRequest
from tests.unit.runtime.harness import EXAMPLES, GOOD, HEAD, HIDDEN, PRIVATE_PIDS, TYPES, check, check_environment

WHOLE = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 50}}, "required": ["n"]}


def example(n, output, **more):
    return {"name": f"e{n}", "input": {"n": n}, "output": {"n": output}, **more}


@pytest.fixture(autouse=True)
def _children_come_home():
    process.harden()


def mutate(folder, source, seconds=mutation_testing.BUDGET_SECONDS, **more):
    """The result of mutation testing, after the gates."""
    request = EncodedRequest.take(check_environment(source, **more)).decode()
    (folder / "skill.py").write_text(source)
    accepted = asyncio.run(dynamic.run_gates(request, folder / "skill.py"))
    assert accepted.finding is None, accepted.finding
    return asyncio.run(
        mutation_testing.run_mutants(request, folder / "skill.py", NOTHING_WRITABLE, accepted.records, seconds)
    )


FREE_FROM = HEAD + "    return {'n': 0 if input['n'] >= 10 else 5}\n"


def test_an_open_boundary_is_asked_about_with_both_answers(tmp_path):
    result = mutate(tmp_path, FREE_FROM, input=WHOLE, examples=[example(3, 5), example(20, 0)])
    (question,) = result.questions
    assert question.kind == "mutant"
    n = json.loads(question.input)["n"]
    assert 3 < n < 20
    right = 0 if n >= 10 else 5
    assert json.loads(question.answers[0]) == {"n": right}, "the accepted code's comes first"
    assert json.loads(question.answers[1]) != {"n": right}
    assert 0 < result.count.killed < result.count.total


def test_more_examples_find_more_mutants(tmp_path):
    few = mutate(tmp_path, FREE_FROM, input=WHOLE, examples=[example(20, 0)])
    more = mutate(tmp_path, FREE_FROM, input=WHOLE, examples=[example(n, 0 if n >= 10 else 5) for n in range(51)])
    assert few.questions
    assert few.count.killed < few.count.total
    assert more.questions == ()
    assert more.count.killed == more.count.total > 0


def test_a_held_out_example_finds_mutants_and_shows_in_no_question(tmp_path):
    seen = [example(3, 5), example(20, 0)]
    hidden = [example(9, 5, hidden=True), example(10, 0, hidden=True)]
    before = mutate(tmp_path, FREE_FROM, input=WHOLE, examples=seen)
    after = mutate(tmp_path, FREE_FROM, input=WHOLE, examples=[*seen, *hidden])
    assert after.count.killed > before.count.killed
    assert not [q for q in after.questions if json.loads(q.input)["n"] in (9, 10)]


def test_what_never_differs_counts_as_no_mutant(tmp_path):
    source = HEAD + "    n = input['n']\n    if n < 0:\n        n = n + 3\n    return {'n': n}\n"  # no input is below 0
    result = mutate(tmp_path, source, input=WHOLE, examples=[example(n, n) for n in (0, 1, 7)])
    assert result.count.killed == result.count.total
    assert not result.questions


@pytest.mark.parametrize(
    "source",
    [
        HEAD + "    n, i = 0, 0\n    while i < input['n']:\n        i += 1\n        n += 1\n    return {'n': n}\n",
        "N = 0\nwhile N < 5:\n    N += 1\n" + HEAD + "    return {'n': input['n']}\n",
        HEAD
        + "    xs = [0] * (10 ** 3)\n    while len(xs) < 2000:\n        xs.append(0)\n    return {'n': input['n']}\n",
        "import sys\nif len(sys.argv) < 0:\n    sys.exit(3)\n" + HEAD + "    return {'n': input['n']}\n",
    ],
)
def test_mutants_that_loop_or_hoard_are_found_within_the_budget(tmp_path, source):
    start = time.monotonic()
    result = mutate(tmp_path, source, input=WHOLE, examples=[example(n, n) for n in (0, 3, 30)])
    assert time.monotonic() - start < 60
    assert result.count.killed > 0


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.5])
def test_the_budget_ends_it_and_what_was_found_counts(tmp_path, seconds):
    source = (
        HEAD + "    n = input['n']\n" + "".join(f"    n += {k} - {k}\n" for k in range(40)) + "    return {'n': n}\n"
    )
    start = time.monotonic()
    result = mutate(tmp_path, source, seconds, input=WHOLE, examples=[example(3, 3)])
    assert time.monotonic() - start < 30
    assert 0 <= result.count.killed <= result.count.total <= 40


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"granted": True}, "Granted"), ({"deterministic": False}, "NotDeterministic")],
)
def test_what_cannot_be_compared_is_not_tried(tmp_path, more, reason):
    result = mutate(tmp_path, GOOD, examples=EXAMPLES, **more)
    assert (result.count.total, result.count.skipped, result.questions) == (0, reason, ())


def test_code_that_is_slow_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(mutation_testing, "REFERENCE_SECONDS", 0.2)
    source = "import time\n" + HEAD + "    time.sleep(0.05)\n    return {'n': input['n']}\n"
    result = mutate(tmp_path, source, input=WHOLE, examples=[example(n, n) for n in range(3)])
    assert (result.count.total, result.count.skipped) == (0, "Slow")


def test_answers_that_differ_late_are_shown_where_they_differ(tmp_path):
    listed = {"type": "object", "properties": {"xs": {"type": "array", "items": {"type": "integer"}}}}
    source = HEAD + "    return {'xs': [7777] * 100 + [1 if input['n'] >= 10 else 5]}\n"
    examples = [{"name": "one", "input": {"n": 20}, "output": {"xs": [7777] * 100 + [1]}}]
    types = TYPES.replace("class Output(TypedDict):\n    n: float", "class Output(TypedDict):\n    xs: list[int]")
    (question,) = mutate(tmp_path, source, input=WHOLE, output=listed, examples=examples, types=types).questions
    assert question.answers[0] != question.answers[1]


HOSTILE = {
    "writes a report of its own": 'open(LOG, \'w\').write(\'{"report": "{}", "mac": "00"}\')',
    "ends its process": "getattr([os][0], ''.join(('_ex', 'it')))(0)",
    "leaves a process behind": "getattr([os][0], ''.join(('fo', 'rk')))() or [open(LOG, 'a').write('x') for _ in iter(int, 1)]",
    "fills the folder": "[open(SCRATCH + f'/{n}', 'w').write('x' * 9999) for n in range(99)]",
    "takes all memory": "[bytes(1 << 24) for _ in range(1000)]",
}


@pytest.mark.parametrize("prefix", [(), PRIVATE_PIDS], ids=["beside others", "as PID 1"])
@pytest.mark.parametrize("deed", HOSTILE)
def test_whatever_a_mutant_does_the_verdict_stands(tmp_path, deed, prefix):
    """The deed is done by code that a mistake lets run: the condition is false in the accepted code."""
    head = f"import os\nLOG, SCRATCH = {str(tmp_path / 'termination-log')!r}, {str(tmp_path / 'scratch')!r}\n"
    body = f"    if input['n'] > 10 ** 9:\n        {HOSTILE[deed]}\n    return {{'n': input['n'] + 1}}\n"
    examples = [example(1, 2), example(HIDDEN, HIDDEN + 1, hidden=True)]
    ended = check(tmp_path, head + HEAD + body, prefix=prefix, examples=examples)
    assert ended.code == 0
    assert ended.report["passed"], ended.report
    assert ended.report["mutants"] > 0


def test_they_are_left_out_for_a_reason_of_the_contract_alone(tmp_path):
    for reason in operator_contract.MUTANTS_SKIPPED_REASONS:
        report = check(tmp_path, GOOD, env={"SKILL_SKIP_MUTANTS": reason}).report
        assert (report["passed"], report["mutants"], report["mutantsSkipped"]) == (True, 0, reason)
    assert check(tmp_path, GOOD, env={"SKILL_SKIP_MUTANTS": "x"}).report["mutantsSkipped"] is None


def test_the_report_counts_what_was_tried(tmp_path):
    report = check(tmp_path, GOOD).report
    assert report["mutants"] > report["mutantsKilled"] > 0
    assert report["mutantsSkipped"] is None
    (question,) = report["questions"]
    assert question["kind"] == "mutant"
    assert str(HIDDEN) not in json.dumps(question)
