"""A pinned revision runs without a model and without a build."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, cast

import pytest

from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation.author import Author
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress, Result
from skill_operator.reconcile.stages import PINNED_STAGES, STAGES, pin, select_stages
from skill_operator.reconcile.stages.review import review
from tests.unit.reconcile.samples import SETTINGS, SOURCE, observed, skill, stage_context
from tests.unit.reconcile.stages.test_review import APPROVE, approved
from tests.unit.reconcile.test_pinned_revision import IMAGE, OLD, keep, maps, pinning

GRANTS = {"egress": [{"cidr": "203.0.113.0/24", "ports": [443, 80]}]}


class Canceller:
    """An author that is only ever told to stop."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []

    def cancel(self, key: Any) -> None:
        self.cancelled.append(key)


def decide(state: Observed) -> tuple[Result, Progress]:
    author, progress = Canceller(), Progress()
    context = replace(stage_context(), author=cast("Author", author))
    result = pin.provide_revision(state, progress, context)
    assert author.cancelled == [("team", "echo")]
    return result, progress


def pinned(entry: dict[str, Any] | None = None, kept: dict[str, Any] | None = None, **spec: Any) -> Observed:
    made, listed = keep()
    of: Skill = pinning(OLD[:10], entry or listed, **spec)
    return observed(of, config_maps=maps(kept or made)).with_pinned_revision()


def test_the_stages_of_a_pinned_skill_call_no_model_and_build_nothing() -> None:
    assert select_stages(skill()) is STAGES
    assert select_stages(skill(revision=OLD)) is PINNED_STAGES
    names = [stage.name for stage in PINNED_STAGES]
    assert names == ["grants", "pin", "isolation", "review", "trial", "run", "scale", "archive"]
    scale = PINNED_STAGES[names.index("scale")]
    assert set(names[: names.index("run")]) == scale.tolerates, "what runs sleeps, whatever its successor waits for"


def test_code_and_image_are_those_of_the_history() -> None:
    _, entry = keep()
    provenance = {"author": "model", "sourceDigest": "d", "model": "m", "attempts": 2, "tokens": 7}
    result, progress = decide(pinned(entry | {"provenance": provenance}))
    assert result.is_done
    assert (progress.source, progress.image, progress.revision) == (SOURCE, IMAGE, OLD)
    assert [(c.type, c.status, c.reason) for c in result.conditions] == [
        ("Generated", "True", "RevisionPinned"),
        ("Verified", "True", "RevisionPinned"),
        ("Built", "True", "Built"),
    ]
    assert progress.status["generation"] is not None
    assert (progress.status["generation"].attempts, progress.status["generation"].tokens) == (2, 7)
    assert result.create == result.apply == ()


def test_what_is_withheld_is_told() -> None:
    kept, entry = keep(**GRANTS)
    result, _ = decide(pinned(entry, kept))
    assert "no longer grants egress to 203.0.113.0/24 on 443, 80" in result.conditions[0].message


def test_an_unknown_revision_stalls() -> None:
    result, _ = decide(observed(pinning("abcdefabcd")).with_pinned_revision())
    (condition,) = result.conditions
    assert result.is_stalled
    assert (condition.type, condition.status, condition.reason) == ("Generated", "False", "UnknownRevision")
    assert "What runs goes on" in condition.message


@pytest.mark.parametrize("image", ["evil.example.com/skills/team/echo@sha256:" + "a" * 64, IMAGE[:-1], IMAGE + "0"])
def test_an_image_of_another_place_never_runs(image: str) -> None:
    _, entry = keep()
    result, progress = decide(pinned(entry | {"image": image}))
    assert result.is_stalled
    assert progress.image == ""


async def test_an_image_that_the_registry_lost_is_told_and_not_built() -> None:
    async def lost(_image: str, _ask_again: bool) -> bool:
        return True

    state = pinned()
    result, progress = decide(state)
    found = await pin.confirm(result, state, progress, stage_context(is_image_lost=lost))
    assert found.is_done
    assert (found.conditions[-1].type, found.conditions[-1].reason) == ("Built", "ImageLost")
    assert "spec.source" in found.conditions[-1].message
    assert (await pin.confirm(result, state, progress, stage_context())) is result


def reviewed(entry: dict[str, Any], kept: dict[str, Any], **spec: Any) -> Result:
    state = pinned(entry, kept, **({"review": "Manual"} | spec))
    return review(state, Progress(source=SOURCE, revision=OLD, image=IMAGE), stage_context(SETTINGS))


def test_what_was_approved_needs_no_other_approval() -> None:
    _, parts = approved(review="Manual", **GRANTS)
    kept, entry = keep(review="Manual", **GRANTS)
    entry |= {"approved": parts}
    assert reviewed(entry, kept, **GRANTS).is_done
    assert reviewed(entry, kept).is_done, "fewer grants"
    wider = {"egress": [{"cidr": "0.0.0.0/0", "ports": [443, 80]}], "resources": {"limits": {"memory": "4Gi"}}}
    assert reviewed(entry, kept, **wider).is_done, "it gets no more than it had"


def test_what_was_deployed_without_a_doubt_runs_again_without_one() -> None:
    for mode, is_done in (("WhenInDoubt", True), ("Manual", False), ("Automatic", False)):
        kept, entry = keep(review=mode, **GRANTS)
        assert reviewed(entry, kept, review="WhenInDoubt", **GRANTS).is_done is is_done, mode
        assert not reviewed(entry, kept, review="Manual", **GRANTS).is_done


def test_what_was_approved_in_doubt_keeps_its_runtime_class() -> None:
    _, parts = approved(review="WhenInDoubt", runtimeClassName="gvisor")
    kept, entry = keep(review="WhenInDoubt", runtimeClassName="gvisor")
    entry |= {"approved": parts}
    assert reviewed(entry, kept, review="WhenInDoubt", runtimeClassName="gvisor").is_done
    for other in ("", "kata"):
        result = reviewed(entry, kept, review="WhenInDoubt", runtimeClassName=other)
        assert not result.is_done, other
        assert "approved to run otherwise, with another runtime class" in result.conditions[0].message
    isolation = SETTINGS.isolation.model_copy(update={"runtime_class_name": "gvisor"})
    state = pinned(entry, kept, review="WhenInDoubt")
    context = stage_context(SETTINGS.model_copy(update={"isolation": isolation}))
    assert review(state, Progress(source=SOURCE, revision=OLD, image=IMAGE), context).is_done, "the chart's own class"


def test_what_left_no_doubt_may_have_any_runtime_class() -> None:
    """As it may without a pin: nothing but what a person saw and approved hangs on it."""
    kept, entry = keep(review="WhenInDoubt", runtimeClassName="gvisor")
    assert reviewed(entry, kept, review="WhenInDoubt").is_done


def test_what_was_not_approved_is_asked_for() -> None:
    kept, entry = keep()
    result = reviewed(entry, kept)
    assert not result.is_done
    assert kept["metadata"]["name"] in result.conditions[0].message
    assert APPROVE.search(result.conditions[0].message)
    _, parts = approved(review="Manual", **GRANTS)
    assert not reviewed(entry | {"approved": parts}, kept).is_done, "approved with another spec than it had"
    _, parts = approved(review="Manual")
    assert reviewed(entry | {"approved": parts}, kept).is_done
    assert not reviewed(entry | {"approved": parts}, kept, runtimeClassName="kata").is_done
    assert not reviewed(entry | {"approved": parts | {"code": "0" * 64}}, kept).is_done


def test_what_was_rejected_after_its_approval_is_not_approved() -> None:
    _, parts = approved(review="Manual")
    kept, entry = keep(review="Manual")
    entry |= {"approved": parts}
    for mode in ("Manual", "WhenInDoubt"):
        state = pinned(entry, kept, review=mode)
        digest = hashlib.sha256(SOURCE.encode()).hexdigest()
        of = state.skill.model_copy(update={"status": state.skill.status.model_copy(update={"rejected": [digest]})})
        progress = Progress(source=SOURCE, revision=OLD, image=IMAGE)
        context = replace(stage_context(SETTINGS), author=cast("Author", None))
        result = review(replace(state, skill=of), progress, context)
        assert result.is_stalled
        assert result.conditions[0].reason == "Rejected"
        assert "Name another revision in spec.revision" in result.conditions[0].message
