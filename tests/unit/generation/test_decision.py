"""The rules by which generation goes on or ends. Every order in which things can happen: test_every_order.py."""

from __future__ import annotations

from datetime import timedelta

import pytest

from skill_operator.generation import ledger_entries
from skill_operator.generation.decision import Call, ReadyCandidate, Stop, Wait
from skill_operator.generation.ledger import Ledger
from skill_runtime.check.examples import FailedExample, report_hidden
from skill_runtime.check.findings import excerpt
from skill_runtime.check.request import CheckExample
from tests.unit.generation.ledger_samples import (
    NOW,
    PROMPT,
    WRONG,
    opened,
    reason,
    refused,
    refused_in_turn,
    replied,
    report,
    reserved,
    step,
)


def test_the_first_call_reserves_prompt_and_reply() -> None:
    assert step(opened()) == Call("first", 4096, PROMPT + 4096)


def test_while_a_reply_is_awaited_there_is_nothing_to_do() -> None:
    found = step(reserved(opened()))
    assert isinstance(found, Wait)
    assert found.reason == "Generating"


def test_a_candidate_is_checked_then_accepted_for_good() -> None:
    ledger = replied(opened())
    found = step(ledger)
    assert isinstance(found, ReadyCandidate)
    assert not found.accepted
    assert found.attempt.source == "code"
    passed = ledger_entries.record_verdict(ledger, passed=True, gate="", message="", line=None)
    found = step(passed, now=NOW + timedelta(days=9), token_budget=1)
    assert isinstance(found, ReadyCandidate)
    assert found.accepted


def test_a_refused_candidate_is_repaired() -> None:
    assert reason(step(refused(opened(), "a"))) == "repair"


def test_attempts_are_exhausted() -> None:
    ledger = refused(refused(refused(opened(), "a", message="x"), "b", message="y"), "c", message="z")
    found = step(ledger)
    assert isinstance(found, Stop)
    assert found.reason == "AttemptsExhausted"
    assert "Attempt 3 came furthest" in found.report
    assert found.report.endswith("z")


@pytest.mark.parametrize(("spent", "expected"), [(18_000, 1000), (18_744, 256), (18_745, 0), (20_000, 0), (25_000, 0)])
def test_the_budget_is_checked_before_the_call(spent: int, expected: int) -> None:
    found = step(replied(opened(), "", tokens=spent))
    if expected:
        assert found == Call("first", expected, PROMPT + expected)
    else:
        assert reason(found) == "BudgetExhausted"


def test_a_repeat_is_not_checked_once_started_afresh_then_stopped() -> None:
    once = replied(refused(opened(), "a"), "a")
    assert reason(step(once)) == "fresh"
    twice = replied(once, "a")
    assert reason(step(twice)) == "LoopDetected"
    assert "same code" in once.attempts[-1].message


def test_no_progress_is_a_fresh_start_then_the_end() -> None:
    once = refused(refused(opened(), "a", message="got 3 at 0x7f"), "b", message="got 4 at 0x99")
    assert reason(step(once)) == "fresh"
    assert reason(step(refused(once, "c", message="got 5 at 0x11"))) == "NoProgress"
    other = refused(once, "c", message="another error")
    assert reason(step(other, max_attempts=4)) == "repair"


@pytest.mark.parametrize("max_attempts", [1, 2, 3, 4, 5])
def test_neither_stalls_nor_disputes_end_the_work_before_the_third_candidate(max_attempts: int) -> None:
    for message in ("got 3", report(4, 5)):
        for count in range(1, min(3, max_attempts)):
            assert isinstance(step(refused_in_turn(*[message] * count), max_attempts=max_attempts), Call)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("aaaa", "NoProgress"),
        ("aaa", "fresh"),
        ("aabb", "fresh"),
        ("aabba", "repair"),
        ("aabaa", "fresh"),
        ("baaa", "fresh"),
        ("baaaa", "NoProgress"),
    ],
)
def test_only_three_stalls_in_a_row_end_the_work_before_its_limit(messages: str, expected: str) -> None:
    assert reason(step(refused_in_turn(*messages), max_attempts=9)) == expected


def test_with_the_last_attempt_the_most_specific_reason_is_given() -> None:
    assert reason(step(refused_in_turn(*"aab"))) == "AttemptsExhausted"
    assert reason(step(refused_in_turn(*"baa"))) == "AttemptsExhausted", "its fresh start was never made"
    assert reason(step(refused_in_turn(*"aaa"))) == "NoProgress"
    disputed = refused_in_turn(report(4, 5), "x", report(4, 5))
    assert reason(step(disputed)) == "SuspectSpec"
    assert reason(step(disputed, max_attempts=4)) == "repair"


def test_more_examples_passed_is_progress() -> None:
    ledger = refused(opened(), "a", message=report(1, 5))
    assert reason(step(refused(ledger, "b", message=report(2, 5)))) == "repair"
    assert reason(step(refused(ledger, "b", message=report(1, 5, got="5")))) == "fresh"
    messages = [report_hidden([FailedExample(WRONG, "4")], passed, 3, "").message for passed in (1, 2)]
    held_out = [refused(opened(), "a", gate="hidden", message=message) for message in messages]
    assert [ledger.attempts[0].progress for ledger in held_out] == [(6, 1), (6, 2)]


@pytest.mark.parametrize("gate", ["ruff", "mypy"])
def test_the_same_complaint_about_other_code_is_no_progress(gate: str) -> None:
    messages = [
        f"line {n}: name-defined: 'x' is unknown\n{excerpt(code, n)}" for n, code in ((1, "x()"), (2, "\ny = x"))
    ]
    once = refused(opened(), "a", gate=gate, message=messages[0], line=1)
    assert reason(step(refused(once, "b", gate=gate, message=messages[1], line=2))) == "fresh"


def test_different_programs_that_agree_against_one_example_make_the_spec_suspect() -> None:
    found = step(refused_in_turn(*[report(4, 5)] * 3), max_attempts=5)
    assert isinstance(found, Stop)
    assert found.reason == "SuspectSpec"
    assert found.message.startswith("3 different programs answer 4 where the example 'one' wants 3: either may be")
    assert found.limit == 0, "more attempts would not settle it"
    assert reason(step(refused_in_turn(*[report(4, 5)] * 2), max_attempts=2)) == "SuspectSpec"
    two = refused_in_turn(report(4, 5), report(4, 5, got="7"))
    assert reason(step(two, max_attempts=2)) == "AttemptsExhausted", "they do not agree"
    for several in (report(3, 5), report(0, 1)):
        assert reason(step(refused_in_turn(several, several), max_attempts=2)) == "AttemptsExhausted"


def held_out(got: str, name: str = "one") -> str:
    example = CheckExample(name, {"a": 1}, hidden=True, output=3, has_output=True, error="")
    return report_hidden([FailedExample(example, got)], 1, 2, "").private


def test_programs_that_agree_against_a_held_out_example_make_the_spec_suspect() -> None:
    def ledger(*reports: str) -> Ledger:
        made = opened()
        for number, private in enumerate(reports):
            made = refused(made, f"program {number}", "hidden", f"{number}/2", private=private)
        return made

    found = step(ledger(*[held_out("4")] * 3))
    assert isinstance(found, Stop)
    assert found.reason == "SuspectSpec"
    assert "answer 4 where the held-out example 'one' wants 3" in found.message
    assert "one" not in found.report
    for other in (held_out("5"), held_out("4", "two"), held_out("KeyError: 4"), ""):
        assert reason(step(ledger(other, held_out("4")), max_attempts=2)) == "AttemptsExhausted"
    assert reason(step(ledger(held_out("KeyError: 4"), held_out("KeyError: 4")), max_attempts=2)) == "AttemptsExhausted"


def test_the_same_exception_twice_says_nothing_against_the_spec() -> None:
    for got in ("KeyError: 'a'", "4, which does not fit the output schema: /a is 4", "timeout", "nullify: 1"):
        assert reason(step(refused_in_turn(*[report(4, 5, got=got)] * 2), max_attempts=2)) == "AttemptsExhausted"


def test_the_same_forbidden_thing_twice_is_for_a_person_to_decide() -> None:
    once = refused(opened(), "a", gate="policy", message="line 3: import socket is forbidden")
    assert reason(step(once)) == "repair"
    assert (
        reason(step(refused(once, "b", gate="policy", message="line 9: import socket is forbidden"))) == "PolicyRefused"
    )
    assert reason(step(refused(once, "b", gate="policy", message="line 3: import ctypes is forbidden"))) == "repair"


def test_a_reply_without_code_costs_tokens_and_no_attempt_and_two_are_the_end() -> None:
    once = replied(opened(), "", problem="no code")
    assert (once.attempt_count, once.tokens) == (0, 1500)
    assert reason(step(once)) == "first"
    assert reason(step(replied(once, "", problem="no code"))) == "NoCode"
    between = replied(refused(once, "a"), "", problem="no code")
    assert reason(step(between)) == "repair"


def test_replies_that_are_cut_off_twice_have_a_reason_of_their_own() -> None:
    once = replied(opened(), "", flaw="cut-off", problem="too long")
    assert reason(step(once)) == "first"
    found = step(replied(once, "", flaw="cut-off", problem="too long"))
    assert isinstance(found, Stop)
    assert found.reason == "ReplyCutOff"
    assert "maxReplyTokens" in found.message


def test_the_deadline_ends_generation_but_not_a_check_under_way() -> None:
    after_deadline = NOW + timedelta(seconds=901)
    assert reason(step(refused(opened(), "a"), now=after_deadline)) == "DeadlineExceeded"
    assert isinstance(step(replied(opened()), now=after_deadline), ReadyCandidate)


def test_the_deadline_counts_from_the_first_reply_not_from_an_outage() -> None:
    ledger = ledger_entries.record_fault(reserved(opened()), "down", 0, NOW)
    hour = NOW + timedelta(hours=1)
    assert reason(step(ledger, now=hour)) == "first"
    assert reason(step(refused(ledger, "a"), now=hour)) == "DeadlineExceeded"


def test_faults_cost_no_attempt_and_wait() -> None:
    ledger = opened()
    for number in range(1, 6):
        ledger = ledger_entries.record_fault(reserved(ledger), "main failed (503).", 0, NOW + timedelta(seconds=10))
        assert ledger.attempt_count == ledger.tokens == 0
        found = step(ledger)
        assert isinstance(found, Wait)
        assert (found.seconds, found.reason, found.stalled) == (10, "ModelUnavailable", number == 5)
        assert isinstance(step(ledger, now=NOW + timedelta(seconds=10)), Call), "an outage ends by itself"
    assert reason(step(ledger_entries.record_fault(reserved(opened()), "x", 7, NOW), now=NOW)) == "first"


def test_a_refusal_stalls_at_once() -> None:
    later = NOW + timedelta(hours=1)
    found = step(
        ledger_entries.record_fault(reserved(opened()), "wrong key.", 0, later, reason="ModelRefused", fault_count=5)
    )
    assert isinstance(found, Wait)
    assert (found.reason, found.stalled) == ("ModelRefused", True)


def test_a_ledger_so_soon_after_another_waits() -> None:
    soon = Ledger(input_hash="h", not_before=NOW + timedelta(seconds=20))
    found = step(soon)
    assert isinstance(found, Wait)
    assert (found.reason, found.seconds) == ("Throttled", 20)
    assert isinstance(step(soon, now=NOW + timedelta(seconds=20)), Call)


def test_what_was_stopped_stays_stopped() -> None:
    ledger = refused(opened(), "a")
    stopped = ledger_entries.stop(ledger, Stop("LoopDetected", "again", "report"))
    assert step(stopped, max_attempts=9, token_budget=10**6) == Stop("LoopDetected", "again", "report")


@pytest.mark.parametrize(
    ("name", "value", "messages"),
    [
        ("token_budget", 40_000, ""),
        ("max_attempts", 4, "xyz"),
        ("max_attempts", 4, "xxx"),
        ("max_attempts", 4, [report(4, 5), "x", report(4, 5)]),
    ],
)
def test_raising_the_limit_that_was_reached_lets_the_work_go_on(name: str, value: int, messages: str) -> None:
    ledger = refused_in_turn(*messages) if messages else replied(refused(opened(), "a"), "", tokens=19_000)
    found = step(ledger)
    assert isinstance(found, Stop)
    stopped = ledger_entries.stop(ledger, found)
    assert step(stopped) == found
    again = step(stopped, **{name: value})
    assert isinstance(again, Call)
    resumed = ledger_entries.reserve(stopped, "main", again.reserved_tokens, "next", NOW)
    assert isinstance(step(resumed), Wait), "the stop is over"
    assert step(ledger_entries.stop(ledger, found), deadline=timedelta(days=9)) == found


def silent(ledger: Ledger) -> tuple[Ledger, int]:
    """The next call, sent and not answered, with the limit of its reply."""
    call = step(ledger)
    assert isinstance(call, Call)
    sent = ledger_entries.reserve(ledger, "main", call.reserved_tokens, "call", NOW, reply_limit=call.max_tokens)
    return ledger_entries.record_fault(sent, "late", call.reserved_tokens, NOW, is_unanswered=True), call.max_tokens


def test_after_a_call_without_an_answer_half_as_much_is_at_stake() -> None:
    ledger, limits_ = opened(), list[int]()
    for _ in range(6):
        ledger, limit = silent(ledger)
        limits_.append(limit)
    assert limits_ == [4096, 2048, 1024, 512, 256, 256]
    assert ledger.tokens == ledger.fault_tokens == 6 * PROMPT + sum(limits_), "whatever is billed is covered"
    probe = ledger_entries.reserve(ledger, "main", PROMPT + 256, "probe", NOW, reply_limit=256)
    back = ledger_entries.settle(
        probe, 1200, NOW, estimated=False, source="", fingerprint="", flaw="cut-off", problem="cut"
    )
    call = step(back)
    assert isinstance(call, Call)
    assert call.max_tokens == 20_000 - back.tokens - PROMPT, "all that is left of the full length"
    other = ledger_entries.record_fault(reserved(opened()), "slow down (429)", 0, NOW)
    assert isinstance(full := step(other), Call)
    assert full.max_tokens == 4096, "what was answered is no silence"


def thought(ledger: Ledger, limit: int, tokens: int = 1000) -> Ledger:
    """A reply whose limit reasoning took up."""
    asked_for = ledger_entries.reserve(ledger, "main", PROMPT + limit, f"call {ledger.tokens}", NOW, reply_limit=limit)
    return ledger_entries.settle(
        asked_for, tokens, NOW, estimated=False, source="", fingerprint="", flaw="no-answer", problem="cut"
    )


def test_reasoning_gets_twice_the_limit_as_long_as_the_budget_lasts() -> None:
    ledger, found = opened(), list[int]()
    while isinstance(call := step(ledger, token_budget=100_000), Call):
        found.append(call.max_tokens)
        ledger = thought(ledger, call.max_tokens, PROMPT + call.max_tokens)
    assert found == [4096, 8192, 16_384, 32_768]
    assert isinstance(call, Stop)
    assert (call.reason, call.limit, call.budget) == ("ReplyCutOff", 4096, 100_000)
    assert ledger.attempt_count == 0
    stopped = ledger_entries.stop(ledger, call)
    assert step(stopped, token_budget=100_000) == call
    assert isinstance(step(stopped, token_budget=100_001), Stop), "a token more is no use"
    again = step(stopped, token_budget=200_000)
    assert isinstance(again, Call)
    assert again.max_tokens == 65_536


def test_no_limit_is_above_what_the_endpoint_allows() -> None:
    assert isinstance(call := step(opened(), reply_ceiling=2048), Call)
    assert call.max_tokens == 2048
    stop_ = step(thought(opened(), 2048), reply_ceiling=2048)
    assert isinstance(stop_, Stop)
    assert stop_.reason == "ReplyCutOff"


def test_a_first_reply_gets_what_the_endpoint_was_seen_to_need() -> None:
    call = step(opened(), needed_reply_tokens=8192)
    assert isinstance(call, Call)
    assert (call.max_tokens, call.reserved_tokens) == (8192, PROMPT + 8192)
