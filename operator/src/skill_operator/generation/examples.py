"""Which examples the model is shown."""

from __future__ import annotations

from collections.abc import Sequence

from skill_operator.api.v1alpha1 import Example
from skill_operator.naming import digest


def split(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(visible, hidden). About a third is hidden, chosen by content: it neither moves with the order nor can be known
    to whoever writes the code. Fewer than three are all shown."""
    hidden_count = len(examples) // 3
    ranked = sorted(examples, key=lambda e: digest(e.model_dump(mode="json")))
    names = {e.name for e in ranked[:hidden_count]}
    return [e for e in examples if e.name not in names], [e for e in examples if e.name in names]
