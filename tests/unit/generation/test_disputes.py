"""Disputes over examples: read from the checker's own reports, told to people, and never to a model."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.generation import ledger_entries
from skill_operator.generation.decision import CallKind, Stop
from skill_operator.generation.disputes import MAX_VALUE_CHARACTERS, WrongAnswer, find_dispute, read_wrong_answers
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.ledger import Attempt, AttemptState, Ledger
from skill_operator.generation.request import build_messages
from skill_runtime.check.examples import FailedExample, compare_reply, report_hidden, report_visible
from skill_runtime.check.request import CheckExample
from skill_runtime.replies import FailureKind, WorkerFailure
from skill_runtime.text import one_line

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)
SECRET = "held-out-secret"
STATES = [state for state in get_args(AttemptState) if state != "reserved"]


def failed(name: str, output: Any, actual: Any, difference: str = "") -> FailedExample:
    """As the checker makes it of an answer."""
    example = CheckExample(name, {"a": 1}, hidden=True, output=output, has_output=True, error="")
    return FailedExample(example, one_line(json.dumps(actual, ensure_ascii=False), 200), difference=difference)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=40), JSON, JSON, st.text(max_size=20)), min_size=1, max_size=3))
def test_each_wrong_answer_of_a_report_is_read_whatever_its_values_hold(failures: list[Any]) -> None:
    examples = [failed(*failure) for failure in failures]
    for report in (report_hidden(examples, 0, 9, "").private, report_visible(examples, 0, 9, "x = 1").message):
        found = read_wrong_answers(report)
        assert [answer.answer for answer in found] == [example.actual for example in examples]
        assert all("\n" not in text for answer in found for text in (answer.name, answer.expected, answer.difference))


@settings(max_examples=200)
@given(st.sampled_from(get_args(FailureKind)), st.text(), st.text(max_size=9))
def test_what_a_program_says_without_an_answer_is_no_wrong_answer(kind: Any, message: str, name: str) -> None:
    failure = WorkerFailure(kind, (f"E{name}",), message)
    example = CheckExample("one", {"a": 1}, hidden=True, output=3, has_output=True, error="")
    made = compare_reply(None, example, failure)  # type: ignore[arg-type] - of a failure nothing else is read
    assert made is not None
    assert read_wrong_answers(report_hidden([made], 0, 1, "").private) == []


def test_an_answer_beside_an_exception_with_an_excerpt_is_read() -> None:
    crash = FailedExample(failed("a", 1, 2).example, "KeyError: 3", WorkerFailure("raised", ("KeyError",), "3", 2))
    text = report_visible([crash, failed("b", 1, 2)], 0, 2, "example 'c':\n  got:      3\nx = 1").message
    assert read_wrong_answers(text) == [WrongAnswer("'b'", "1", "2")]


def test_the_answer_that_most_programs_give_is_in_dispute() -> None:
    def report(*answers: int) -> str:
        return report_hidden([failed(f"e{n}", 0, answer) for n, answer in enumerate(answers, 1)], 0, 9, "").private

    assert find_dispute([], held_out=True) is None
    assert find_dispute([report(1), report(2), "", "x"], held_out=True) is None
    assert find_dispute([report(1), report(0, 1)], held_out=True) is None, "each of another example"
    found = find_dispute([report(1, 5), report(1, 6), report(2, 6), report(3, 6)], held_out=True)
    assert found is not None
    assert (found.answer.name, found.answer.answer, found.programs) == ("'e2'", "6", 3)


@pytest.mark.parametrize("is_held_out", [False, True])
def test_the_sentence_names_example_values_and_what_to_do_and_has_an_end(is_held_out: bool) -> None:
    report = report_hidden([failed("x" * 500, ["y" * 999], ["z" * 999], "/0 is 1, not 2")], 0, 1, "").private
    found = find_dispute([report, report], held_out=is_held_out)
    assert found is not None
    assert len(found.message) < 3 * MAX_VALUE_CHARACTERS + 200
    assert ("held-out" in found.message) == is_held_out
    assert "either may be wrong" in found.message
    short = find_dispute([report_hidden([failed("a", [1], [2])], 0, 1, "").private] * 2, held_out=is_held_out)
    assert short is not None
    assert "answer [2] where the" in short.message
    assert "example 'a' wants [1]" in short.message
    assert short.message.endswith("correct the example")


def spec() -> SkillSpec:
    """Return a spec whose held-out examples alone have the secret in name, input and output."""
    words = ["a", "b", "c", "d", "e", "f"]
    plain = [{"name": word, "input": {"what": word}, "output": {"said": word}} for word in words]
    base = {"description": "d", "input": {"type": "object"}, "output": {"type": "object"}}
    _, hidden = split_examples(SkillSpec.model_validate(base | {"examples": plain}).examples)
    chosen = {example.name for example in hidden}
    for tries in range(1000):
        marked = [
            {"name": f"{SECRET}-{e['name']}", "input": {SECRET: tries}, "output": {"said": f"{SECRET}{tries}"}}
            if e["name"] in chosen
            else e
            for e in plain
        ]
        found = SkillSpec.model_validate(base | {"examples": marked})
        if all(SECRET in example.name for example in split_examples(found.examples)[1]):
            return found
    raise AssertionError("no split hides the marked examples")


SPEC = spec()
PRIVATE = st.sampled_from(
    [report_hidden([failed(f"{SECRET}-{n}", f"{SECRET}-x", f"{SECRET}-{n}")], 0, 2, "").private for n in range(2)]
)
MESSAGES = st.sampled_from([report_hidden([failed("a", 1, 2)], 0, 2, "").message, "x", ""])
ATTEMPTS = st.builds(
    Attempt,
    number=st.integers(0, 5),
    state=st.sampled_from(STATES),
    endpoint=st.just("m"),
    tokens=st.integers(0, 500),
    source=st.sampled_from(["", "def run(input):\n    return 1\n"]),
    fingerprint=st.sampled_from(["", "1", "2"]),
    gate=st.sampled_from(["", "mypy", "examples", "hidden"]),
    message=MESSAGES,
    private=PRIVATE,
)


@settings(max_examples=300)
@given(st.lists(ATTEMPTS, max_size=6), st.booleans())
def test_no_prompt_holds_what_is_held_out(attempts: list[Attempt], was_stopped: bool) -> None:
    ledger = Ledger(input_hash="h", attempts=tuple(attempts))
    dispute = find_dispute([attempt.private for attempt in attempts], held_out=True)
    if was_stopped and dispute is not None:
        ledger = ledger_entries.stop(ledger, Stop("SuspectSpec", dispute.message, "", 3))
        ledger = ledger_entries.reserve(ledger, "m", 9, "next", NOW)
    for kind in get_args(CallKind):
        assert SECRET not in json.dumps(build_messages(SPEC, "", {}, ledger, kind))
