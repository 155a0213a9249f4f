"""What a gateway tells the controller about the use of skills. Ages, not times: no two clocks agree."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, Field

PATH = "/activity"
ExceededLimit = Literal["timeout", "out-of-memory", "disk-full", "too-many-processes"]
EXCEEDED_LIMITS: frozenset[str] = frozenset(get_args(ExceededLimit))


class CallEvent(BaseModel):
    """What one call did to its Skill, and no object of the cluster says whose call that was."""

    namespace: str
    name: str
    request: str = Field(description="the call's id, as in the logs of gateway and skill")
    ago: float = Field(ge=0, description="seconds")


class CallFailure(CallEvent):
    """A call that used more than its Skill may. The pod outlives it."""

    kind: ExceededLimit = Field(description="the problem's type, as the caller was told")


class SkillUsage(BaseModel):
    """Of one Skill, as one gateway knows it."""

    idle: float = Field(ge=0, description="seconds since its last call began or ended; 0 while one is open")
    open: int = Field(ge=0, description="calls that were taken and are not answered")
    held: int = Field(ge=0, description="of these, calls that wait for a pod")
    failure: CallFailure | None = Field(None, description="the last one")
    woken: CallEvent | None = Field(None, description="the last call for which this gateway itself woke it")


class UsageReport(BaseModel):
    """Of one gateway."""

    age: float = Field(ge=0, description="seconds since it started: of a skill it does not name it knows no more")
    skills: dict[str, SkillUsage] = Field(default_factory=dict, description="by uid")
    draining: dict[str, str] = Field(
        default_factory=dict, description="by uid, the mark of each drain it obeys: it sends no new call there"
    )
