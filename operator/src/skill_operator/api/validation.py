"""The bad specs that the API server cannot see."""

from __future__ import annotations

from typing import NamedTuple

from skill_operator.api.v1alpha1 import SkillSpec


class Problem(NamedTuple):
    """One thing to mend, and where."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def problems(spec: SkillSpec) -> list[Problem]:
    return []
