"""Define the report by which a gateway tells the controller how skills are used.

It carries ages instead of times, because no two clocks agree.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, Field

PATH = "/usage"
ExceededLimit = Literal["timeout", "out-of-memory", "disk-full", "too-many-processes"]
EXCEEDED_LIMITS: frozenset[str] = frozenset(get_args(ExceededLimit))


class CallEvent(BaseModel):
    """CallEvent says what one call did to its Skill, which no object of the cluster records."""

    namespace: str
    name: str
    request: str = Field(description="id of the call, as in the logs of gateway and skill")
    seconds_ago: float = Field(ge=0, description="age of the event")


class CallFailure(CallEvent):
    """CallFailure is a call that used more than its Skill may. The pod outlives it."""

    kind: ExceededLimit = Field(description="problem type that the caller received")


class RestoreRequest(CallEvent):
    """RestoreRequest is a call that waits, or waited, for its Skill to come back from the archive."""

    archive: str = Field(description="token of that archive; one that the Skill has left already asks for nothing")


class SkillUsage(BaseModel):
    """SkillUsage is the use of one Skill, as one gateway knows it."""

    idle: float = Field(ge=0, description="seconds since its last call began or ended; 0 while one is open")
    open: int = Field(ge=0, description="number of calls that are admitted and not yet answered")
    waiting: int = Field(ge=0, description="number of these calls that wait for a pod, or a place in one")
    failure: CallFailure | None = Field(None, description="last call that exceeded a limit")
    activation: CallEvent | None = Field(None, description="last call for which this gateway scaled it from zero")
    restore: RestoreRequest | None = Field(None, description="last call that needs it back from the archive")


class UsageReport(BaseModel):
    """UsageReport is the report of one gateway."""

    age: float = Field(ge=0, description="seconds since the gateway started; it knows no earlier call")
    skills: dict[str, SkillUsage] = Field(default_factory=dict, description="usage by uid of the Skill")
    draining: dict[str, str] = Field(
        default_factory=dict,
        description="drain token of each drain that the gateway obeys, by uid: it sends no new call there",
    )
