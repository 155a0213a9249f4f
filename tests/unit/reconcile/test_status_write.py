"""The status of a Skill goes to that very object, whatever happens to it while its reconcile runs."""

from __future__ import annotations

from tests.unit.generation.world import NAME, NAMESPACE, World
from tests.unit.reconcile.tenancy import running

PLACE = ("Skill", NAMESPACE, NAME)


def before_status(world: World, happens: str) -> list[str]:
    """Have a person change the Skill, or make it anew, just before its status is written; return the writes."""
    apply_status, written = world.store.apply_status, list[str]()

    async def interrupted(wanted: dict[str, object]) -> dict[str, object]:
        if not written:
            body = world.store.objects[PLACE]
            if happens == "changed":
                world.annotate("example.com/note", "a person was here")
            else:
                del world.store.objects[PLACE]
                fresh = {"name": NAME, "namespace": NAMESPACE, "uid": "another", "generation": 1}
                world.store.put({key: body[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": fresh})
        written.append(happens)
        return await apply_status(wanted)

    setattr(world.store, "apply_status", interrupted)  # noqa: B010
    return written


async def test_the_next_skill_of_this_name_gets_nothing_of_it() -> None:
    world = await running()
    world.skill(description="Something else.")
    world.events.recorded.clear()
    assert before_status(world, "made anew") == []
    await world.reconcile()
    assert world.store.objects[PLACE]["metadata"]["uid"] == "another"
    assert world.status == {}
    assert world.events.recorded == []


async def test_a_change_by_a_person_keeps_no_status_from_being_written() -> None:
    world = await running()
    generation = world.status["observedGeneration"]
    world.skill(description="Something else.")
    written = before_status(world, "changed")
    await world.reconcile()
    assert world.status["observedGeneration"] == generation + 1
    assert world.store.objects[PLACE]["metadata"]["annotations"] == {"example.com/note": "a person was here"}
    assert len(written) == 2
