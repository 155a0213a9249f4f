"""Read Skills as the API server has them, also those of an operator that is newer than this plugin."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kubectl_skill.errors import CliError
from skill_operator.api import conditions as types
from skill_operator.api.conditions import get_condition
from skill_operator.api.v1alpha1 import Condition, ObjectMeta, SkillSpec, SkillStatus

ModelT = TypeVar("ModelT", bound=BaseModel)
MAX_UNKNOWN_VALUES = 64


@dataclass(frozen=True)
class SkillView:
    """SkillView is a Skill as commands read it: `raw` is the object, the rest its parts with types."""

    raw: dict[str, Any]
    metadata: ObjectMeta
    spec: SkillSpec
    status: SkillStatus

    @property
    def name(self) -> str:
        """Return the Skill's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Return the Skill's namespace."""
        return self.metadata.namespace

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of a type, if there is one."""
        return get_condition(self.status.conditions, type_)

    def holds(self, type_: str) -> bool:
        """Return whether a condition is True."""
        found = self.condition(type_)
        return found is not None and found.status == "True"

    @property
    def state(self) -> str:
        """Return the state in one word: Ready, Asleep, Working, Stalled, Suspended, Archived, Deleting or New."""
        active = self.condition(types.ACTIVE)
        if self.metadata.deletion_timestamp is not None:
            return "Deleting"
        if self.spec.suspend:
            return "Suspended"
        if active is not None and active.reason == "Archived":
            return "Archived"
        if self.holds(types.STALLED):
            return "Stalled"
        if self.holds(types.READY):
            return "Asleep" if active is not None and active.status == "False" else "Ready"
        return "Working" if self.status.conditions else "New"

    @property
    def holdup(self) -> Condition | None:
        """Return the condition that says best why the Skill is as it is: of what holds it up, else Ready."""
        for type_ in (types.STALLED, types.READY, types.RECONCILING):
            if (found := self.condition(type_)) is not None:
                return found
        return None


def read_skill(raw: dict[str, Any]) -> SkillView:
    """Return a Skill. What this plugin does not know is left out. Raises CliError where nothing can be made of it."""
    try:
        return SkillView(
            raw,
            lenient(ObjectMeta, raw.get("metadata", {})),
            lenient(SkillSpec, raw.get("spec", {})),
            lenient(SkillStatus, raw.get("status") or {}),
        )
    except ValidationError as error:
        name = raw.get("metadata", {}).get("name", "")
        raise CliError(f"this plugin cannot read the Skill {name}: bring it to the operator's version") from error


def lenient(model: type[ModelT], raw: dict[str, Any]) -> ModelT:
    """Return the model of an object; values that this version does not know are left out, up to a bound.

    Raises ValidationError where a required one is among them.
    """
    value = deepcopy(raw)
    for _ in range(MAX_UNKNOWN_VALUES):
        try:
            return model.model_validate(value)
        except ValidationError as error:
            # Where a part lacks what it must have, the whole part goes.
            places = {each["loc"][:-1] if each["type"] == "missing" else each["loc"] for each in error.errors()}
            if () in places:
                raise
            for place in sorted(places, key=repr, reverse=True):
                _remove(value, place)
    return model.model_validate(value)


def _remove(value: Any, place: Sequence[int | str]) -> None:
    """Remove what is at a place, or the nearest part around it that the object has."""
    parents = [value]
    for key in place[:-1]:
        inner = parents[-1]
        known = (isinstance(inner, dict) and key in inner) or (
            isinstance(inner, list) and isinstance(key, int) and key < len(inner)
        )
        if not known:
            break
        parents.append(inner[key])
    for depth in range(len(parents) - 1, -1, -1):
        parent, key = parents[depth], place[depth]
        if isinstance(parent, dict) and key in parent:
            del parent[key]
            return
        if isinstance(parent, list) and isinstance(key, int) and key < len(parent):
            del parent[key]
            return


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago that was, as kubectl writes it: `45s`, `12m`, `3h`, `9d`."""
    if moment is None:
        return ""
    seconds = max(0, int(((now or datetime.now(timezone.utc)) - moment).total_seconds()))
    for size, unit, until in ((1, "s", 120), (60, "m", 120 * 60), (3600, "h", 48 * 3600)):
        if seconds < until:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"
