"""The surroundings of the generation loop, in one process: a store of objects that can lose power at any write, a model
that answers as scripted, and checks that end as scripted. Everything in between is the operator's own code."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import io
import json
import pickle
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2

from skill_operator import naming
from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.generation.author import Author
from skill_operator.generation.provider import Provider
from skill_operator.isolation.monitor import PROVEN
from skill_operator.isolation.user_namespaces import NodeFeatures
from skill_operator.k8s.errors import Conflict
from skill_operator.k8s.pod_status import find_container
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.reconcile.context import ReconcileContext
from skill_operator.reconcile.job_queue import make_job_queues
from skill_operator.reconcile.reconciler import Reconciler
from skill_operator.reconcile.usage_collector import UsageCollector
from skill_operator.registry.client import BaseImage, RegistryUnavailable
from skill_operator.registry.monitor import RegistryState
from skill_operator.settings import ImageSettings, Settings
from skill_operator.untrusted.worker import Worker

Object = dict[str, Any]
START = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
NAMESPACE, NAME = "team", "echo"
IMAGES = ImageSettings(
    runtime=f"r@sha256:{'1' * 64}",
    checker=f"c@sha256:{'2' * 64}",
    builder="localhost/kaniko:1",
    operator="localhost/operator:1",
)
Place = tuple[str, str, str]
Value = TypeVar("Value")
STAMP: ContextVar[Object] = ContextVar("stamp", default={})  # what a request shows of the reconcile that made it  # noqa: B039


class PowerCut(BaseException):
    """The operator is gone in the middle of a reconcile."""


class Store:
    """As much of an API server as a reconcile uses: versions, conflicts and labels. `before_write` may cut the power."""

    def __init__(self) -> None:
        self.objects: dict[Place, Object] = {}
        self.version = 0
        self.before_write: Callable[[], Awaitable[None]] | None = None
        self.after_write: Callable[[], Awaitable[None]] | None = None
        self.created: list[Object] = []

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return copy_of(self.objects.get((kind, namespace or "", name)))

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: dict[str, str] | None = None,
        outline: Callable[[Object], Object] | None = None,
    ) -> list[Object]:
        found = [o for (k, n, _), o in self.objects.items() if k == kind and namespace in {None, n}]
        wanted = (labels or {}).items()
        listed = [copy_of(o) for o in found if wanted <= o["metadata"].get("labels", {}).items()]
        return listed if outline is None else [*map(outline, listed)]

    async def scan(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Object, None]:
        for obj in await self.list(kind, namespace, labels):
            yield obj

    async def apply(self, obj: Object) -> Object:
        await self._before()
        place = _place(obj)
        old = self.objects.get(place)
        version = obj["metadata"].get("resourceVersion")
        if version is not None and (old is None or old["metadata"]["resourceVersion"] != version):
            raise Conflict("it was changed meanwhile")
        return await self._put(obj, old)

    async def apply_status(self, obj: Object) -> Object:
        await self._before()
        old = self.objects[_place(obj)]
        if obj["metadata"].get("resourceVersion") not in {None, old["metadata"]["resourceVersion"]}:
            raise Conflict("it was changed meanwhile")
        return await self._put(old | {"status": obj["status"]}, old)

    async def create(self, obj: Object) -> Object:
        await self._before()
        if _place(obj) in self.objects:
            raise Conflict("it exists")
        self.created.append(copy_of(obj))
        return await self._put(obj, None)

    async def delete(
        self, kind: str, namespace: str | None, name: str, uid: str | None = None, version: str | None = None
    ) -> None:
        await self._before()
        live = self.objects.get((kind, namespace or "", name))
        if version is not None and live is not None and live["metadata"]["resourceVersion"] != version:
            raise Conflict("it was changed meanwhile")
        self.objects.pop((kind, namespace or "", name), None)
        if kind == "Job":
            self.objects.pop(("Pod", namespace or "", f"{name}-pod"), None)
        await self._after()

    def put(self, obj: Object) -> Object:
        """As a person does it."""
        old = self.objects.get(_place(obj))
        self.version += 1
        meta = obj["metadata"] | {"resourceVersion": str(self.version), "uid": obj["metadata"].get("uid") or "u-1"}
        kept = {"status": old["status"]} if old is not None and "status" in old and "status" not in obj else {}
        self.objects[_place(obj)] = copy_of(obj | kept | {"metadata": meta})
        return copy_of(self.objects[_place(obj)])

    async def replace(self, obj: Object) -> Object:
        raise NotImplementedError

    async def scale(self, namespace: str, name: str, replicas: int) -> None:
        raise NotImplementedError

    async def watch(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        raise NotImplementedError
        yield

    async def _put(self, obj: Object, old: Object | None) -> Object:
        made = self.put(
            obj | ({"status": old["status"]} if old is not None and "status" in old and "status" not in obj else {})
        )
        await self._after()
        return made

    async def _before(self) -> None:
        if self.before_write is not None:
            await self.before_write()

    async def _after(self) -> None:
        if self.after_write is not None:
            await self.after_write()


def copy_of(value: Value) -> Value:
    """Return a copy that shares nothing. `copy.deepcopy` makes the same of plain values, in seven times the time."""
    made: Value = pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))  # noqa: S301 - no stranger's bytes
    return made


def _place(obj: Object) -> Place:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class Wire(httpx2.AsyncBaseTransport):
    """To the model. `answer` is what the next requests get; None keeps them waiting until it is set."""

    def __init__(self) -> None:
        self.requests: list[Object] = []
        self.answer: Callable[[Object], httpx2.Response] | None = None
        self.answered = asyncio.Event()
        self.waiting: set[asyncio.Task[Any] | None] = set()  # calls whose request is here
        self.arrived = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        for _ in range(50):  # no request is there at once: who does not wait for it fails now, not now and then
            await asyncio.sleep(0)
        body = json.loads(request.content) | STAMP.get()
        self.requests.append(body)
        call = asyncio.current_task()
        self.waiting.add(call)
        self.arrived.set()
        try:
            while self.answer is None:
                self.answered.clear()
                await self.answered.wait()
            return self.answer(body)
        finally:
            self.waiting.discard(call)

    def respond(self, answer: Callable[[Object], httpx2.Response] | None) -> None:
        self.answer = answer
        self.answered.set()


def completion_response(
    text: str, tokens: tuple[int, int] | None, finish_reason: str = "stop"
) -> Callable[[Object], httpx2.Response]:
    """`tokens`: of the prompt and of the reply, as the endpoint charges them."""
    usage = {"usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}} if tokens else {}
    choice = {"message": {"content": text}, "finish_reason": finish_reason}
    return lambda _: httpx2.Response(200, json={"choices": [choice], **usage})


class InlineWorker(Worker):
    """It does the work where it is called, as JSON would carry it: a process for each reply would take too long."""

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return json.loads(json.dumps(function(*json.loads(json.dumps(arguments)))))


class Events:
    """The events that people see."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, str]] = []

    def record(self, obj: Object, type_: str, reason: str, message: str) -> None:
        self.recorded.append((reason, message))


class World:
    """One Skill, one or more operators, a clock. `network`: the model is a real one."""

    def __init__(self, settings: Settings, *, network: bool = False) -> None:
        self.settings = settings
        self.network = network
        self.store = Store()
        self.wire = Wire()
        self.events = Events()
        self.stamp: Callable[[], Object] = dict
        self.now = START
        self.manifest: Object = {"python": "3.13.9"}
        self.blocked: tuple[BlockedNetwork, ...] = ()
        self.isolation = PROVEN
        self.built: list[str] = []
        self.registry_problem: RegistryUnavailable | None = None
        self.knows_base = True
        self.lost: set[str] = set()  # images that the registry has no more
        self.operators = [self.operator()]

    def operator(self) -> Operator:
        return Operator(self)

    def skill(self, **spec: Any) -> None:
        """Apply it, as it is or with other words."""
        old = self.store.objects.get(("Skill", NAMESPACE, NAME))
        known = (
            old["spec"]
            if old is not None
            else {
                "description": "Says what it is told.",
                "input": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
                "output": {"type": "object"},
                "examples": [{"name": "one", "input": {"what": "a"}, "output": {"said": "a"}}],
            }
        )
        meta = (
            old["metadata"]
            if old is not None
            else {"name": NAME, "namespace": NAMESPACE, "uid": f"u-{self.store.version}", "generation": 0}
        )
        meta = meta | {"generation": meta["generation"] + 1}
        self.store.put({"apiVersion": naming.API_VERSION, "kind": "Skill", "metadata": meta, "spec": known | spec})

    def annotate(self, name: str, value: str) -> None:
        skill = self.store.objects["Skill", NAMESPACE, NAME]
        annotations = skill["metadata"].get("annotations", {}) | {name: value}
        self.store.put(skill | {"metadata": skill["metadata"] | {"annotations": annotations}})

    @property
    def status(self) -> Object:
        return self.store.objects["Skill", NAMESPACE, NAME].get("status", {})

    def condition(self, type_: str) -> Object:
        return next((c for c in self.status.get("conditions", []) if c["type"] == type_), {})

    @property
    def reason(self) -> str:
        return str(self.condition("Ready").get("reason", ""))

    async def reconcile(self, number: int = 1, operator: int = 0) -> float | None:
        after = None
        STAMP.set(self.stamp())
        for _ in range(number):
            after = await self.operators[operator].reconcile()
        return after

    async def finish_calls(self) -> None:
        """Wait until every call has ended that can end."""
        if self.network or self.wire.answer is not None:
            tasks = [c.task for o in self.operators for c in o.author._pool._calls.values() if c.task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=600 if self.network else 10)

    async def start_call(self) -> None:
        """Reconcile, and wait until the model has the request."""
        await self.reconcile()
        await self.wait_for_requests()

    async def wait_for_requests(self) -> None:
        """Wait until every call that runs has reached the model."""
        async with asyncio.timeout(10):
            while self.wire.answer is None and not self._running_calls() <= self.wire.waiting:
                self.wire.arrived.clear()
                await self.wire.arrived.wait()

    def _running_calls(self) -> set[asyncio.Task[Any]]:
        calls = [call for operator in self.operators for call in operator.author._pool._calls.values()]
        return {call.task for call in calls if call.task is not None and not call.task.done()}

    async def receive(self, answer: Callable[[Object], httpx2.Response]) -> None:
        """Let the model answer, and the operator record it."""
        self.wire.respond(answer)
        await self.reconcile()
        await self.finish_calls()
        self.wire.respond(None)
        await self.reconcile()

    def check(self) -> str | None:
        """Return the code that is being checked."""
        jobs = [
            job for (kind, _, name), job in self.store.objects.items() if kind == "Job" and not self._has_ended(name)
        ]
        return next((code for job in jobs if (code := self.checked_code(job)) is not None), None)

    def checked_code(self, obj: Object) -> str | None:
        """Return the code that this object checks, if it is the Job of a check."""
        meta = obj["metadata"]
        is_check = obj["kind"] == "Job" and meta["labels"].get(naming.COMPONENT) == "check"
        return str(self._bundle(meta["name"])["source"]) if is_check else None

    def verdict(
        self, *, passed: bool, gate: str = "", message: str = "", line: int | None = None, **more: object
    ) -> None:
        """The check ends, with a report as its PID 1 signs it."""
        name, job = self._running_check()
        env = find_container(job["spec"]["template"]["spec"], "check")["env"]
        key = next(e["value"] for e in env if e["name"] == "SKILL_REPORT_KEY")
        subject = hashlib.sha256(self._bundle_bytes(name)).hexdigest()
        report = {"subject": subject, "passed": passed, "gate": gate or None, "message": message, "line": line}
        text = json.dumps(report | {"passedExamples": 1, "totalExamples": 1} | more)
        mac = hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()
        self.end_check(0, json.dumps({"report": text, "mac": mac}))

    def end_check(self, code: int, last_word: str) -> None:
        """The check's container is over."""
        name, job = self._running_check()
        end = {"exitCode": code, "message": last_word, "finishedAt": self.now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        container = {"name": "check", "image": "i", "state": {"terminated": end}, "lastState": {}}
        labels = job["metadata"]["labels"] | {"job-name": name}
        owners = [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]
        meta = {"name": f"{name}-pod", "namespace": NAMESPACE, "labels": labels, "ownerReferences": owners}
        self.store.put({"kind": "Pod", "metadata": meta, "status": {"containerStatuses": [container]}})

    def check_environment(self) -> dict[str, str] | None:
        """Of the check that is under way, as the kubelet would make it."""
        if self.check() is None:
            return None
        name, job = self._running_check()
        data = self.store.objects["ConfigMap", NAMESPACE, name]["data"]
        env = job["spec"]["template"]["spec"]["containers"][0]["env"]
        return {e["name"]: e["value"] if "value" in e else data[e["valueFrom"]["configMapKeyRef"]["key"]] for e in env}

    def _running_check(self) -> tuple[str, Object]:
        return next(
            (n, j)
            for (k, _, n), j in self.store.objects.items()
            if k == "Job" and j["metadata"]["labels"].get(naming.COMPONENT) == "check" and not self._has_ended(n)
        )

    def _has_ended(self, job: str) -> bool:
        return ("Pod", NAMESPACE, f"{job}-pod") in self.store.objects

    def _bundle(self, name: str) -> Object:
        return dict(json.loads(self._bundle_bytes(name)))

    def _bundle_bytes(self, name: str) -> bytes:
        data = self.store.objects["ConfigMap", NAMESPACE, name]["data"]
        packed = "".join(data[f"part{n}"] for n in range(sum(key.startswith("part") for key in data)))
        return gzip.decompress(base64.b64decode(packed))

    def builds(self) -> set[str]:
        """The code that is being built or was."""
        found = set()
        for (kind, namespace, _), obj in self.store.objects.items():
            if kind == "ConfigMap" and namespace == self.settings.builder_namespace:
                data = base64.b64decode(obj["binaryData"]["context.tar.gz"])
                with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                    member = tar.extractfile("skill.py")
                    assert member is not None
                    found.add(member.read().decode())
        return found


class Operator:
    """The process: what it holds in memory is gone when it is."""

    def __init__(self, world: World) -> None:
        self.world = world
        worker = Worker() if world.network else InlineWorker()
        self.provider = Provider(None if world.network else world.wire, worker)
        self.author = Author(world.settings, self.provider, lambda *_: None, lambda: world.now, worker)
        base = BaseImage(dict(world.manifest), "10.96.1.1")

        async def registry() -> RegistryState:
            return RegistryState(base if world.knows_base else None, world.registry_problem)

        async def is_lost(image: str, _ask_again: bool) -> bool:
            return image in world.lost and world.registry_problem is None

        async def blocked_networks() -> tuple[BlockedNetwork, ...]:
            return world.blocked

        async def nobody(*_: object) -> None:
            """Answer nothing: no Skill of this world scales to zero."""

        async def nodes() -> NodeFeatures:
            return NodeFeatures([])

        async def proxy(_: tuple[BlockedNetwork, ...]) -> bool:
            return True

        context = ReconcileContext(registry, is_lost, blocked_networks, lambda: world.isolation, nodes, proxy)
        job_queues = make_job_queues(world.store, world.settings, lambda _: None)
        self.reconciler = Reconciler(
            world.store,
            world.settings,
            self.author,
            world.events,
            context,
            lambda: world.now,
            job_queues,
            WatchHealth(),
            UsageCollector(world.store, world.settings, nobody, lambda _: None),
        )

    async def reconcile(self) -> float | None:
        return await self.reconciler.reconcile(SkillKey(NAMESPACE, NAME))

    async def die(self) -> None:
        """Its calls end with it."""
        tasks = [c.task for c in self.author._pool._calls.values() if c.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
