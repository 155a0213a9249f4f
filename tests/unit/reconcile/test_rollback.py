"""Back and forward through whole reconciles, with a trial each way, and a power cut after any write."""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import hmac
import json
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.k8s.pod_status import find_container
from tests.unit.generation.world import NAME, NAMESPACE, Object, PowerCut, World
from tests.unit.reconcile.samples import SOURCE
from tests.unit.reconcile.tenancy import finish_build, live, store, tenant_world

OTHER = SOURCE + "# another\n"
CLOSED: dict[str, Any] = {"secrets": [], "egress": []}


def trials(world: World) -> dict[str, Object]:
    """The Jobs of trials."""
    found = world.store.objects.items()
    component = naming.TRIAL
    return {n: o for (k, _, n), o in found if k == "Job" and o["metadata"]["labels"].get(naming.COMPONENT) == component}


def end_trials(world: World, **report: Any) -> None:
    """Each trial that runs ends, with this report as its PID 1 signs it."""
    for name, job in trials(world).items():
        if ("Pod", NAMESPACE, f"{name}-pod") in world.store.objects:
            continue
        env = find_container(job["spec"]["template"]["spec"], "skill")["env"]
        key = next(e["value"] for e in env if e["name"] == "SKILL_REPORT_KEY")
        data = world.store.objects["ConfigMap", NAMESPACE, name]["data"]
        content = gzip.decompress(base64.b64decode("".join(data.values())))
        text = json.dumps({"subject": hashlib.sha256(content).hexdigest(), "passed": True} | report)
        mac = hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()
        end = {"exitCode": 0, "message": json.dumps({"report": text, "mac": mac}), "finishedAt": "2030-01-01T12:00:00Z"}
        container = {"name": "skill", "image": "i", "state": {"terminated": end}, "lastState": {}}
        labels = job["metadata"]["labels"] | {"job-name": name}
        owners = [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]
        meta = {"name": f"{name}-pod", "namespace": NAMESPACE, "labels": labels, "ownerReferences": owners}
        world.store.put({"kind": "Pod", "metadata": meta, "status": {"containerStatuses": [container]}})


def roll_out(world: World) -> None:
    """Make the pods that the Deployment wants, Ready, and end all others of the Skill."""
    deployment = live(world, "Deployment")
    for (kind, _, name), pod in list(world.store.objects.items()):
        if kind == "Pod" and pod["metadata"]["labels"].get(naming.COMPONENT) == "skill":
            del world.store.objects["Pod", NAMESPACE, name]
    if deployment is None:
        return
    template = copy.deepcopy(deployment["spec"]["template"])
    uid = f"pod-{world.store.version}"  # it is no pod that there was
    meta = template["metadata"] | {"name": "skill-pod", "namespace": NAMESPACE, "uid": uid}
    status = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": []}
    world.store.put({"kind": "Pod", "metadata": meta, "spec": template["spec"], "status": status})


async def advance(world: World, **report: Any) -> None:
    for _ in range(6):
        await world.reconcile()
        if world.check() is not None:
            world.verdict(passed=True)
        finish_build(world)
        end_trials(world, **report)
        roll_out(world)


async def two_revisions(**spec: Any) -> tuple[World, str, str]:
    """A world whose Skill ran one code and now runs another, and the labels of both."""
    world = tenant_world()
    world.skill(source={"inline": SOURCE}, **(CLOSED | spec))
    await advance(world)
    first = world.status["revision"]
    world.skill(source={"inline": OTHER})
    await advance(world)
    assert world.reason == "Ready", world.status
    return world, first, world.status["revision"]


def runs(world: World) -> str:
    """The label of the revision that the Deployment runs."""
    deployment = live(world, "Deployment")
    assert deployment is not None
    return naming.shorten(deployment["spec"]["template"]["metadata"]["annotations"][naming.REVISION_DIGEST])


def kept(world: World) -> set[str]:
    labels = [o["metadata"]["labels"] for (k, *_), o in world.store.objects.items() if k == "ConfigMap"]
    return {each[naming.REVISION_LABEL] for each in labels if each.get(naming.COMPONENT) == naming.KEPT_REVISION}


async def test_back_and_forward_without_a_check_or_a_build() -> None:
    world, first, second = await two_revisions()
    assert first != second
    assert kept(world) == {first, second}
    made = len(world.store.created)
    world.skill(revision=first)
    await advance(world)
    assert (world.reason, runs(world), world.status["revision"]) == ("Ready", first, first)
    assert [entry["revision"] for entry in world.status["history"]] == [first, second]
    assert world.condition("Generated")["reason"] == "RevisionPinned"
    world.skill(revision="")
    await advance(world)
    assert (world.reason, runs(world)) == ("Ready", second)
    assert [entry["revision"] for entry in world.status["history"]] == [second, first]
    components = [job["metadata"]["labels"][naming.COMPONENT] for job in world.store.created[made:]]
    assert components == [naming.TRIAL, naming.TRIAL]
    assert trials(world) == {}
    assert "trial" not in world.status


async def test_the_deployment_stays_as_it_is_until_the_trial_has_passed() -> None:
    world, first, second = await two_revisions()
    before = copy.deepcopy(live(world, "Deployment"))
    world.skill(revision=first)
    await world.reconcile(3)
    assert len(trials(world)) == 1
    assert live(world, "Deployment") == before
    assert (world.reason, world.status["revision"], world.status["trial"]["revision"]) == ("Trial", second, first)
    end_trials(world)
    await world.reconcile()
    assert runs(world) == first


async def test_a_trial_that_failed_leaves_what_runs_and_is_not_repeated() -> None:
    world, first, second = await two_revisions()
    before = copy.deepcopy(live(world, "Deployment"))
    world.skill(revision=first)
    made = len(world.store.created)
    await advance(world, passed=False, gate="examples", message="example 'one' expects 1")
    assert live(world, "Deployment") == before
    assert (world.reason, world.status["revision"]) == ("TrialFailed", second)
    assert world.condition("Stalled")["status"] == "True"
    assert "example 'one' expects 1" in world.condition("Ready")["message"]
    assert len(world.store.created) == made + 1
    version = world.store.version
    await world.reconcile(3)
    assert world.store.version == version, "a reconcile over an unchanged world writes nothing"
    world.annotate(naming.RETRY_ANNOTATION, "again")
    await advance(world)
    assert (world.reason, runs(world)) == ("Ready", first)


async def test_what_is_taken_away_stays_away() -> None:
    egress = [{"cidr": "203.0.113.0/24", "ports": [443, 8443]}]
    world, first, _ = await two_revisions(egress=egress)
    world.skill(egress=[{"cidr": "203.0.113.0/24", "ports": [443]}])
    await advance(world)
    world.skill(revision=first)
    await advance(world)
    assert (world.reason, runs(world)) == ("Ready", first)
    policy = live(world, "NetworkPolicy")
    assert policy is not None
    (rule,) = policy["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 443}]
    assert "egress to 203.0.113.0/24 on 8443" in world.condition("Generated")["message"]
    world.skill(egress=egress)
    await advance(world)
    policy = live(world, "NetworkPolicy")
    assert policy is not None
    assert len(policy["spec"]["egress"][0]["ports"]) == 2, "what it had is kept, whatever it ran with since"


async def test_callers_get_the_schemas_of_what_runs() -> None:
    world, first, _ = await two_revisions()
    former = world.store.objects["Skill", NAMESPACE, NAME]["spec"]["input"]
    world.skill(input={"type": "object"}, source={"inline": SOURCE + "# third\n"})
    await world.reconcile()
    assert world.status["serving"]["input"] == former, "the check of the new one runs"
    await advance(world)
    assert "serving" not in world.status
    world.skill(revision=first)
    await advance(world)
    assert (world.status["serving"]["input"], world.status["serving"]["revision"]) == (former, first)


async def test_an_unknown_revision_changes_nothing() -> None:
    world, first, second = await two_revisions()
    before = copy.deepcopy(live(world, "Deployment"))
    world.skill(revision="abcdefabcd")
    await advance(world)
    assert live(world, "Deployment") == before
    assert world.reason == "UnknownRevision"
    assert first in world.condition("Ready")["message"]
    assert world.condition("Deployed")["status"] == "True"
    world.skill(revision="")
    await advance(world)
    assert (world.reason, runs(world)) == ("Ready", second)


async def test_the_history_keeps_as_many_as_the_spec_says() -> None:
    world, first, second = await two_revisions()
    world.skill(revisionHistoryLimit=0)
    await advance(world)
    assert kept(world) == {second}
    world.skill(revision=first)
    await advance(world)
    assert world.reason == "UnknownRevision"
    world.skill(revision=second)
    await advance(world)
    assert (world.reason, kept(world)) == ("Ready", {second})


async def test_what_somebody_wrote_into_a_kept_revision_never_runs() -> None:
    world, first, second = await two_revisions()
    for (kind, _, _), obj in world.store.objects.items():
        labels = obj["metadata"].get("labels", {})
        if kind == "ConfigMap" and (labels.get(naming.COMPONENT), labels.get(naming.REVISION_LABEL)) == (
            naming.KEPT_REVISION,
            first,
        ):
            obj["data"]["spec.json"] = obj["data"]["spec.json"].replace("Says", "Steals")
    world.skill(revision=first)
    await advance(world)
    assert (world.reason, runs(world)) == ("UnknownRevision", second)


@pytest.mark.parametrize("writes", range(1, 9))
@pytest.mark.parametrize("back", [True, False])
async def test_a_power_cut_after_any_write_is_made_good(writes: int, back: bool) -> None:
    world, first, second = await two_revisions()
    if not back:
        world.skill(revision=first)
        await advance(world)
    left = writes

    async def cut() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise PowerCut

    world.store.after_write = cut
    world.skill(revision=first if back else "")
    for _ in range(4):
        try:
            await advance(world)
        except PowerCut:
            world.operators = [world.operator()]
    world.store.after_write = None
    await advance(world)
    assert (world.reason, runs(world)) == ("Ready", first if back else second)
    assert store(world).objects
