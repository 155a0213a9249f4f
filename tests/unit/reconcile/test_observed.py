"""What a reconcile reads of a Skill, and what of it a watch must have reported."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator import naming
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.reconcile import reconciler
from skill_operator.reconcile.observed import Observed, observe
from tests.unit.generation.world import NAMESPACE, World
from tests.unit.reconcile.samples import SETTINGS, SOURCE
from tests.unit.reconcile.tenancy import advance, live, tenant_world

UID = "u-0"
OWN = naming.labels("echo", UID, "check")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched(World):
    """A world whose watches report what their selectors select."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)
        self.time = Time()
        self.health = self.operators[0].reconciler._watch_health = WatchHealth(clock=self.time)

    def report(self) -> None:
        for (kind, *_), obj in self.store.objects.items():
            labels = obj["metadata"].get("labels", {})
            terms = [term.partition("=") for term in naming.WATCH_SELECTOR.split(",")]
            selected = all(labels.get(key) == value if equals else key in labels for key, equals, value in terms)
            if kind == "Skill" or (kind in {"Job", "Pod", "Deployment"} and selected):
                self.health.observe_event(obj["metadata"])

    async def pass_minutes(self, report: bool = True) -> None:
        for _ in range(3):
            await self.reconcile()
            if report:
                self.report()
            self.time.now += 70

    def add(self, kind: str, labels: dict[str, str], namespace: str = NAMESPACE) -> None:
        meta = {"name": "mine", "namespace": namespace, "uid": f"of-the-tenant-{kind}", "labels": labels}
        pod = {"containers": []}
        self.store.put({"kind": kind, "metadata": meta, "spec": {"template": {"spec": pod}, **pod}, "status": {}})


@pytest.fixture
def world() -> Watched:
    made = Watched()
    made.skill(source={"inline": "def run(input):\n    return {}\n"})
    return made


@pytest.mark.parametrize(
    "labels",
    [
        {naming.UID_LABEL: UID},
        {naming.UID_LABEL: UID, naming.SKILL_LABEL: "echo"},
        {naming.UID_LABEL: UID, naming.MANAGED_BY: "somebody"},
        {naming.SKILL_LABEL: "echo", **naming.MANAGED},
        naming.MANAGED,
        OWN,
        OWN | {naming.COMPONENT: "skill"},
        OWN | {naming.SKILL_LABEL: "Bad_1"},
        {key: value for key, value in OWN.items() if key != naming.SKILL_LABEL},
    ],
)
@pytest.mark.parametrize("kind", ["Job", "Pod"])
async def test_no_object_of_a_tenant_makes_the_controller_unhealthy(
    world: Watched, kind: str, labels: dict[str, str]
) -> None:
    world.add(kind, labels)
    await world.pass_minutes()
    assert world.health.find_problem() is None


async def test_a_deployment_without_the_operators_mark_is_no_doubt(world: Watched) -> None:
    meta: dict[str, Any] = {"name": naming.child("echo"), "namespace": NAMESPACE, "labels": {naming.UID_LABEL: UID}}
    world.store.put({"kind": "Deployment", "metadata": meta | {"uid": "d-1"}, "spec": {}, "status": {}})
    await world.pass_minutes()
    assert world.health.find_problem() is None


async def test_labels_that_come_and_go_while_the_watch_is_interrupted_are_no_doubt(world: Watched) -> None:
    world.add("Job", OWN)
    await world.reconcile()
    world.add("Job", {})
    world.report()
    await world.pass_minutes()
    assert world.health.find_problem() is None


async def test_a_dead_watch_is_a_doubt_still(world: Watched) -> None:
    world.report()
    await world.pass_minutes(report=False)
    assert "has not delivered" in str(world.health.find_problem())


FILL = "x" * 900_000


async def fill(world: World) -> int:
    """Write as much into each ConfigMap of the Skill as it takes, as who may edit ConfigMaps does. Return how many."""
    maps = [
        obj
        for (kind, namespace, _), obj in world.store.objects.items()
        if (kind, namespace) == ("ConfigMap", NAMESPACE)
    ]
    for obj in maps:
        world.store.put(obj | {"data": obj["data"] | {"more": FILL}})
    return len(maps)


async def test_what_others_write_into_config_maps_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Skill has a dozen, each of which may hold a megabyte."""
    kept: list[int] = []

    async def measured(*arguments: Any) -> Observed:
        found = await observe(*arguments)
        kept.append(sum(len(text) for obj in found.config_maps.values() for text in obj.get("data", {}).values()))
        return found

    monkeypatch.setattr(reconciler, "observe", measured)
    world = tenant_world()
    for number in range(3):
        world.skill(source={"inline": f"{SOURCE}# {number}\n"}, egress=[], secrets=[])
        await advance(world)
    await world.reconcile()
    assert kept[-1] > 0
    whole = dict(world.store.objects)
    assert await fill(world) > 4
    await world.reconcile(3)
    assert max(kept) < 1_000_000
    assert live(world, "Deployment") is not None
    for place, obj in whole.items():
        if place[:2] == ("ConfigMap", NAMESPACE):
            assert world.store.objects[place]["data"].items() >= obj["data"].items(), "what is the operator's stays"
