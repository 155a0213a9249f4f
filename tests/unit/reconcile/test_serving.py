"""Callers are told the contract of what runs, also while the spec says something else."""

from __future__ import annotations

from typing import Any

from skill_operator.api.v1alpha1 import ServedContract, Skill
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.rollout import make_deployment
from skill_operator.reconcile.serving import MAX_SCHEMA_BYTES, served_contract
from skill_operator.resources.contract import fingerprint
from tests.unit.reconcile.samples import SETTINGS, observed, skill
from tests.unit.reconcile.test_pinned_revision import IMAGE, NEW, OLD, keep, maps, pinning

OTHER: dict[str, Any] = {"input": {"type": "object"}, "description": "Does something else."}


def live(of: Skill, rev: str = OLD) -> dict[str, Any]:
    return make_deployment(observed(of), Progress(revision=rev, image=IMAGE), SETTINGS)


def serve(state: Observed, *, is_applied: bool = False, rev: str = NEW) -> ServedContract | None:
    return served_contract(state, Progress(revision=rev), is_applied=is_applied)


def test_nothing_is_told_where_the_spec_says_it() -> None:
    assert serve(observed(), is_applied=True) is None
    assert serve(observed()) is None
    kept, entry = keep()
    of = skill({"history": [entry]})
    assert serve(observed(of, deployment=live(of), config_maps=maps(kept))) is None


def test_until_a_new_spec_runs_the_earlier_contract_is_told() -> None:
    kept, entry = keep()
    of = skill({"history": [entry]}, **OTHER)
    found = serve(observed(of, deployment=live(skill()), config_maps=maps(kept)))
    assert found is not None
    assert (found.revision, found.digest) == (OLD[:10], fingerprint(skill()))
    assert (found.input, found.description) == (skill().spec.input, skill().spec.description)
    assert serve(observed(of, deployment=live(skill()))) is None, "nothing of it is kept"
    assert serve(observed(of, deployment=live(of, NEW), config_maps=maps(kept)), is_applied=True) is None


def test_a_pinned_revision_has_its_own_contract() -> None:
    kept, entry = keep(callTimeoutSeconds=7)
    state = observed(pinning(OLD, entry, callTimeoutSeconds=5, **OTHER), config_maps=maps(kept)).with_pinned_revision()
    found = serve(state, is_applied=True, rev=OLD)
    assert found is not None
    assert (found.input, found.call_timeout_seconds, found.revision) == (skill().spec.input, 5, OLD[:10])
    cleared = skill(
        {"history": [entry], "serving": found.model_dump(mode="json", by_alias=True)}, callTimeoutSeconds=5, **OTHER
    )
    waiting = observed(cleared, deployment=live(state.skill), config_maps=maps(kept))
    assert serve(waiting) == found, "it still runs as it was narrowed"


def test_a_schema_too_long_to_repeat_is_left_out() -> None:
    long = {"type": "object", "description": "x" * MAX_SCHEMA_BYTES}
    kept, entry = keep(input=long)
    state = observed(pinning(OLD, entry, **OTHER), config_maps=maps(kept)).with_pinned_revision()
    found = serve(state, is_applied=True)
    assert found is not None
    assert found.input is None
    assert found.output == skill().spec.output
