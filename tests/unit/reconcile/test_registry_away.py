"""Whole reconciles while the registry is away, and after it came back empty."""

from __future__ import annotations

import pytest

from skill_operator.k8s.interface import Object
from skill_operator.registry.client import BaseImageMissing, BaseImagesDiffer, RegistryUnavailable
from tests.unit.generation.world import NAME, NAMESPACE, World
from tests.unit.reconcile.samples import DIGEST, SETTINGS, SOURCE

OTHER_DIGEST = "sha256:" + "b" * 64
PROBLEMS = [RegistryUnavailable("no answer"), BaseImageMissing("no base"), BaseImagesDiffer("two builds")]


@pytest.fixture
def world() -> World:
    made = World(SETTINGS)
    made.skill(source={"inline": SOURCE})
    return made


def jobs(world: World, namespace: str) -> list[Object]:
    return [obj for (kind, where, _), obj in world.store.objects.items() if (kind, where) == ("Job", namespace)]


def end_build(world: World, digest: str) -> None:
    (job,) = jobs(world, SETTINGS.builder_namespace)
    job["metadata"]["creationTimestamp"] = world.now.isoformat()
    name, namespace = job["metadata"]["name"], SETTINGS.builder_namespace
    end = {"exitCode": 0, "message": digest, "finishedAt": world.now.isoformat()}
    container = {"name": "kaniko", "image": "i", "state": {"terminated": end}, "lastState": {}}
    meta = {"name": f"{name}-pod", "namespace": namespace, "labels": job["metadata"]["labels"] | {"job-name": name}}
    world.store.put({"kind": "Pod", "metadata": meta, "status": {"containerStatuses": [container]}})


async def make_ready(world: World) -> str:
    """The Skill is built, and asleep. Return its image."""
    await world.reconcile(2)
    world.verdict(passed=True)
    await world.reconcile(2)
    end_build(world, DIGEST)
    await world.reconcile()
    (deployment,) = [obj for (kind, *_), obj in world.store.objects.items() if kind == "Deployment"]
    deployment["spec"]["replicas"] = 0
    await world.reconcile()
    assert world.condition("Ready")["status"] == "True", world.status
    return str(world.status["image"])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("knows_base", [True, False])
async def test_a_new_skill_waits_without_polling_and_goes_on_when_it_is_told(
    world: World, problem: RegistryUnavailable, knows_base: bool
) -> None:
    world.registry_problem, world.knows_base = problem, knows_base
    for _ in range(3):
        assert await world.reconcile() is None, "the monitor tells of the registry's return"
    assert world.reason == problem.reason
    assert str(problem) in world.condition("Ready")["message"]
    assert not jobs(world, NAMESPACE), "no check could pull"
    version = world.store.version
    await world.reconcile()
    assert world.store.version == version, "nothing is written twice"
    world.registry_problem, world.knows_base = None, True
    await world.reconcile()
    assert jobs(world, NAMESPACE)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("knows_base", [True, False])
async def test_a_skill_that_ran_stays_ready_and_says_what_cannot_be_renewed(
    world: World, problem: RegistryUnavailable, knows_base: bool
) -> None:
    image = await make_ready(world)
    world.registry_problem, world.knows_base = problem, knows_base
    world.lost = {image}
    await world.reconcile(3)
    assert world.condition("Ready")["status"] == "True"
    built = world.condition("Built")
    assert (built["status"], built["reason"]) == ("True", problem.reason)
    assert image in built["message"]
    assert str(problem) in built["message"]
    assert world.events.recorded.count((problem.reason, built["message"])) == 1
    world.registry_problem, world.knows_base, world.lost = None, True, set()
    await world.reconcile()
    assert (world.condition("Ready")["status"], world.condition("Built")["reason"]) == ("True", "Built")


async def test_an_image_that_was_lost_is_built_again_while_the_skill_stays_ready(world: World) -> None:
    image = await make_ready(world)
    world.lost = {image}
    await world.reconcile()
    assert world.condition("Built")["reason"] == "ImageLost"
    assert world.condition("Ready")["status"] == "True"
    assert jobs(world, SETTINGS.builder_namespace)
    for key in [key for key in world.store.objects if key[:2] == ("Pod", SETTINGS.builder_namespace)]:
        del world.store.objects[key]  # of the former build
    await world.reconcile(3)
    end_build(world, OTHER_DIGEST)
    await world.reconcile(2)
    assert world.condition("Built")["reason"] == "Built"
    assert world.status["image"].endswith(OTHER_DIGEST)
    (deployment,) = [obj for (kind, *_), obj in world.store.objects.items() if kind == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == world.status["image"]
    assert world.condition("Ready")["status"] == "True"
    assert not jobs(world, SETTINGS.builder_namespace), "and nothing is left of it"
    assert NAME in str(deployment["metadata"])
