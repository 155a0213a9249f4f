"""The builder, held to what is asked of it (R01 … in docs/reference/security-tests.md), on the real cluster."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest

from hack import images
from hack.cluster.access import Cluster
from hack.install import BUILDS, NAMESPACE, NODES, forward
from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s import pod_status
from skill_operator.k8s.client import ApiServer, connect
from skill_operator.naming import SkillKey
from skill_operator.reconcile.job_queue import BUILD_LABELS, make_build_queue
from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.stages.build import build
from skill_operator.registry.client import BaseImage
from skill_operator.resources import build as resource
from skill_operator.settings import Settings
from tests.integration.installed import Operator, http, until
from tests.integration.test_skill import SOURCE, apply, skill
from tests.unit.reconcile.samples import observed, stage_context

pytestmark = pytest.mark.cluster
ACCEPT = "application/vnd.oci.image.manifest.v1+json"
Json = dict[str, Any]


class Registry:
    """The embedded registry, read as a node reads it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v2"

    def get(self, path: str, accept: str = "*/*") -> bytes:
        request = urllib.request.Request(f"{self.url}/{path}", headers={"Accept": accept})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            data: bytes = answer.read()
            return data

    def manifest(self, repository: str, reference: str) -> Json:
        found: Json = json.loads(self.get(f"{repository}/manifests/{reference}", ACCEPT))
        return found

    def blob(self, repository: str, descriptor: Json) -> bytes:
        return self.get(f"{repository}/blobs/{descriptor['digest']}")


@pytest.fixture(scope="module")
def registry(operator: Operator) -> Iterator[Registry]:
    with forward(operator.cluster, f"service/{NAMESPACE}-registry-mirror", 5002, NODES) as port:
        yield Registry(port)


@pytest.fixture(scope="module")
def settings(operator: Operator) -> Settings:
    found = operator.cluster.get("-n", NAMESPACE, "configmap", f"{NAMESPACE}-settings")
    return Settings.model_validate_json(found["data"]["settings.json"])


@pytest.fixture(scope="module")
def base() -> BaseImage:
    return BaseImage({"rootEntries": ["bin", "usr", "var"]}, "")


@pytest.fixture(scope="module")
def home(operator: Operator) -> Iterator[str]:
    with operator.cluster.namespace("builds") as name:
        yield name


@pytest.fixture(scope="module")
def built(operator: Operator, home: str) -> Json:
    """A Skill that was built, and the Job and pod that built it, as they were while they ran."""
    apply(operator, home, skill("built"))
    selector = ("-n", BUILDS, "-l", f"{naming.NAMESPACE_LABEL}={home}")

    def running() -> Json:
        found = operator.cluster.get("jobs,pods", *selector)["items"]
        return {obj["kind"]: obj for obj in found} if len(found) > 1 else {}

    seen = until("a build", 60, running)
    return {**seen, "Skill": operator.ready(home, "built")}


def repository(body: Json) -> tuple[str, str]:
    """Of the image: where it is, and its digest."""
    place, _, digest = body["status"]["image"].partition("@")
    return place.partition("/")[2], digest


def test_r01_r05_the_last_layer_is_one_regular_file(built: Json, registry: Registry) -> None:
    place, digest = repository(built["Skill"])
    layer = registry.blob(place, registry.manifest(place, digest)["layers"][-1])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        entries = list(tar)
        (file,) = (entry for entry in entries if not entry.isdir())
        assert (file.name, file.mode, file.uid, file.gid, file.type) == ("skill/skill.py", 0o444, 0, 0, tarfile.REGTYPE)
        content = tar.extractfile(file)
        assert content is not None
        assert content.read().decode() == built["Skill"]["spec"]["source"]["inline"]
        assert {entry.name for entry in entries if entry.isdir()} <= {"", ".", "skill"}
        assert {(entry.mode, entry.uid, entry.gid) for entry in entries if entry.isdir()} == {(0o755, 0, 0)}
        assert {entry.mtime for entry in entries} == {0}
        assert not any({"atime", "ctime"} & set(entry.pax_headers) for entry in entries)


def test_r03_r07_all_else_is_the_base_s(built: Json, registry: Registry) -> None:
    """Its layers are mounted, not copied: so a node has them already, and the registry holds them once."""
    place, digest = repository(built["Skill"])
    made = registry.manifest(place, digest)
    runtime = images.built()["runtime"]["digest"]
    base = registry.manifest("skill-operator/runtime", runtime)
    assert made["layers"][:-1] == base["layers"]
    config, of_base = (
        json.loads(registry.blob(where, image["config"]))
        for where, image in ((place, made), ("skill-operator/runtime", base))
    )
    labels = config["config"].pop("Labels")
    of_base_labels = of_base["config"].pop("Labels")
    assert config["config"] == of_base["config"]
    assert labels.items() >= of_base_labels.items()
    source = built["Skill"]["spec"]["source"]["inline"].encode()
    own = {name: value for name, value in labels.items() if name not in of_base_labels}
    assert own.pop("org.opencontainers.image.base.name").endswith(f"@{runtime}")
    assert own.pop(f"{naming.GROUP}/checker").endswith(f"@{images.built()['checker']['digest']}")
    assert own == {
        "org.opencontainers.image.revision": built["Skill"]["status"]["revisionDigest"],
        f"{naming.GROUP}/author": "pinned",
        f"{naming.GROUP}/source-digest": hashlib.sha256(source).hexdigest(),
    }
    assert config["rootfs"]["diff_ids"][:-1] == of_base["rootfs"]["diff_ids"]


def test_r08_r12_what_runs_is_the_digest_in_a_repository_of_its_own(operator: Operator, built: Json, home: str) -> None:
    place, digest = repository(built["Skill"])
    assert place == f"skills/{home}/built"
    deployment = operator.cluster.get("-n", home, "deployment", "skill-built")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == built["Skill"]["status"]["image"]
    assert image.endswith(f"@{digest}")


def test_r09_the_builder_s_pod_has_nothing_that_it_does_not_need(built: Json) -> None:
    pod = built["Pod"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["hostUsers"] is False
    assert not [v for v in pod["volumes"] if "projected" in v or "hostPath" in v]
    assert {v["name"]: set(v) - {"name"} for v in pod["volumes"]} == {
        "context": {"configMap"},
        "built": {"emptyDir"},
        "push": {"secret"},
    }
    assert built["Job"]["spec"]["activeDeadlineSeconds"] <= 180
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not context.get("privileged")
        assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        assert not [e for e in container.get("env", []) if "valueFrom" in e]


@pytest.mark.parametrize("worse", [{"securityContext": {"privileged": True}}, {"hostNetwork": True}])
def test_r09_its_namespace_refuses_more(operator: Operator, worse: Json) -> None:
    spec: Json = {"containers": [{"name": "main", "image": "localhost/pause:1", "resources": {}}]}
    if "hostNetwork" in worse:
        spec |= worse
    else:
        spec["containers"][0] |= worse
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worse", "namespace": BUILDS}, "spec": spec}
    with pytest.raises(Exception, match='violates PodSecurity "baseline'):
        operator.cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_r11_a_build_without_memory_says_so(
    operator: Operator, settings: Settings, base: BaseImage, home: str, built: Json
) -> None:
    """A real build with 12 MiB, and what the stage makes of its end. One has run before: else this one pays for Kaniko's
    own pages, too, and may read them again and again where it should run out of memory."""
    apply(operator, home, skill("greedy", suspend=True))  # the operator lets it and its builds alone
    body = operator.skill(home, "greedy")
    greedy = Skill.model_validate(body)
    limits = settings.build.resources.limits | {"memory": "12Mi"}
    small = settings.build.resources.model_copy(update={"limits": limits, "requests": {"memory": "12Mi"}})
    tight = settings.model_copy(update={"build": settings.build.model_copy(update={"resources": small})})
    work = Progress(source="def run(input): ...")
    nothing = observed(greedy, body=body, base=base)
    address = operator.cluster.get("-n", NAMESPACE, "service", f"{NAMESPACE}-registry")["spec"]["clusterIP"]
    result = build(nothing, work, stage_context(tight, datetime.now(UTC)))
    (job,) = result.create
    job = resource.job(greedy, tight, work.revision, list(base.root_entries), address, user_namespace=True)
    for made in (*result.apply, job):
        operator.cluster.kubectl("create", CONTROLLER, "-f", "-", stdin=json.dumps(made))
    name = job["metadata"]["name"]
    try:

        def ended() -> list[Json]:
            pods: list[Json] = operator.cluster.get("-n", BUILDS, "pods", "-l", f"job-name={name}")["items"]
            return [pod for pod in pods if pod_status.find_termination(pod) is not None]

        pods = until("its end", 60, ended)
        live = operator.cluster.get("-n", BUILDS, "job", name)
        seen = observed(greedy, body=body, base=base, builds={name: live}, build_pods=tuple(pods))
        (found,) = build(seen, work, stage_context(tight, datetime.now(UTC))).conditions
    finally:
        operator.cluster.kubectl(
            "-n", BUILDS, "delete", f"job/{name}", f"configmap/{name}", "--wait=false", check=False
        )
    assert found.reason == "BuildFailed"
    assert "OOMKilled: raise build.resources.limits.memory" in found.message


def test_r46_r47_nothing_is_left_of_a_build(operator: Operator, built: Json, home: str) -> None:
    assert built["Job"]["spec"]["ttlSecondsAfterFinished"] <= 600
    assert "@sha256:" in built["Skill"]["status"]["image"]
    selector = ("-n", BUILDS, "-l", f"{naming.NAMESPACE_LABEL}={home}")
    until("nothing of it is left", 30, lambda: not operator.cluster.get("jobs,configmaps,pods", *selector)["items"])
    assert "ownerReferences" not in built["Job"]["metadata"], "an owner in another namespace is no owner"
    assert not operator.cluster.get("events", "-A", "--field-selector=reason=OwnerRefInvalidNamespace")["items"]


PROBER = """
import json, socket, sys, time
from concurrent.futures import ThreadPoolExecutor

def look(address):
    try:
        socket.create_connection(tuple(address), timeout=3).close()
    except OSError:
        return "closed"
    return "open"

targets = json.loads(sys.argv[1])
end = time.monotonic() + 30
with ThreadPoolExecutor(len(targets)) as pool:
    while True:  # a pod that is just there may not be known yet to what enforces policies, either way
        answers = dict(zip(targets, pool.map(look, targets.values())))
        if [name for name, answer in answers.items() if answer == "open"] == ["push"] or time.monotonic() > end:
            break
        time.sleep(1)
open("/dev/termination-log", "w").write(json.dumps(answers))
"""


@pytest.mark.xdist_group("internet")
def test_r49_the_builder_reaches_the_registry_alone(operator: Operator, built: Json, home: str) -> None:
    """A prober has the labels of a build and stands beside the builds.

    It may reach more in its first moments. Nobody's code runs in a build, unlike in a skill, which waits for the proof.
    """
    cluster = operator.cluster

    def service(namespace: str, name: str) -> str:
        return str(cluster.get("-n", namespace, "service", name)["spec"]["clusterIP"])

    place = service(NAMESPACE, f"{NAMESPACE}-registry")
    skill_pod = cluster.get("-n", home, "pods", "-l", "app.kubernetes.io/component=skill")["items"][0]["status"][
        "podIP"
    ]
    targets = {
        "push": (place, 5000),
        "read": (place, 5001),
        "api": (service("default", "kubernetes"), 443),
        "dns": (service("kube-system", "kube-dns"), 53),
        "gateway": (service(NAMESPACE, f"{NAMESPACE}-gateway"), 80),
        "skill": (skill_pod, 8080),
        "host": (cluster.host, 22),
        "outside": ("203.0.113.10", 8080),
    }
    labels = built["Pod"]["metadata"]["labels"]
    ours = {key: labels[key] for key in (naming.MANAGED_BY, naming.COMPONENT)}
    with cluster.internet("python3", "-m", "http.server", "8080", "--bind", "203.0.113.10"):
        assert _probe(cluster, BUILDS, "prober", ours, targets) == dict.fromkeys(targets, "closed") | {"push": "open"}


CONTROLLER = f"--as=system:serviceaccount:{NAMESPACE}:{NAMESPACE}-controller"
"""What bears our labels is made by the controller alone."""


def _probe(cluster: Cluster, namespace: str, name: str, labels: dict[str, str], targets: Json) -> Json:
    image = f"localhost:30500/skill-operator/runtime@{images.built()['runtime']['digest']}"
    safe = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", PROBER, json.dumps(targets)],
        "securityContext": safe | {"seccompProfile": {"type": "RuntimeDefault"}},
    }
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    meta = {"name": name, "namespace": namespace}  # with labels of ours it would be swept as a build of nobody
    job = {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": spec}}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job}
    cluster.kubectl("create", CONTROLLER, "-f", "-", stdin=json.dumps(body))
    try:

        def told() -> str:
            pods = cluster.get("-n", namespace, "pods", "-l", f"job-name={name}")["items"]
            states = [pod["status"].get("containerStatuses", [{}])[0].get("state", {}) for pod in pods]
            return "".join(state.get("terminated", {}).get("message", "") for state in states)

        answers: Json = json.loads(until("the prober's answer", 120, told))
        return answers
    finally:
        cluster.kubectl("-n", namespace, "delete", "job", name, "--wait=false", check=False)


# --- R13: no more at once than there may be ---


@pytest.fixture
async def api(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    async with connect("tests") as server:
        yield server


def sleeper(namespace: str, key: SkillKey) -> Json:
    """A Job that counts as a build and starts no pod."""
    labels = naming.MANAGED | {naming.COMPONENT: "build", naming.NAMESPACE_LABEL: key.namespace}
    pod = {"restartPolicy": "Never", "containers": [{"name": "none", "image": "none.invalid/none"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{key.namespace}-{key.name}", "namespace": namespace, "labels": labels},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


@pytest.mark.xdist_group("jobs-in-the-operator-namespace")
async def test_r13_fifty_at_once_are_built_a_few_at_a_time_and_none_is_forgotten(
    api: ApiServer, settings: Settings
) -> None:
    """Passes of fifty Skills over one line, against the real API server; the Jobs are real, but suspended, and in the
    operator's own namespace, where not the controller alone may make them."""
    limit = 3
    keys = [SkillKey("crowd", f"s{n}") for n in range(48)] + [SkillKey("lone", "a"), SkillKey("quiet", "b")]
    woken = {key: asyncio.Event() for key in keys}
    finished: list[SkillKey] = []
    places: list[int] = []
    tight = settings.build.model_copy(update={"concurrency": limit})
    queue = make_build_queue(
        api, settings.model_copy(update={"builder_namespace": NAMESPACE, "build": tight}), lambda k: woken[k].set()
    )

    async def live(key: SkillKey) -> None:
        while place := await queue.request(key):  # one pass, again when it is woken
            places.append(place)
            await queue.reconcile_ended(key)
            async with asyncio.timeout(60):
                await woken[key].wait()
            woken[key].clear()
        job = await api.create(sleeper(NAMESPACE, key))
        await queue.reconcile_ended(key)
        finished.append(key)  # before the last event that the watch below hears
        await api.delete("Job", NAMESPACE, job["metadata"]["name"])
        await queue.reconcile_ended(key)  # the pass that its end brings

    async def watch() -> int:
        most, alive = 0, set[str]()
        async with aclosing(api.watch("Job", NAMESPACE, BUILD_LABELS)) as events:
            async for change, obj in events:
                if change == "SYNCED":
                    continue
                (alive.discard if change == "DELETED" else alive.add)(obj["metadata"]["name"])
                most = max(most, len(alive))
                if len(finished) == len(keys) and not alive:
                    break
        return most

    async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        for key in keys:
            tasks.create_task(live(key))
    assert 1 < watching.result() <= limit
    assert Counter(finished) == Counter(keys)
    assert max(places) > 40
    for late in keys[-2:]:
        assert finished.index(late) < 4 * limit, "a crowd in one namespace held up the others"


def test_r10_r14_r48_the_registry_takes_nothing_from_those_without_its_credential(
    operator: Operator, built: Json, registry: Registry
) -> None:
    """As a skill's pod would try, had it a way to the registry by mistake."""
    place, digest = repository(built["Skill"])
    service = f"service/{NAMESPACE}-registry"
    with forward(operator.cluster, service, 5000) as writer, forward(operator.cluster, service, 5001) as reader:
        ways = {f"http://127.0.0.1:{port}/v2": 401 for port in (writer, reader)}
        for url in ways:
            assert http("GET", f"{url}/{place}/manifests/{digest}", None).status == 401
        for url, refused in (ways | {registry.url: 405}).items():
            assert http("POST", f"{url}/{place}/blobs/uploads/", b"").status == refused
            assert http("PUT", f"{url}/{place}/manifests/latest", b"{}").status == refused
            assert http("DELETE", f"{url}/{place}/manifests/{digest}", None).status == refused
    assert registry.manifest(place, digest)


@pytest.mark.serial("kills the controller")
def test_r44_a_controller_killed_at_every_moment_builds_each_image_once(
    operator: Operator, registry: Registry, namespace: str
) -> None:
    """Two Skills on their way, and a kill at each new state of things that is seen."""
    names = ("one", "two")
    for name in names:
        apply(operator, namespace, skill(name))
    seen: set[str] = set()

    def state() -> str:
        """Which conditions are done, and how far the pods of builds are."""
        conditions = [
            f"{n}:{c['type']}" for n in names for c in _conditions(operator, namespace, n) if c["status"] == "True"
        ]
        pods = operator.cluster.get("pods", "-n", BUILDS, "-l", f"{naming.NAMESPACE_LABEL}={namespace}")["items"]
        return " ".join(sorted([*conditions, *(f"{_name(p)}:{p['status']['phase']}" for p in pods)]))

    while len(seen) < 5 and not all("Ready" in _true(operator, namespace, name) for name in names):
        now = until("something new", 90, lambda: found if (found := state()) not in seen else "")
        seen.add(now)
        _kill_the_leader(operator.cluster)
    for name in names:
        status = operator.ready(namespace, name, 120)["status"]
        place, digest = repository({"status": status})
        tag = status["revisionDigest"]
        (raw,) = set(json.loads(registry.get(f"{place}/tags/list"))["tags"]) - {tag}
        assert raw.startswith(f"{name}-"), "what Kaniko pushed has the name of the one Job"
        assert registry.manifest(place, tag) == registry.manifest(place, digest)
    assert len(seen) > 2
    deployments = operator.cluster.get("-n", namespace, "deployments")["items"]
    assert sorted(_name(obj) for obj in deployments) == sorted(f"skill-{name}" for name in names)
    pods = ("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")
    until("one pod each", 30, lambda: len(operator.cluster.get(*pods)["items"]) == len(names))
    jobs = ("-n", BUILDS, "jobs", "-l", f"{naming.NAMESPACE_LABEL}={namespace}")
    until("no Job is left", 30, lambda: not operator.cluster.get(*jobs)["items"])


def _kill_the_leader(cluster: Cluster) -> None:
    """With no chance to say so; and nobody waits for the end of its Lease."""
    selector = "app.kubernetes.io/component=controller"
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", "-l", selector, "--force", "--grace-period=0")
    cluster.kubectl("-n", NAMESPACE, "delete", "lease", f"{NAMESPACE}-controller", "--ignore-not-found")


def _conditions(operator: Operator, namespace: str, name: str) -> list[Json]:
    found: list[Json] = operator.skill(namespace, name).get("status", {}).get("conditions", [])
    return found


def _true(operator: Operator, namespace: str, name: str) -> set[str]:
    return {c["type"] for c in _conditions(operator, namespace, name) if c["status"] == "True"}


def _name(obj: Json) -> str:
    return str(obj["metadata"]["name"])


FOLDERS = 16 * 4096
"""Empty ones that stay for the next blob: at most 256 in all."""


@pytest.mark.serial("measures the registry's disk and sweeps it")
def test_r45_images_of_deleted_skills_free_the_disk(operator: Operator, registry: Registry, built: Json) -> None:
    """The sweeper as it runs in the registry's pod, told not to wait."""
    cluster = operator.cluster

    def there(*command: str) -> str:
        where = ("-n", NAMESPACE, "exec", f"statefulset/{NAMESPACE}-registry", "-c", "sweeper", "--")
        return cluster.kubectl(*where, *command)

    def sweep() -> None:
        there("python3", "-m", "skill_operator", "registry-sweep", "/var/lib/registry", "--once", "--grace=0")

    def used() -> int:
        return int(there("du", "-s", "--block-size=1", "/var/lib/registry").split()[0])

    def ending() -> bool:
        """Whether pods of earlier tests still hold images."""
        spaces = cluster.get("namespaces")["items"]
        return any(space["status"].get("phase") == "Terminating" for space in spaces)

    until("what earlier tests left is gone", 120, lambda: not ending())
    sweep()
    before = used()
    with cluster.namespace("doomed") as doomed:
        apply(operator, doomed, skill("gone", source={"inline": SOURCE + "\n# gone"}))
        gone = repository(operator.ready(doomed, "gone"))
        sweep()
        assert registry.manifest(*gone), "it is alive"
        grown = used()
        assert grown > before + FOLDERS
        cluster.kubectl("-n", doomed, "delete", "skill", "gone")
        until("its pods are gone", 60, lambda: not cluster.get("-n", doomed, "pods")["items"])
    sweep()
    assert http("GET", f"{registry.url}/{gone[0]}/manifests/{gone[1]}", None).status == 404
    assert gone[0] not in json.loads(registry.get("_catalog?n=1000"))["repositories"]
    assert used() < before + FOLDERS
    assert registry.manifest(*repository(built["Skill"])), "another's is still there"
    runtime = images.built()["runtime"]["digest"]
    for layer in registry.manifest("skill-operator/runtime", runtime)["layers"]:
        assert registry.blob("skill-operator/runtime", layer), "the base can be pulled"
