"""The split into visible and hidden examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.api.v1alpha1 import Example
from skill_operator.generation.holdout import split_examples


def some(count: int) -> list[Example]:
    return [Example(name=f"e{n}", input={"n": n}, output=n * n) for n in range(count)]


@pytest.mark.parametrize(
    ("count", "hidden"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (8, 2), (9, 3), (64, 21)]
)
def test_about_a_third_is_hidden(count: int, hidden: int) -> None:
    shown, kept = split_examples(some(count))
    assert len(kept) == hidden
    assert len(shown) + len(kept) == count


@given(st.integers(0, 20).flatmap(lambda count: st.permutations(range(count))))
def test_neither_order_nor_repetition_changes_the_choice_and_nothing_is_lost(order: list[int]) -> None:
    examples = some(len(order))
    shown, kept = split_examples(examples)
    shuffled = split_examples([examples[at] for at in order])
    assert {e.name for e in shuffled[1]} == {e.name for e in kept}
    assert sorted([e.name for e in (*shown, *kept)]) == sorted(e.name for e in examples)
    assert [e.name for e in shown] == [e.name for e in examples if e in shown], "the order of the spec is kept"


def test_the_choice_depends_on_the_content() -> None:
    chosen = {
        split_examples([e.model_copy(update={"input": {"n": salt}}) for e in some(3)])[1][0].name for salt in range(20)
    }
    assert len(chosen) > 1


@pytest.mark.parametrize("salt", range(12))
def test_the_only_example_of_an_error_stays_visible(salt: int) -> None:
    """No one can guess from results that something must be refused."""
    examples = [*some(5), Example(name="bad", input={"n": salt}, error="ValueError")]
    assert "bad" in {e.name for e in split_examples(examples)[0]}


def test_where_every_kind_is_alone_something_is_hidden_all_the_same() -> None:
    errors = [Example(name=f"e{n}", input=n, error=f"Error{n}") for n in range(3)]
    assert len(split_examples(errors)[1]) == 1
