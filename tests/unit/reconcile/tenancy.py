"""A Skill that runs, with a Secret and a way out, in a cluster that keeps to preconditions and refuses as told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from skill_operator import naming
from skill_operator.k8s.errors import ClusterError, Conflict, TooManyRequests
from skill_operator.settings import Settings
from tests.unit.generation.world import NAME, NAMESPACE, Object, Place, Store, World, copy_of
from tests.unit.reconcile.samples import DIGEST, SETTINGS, SOURCE

SECRETS = [{"name": "api-key", "secretKeyRef": {"name": "billing", "key": "token"}}]
EGRESS = [{"cidr": "203.0.113.0/24", "ports": [443, 8443]}, {"cidr": "198.51.100.0/24", "ports": [443]}]
CHILD = naming.child(NAME)
FOREIGN_UID = "theirs"


class TenantStore(Store):
    """The store, with reviews, uids and refusals. `writes` are the objects that somebody tried to change."""

    def __init__(self) -> None:
        super().__init__()
        self.granted = {"billing"}
        self.reviewed: list[str] = []
        self.refusals: dict[tuple[str, str], ClusterError] = {}
        self.writes: list[Place] = []
        self.uids = 0
        self.disruption_budget = False
        self.scan_failure: ClusterError | None = None

    async def scan(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Object, None]:
        for obj in await self.list(kind, namespace, labels):
            if self.scan_failure is not None:
                raise self.scan_failure
            yield obj

    async def create(self, obj: Object) -> Object:
        if obj["kind"] == "LocalSubjectAccessReview":
            name = obj["spec"]["resourceAttributes"]["name"]
            self.reviewed.append(name)
            return {"status": {"allowed": name in self.granted}}
        self._admit(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
        return await super().create(self._identified(obj))

    async def apply(self, obj: Object) -> Object:
        meta = obj["metadata"]
        self._admit(obj["kind"], meta["namespace"], meta["name"])
        old = self.objects.get((obj["kind"], meta["namespace"], meta["name"]))
        if "uid" in meta and (old is None or old["metadata"]["uid"] != meta["uid"]):
            raise Conflict("the uid is another")
        return await super().apply(self._identified(obj))

    async def delete(
        self, kind: str, namespace: str | None, name: str, uid: str | None = None, version: str | None = None
    ) -> None:
        self._admit(kind, namespace or "", name)
        live = self.objects.get((kind, namespace or "", name))
        assert uid, f"{kind} {name} is deleted whoever it belongs to"
        if live is not None and live["metadata"]["uid"] == uid:
            await super().delete(kind, namespace, name, uid, version)

    async def evict(self, namespace: str, name: str, uid: str, grace_seconds: int) -> None:
        """As the API server does it: the pod is ending first. A budget keeps one that is not ending."""
        self._admit("Pod", namespace, name)
        live = self.objects["Pod", namespace, name]
        assert live["metadata"]["uid"] == uid
        if self.disruption_budget and "deletionTimestamp" not in live["metadata"]:
            raise TooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 429)
        self.put(live | {"metadata": live["metadata"] | ending(grace_seconds)})

    async def patch(self, *_: Any) -> None:
        """Change nothing: no Skill of this world scales to zero."""

    async def warnings(self, namespace: str, uid: str) -> list[Object]:
        return []

    def _admit(self, kind: str, namespace: str, name: str) -> None:
        self.writes.append((kind, namespace, name))
        if (error := self.refusals.get((kind, namespace))) is not None:
            raise error

    def _identified(self, obj: Object) -> Object:
        old = self.objects.get((obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]))
        self.uids += 1
        uid = old["metadata"]["uid"] if old is not None else f"made-{self.uids}"
        return obj | {"metadata": obj["metadata"] | {"uid": uid}}


def ending(seconds: int) -> Object:
    """Return what the metadata of an ending pod holds."""
    return {"deletionTimestamp": "2030-01-01T12:00:00Z", "deletionGracePeriodSeconds": seconds}


def tenant_world(settings: Settings = SETTINGS) -> World:
    world = World(settings)
    world.store = TenantStore()
    world.operators = [world.operator()]
    return world


async def advance(world: World) -> None:
    """Let the Skill go on as far as it gets: checks pass, builds succeed."""
    for _ in range(8):
        await world.reconcile()
        if world.check() is not None:
            world.verdict(passed=True)
        finish_build(world)


def finish_build(world: World) -> None:
    builder = SETTINGS.builder_namespace
    for (kind, namespace, name), job in list(world.store.objects.items()):
        if (kind, namespace) != ("Job", builder) or ("Pod", builder, f"{name}-pod") in world.store.objects:
            continue
        if job["metadata"]["uid"] == FOREIGN_UID:
            continue
        job["metadata"]["creationTimestamp"] = "2030-01-01T11:59:50Z"
        end = {"exitCode": 0, "message": DIGEST, "finishedAt": "2030-01-01T11:59:59Z"}
        container = {"name": "kaniko", "image": "i", "state": {"terminated": end}, "lastState": {}}
        labels = job["metadata"]["labels"] | {"job-name": name}
        owners = [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]
        meta = {"name": f"{name}-pod", "namespace": builder, "labels": labels, "ownerReferences": owners}
        world.store.put({"kind": "Pod", "metadata": meta, "status": {"containerStatuses": [container]}})


async def running(settings: Settings = SETTINGS, **spec: Any) -> World:
    """Return a world whose Skill runs."""
    world = tenant_world(settings)
    world.skill(**({"source": {"inline": SOURCE}, "secrets": SECRETS, "egress": EGRESS} | spec))
    await advance(world)
    assert live(world, "Deployment") is not None, world.status
    return world


async def another_running(**spec: Any) -> World:
    """Return another world whose Skill runs: the way there is gone once for all tests of this process."""
    key = naming.digest(spec)
    if key not in _RUNNING:
        _RUNNING[key] = await running(**spec)
    return another(_RUNNING[key])


_RUNNING: dict[str, World] = {}


def another(world: World) -> World:
    """Return a world like this one, to go another way from here."""
    copied = tenant_world(world.settings)
    copied.store.objects = copy_of(world.store.objects)
    copied.store.version = world.store.version
    return copied


def upgrade(world: World, settings: Settings) -> None:
    """Start the operator anew with other settings, as `helm upgrade` does it."""
    world.settings = settings
    world.operators = [world.operator()]


def store(world: World) -> TenantStore:
    assert isinstance(world.store, TenantStore)
    return world.store


def live(world: World, kind: str) -> Object | None:
    return world.store.objects.get((kind, NAMESPACE, CHILD))
