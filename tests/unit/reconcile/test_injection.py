"""What webhooks of a cluster inject into pods, Jobs and Deployments is neither fought nor taken for the Skill's own."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.k8s import pod_status
from skill_operator.reconcile.writer import holds
from tests.unit.generation.world import NAMESPACE, Object, World
from tests.unit.reconcile.samples import DIGEST, SOURCE
from tests.unit.reconcile.tenancy import CHILD, another_running, finish_build, store, tenant_world

SIDECAR = {"name": "istio-proxy", "image": "proxy", "env": [{"name": "MESH", "value": "on"}]}
INIT = {"name": "istio-init", "image": "init"}
NATIVE = {"name": "linkerd-proxy", "image": "proxy", "restartPolicy": "Always"}


def insert(chance: random.Random, items: list[Any], item: Any) -> None:
    items.insert(chance.randint(0, len(items)), copy.deepcopy(item))


def inject(chance: random.Random, template: Object) -> Object:
    """Return the template with what meshes, agents and policies put into it, wherever they put it."""
    template = copy.deepcopy(template)
    meta, spec = template["metadata"], template["spec"]
    insert(chance, spec["containers"], SIDECAR)
    insert(chance, spec.setdefault("initContainers", []), chance.choice([INIT, NATIVE]))
    insert(chance, spec.setdefault("volumes", []), {"name": "mesh", "emptyDir": {}})
    meta.setdefault("annotations", {})["sidecar.istio.io/status"] = "{}"
    meta["labels"]["team"] = "a"
    for container in spec["containers"]:
        insert(chance, container.setdefault("env", []), {"name": "HOST_IP", "value": "10.0.0.1"})
        insert(chance, container.setdefault("volumeMounts", []), {"name": "mesh", "mountPath": "/mesh"})
    insert(chance, spec.setdefault("imagePullSecrets", []), {"name": "mirror"})
    spec["tolerations"] = [{"key": "spot", "operator": "Exists"}]
    return template


@pytest.mark.parametrize("seed", range(20))
async def test_an_injected_deployment_is_not_written_again(seed: int) -> None:
    world = await another_running(secrets=[], egress=[])
    place = ("Deployment", NAMESPACE, CHILD)
    deployment = world.store.objects[place]
    deployment["spec"]["template"] = inject(random.Random(seed), deployment["spec"]["template"])
    await world.reconcile()
    store(world).writes.clear()
    await world.reconcile(3)
    assert store(world).writes == []


@pytest.mark.parametrize("seed", range(10))
async def test_what_the_operator_wants_otherwise_is_written_all_the_same(seed: int) -> None:
    chance = random.Random(seed)
    world = await another_running(secrets=[], egress=[])
    template = world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["template"]
    changed = inject(chance, template)
    own = pod_status.find_container(changed["spec"], naming.SKILL_CONTAINER)
    field = chance.choice(["image", "securityContext", "env", "volumeMounts", "resources", "command"])
    own[field] = [] if isinstance(own[field], list) else {} if isinstance(own[field], dict) else "other"
    assert not holds(changed, template)


def injecting_world(chance: random.Random) -> World:
    """Return a world whose webhook injects into every Job and Deployment that is made."""
    world = tenant_world()

    class Injecting(type(world.store)):  # type: ignore[misc]
        async def create(self, obj: Object) -> Object:
            return dict(await super().create(_injected(chance, obj)))

        async def apply(self, obj: Object) -> Object:
            return dict(await super().apply(_injected(chance, obj)))

    world.store = Injecting()
    world.operators = [world.operator()]
    world.skill(source={"inline": SOURCE})
    return world


def _injected(chance: random.Random, obj: Object) -> Object:
    if obj["kind"] not in {"Job", "Deployment"}:
        return obj
    return obj | {"spec": obj["spec"] | {"template": inject(chance, obj["spec"]["template"])}}


ENDS: list[Object] = [
    {"running": {}},
    {"terminated": {"exitCode": 0, "finishedAt": "2030-01-01T11:59:00Z"}},
    {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2030-01-01T11:59:00Z"}},
    {"waiting": {"reason": "CrashLoopBackOff"}},
]


def _with_sidecar(world: World, chance: random.Random, state: Object) -> None:
    for (kind, _, _), pod in world.store.objects.items():
        if kind == "Pod" and len(pod["status"]["containerStatuses"]) == 1:
            status = {"name": "istio-proxy", "image": "proxy", "state": state, "lastState": {}}
            insert(chance, pod["status"]["containerStatuses"], status)


@pytest.mark.parametrize("state", ENDS, ids=["runs", "ended", "killed", "crashes"])
@pytest.mark.parametrize("seed", range(5))
async def test_a_sidecar_decides_no_check_and_no_build(seed: int, state: Object) -> None:
    chance = random.Random(seed)
    world = injecting_world(chance)
    for _ in range(8):
        await world.reconcile()
        if world.check() is not None:
            world.verdict(passed=True)
        finish_build(world)
        _with_sidecar(world, chance, state)
    assert world.condition("Verified")["status"] == "True", world.status
    assert world.condition("Built")["message"].endswith(DIGEST)
    assert world.condition("Deployed")["reason"] == "Starting"


@pytest.mark.parametrize("state", ENDS[2:], ids=["killed", "crashes"])
def test_a_failing_sidecar_is_told_by_its_name(state: Object) -> None:
    last = {"terminated": {"exitCode": 1, "message": "cannot reach istiod"}}
    sidecar = {"name": "istio-proxy", "image": "p", "state": state, "lastState": last}
    own = {"name": "skill", "image": "i", "state": {"running": {}}, "lastState": {}}
    for statuses in ([sidecar, own], [own, sidecar]):
        pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": statuses}}
        problem = pod_status.pod_problem(pod)
        assert problem is not None
        assert problem.reason == "InjectedContainerFailed"
        assert "container istio-proxy, which a webhook of the cluster injects" in problem.message
        assert pod_status.find_termination(pod) is None
        assert pod_status.incidents([pod]) == []


def test_a_failing_init_container_of_others_is_no_verdict() -> None:
    init = {"name": "istio-init", "image": "i", "state": {"terminated": {"exitCode": 1, "message": "no CAP_NET_ADMIN"}}}
    waiting = {"name": "check", "image": "i", "state": {"waiting": {"reason": "PodInitializing"}}, "lastState": {}}
    pod = {"metadata": {"name": "p"}, "status": {"initContainerStatuses": [init], "containerStatuses": [waiting]}}
    assert pod_status.find_termination(pod) is None
    problem = pod_status.pod_problem(pod)
    assert problem is not None
    assert "istio-init" in problem.message
