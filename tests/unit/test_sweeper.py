"""What the sweeper deletes, and what it leaves alone."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY

from skill_operator import naming
from skill_operator.sweeper import Sweeper
from tests.unit.reconcile.samples import SETTINGS


def managed(kind: str, namespace: str, name: str, uid: str = "", component: str = "") -> dict[str, Any]:
    some = {naming.UID_LABEL: uid, naming.COMPONENT: component}
    labels = naming.MANAGED | {key: value for key, value in some.items() if value}
    return {"kind": kind, "metadata": {"namespace": namespace, "name": name, "labels": labels, "uid": f"uid-{name}"}}


class SweptCluster:
    """As much of a cluster as the sweeper uses."""

    def __init__(self, *objects: dict[str, Any], skills: tuple[dict[str, Any], ...] = ()) -> None:
        self.objects = list(objects)
        self.skills = [*skills]
        self.deleted: list[tuple[str, str, str]] = []
        self.proxy_stops = 0

    async def list(self, kind: str, namespace: str | None = None, labels: Any = None) -> list[dict[str, Any]]:
        found = [o for o in self.objects if o["kind"] == kind and namespace in {None, o["metadata"]["namespace"]}]
        return [o for o in found if (labels or {}).items() <= o["metadata"]["labels"].items()]

    async def delete(self, kind: str, namespace: str, name: str, uid: str | None = None) -> None:
        self.deleted.append((kind, namespace, name))

    async def list_skills(self) -> Any:
        return self.skills

    async def stop_proxy(self) -> None:
        self.proxy_stops += 1

    async def sweep(self) -> list[tuple[str, str, str]]:
        await Sweeper(self, SETTINGS, self.list_skills, self.stop_proxy).sweep()  # type: ignore[arg-type]
        return self.deleted


def a_skill(uid: str = "u-1", namespace: str = "team", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "namespace": namespace, "name": "echo"}, "spec": spec}


async def test_builds_and_ledgers_of_deleted_skills_are_deleted() -> None:
    builder, operator = SETTINGS.builder_namespace, SETTINGS.namespace
    cluster = SweptCluster(
        managed("Job", builder, "live", "u-1"),
        managed("Job", builder, "dead", "u-2"),
        managed("ConfigMap", builder, "dead", "u-2"),
        managed("ConfigMap", operator, "ledger-live", "u-1", naming.LEDGER),
        managed("ConfigMap", operator, "ledger-dead", "u-2", naming.LEDGER),
        skills=(a_skill(),),
    )
    assert await cluster.sweep() == [
        ("Job", builder, "dead"),
        ("ConfigMap", builder, "dead"),
        ("ConfigMap", operator, "ledger-dead"),
    ]


async def test_a_deployment_without_its_skill_is_deleted() -> None:
    """It was orphaned with `kubectl delete skill --cascade=orphan`, and would hold its Secrets for ever."""
    live = managed("Deployment", "team", "live", "u-1", "skill")
    orphan = managed("Deployment", "team", "orphan", "u-2", "skill")
    foreign = managed("Deployment", "team", "foreign", "u-3", "skill")
    del foreign["metadata"]["labels"][naming.MANAGED_BY]
    of_the_chart = managed("Deployment", SETTINGS.namespace, "skill-operator-gateway", component="gateway")
    cluster = SweptCluster(live, orphan, foreign, of_the_chart, skills=(a_skill(),))
    assert await cluster.sweep() == [("Deployment", "team", "orphan")]


async def test_isolation_outlives_the_last_pod_of_a_namespace() -> None:
    policy = managed("NetworkPolicy", "old", naming.SHARED_POLICY)
    foreign = managed("NetworkPolicy", "old", "another")
    inhabited = managed("NetworkPolicy", "team", naming.SHARED_POLICY)
    quota = managed("ResourceQuota", "old", naming.SHARED_QUOTA)
    objects = (policy, foreign, inhabited, quota)
    pod = managed("Pod", "old", "ends")
    assert await SweptCluster(*objects, pod, skills=(a_skill(),)).sweep() == []
    assert await SweptCluster(*objects, skills=(a_skill(),)).sweep() == [
        ("NetworkPolicy", "old", naming.SHARED_POLICY),
        ("ResourceQuota", "old", naming.SHARED_QUOTA),
    ]


async def test_isolation_of_a_skill_that_is_made_during_a_sweep_stays() -> None:
    """Its reconcile has just isolated the namespace, or found that it is, and makes its first pod next."""

    class Settled(SweptCluster):
        async def list_skills(self) -> Any:
            listed = await super().list_skills()
            made = (("Skill", "echo"), ("NetworkPolicy", naming.SHARED_POLICY), ("ResourceQuota", naming.SHARED_QUOTA))
            self.objects += [managed(kind, "new", name) for kind, name in made]
            return listed

    assert await Settled().sweep() == []


async def test_the_egress_proxy_stops_while_no_skill_is_granted_a_host() -> None:
    for grants, stops in (([{"host": "api.example.com"}], 0), ([{"cidr": "203.0.113.0/24"}], 1), ([], 1)):
        cluster = SweptCluster(skills=(a_skill(egress=grants),))
        await cluster.sweep()
        assert cluster.proxy_stops == stops


async def test_archived_skills_are_counted_and_keep_no_egress_proxy() -> None:
    archived = a_skill("u-1", egress=[{"host": "api.example.com"}]) | {"status": {"archive": {}}}
    cluster = SweptCluster(skills=(archived, a_skill("u-2")))
    await cluster.sweep()
    assert cluster.proxy_stops == 1
    assert REGISTRY.get_sample_value("skill_operator_archived_skills") == 1
    await SweptCluster(skills=(a_skill("u-2"),)).sweep()
    assert REGISTRY.get_sample_value("skill_operator_archived_skills") == 0
