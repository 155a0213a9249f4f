"""The stages of a reconcile, in order. Each decides from what was observed, and says what it wants in the cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from skill_operator.api.conditions import BUILT, DEPLOYED, GENERATED, VERIFIED
from skill_operator.api.v1alpha1 import Skill
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress, Result
from skill_operator.reconcile.stages import (
    archive,
    build,
    check,
    grants,
    isolation,
    opinion,
    pin,
    review,
    run,
    scale,
    source,
    trial,
)

StageFunc = Callable[[Observed, Progress, StageContext], Result]
ConfirmFunc = Callable[[Result, Observed, Progress, StageContext], Awaitable[Result]]


@dataclass(frozen=True)
class Stage:
    """One stage. A stage that is not done ends the reconcile, except for what follows and `tolerates` it.

    `condition` is the type of the condition that shows why an object of this stage could not be written.

    `decide` is a pure function of its arguments, save for what `Progress` hands on. `confirm`, where there is one, may
    replace the result before it is written, since it asks what nobody could observe: the queues of Jobs, the registry.
    """

    name: str
    condition: str
    decide: StageFunc
    confirm: ConfirmFunc | None = None
    tolerates: frozenset[str] = frozenset()


STAGES: tuple[Stage, ...] = (
    Stage("grants", DEPLOYED, grants.require_grants),
    Stage("source", GENERATED, source.provide_source),
    Stage("isolation", VERIFIED, isolation.require_isolation),
    Stage("check", VERIFIED, check.check, confirm=check.confirm),
    Stage("opinion", VERIFIED, opinion.weigh_opinion, confirm=check.confirm),
    Stage("review", BUILT, review.review),
    Stage("build", BUILT, build.build, confirm=build.confirm),
    Stage("trial", DEPLOYED, trial.try_revision),
    Stage("run", DEPLOYED, run.run),
    # An earlier revision that still runs must sleep too, whatever its successor waits for.
    Stage(
        "scale",
        DEPLOYED,
        scale.scale,
        tolerates=frozenset({"grants", "source", "isolation", "check", "opinion", "review", "build", "trial"}),
    ),
    Stage("archive", DEPLOYED, archive.archive),
)
PINNED_STAGES: tuple[Stage, ...] = (
    Stage("grants", DEPLOYED, grants.require_grants),
    Stage("pin", GENERATED, pin.provide_revision, confirm=pin.confirm),
    Stage("isolation", VERIFIED, isolation.require_isolation),
    Stage("review", BUILT, review.review),
    Stage("trial", DEPLOYED, trial.try_revision),
    Stage("run", DEPLOYED, run.run),
    Stage("scale", DEPLOYED, scale.scale, tolerates=frozenset({"grants", "pin", "isolation", "review", "trial"})),
    Stage("archive", DEPLOYED, archive.archive),
)
"""The stages of a Skill with `spec.revision`: its code was written, checked and built before."""


def select_stages(skill: Skill) -> tuple[Stage, ...]:
    """Return the stages of a reconcile of this Skill."""
    return PINNED_STAGES if skill.spec.revision else STAGES
