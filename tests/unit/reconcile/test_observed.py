"""What a reconcile reads of a Skill, and what of it a watch must have reported."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator import naming
from skill_operator.k8s.watch_health import WatchHealth
from tests.unit.generation.world import NAMESPACE, World
from tests.unit.reconcile.samples import SETTINGS

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
