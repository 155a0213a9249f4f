"""A Skill that is being deleted and still there is not Ready, says who holds it, and is written once."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator.k8s.errors import Conflict, NotFound
from skill_operator.reconcile.deletion import deleting_conditions
from tests.unit.generation.world import NAME, NAMESPACE, World
from tests.unit.reconcile.tenancy import live, running

MINE = "example.com/mine"


def delete(world: World, *finalizers: str) -> None:
    body = world.store.objects["Skill", NAMESPACE, NAME]
    held = {"deletionTimestamp": "2030-01-01T12:00:00Z", "finalizers": [*finalizers]}
    generation = {"generation": body["metadata"]["generation"] + 1}  # as the API server counts
    world.store.put(body | {"metadata": body["metadata"] | held | generation})


async def test_it_is_not_ready_and_names_what_holds_it() -> None:
    world = await running()
    assert world.reason == "Starting"
    delete(world, MINE, "foregroundDeletion")
    await world.reconcile()
    assert live(world, "Deployment") is None
    for type_ in ("Ready", "Deployed", "Active"):
        found = world.condition(type_)
        assert (found["status"], found["reason"]) == ("False", "Deleting"), type_
    message = world.condition("Ready")["message"]
    assert f"these finalizers hold it: {MINE}. " in message
    assert "metadata.finalizers" in message
    assert world.condition("Stalled") == {}, "it goes on by itself"


async def test_it_is_told_once() -> None:
    world = await running()
    world.events.recorded.clear()
    delete(world, MINE)
    await world.reconcile()
    version = world.store.version
    await world.reconcile(3)
    assert world.store.version == version
    assert [reason for reason, _ in world.events.recorded] == ["EgressNarrowed", "Deleting", "Deleting"]


@pytest.mark.parametrize("error", [NotFound("gone", 404), Conflict("the object has been modified", 409)], ids=str)
async def test_one_that_is_gone_meanwhile_is_no_fault(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    world = await running()
    world.events.recorded.clear()

    async def refuse(_: Any) -> Any:
        raise error

    delete(world, MINE)
    setattr(world.store, "apply_status", refuse)  # noqa: B010
    await world.reconcile()
    assert live(world, "Deployment") is None
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert "ObjectRefused" not in [reason for reason, _ in world.events.recorded]


async def test_the_next_skill_of_this_name_gets_no_status_of_it() -> None:
    world = await running()
    written: list[Any] = []
    apply_status = world.store.apply_status

    async def record(wanted: Any) -> Any:
        written.append(wanted["metadata"])
        return await apply_status(wanted)

    setattr(world.store, "apply_status", record)  # noqa: B010
    delete(world, MINE)
    version = world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["resourceVersion"]
    await world.reconcile()
    assert [meta["resourceVersion"] for meta in written] == [version], "the API server compares it"


@pytest.mark.parametrize(
    ("finalizers", "words"),
    [
        (["foregroundDeletion"], "the cluster's garbage collector removes it"),
        (None, "the cluster's garbage collector removes it"),
        ([f"example.com/{n}" for n in range(7)], "example.com/4 and 2 more. "),
    ],
)
def test_what_is_said_of_finalizers(finalizers: list[str] | None, words: str) -> None:
    assert words in deleting_conditions({"metadata": {"finalizers": finalizers}})[0].message
