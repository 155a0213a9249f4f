"""The loop of the benchmarks: their checks give verdicts, and a machine on which they cannot is noticed."""

from __future__ import annotations

import pytest

from benchmarks import real_loop
from benchmarks.real_loop import NoVerdictError, prove_checks
from skill_operator.settings import IsolationSettings, ModelEndpoint, Settings


async def test_a_wrong_program_is_refused_and_a_right_one_built() -> None:
    await prove_checks()


@pytest.mark.parametrize("beacon", ["skill-operator-beacon.skill-operator.svc:8099", "nonsense"])
async def test_checks_that_give_no_verdict_are_not_taken_for_refusals(
    beacon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a Service is no address, and every check ends before it has begun."""
    made = real_loop.loop_settings

    def broken(model: ModelEndpoint) -> Settings:
        return made(model).model_copy(update={"isolation": IsolationSettings(beacon=beacon)})

    monkeypatch.setattr(real_loop, "loop_settings", broken)
    with pytest.raises(NoVerdictError, match="no check can give a verdict here"):
        await prove_checks()


async def test_checks_that_cannot_run_at_all_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_loop, "command", lambda name: ["false", name])
    with pytest.raises(NoVerdictError, match="the checks do not work here"):
        await prove_checks()
