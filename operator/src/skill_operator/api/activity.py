"""What a gateway tells the controller about the use of skills. Ages, not times: no two clocks agree."""

from __future__ import annotations

from pydantic import BaseModel, Field

PATH = "/activity"


class Use(BaseModel):
    """Of one Skill, as one gateway knows it."""

    idle: float = Field(ge=0, description="seconds since its last call began or ended; 0 while one is open")
    open: int = Field(ge=0, description="calls that were taken and are not answered")
    held: int = Field(ge=0, description="of these, calls that wait for a pod")


class Report(BaseModel):
    """Of one gateway."""

    age: float = Field(ge=0, description="seconds since it started: of a skill it does not name it knows no more")
    skills: dict[str, Use] = Field(default_factory=dict, description="by uid")
    draining: dict[str, str] = Field(
        default_factory=dict, description="by uid, the mark of each drain it obeys: it sends no new call there"
    )
