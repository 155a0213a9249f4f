"""A person rejects what they have seen, while somebody edits the spec: the rejection holds all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skill_operator.api.v1alpha1 import MAX_EARLIER_REQUESTS
from tests.unit.generation.world import World
from tests.unit.reconcile.samples import SOURCE
from tests.unit.reconcile.tenancy import advance, live, tenant_world

OTHER = SOURCE.replace("what", "WHAT")
WORDS = "It says too much."


async def asked() -> tuple[World, str]:
    """Return a world in which a person is asked, and the token of what they see."""
    world = tenant_world()
    world.skill(source={"inline": SOURCE}, review="Manual", egress=[], secrets=[])
    await advance(world)
    return world, token(world)


def token(world: World) -> str:
    assert world.reason == "AwaitingApproval", world.status
    return str(world.status["approvalRequest"]["token"])


def reject(world: World, code: str) -> None:
    for name, value in (("reject-message", WORDS), ("rejected-by", "bob"), ("reject", code)):
        world.annotate(f"skill-operator.dev/{name}", value)


def approve(world: World, code: str) -> None:
    for name, value in (("approved-by", "alice"), ("approve", code)):
        world.annotate(f"skill-operator.dev/{name}", value)


def events(world: World, reason: str) -> list[str]:
    return [message for found, message in world.events.recorded if found == reason]


EDITS: dict[str, dict[str, Any]] = {
    "other code": {"source": {"inline": OTHER}},
    "another limit": {"callTimeoutSeconds": 31},
    "less review": {"review": "WhenInDoubt"},
    "other code and less review": {"source": {"inline": OTHER}, "review": "WhenInDoubt"},
    "a mistake": {"description": "   "},
    "suspended": {"suspend": True},
}
MENDS: dict[str, Any] = {"description": "Says what it is told.", "suspend": False, "review": "Manual"}


@pytest.mark.parametrize("seen", [True, False], ids=["the operator saw the edit first", "both come at once"])
@pytest.mark.parametrize("edit", EDITS)
async def test_a_rejection_of_what_was_seen_holds_though_the_spec_was_edited_meanwhile(edit: str, seen: bool) -> None:
    world, code = await asked()
    world.skill(**EDITS[edit])
    if seen:
        await advance(world)
    reject(world, code)
    await advance(world)
    world.skill(**MENDS)
    await advance(world)
    (told,) = events(world, "Rejected")[:1]
    assert told.startswith("bob rejected revision ")
    assert WORDS in told
    world.skill(source={"inline": SOURCE}, callTimeoutSeconds=32)
    await advance(world)
    assert (world.condition("Built")["reason"], live(world, "Deployment")) == ("Rejected", None)
    assert world.condition("Built")["status"] == "False"


async def test_a_late_rejection_is_told_once_and_what_waits_now_still_waits() -> None:
    world, code = await asked()
    world.skill(source={"inline": OTHER})
    await advance(world)
    newer = token(world)
    reject(world, code)
    await advance(world)
    assert token(world) == newer
    assert len(events(world, "Rejected")) == 1
    assert world.status["rejection"] | {"at": ""} == world.status["rejection"] | {
        "by": "bob",
        "message": WORDS,
        "at": "",
    }
    approve(world, newer)
    await advance(world)
    assert live(world, "Deployment") is not None
    assert len(world.status["rejected"]) == 1


async def test_a_late_rejection_of_the_same_code_outdates_an_approval_of_the_edit() -> None:
    """Who takes away wins."""
    world, code = await asked()
    world.skill(callTimeoutSeconds=31)
    await advance(world)
    approve(world, token(world))
    reject(world, code)
    await advance(world)
    assert live(world, "Deployment") is None
    assert world.condition("Built")["reason"] == "Rejected"


async def test_an_approval_after_all_is_not_undone_by_an_annotation_that_stays() -> None:
    world, code = await asked()
    world.skill(callTimeoutSeconds=31)
    await advance(world)
    reject(world, code)
    await advance(world)
    assert world.condition("Built")["reason"] == "Rejected"
    approve(world, world.status["rejection"]["token"])
    await advance(world)
    assert live(world, "Deployment") is not None
    assert "rejection" not in world.status


async def test_a_rejection_of_what_nobody_was_asked_about_decides_nothing() -> None:
    world, _ = await asked()
    reject(world, "0" * 64)
    await advance(world)
    assert token(world)
    assert events(world, "Rejected") == []


async def test_the_status_remembers_the_latest_requests_alone() -> None:
    world, first = await asked()
    for number in range(MAX_EARLIER_REQUESTS + 3):
        world.skill(callTimeoutSeconds=40 + number)
        await advance(world)
    earlier = [request["token"] for request in world.status["earlierRequests"]]
    assert len(earlier) == len({*earlier}) == MAX_EARLIER_REQUESTS
    assert first not in earlier
    assert token(world) not in earlier


async def test_a_request_that_is_made_again_is_no_earlier_one() -> None:
    world, first = await asked()
    for seconds in (31, 30, 31, 30):
        world.skill(callTimeoutSeconds=seconds)
        await advance(world)
    assert token(world) == first
    assert len(world.status["earlierRequests"]) == 1


UNANSWERED: list[Callable[[World], None]] = [lambda world: world.skill(suspend=True), lambda world: None]


@pytest.mark.parametrize("change", UNANSWERED)
async def test_nothing_is_written_again_and_again(change: Callable[[World], None]) -> None:
    world, code = await asked()
    world.skill(source={"inline": OTHER})
    await advance(world)
    reject(world, code)
    change(world)
    await advance(world)
    version = world.store.version
    await world.reconcile(3)
    assert world.store.version == version
