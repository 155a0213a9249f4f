"""The stages of a reconcile, in order. Each decides from what was observed, and says what it wants in the cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress, Result
from skill_operator.reconcile.stages import build, check, grants, isolation, review, run, scale, source

StageFunc = Callable[[Observed, Progress, StageContext], Result]
ConfirmFunc = Callable[[Result, Observed, Progress, StageContext], Awaitable[Result]]


@dataclass(frozen=True)
class Stage:
    """One stage. A stage that is not done ends the reconcile, except for what follows and `tolerates` it.

    `decide` is a pure function of its arguments, save for what `Progress` hands on. `confirm`, where there is one, may
    replace the result before it is written, since it asks what nobody could observe: the build queue, the registry.
    """

    name: str
    decide: StageFunc
    confirm: ConfirmFunc | None = None
    tolerates: frozenset[str] = frozenset()


STAGES: tuple[Stage, ...] = (
    Stage("grants", grants.require_grants),
    Stage("source", source.provide_source),
    Stage("isolation", isolation.require_isolation),
    Stage("check", check.check),
    Stage("review", review.review),
    Stage("build", build.build, confirm=build.wait_for_turn),
    Stage("run", run.run, confirm=run.rebuild_lost_image),
    # An earlier revision that still runs must sleep too, whatever its successor waits for.
    Stage("scale", scale.scale, tolerates=frozenset({"grants", "source", "isolation", "check", "review", "build"})),
)
