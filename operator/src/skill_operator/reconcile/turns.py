"""Turns: a stage holds its Job back until the queue gives it one, and says how many are before it."""

from __future__ import annotations

from dataclasses import replace

from skill_operator.naming import SkillKey
from skill_operator.reconcile.job_queue import JobQueue
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import ConditionUpdate, Result

# For the number in the status alone: the queue wakes the Skill whose turn it is.
QUEUE_POLL_SECONDS = 15.0


async def wait_for_turn(
    result: Result, observed: Observed, queue: JobQueue, condition: str, job: str, bounds: str, *, urgent: bool = True
) -> Result:
    """Return `result`, or a wait where the Job that it makes has to wait: few run at once, however many want to.

    `job` names such Jobs in the condition, and `bounds` says how many run at once, and which setting says so.
    """
    meta = observed.skill.metadata
    if not result.create:
        return result
    position = await queue.request(SkillKey(meta.namespace, meta.name), urgent=urgent)
    if not position:
        return result
    after = QUEUE_POLL_SECONDS + position
    if result.is_done:  # it goes on without: its place in the queue is nobody's concern
        return replace(result, create=(), apply=(), delete=(), after=after)
    queued = ConditionUpdate(condition, "Unknown", "Queued", f"number {position} in the {job} queue; {bounds}")
    return Result.waiting(queued, after=after)
