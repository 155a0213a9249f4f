"""The holdout keeps some examples from the model, to check that its code solves more than what it was shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from skill_operator.api.v1alpha1 import Example
from skill_operator.naming import digest


def split_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return the visible and the hidden examples.

    About a third is hidden, chosen by the hash of its content: the choice does not depend on the order, and whoever
    writes the code cannot know it. Fewer than three examples are all visible.
    """
    hidden_count = len(examples) // 3
    ranked_examples = sorted(examples, key=lambda example: digest(example.model_dump(mode="json")))
    visible_by_error = Counter(example.error for example in examples)
    hidden_names: set[str] = set()
    # The only example of an error is hidden last: no one can guess an error that no example shows.
    for may_hide_only_one in (False, True):
        for example in ranked_examples:
            if (
                len(hidden_names) < hidden_count
                and example.name not in hidden_names
                and (may_hide_only_one or visible_by_error[example.error] > 1)
            ):
                hidden_names.add(example.name)
                visible_by_error[example.error] -= 1
    return (
        [example for example in examples if example.name not in hidden_names],
        [example for example in examples if example.name in hidden_names],
    )
