"""The Skills of one namespace share a bounded part of the gateway's memory."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from skill_operator.naming import SkillKey

log = logging.getLogger(__name__)
MAX_NAMESPACE_UNITS: Final = 131_072
"""Units of what the Skills of a namespace say. One takes 512 bytes at most, of text outside ASCII: 64 MiB in all."""
ENTRY_UNITS: Final = 16
"""What a Skill takes that says nothing. So thousands of usual Skills have room."""


class EntryBudget:
    """EntryBudget counts, by namespace, the units of what the gateway keeps of each Skill.

    However many Skills one namespace has, they take no memory from those of another. Whoever comes first is kept.
    """

    def __init__(self) -> None:
        self._units: dict[SkillKey, int] = {}
        self._totals: Counter[str] = Counter()
        self._exceeded: set[str] = set()

    def take(self, key: SkillKey, units: int) -> bool:
        """Give a Skill its units, instead of those that it had. Return False where its namespace has not so many."""
        self.release(key)
        units += ENTRY_UNITS
        if self._totals[key.namespace] + units > MAX_NAMESPACE_UNITS:
            if key.namespace not in self._exceeded:
                self._exceeded.add(key.namespace)
                log.warning("the Skills of a namespace say more than is kept of it", extra={"namespace": key.namespace})
            return False
        self._units[key] = units
        self._totals[key.namespace] += units
        return True

    def release(self, key: SkillKey) -> None:
        """Take back what a Skill has."""
        self._totals[key.namespace] -= self._units.pop(key, 0)
        if not self._totals[key.namespace]:
            del self._totals[key.namespace]
            self._exceeded.discard(key.namespace)
