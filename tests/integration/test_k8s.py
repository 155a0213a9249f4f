"""Our way to the API server, against a real one, with a wire in between that can be cut."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hack.cluster.access import Cluster
from hack.install import NAMESPACE
from skill_operator import naming
from skill_operator.gateway.pods.activator import SCALE_FROM_ZERO_PATCH
from skill_operator.handlers import Informer
from skill_operator.k8s import client
from skill_operator.k8s.client import ApiServer, connect
from skill_operator.k8s.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from skill_operator.k8s.events import EventRecorder
from skill_operator.k8s.lease import Lease
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.settings import ImageSettings, Settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(90)]
MANAGER = "tests"


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace() as name:
        yield name


@pytest.fixture
async def api(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    async with connect(MANAGER) as server:
        yield server


class Wire:
    """A TCP relay to the API server. Cut, it refuses new connections and resets those that stand; without its `voice`,
    all stay open and bring nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.voice = asyncio.Event()
        self.voice.set()
        self.port = 0

    async def join(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._open |= {writer, back}
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer, self.voice))
        finally:
            self._open -= {writer, back}
            writer.close()
            back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, voice: asyncio.Event | None = None) -> None:
    try:
        while chunk := await reader.read(65536):
            if voice is not None:
                await voice.wait()
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def wire(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """Every `connect` of the test leads through it."""
    kubeconfig = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    (entry,) = kubeconfig["clusters"]
    address = urlsplit(entry["cluster"]["server"])
    assert address.hostname is not None
    made = Wire(address.hostname, address.port or 443)
    await made.join()
    entry["cluster"] |= {"server": f"https://127.0.0.1:{made.port}", "tls-server-name": address.hostname}
    target = tmp_path / "kubeconfig"
    target.write_text(json.dumps(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(target))
    yield made
    await made.cut()


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "labels": {"test": "k8s"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def deployment(namespace: str, **spec: Any) -> dict[str, Any]:
    pod = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "main", "image": "none.invalid/x"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "asleep", "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": pod, **spec},
    }


async def until(what: str, seconds: float, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)
    assert done(), what


async def test_apply_owns_what_it_says_and_drops_what_it_no_longer_says(api: ApiServer, namespace: str) -> None:
    first = await api.apply(config_map(namespace, "one", a="1", b="2"))
    assert {m["manager"] for m in first["metadata"]["managedFields"]} == {MANAGER}
    second = await api.apply(config_map(namespace, "one", a="1"))
    assert second["data"] == {"a": "1"}
    again = await api.apply(config_map(namespace, "one", a="1"))
    assert again["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"], "nothing was written"


async def test_who_was_overtaken_is_told(api: ApiServer, namespace: str) -> None:
    old = await api.apply(config_map(namespace, "one", a="1"))
    await api.apply(config_map(namespace, "one", a="2"))
    stale = config_map(namespace, "one", a="3")
    stale["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    with pytest.raises(Conflict) as caught:
        await api.apply(stale)
    assert caught.value.retryable
    with pytest.raises(Conflict):
        await api.create(config_map(namespace, "one"))
    with pytest.raises(Conflict):
        await api.replace(stale)
    live = await api.get("ConfigMap", namespace, "one")
    assert live is not None
    assert live["data"] == {"a": "2"}


@pytest.mark.parametrize("call", ["apply", "create"])
async def test_a_field_that_does_not_exist_is_named(api: ApiServer, namespace: str, call: str) -> None:
    with pytest.raises(Invalid, match="replicaz") as caught:
        await getattr(api, call)(deployment(namespace, replicaz=1))
    assert not caught.value.retryable
    assert await api.get("Deployment", namespace, "asleep") is None


async def test_a_bad_value_is_explained(api: ApiServer, namespace: str) -> None:
    with pytest.raises(Invalid, match=r"spec\.replicas.*greater than or equal to 0"):
        await api.apply(deployment(namespace, replicas=-1))


async def test_what_is_not_there(api: ApiServer, namespace: str) -> None:
    assert await api.get("ConfigMap", namespace, "none") is None
    await api.delete("ConfigMap", namespace, "none")
    with pytest.raises(NotFound):
        await api.create(config_map("no-such-namespace", "one"))
    with pytest.raises(NotFound):
        await api.apply_status({**deployment(namespace), "status": {}})
    with pytest.raises(NotFound):
        await api.patch("Deployment", namespace, "none", SCALE_FROM_ZERO_PATCH, "scale")


async def test_only_that_very_object_is_deleted(api: ApiServer, namespace: str) -> None:
    made = await api.apply(config_map(namespace, "one"))
    await api.delete("ConfigMap", namespace, "one", uid="00000000-0000-0000-0000-000000000000")
    assert await api.get("ConfigMap", namespace, "one") is not None
    await api.delete("ConfigMap", namespace, "one", uid=made["metadata"]["uid"])
    assert await api.get("ConfigMap", namespace, "one") is None


@pytest.mark.parametrize("name", ["", "..", "one/status", "one?force=true", "One", "one\n", "%2e%2e"])
async def test_a_crooked_name_never_becomes_another_request(api: ApiServer, namespace: str, name: str) -> None:
    await api.apply(config_map(namespace, "one"))
    for attempt in (api.delete("ConfigMap", namespace, name), api.get("ConfigMap", namespace, name)):
        with pytest.raises(Invalid):
            await attempt
    with pytest.raises(Invalid):
        await api.delete("ConfigMap", "", "one")
    assert [o["metadata"]["name"] for o in await api.list("ConfigMap", namespace, {"test": "k8s"})] == ["one"]


async def test_only_one_wakes(api: ApiServer, namespace: str) -> None:
    """Whoever comes second is refused, and changes nothing."""
    await api.apply(deployment(namespace, replicas=0))

    async def rouse() -> bool:
        try:
            await api.patch("Deployment", namespace, "asleep", SCALE_FROM_ZERO_PATCH, "scale")
        except Invalid:
            return False
        return True

    assert sum(await asyncio.gather(*(rouse() for _ in range(8)))) == 1
    assert not await rouse()
    live = await api.get("Deployment", namespace, "asleep")
    assert live is not None
    assert live["spec"]["replicas"] == 1


async def test_scaling_stands_when_the_rest_is_applied_again(api: ApiServer, namespace: str) -> None:
    await api.apply(deployment(namespace, replicas=1))
    await api.patch("Deployment", namespace, "asleep", [{"op": "replace", "path": "/spec/replicas", "value": 0}])
    after = await api.apply(deployment(namespace, revisionHistoryLimit=1))
    assert (after["spec"]["replicas"], after["spec"]["revisionHistoryLimit"]) == (0, 1)


async def test_lists_are_whole_and_say_what_they_hold(
    api: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    for number in range(5):
        await api.apply(config_map(namespace, f"map-{number}"))
    found = await api.list("ConfigMap", namespace, {"test": "k8s"})
    assert [o["metadata"]["name"] for o in found] == [f"map-{number}" for number in range(5)]
    assert {(o["apiVersion"], o["kind"]) for o in found} == {("v1", "ConfigMap")}
    everywhere = await api.list("ConfigMap", labels={"test": "k8s"})
    assert {o["metadata"]["namespace"] for o in everywhere} >= {namespace}
    assert await api.list("ConfigMap", namespace, {"test": "other"}) == []


async def test_who_has_no_right_is_told_what_is_missing(
    cluster: Cluster, namespace: str, wire: Wire, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"  # the wire's
    kubeconfig = json.loads(path.read_text())
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "nobody")
    token = cluster.kubectl("-n", namespace, "create", "token", "nobody").strip()
    kubeconfig["users"][0]["user"] = {"token": token}
    path.write_text(json.dumps(kubeconfig))
    async with connect(MANAGER) as nobody:
        with pytest.raises(Forbidden, match="cannot list resource") as caught:
            await nobody.list("Secret", namespace)
    assert not caught.value.retryable


async def test_the_api_server_is_not_asked_through_a_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with connect(MANAGER) as server:
        assert await server.get("Namespace", None, "default") is not None


async def test_nobody_there(wire: Wire) -> None:
    await wire.cut()
    async with connect(MANAGER) as server:
        with pytest.raises(Unavailable, match="does not answer") as caught:
            await server.get("Namespace", None, "default")
    assert caught.value.retryable


@asynccontextmanager
async def watching(server: ApiServer, namespace: str) -> AsyncIterator[Callable[[int], Any]]:
    """Gives the next so many changes, as pairs of change and name."""
    async with aclosing(server.watch("ConfigMap", namespace, {"test": "k8s"})) as changes:

        async def following(count: int) -> list[tuple[str, str]]:
            found = []
            async with asyncio.timeout(20):
                for _ in range(count):
                    change, obj = await anext(changes)
                    assert "managedFields" not in obj.get("metadata", {})
                    found.append((change, obj["metadata"]["name"] if obj else ""))
            return found

        yield following


async def test_a_watch_tells_all_there_is_and_then_every_change(api: ApiServer, namespace: str) -> None:
    await api.apply(config_map(namespace, "one"))
    async with watching(api, namespace) as following:
        assert await following(2) == [("ADDED", "one"), ("SYNCED", "")]
        await api.apply(config_map(namespace, "two"))
        await api.apply(config_map(namespace, "one", a="1"))
        await api.delete("ConfigMap", namespace, "one")
        assert await following(3) == [("ADDED", "two"), ("MODIFIED", "one"), ("DELETED", "one")]


async def test_a_watch_that_was_cut_tells_what_happened_meanwhile(api: ApiServer, namespace: str, wire: Wire) -> None:
    for name in ("kept", "changed", "gone", "replaced"):
        await api.apply(config_map(namespace, name))
    async with connect(MANAGER) as through, watching(through, namespace) as following:
        assert len(await following(5)) == 5
        await api.apply(config_map(namespace, "seen"))
        assert await following(1) == [("ADDED", "seen")]  # so the stream stands
        await wire.cut()
        await api.delete("ConfigMap", namespace, "gone")
        await api.delete("ConfigMap", namespace, "replaced")
        for name in ("replaced", "changed", "new"):
            await api.apply(config_map(namespace, name, a="1"))
        await wire.join()
        cut, *changes = await following(7)
        assert cut == ("CUT", "")
        added = [("ADDED", "new"), ("ADDED", "replaced")]
        assert sorted(changes[:5]) == [*added, ("DELETED", "gone"), ("DELETED", "replaced"), ("MODIFIED", "changed")]
        assert changes.index(("DELETED", "replaced")) < changes.index(added[1]), "before what took the place"
        assert changes[5] == ("SYNCED", "")
        await api.apply(config_map(namespace, "later"))
        assert await following(1) == [("ADDED", "later")]


async def test_a_watch_goes_on_when_the_server_ends_it(
    api: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does every few minutes: nothing is listed or told twice."""
    monkeypatch.setattr(client, "WATCH_SECONDS", 1)
    async with watching(api, namespace) as following:
        assert await following(1) == [("SYNCED", "")]
        pending = asyncio.create_task(following(1))
        await asyncio.sleep(1.5)
        await api.apply(config_map(namespace, "one"))
        assert await pending == [("ADDED", "one")]


async def test_a_silent_watch_is_given_up(
    api: ApiServer, namespace: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bookmark for too long: the other end is gone without a word."""
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.3)
    async with connect(MANAGER) as through, watching(through, namespace) as following:
        assert await following(5) == [("SYNCED", ""), *[("CUT", ""), ("SYNCED", "")] * 2]


HOLDER = """
import asyncio, sys
from skill_operator.k8s.client import connect
from skill_operator.k8s.lease import Lease
async def main():
    async with connect("holder") as cluster, Lease(cluster, sys.argv[1], "leader", "first", 3) as lease:
        print("held", flush=True)
        await lease.lost.wait()
asyncio.run(main())
"""


async def test_who_was_killed_is_followed_after_the_lease_ran_out(api: ApiServer, namespace: str) -> None:
    paths = os.pathsep.join(sys.path)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, namespace, stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    second = Lease(api, namespace, "leader", "second", 3)
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(4)
    assert not second.is_held, "the first renews it"
    holder.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    async with asyncio.timeout(8):
        await waiting
    assert time.monotonic() - killed >= 3 - 0.8, "not before its last renewal ran out"
    live = await api.get("Lease", namespace, "leader")
    assert live is not None
    assert (live["spec"]["holderIdentity"], live["spec"]["leaseTransitions"]) == ("second", 2)
    await second.release()
    await holder.wait()


async def test_who_leaves_is_followed_at_once(api: ApiServer, namespace: str) -> None:
    async with Lease(api, namespace, "leader", "first", 30) as first:
        second = Lease(api, namespace, "leader", "second", 5)
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.3)
        assert (first.is_held, second.is_held) == (True, False)
    assert not first.is_held
    async with asyncio.timeout(3):
        await waiting
    assert second.is_held
    await second.release()


async def test_a_short_outage_is_survived_and_a_long_one_is_not(api: ApiServer, namespace: str, wire: Wire) -> None:
    """The holder stops leading before anyone else may start, though it cannot ask."""
    async with connect("first") as through:
        first = Lease(through, namespace, "leader", "first", 4)
        await first.acquire()
        await wire.cut()
        await asyncio.sleep(1.5)
        assert first.is_held
        await wire.join()
        await until("a renewal", 4, lambda: first._until - time.monotonic() > 2.3)
        assert not first.lost.is_set()
        second = Lease(api, namespace, "leader", "second", 4)
        waiting = asyncio.create_task(second.acquire())
        await wire.cut()
        while not waiting.done():
            assert not (first.is_held and second.is_held)
            await asyncio.sleep(0.01)
        assert first.lost.is_set()
        await second.release()


async def test_ten_candidates_and_one_lease(api: ApiServer, namespace: str) -> None:
    leases = [Lease(api, namespace, "leader", f"c{number}", 3) for number in range(10)]
    tasks = [asyncio.create_task(lease.acquire()) for lease in leases]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(1.5)
    assert sum(lease.is_held for lease in leases) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(lease.release() for lease in leases))


async def test_events_are_counted_and_described(api: ApiServer, cluster: Cluster, namespace: str) -> None:
    recorder = EventRecorder(api, "skill-operator")
    made = await api.apply(config_map(namespace, "one"))
    writing = asyncio.create_task(recorder.run())
    for _ in range(3):
        recorder.record(made, "Warning", "BuildFailed", "no space\x1b[31m left")
        await asyncio.sleep(0.1)
    recorder.record(made, "Normal", "Built", "x" * 5000)
    await asyncio.sleep(0.3)
    writing.cancel()
    events = {e["reason"]: e for e in await api.list("Event", namespace) if e["involvedObject"]["name"] == "one"}
    assert (events["BuildFailed"]["count"], events["Built"]["count"]) == (3, 1)
    assert len(events["Built"]["message"]) == 1024
    described = cluster.kubectl("-n", namespace, "describe", "configmap", "one")
    assert "BuildFailed" in described
    assert "\x1b" not in described
    assert recorder.dropped == 0


@pytest.mark.xdist_group("jobs-in-the-operator-namespace")
async def test_an_informer_that_has_gone_deaf_is_noticed(api: ApiServer, wire: Wire, cluster: Cluster) -> None:
    """Its connections stand and say nothing, as behind a firewall that forgot them: no error comes from anywhere."""
    namespace = NAMESPACE  # where not the controller alone may make what bears its labels
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    watch_health, told = WatchHealth(max_delay_seconds=2), asyncio.Queue[str]()
    informer = Informer(
        Settings(
            images=ImageSettings(runtime="r", checker="c", builder="b", operator="o"), builder_namespace=namespace
        ),
        lambda key: told.put_nowait(key.name),
        watch_health,
    )
    stop = asyncio.Event()
    watching = asyncio.create_task(informer.run(stop))
    try:
        async with asyncio.timeout(60):
            assert watch_health.observe_read([await api.create(job(namespace, "one"))]), (
                "nothing can have been delivered yet"
            )
            while await told.get() != "one":
                pass
        assert watch_health.observe_read(await api.list("Job", namespace)) == []

        wire.voice.clear()
        await api.create(job(namespace, "two"))
        (unheard,) = watch_health.observe_read(await api.list("Job", namespace))
        assert unheard["metadata"]["name"] == "two"
        assert watch_health.find_problem() is None
        await until("it is overdue", 10, lambda: bool(watch_health.overdue_skills()))
        assert watch_health.find_problem() is None, "it may be gone"
        watch_health.observe_read(await api.list("Job", namespace))
        assert f"the watch of Jobs has not delivered {namespace}/two" in str(watch_health.find_problem())

        wire.voice.set()
        await until("it is well again", 30, lambda: watch_health.find_problem() is None)
    finally:
        stop.set()
        await watching
        for name in ("one", "two"):
            await api.delete("Job", namespace, name)


def job(namespace: str, name: str) -> dict[str, Any]:
    """Of a Skill that does not exist; it starts no pod."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "none", "image": "none.invalid/none"}]}
    meta = {"name": name, "namespace": namespace, "labels": naming.labels(name, f"uid-{name}", "check")}
    spec = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}
