"""Which examples the model is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from skill_operator.api.v1alpha1 import Example
from skill_operator.naming import digest


def split_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(visible, hidden). About a third is hidden, chosen by content: it neither moves with the order nor can be known
    to whoever writes the code. Fewer than three are all shown."""
    hidden_count = len(examples) // 3
    ranked = sorted(examples, key=lambda e: digest(e.model_dump(mode="json")))
    shown = Counter(e.error for e in examples)
    names: set[str] = set()
    for alone in (False, True):  # the last of its kind goes last: no one can guess which error was meant
        for example in ranked:
            if len(names) < hidden_count and example.name not in names and (alone or shown[example.error] > 1):
                names.add(example.name)
                shown[example.error] -= 1
    return [e for e in examples if e.name not in names], [e for e in examples if e.name in names]
