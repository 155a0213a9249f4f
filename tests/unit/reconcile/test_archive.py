"""Whole reconciles of a Skill that nobody calls: it is put away, nothing is lost, and it comes back as it was."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.api.usage_report import RestoreRequest, SkillUsage, UsageReport
from skill_operator.k8s.errors import Conflict
from skill_operator.k8s.interface import Object
from skill_operator.naming import SkillKey
from skill_operator.reconcile import usage_collector
from skill_operator.registry.client import RegistryUnavailable
from tests.unit.generation.world import NAME, NAMESPACE, World
from tests.unit.reconcile.samples import SETTINGS, SOURCE
from tests.unit.reconcile.tenancy import CHILD
from tests.unit.reconcile.test_registry_away import OTHER_DIGEST, end_build, make_ready

LIMIT = 600
KEY = SkillKey(NAMESPACE, NAME)
GONE = {("Deployment", CHILD), ("Service", CHILD), ("NetworkPolicy", CHILD), ("ConfigMap", "contract")}
RESTORE = naming.RESTORE_ANNOTATION


@pytest.fixture
async def world() -> World:
    """A Skill that is built and asleep, and was called at this very moment."""
    made = World(SETTINGS)
    made.skill(source={"inline": SOURCE}, archiveAfterSeconds=LIMIT)
    await make_ready(made)
    await made.reconcile(2)
    assert made.reason == "Ready", made.status
    return made


def children(world: World) -> set[tuple[str, str]]:
    """What is in the namespace. A contract's name says which one it is, so that it counts by its component."""
    found = {place: obj for place, obj in world.store.objects.items() if place[1] == NAMESPACE}
    parts = {place: obj["metadata"].get("labels", {}).get(naming.COMPONENT) for place, obj in found.items()}
    return {(place[0], "contract" if parts[place] == "contract" else place[2]) for place in found}


def active(world: World) -> str:
    return str(world.condition("Active")["reason"])


def reports(world: World, archive: str) -> None:
    """A gateway has a call that needs the Skill back from this archive."""
    uid = world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"]
    call = RestoreRequest(namespace=NAMESPACE, name=NAME, request="r-1", seconds_ago=0.1, archive=archive)
    usage = SkillUsage(idle=0, open=1, waiting=1, restore=call)
    world.operators[-1].reconciler._usage_collector._wake_archived((UsageReport(age=1, skills={uid: usage}),))


def archive_token(world: World) -> str:
    return str(datetime.fromisoformat(world.status["archive"]["time"]).isoformat())


async def archived(world: World) -> Object:
    """Archive it. Return the Skill as it was before."""
    before = copy.deepcopy(world.store.objects["Skill", NAMESPACE, NAME])
    world.now += timedelta(seconds=LIMIT)
    await world.reconcile(3)
    assert active(world) == "Archived", world.status
    return before


async def built_again(world: World) -> None:
    """Reconcile until a build runs, and end it with another digest, as the registry's time stamps have it."""
    await world.reconcile(2)
    end_build(world, OTHER_DIGEST)
    await world.reconcile(2)


async def test_what_nobody_calls_is_put_away_and_what_cannot_be_made_again_stays(world: World) -> None:
    kept = children(world) - GONE
    assert children(world) >= GONE
    before = await archived(world)
    assert children(world) == kept
    assert ("ServiceAccount", CHILD) in kept, "people have bound grants to it"
    status = world.status
    for field in ("image", "revision", "revisionDigest", "history", "provenance", "verdict", "url"):
        assert status.get(field) == before["status"].get(field), field
    assert {type_: world.condition(type_)["status"] for type_ in ("Generated", "Verified", "Built", "Deployed")} == (
        dict.fromkeys(("Generated", "Verified", "Built", "Deployed"), "True")
    )
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Archived"), "tools for GitOps call it healthy"
    assert not world.condition("Stalled")
    assert not world.condition("Reconciling")
    assert "600 s" in ready["message"]


async def test_it_says_so_once_and_then_nothing_is_written(world: World) -> None:
    await archived(world)
    told = [reason for reason, _ in world.events.recorded if reason == "Archived"]
    assert len(told) == 1, world.events.recorded
    version = world.store.version
    world.now += timedelta(days=400)
    assert await world.reconcile(5) is None, "only an event changes it"
    assert world.store.version == version


async def test_the_record_comes_before_anything_goes(world: World) -> None:
    world.now += timedelta(seconds=LIMIT)
    assert await world.reconcile() == 0.0
    assert active(world) == "Archived"
    assert children(world) >= GONE
    world.operators.append(world.operator())  # the first one is killed here
    await world.reconcile(2, operator=1)
    assert not children(world) & GONE


@pytest.mark.parametrize("seconds", [0, 1, LIMIT - 1])
async def test_before_its_time_it_stays_and_the_time_is_known(world: World, seconds: int) -> None:
    recorded = datetime.fromisoformat(world.status["lastActiveTime"])
    world.now = recorded + timedelta(seconds=seconds)
    assert await world.reconcile() == LIMIT - seconds
    assert active(world) == "Asleep"


async def test_unless_the_spec_says_so_nothing_is_archived() -> None:
    world = World(SETTINGS)
    world.skill(source={"inline": SOURCE})
    await make_ready(world)
    world.now += timedelta(days=4000)
    await world.reconcile(3)
    assert active(world) == "Asleep"
    assert "archive" not in world.status
    assert "lastActiveTime" not in world.status


@pytest.mark.parametrize("lost", [True, False])
async def test_a_call_brings_it_back(world: World, lost: bool) -> None:
    before = await archived(world)
    image = world.status["image"]
    world.lost = {image} if lost else set()
    reports(world, archive_token(world))
    await world.reconcile()
    assert "archive" not in world.status
    if lost:
        assert active(world) == "Restoring"
        assert "it was called" in world.condition("Active")["message"]
        assert ("Deployment", CHILD) not in children(world), "a node need not have the image"
        assert world.condition("Ready")["status"] == "Unknown", "tools for GitOps see progress"
        await built_again(world)
    await world.reconcile()
    assert children(world) >= GONE
    deployment = world.store.objects["Deployment", NAMESPACE, CHILD]
    assert deployment["spec"]["replicas"] == 1
    assert world.status["image"] == (f"{image.partition('@')[0]}@{OTHER_DIGEST}" if lost else image)
    for field in ("revision", "revisionDigest", "provenance"):
        assert world.status[field] == before["status"][field], field
    assert len(world.status["history"]) == 1
    assert not world.wire.waiting, "no model is asked"


async def test_a_call_for_an_archive_that_it_has_left_brings_nothing_back(world: World) -> None:
    await archived(world)
    first = archive_token(world)
    reports(world, first)
    await world.reconcile(2)
    assert "archive" not in world.status
    sleeps(world)
    await archived(world)
    assert archive_token(world) != first
    await world.reconcile(3)
    assert active(world) == "Archived"
    reports(world, archive_token(world))
    await world.reconcile()
    assert "archive" not in world.status


def sleeps(world: World) -> None:
    """What the scale stage does with the gateways."""
    world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["replicas"] = 0


async def test_a_new_value_of_the_annotation_brings_it_back(world: World) -> None:
    world.annotate(RESTORE, "1")
    await world.reconcile(2)
    assert active(world) == "Asleep", "it is not archived"
    await archived(world)
    await world.reconcile(2)
    assert active(world) == "Archived", "the value is as old as the archive"
    world.annotate(RESTORE, "2")
    await world.reconcile()
    assert "archive" not in world.status
    assert ("Deployment", CHILD) in children(world)


async def test_the_annotation_taken_away_is_no_new_value(world: World) -> None:
    world.annotate(RESTORE, "1")
    await archived(world)
    world.annotate(RESTORE, "")
    await world.reconcile(2)
    assert active(world) == "Archived"


async def test_a_value_of_any_size_is_kept_as_a_digest(world: World) -> None:
    world.annotate(RESTORE, "x" * 200_000)
    await archived(world)
    assert len(world.status["archive"]["restore"]) == 64


@pytest.mark.parametrize("change", [{"summary": "Says it."}, {"archiveAfterSeconds": 0}, {"idleTimeoutSeconds": 7}])
async def test_a_changed_spec_is_processed_as_ever(world: World, change: dict[str, Any]) -> None:
    await archived(world)
    world.skill(**change)
    await world.reconcile()
    assert "archive" not in world.status
    assert ("Deployment", CHILD) in children(world)


async def test_a_changed_code_is_checked_and_built_as_ever(world: World) -> None:
    await archived(world)
    old = world.status["revisionDigest"]
    world.skill(source={"inline": SOURCE + "# newer\n"})
    await world.reconcile(2)
    world.verdict(passed=True)
    await built_again(world)
    assert world.status["revisionDigest"] != old
    assert ("Deployment", CHILD) in children(world)
    assert [entry["revisionDigest"] for entry in world.status["history"]][1] == old


async def test_suspended_it_stays_where_it_is(world: World) -> None:
    await archived(world)
    world.skill(suspend=True)
    reports(world, archive_token(world))
    await world.reconcile(3)
    assert world.reason == "Suspended"
    assert not children(world) & GONE
    world.skill(suspend=False)
    await world.reconcile(2)
    assert "archive" not in world.status
    assert ("Deployment", CHILD) in children(world)


async def test_suspended_it_is_not_archived(world: World) -> None:
    world.skill(suspend=True)
    world.now += timedelta(days=400)
    await world.reconcile(3)
    assert world.reason == "Suspended"
    assert children(world) >= GONE


@pytest.mark.parametrize("state", ["in review", "refused"])
async def test_what_waits_for_somebody_is_not_archived(world: World, state: str) -> None:
    """It would be forgotten, and no call could bring it back."""
    world.skill(source={"inline": SOURCE + "# newer\n"}, review="Manual" if state == "in review" else "Automatic")
    await world.reconcile(2)
    world.verdict(passed=state == "in review", gate="" if state == "in review" else "ruff", message="F821")
    world.now += timedelta(days=400)
    await world.reconcile(4)
    assert world.condition("Ready")["status"] != "True"
    assert "archive" not in world.status
    assert children(world) >= GONE


async def test_a_call_at_the_very_moment_of_the_deletion_loses_nothing(world: World) -> None:
    """The gateway scales the Deployment up between the controller's read and its deletion."""
    world.now += timedelta(seconds=LIMIT)
    await world.reconcile()

    async def wakes() -> None:
        world.store.before_write = None
        live = world.store.objects["Deployment", NAMESPACE, CHILD]
        world.store.put(live | {"spec": live["spec"] | {"replicas": 1}})

    world.store.before_write = wakes
    with pytest.raises(Conflict):
        await world.reconcile()
    assert children(world) >= GONE, "all of it is there"
    await world.reconcile(2)
    assert "archive" not in world.status
    assert world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["replicas"] == 1


async def test_a_call_before_the_deletion_keeps_the_deployment(world: World) -> None:
    world.now += timedelta(seconds=LIMIT)
    await world.reconcile()
    before = copy.deepcopy(world.store.objects["Deployment", NAMESPACE, CHILD]["metadata"]["uid"])
    world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["replicas"] = 1
    await world.reconcile(2)
    assert "archive" not in world.status
    assert world.store.objects["Deployment", NAMESPACE, CHILD]["metadata"]["uid"] == before


async def test_a_deployment_that_was_scaled_by_hand_counts_from_then(world: World) -> None:
    """Nobody recorded the calls before, so that the last of them may have been a moment ago."""
    first = world.status["lastActiveTime"]
    world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["replicas"] = 1
    put_pod(world)
    world.now += timedelta(seconds=30)
    await world.reconcile()
    assert active(world) == "Awake", world.status
    world.now += timedelta(days=30)
    sleeps(world)
    await world.reconcile(3)
    assert active(world) == "Asleep"
    assert world.status["lastActiveTime"] > first
    await archived(world)


def put_pod(world: World) -> None:
    """A pod of the present revision and contract, which is Ready."""
    template = world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["template"]
    labels = world.store.objects["Deployment", NAMESPACE, CHILD]["metadata"]["labels"]
    meta = {"name": "p0", "namespace": NAMESPACE, "labels": labels | template["metadata"]["labels"]}
    meta["annotations"] = template["metadata"]["annotations"]
    conditions = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": []}
    world.store.put({"kind": "Pod", "metadata": meta, "spec": {"containers": []}, "status": status})


async def test_an_object_from_a_backup_is_not_archived_at_once(world: World) -> None:
    """Its status is old, and so is its last use. It was created a moment ago."""
    world.now += timedelta(days=100)
    body = world.store.objects["Skill", NAMESPACE, NAME]
    body["metadata"] |= {"creationTimestamp": world.now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert await world.reconcile(3) == LIMIT
    assert active(world) == "Asleep"
    await archived(world)


async def test_an_archived_object_from_a_backup_runs(world: World) -> None:
    await archived(world)
    body = world.store.objects["Skill", NAMESPACE, NAME]
    body["metadata"]["uid"] = "another"
    await world.reconcile()
    assert "archive" not in world.status
    assert active(world) == "Restoring"
    world.verdict(passed=True)
    await world.reconcile(2)
    assert ("Deployment", CHILD) in children(world)


async def test_a_time_in_the_future_is_put_right(world: World) -> None:
    """A controller on a node whose clock is ahead wrote it. Else nothing would be archived until then."""
    body = world.store.objects["Skill", NAMESPACE, NAME]
    body["status"]["lastActiveTime"] = "2099-01-01T00:00:00Z"
    assert await world.reconcile() == pytest.approx(LIMIT, abs=1)
    assert world.status["lastActiveTime"] == world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    await archived(world)


async def test_while_the_registry_is_away_it_waits_and_says_so(world: World) -> None:
    await archived(world)
    world.lost = {world.status["image"]}
    world.registry_problem = RegistryUnavailable("no answer")
    world.annotate(RESTORE, "1")
    await world.reconcile(2)
    assert world.reason == "RegistryUnavailable"
    assert ("Deployment", CHILD) not in children(world), "it would not start"
    world.registry_problem = None
    await built_again(world)
    await world.reconcile()
    assert ("Deployment", CHILD) in children(world)


async def test_somebody_else_s_objects_of_these_names_stay(world: World) -> None:
    world.now += timedelta(seconds=LIMIT)
    await world.reconcile()
    foreign = world.store.objects["Service", NAMESPACE, CHILD]
    foreign["metadata"]["labels"] = {"app": "theirs"}
    await world.reconcile(2)
    assert children(world) & GONE == {("Service", CHILD)}


async def test_calls_are_looked_for_often_while_something_is_archived(world: World) -> None:
    collector = world.operators[-1].reconciler._usage_collector
    assert not collector._archived
    await archived(world)
    assert collector._archived.keys() == {KEY}
    assert usage_collector.POLL_SECONDS / usage_collector.RESTORE_POLLS <= 1
    world.annotate(RESTORE, "1")
    await world.reconcile(2)
    assert not collector._archived
