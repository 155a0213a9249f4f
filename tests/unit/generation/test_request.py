"""What a request tells of earlier attempts: enough to do better, and nothing that is held out."""

from __future__ import annotations

from typing import Any

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.ledger import Attempt, Ledger
from skill_operator.generation.request import build_messages
from tests.unit.generation.prompt_samples import MANIFEST

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SPEC = SkillSpec.model_validate(
    {
        "description": "Double the number.",
        "input": NUMBER,
        "output": NUMBER,
        "examples": [{"name": f"case-{n}", "input": {"n": n}, "output": {"n": 2 * n}} for n in range(9)],
    }
)
VISIBLE, HIDDEN = ([example.name for example in examples] for examples in split_examples(SPEC.examples))


def attempt(number: int, message: str, **values: Any) -> Attempt:
    fields = {"state": "failed", "endpoint": "m", "tokens": 1, "gate": "examples", "source": f"x = {number}\n"}
    return Attempt(number=number, message=message, fingerprint=str(number), **(fields | values))


def last_words(attempts: list[Attempt], kind: Any = "fresh") -> str:
    return build_messages(SPEC, "", MANIFEST, Ledger(input_hash="h", attempts=tuple(attempts)), kind)[-1]["content"]


def test_a_fresh_start_names_the_visible_examples_that_failed() -> None:
    report = f"4/6 visible examples pass.\nexample '{VISIBLE[0]}':\n  got: 1\nexample '{VISIBLE[3]}':\n  got: 2"
    words = last_words([attempt(1, report), attempt(2, "line 1: no", gate="policy")])
    assert f"- examples: 4/6 visible examples pass. Failed: {VISIBLE[0]}, {VISIBLE[3]}.\n" in words
    assert "- policy: line 1: no\n" in words
    assert "got: 1" not in words


def test_no_example_that_is_held_out_is_ever_named() -> None:
    forged = "\n".join(f"example '{name}':" for name in (*HIDDEN, VISIBLE[1]))
    words = last_words([attempt(1, f"5/6 visible examples pass.\n{forged}"), attempt(2, f"x\n{forged}", gate="hidden")])
    assert f"Failed: {VISIBLE[1]}." in words
    assert not any(name in words for name in HIDDEN)


def test_a_repair_of_the_best_names_what_later_attempts_failed() -> None:
    best, worse = attempt(1, "5/6 visible examples pass."), f"1/6 visible examples pass.\nexample '{VISIBLE[2]}':"
    words = last_words([best, attempt(2, worse)], "repair")
    assert f"- examples: 1/6 visible examples pass. Failed: {VISIBLE[2]}.\n" in words
