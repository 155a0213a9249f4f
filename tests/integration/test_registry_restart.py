"""The embedded registry goes, with all that it held, and comes back: nobody has to do anything."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
import urllib.error
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from hack import images
from hack.cluster.access import Cluster
from hack.install import BUILDS, NAMESPACE, NODES, forward, has_default_storage
from tests.integration.installed import Operator, install_for_tests, until
from tests.integration.test_build import Registry, repository
from tests.integration.test_skill import SOURCE, apply, skill

pytestmark = [pytest.mark.cluster, pytest.mark.serial("deletes the registry's data"), pytest.mark.timeout(900)]
SELECTOR = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=registry")
CLAIM = f"persistentvolumeclaim/data-{NAMESPACE}-registry-0"
SKILLS = ("awake", "asleep", "another")


@pytest.fixture
def registry(operator: Operator) -> Iterator[Registry]:
    with forward(operator.cluster, f"service/{NAMESPACE}-registry-mirror", 5002, NODES) as port:
        yield Registry(port)


def holds(registry: Registry, place: str, digest: str) -> bool:
    """Whether the registry answers, and has this image."""
    try:
        return bool(registry.manifest(place, digest))
    except (OSError, ValueError, urllib.error.URLError):
        return False


def pod_uid(cluster: Cluster) -> str:
    """The registry's pod, once one is Ready and none is on its way out."""
    found = cluster.get("pods", *SELECTOR)["items"]
    if len(found) != 1 or "deletionTimestamp" in found[0]["metadata"]:
        return ""
    conditions = {c["type"]: c["status"] for c in found[0].get("status", {}).get("conditions", [])}
    return str(found[0]["metadata"]["uid"]) if conditions.get("Ready") == "True" else ""


def lose_everything(cluster: Cluster) -> None:
    """Delete the registry's pod, and its claim where it has one."""
    cluster.kubectl("delete", "persistentvolumeclaims", *SELECTOR, "--wait=false")
    replace_pod(cluster)


def replace_pod(cluster: Cluster) -> None:
    """Delete the registry's pod, until another one is Ready."""
    before = until("a registry", 120, lambda: pod_uid(cluster))
    cluster.kubectl("delete", "pods", *SELECTOR)
    until("another pod of the registry", 180, lambda: pod_uid(cluster) not in {"", before})


def log_lines(cluster: Cluster, since: str) -> Counter[str]:
    """What the controller logged of the registry, without its details."""
    text = cluster.kubectl("-n", NAMESPACE, "logs", f"deployment/{NAMESPACE}-controller", f"--since-time={since}")
    messages = [json.loads(line).get("message", "") for line in text.splitlines() if line.startswith("{")]
    return Counter(message.partition(":")[0] for message in messages if "registry" in message)


def now(cluster: Cluster) -> str:
    return cluster.node("date", "-u", "+%Y-%m-%dT%H:%M:%SZ").strip()


def ready(operator: Operator, namespace: str) -> dict[str, str]:
    return {name: str(operator.condition(namespace, name, "Ready").get("status")) for name in SKILLS}


@pytest.fixture(scope="module")
def space(operator: Operator, cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("registry") as namespace:
        for name in SKILLS:
            apply(operator, namespace, skill(name, source={"inline": f"{SOURCE}\n# {name}\n"}))
        yield namespace


@pytest.fixture
def skills(operator: Operator, space: str) -> str:
    """The namespace of three Skills, one of which sleeps."""
    for name in SKILLS:
        operator.ready(space, name, 180)
    operator.cluster.kubectl("-n", space, "scale", "deployment/skill-asleep", "--replicas=0")
    operator.reason(space, "asleep", "Active", "Asleep")
    return space


def test_a_registry_that_lost_everything_comes_back_by_itself(
    operator: Operator, skills: str, registry: Registry
) -> None:
    cluster, namespace = operator.cluster, skills
    lost = {name: operator.skill(namespace, name)["status"]["image"] for name in SKILLS}
    lose_everything(cluster)
    for which in ("runtime", "checker"):
        place, digest = f"skill-operator/{which}", images.built()[which]["digest"]
        until(f"{which} is back", 60, partial(holds, registry, place, digest))
        manifest = registry.manifest(place, digest)
        assert all(registry.blob(place, each) for each in (manifest["config"], *manifest["layers"]))
    not_ready: list[dict[str, str]] = []

    def all_back() -> bool:
        states = ready(operator, namespace)
        if set(states.values()) != {"True"}:
            not_ready.append(states)
        return all(holds(registry, *repository(operator.skill(namespace, name))) for name in SKILLS)

    until("every image is back", 300, all_back)
    assert not not_ready, "what ran stays Ready"
    for name in SKILLS:
        assert operator.ready(namespace, name)["status"]["image"] == lost[name], "the very image that was lost"
        operator.reason(namespace, name, "Built", "Built")
        assert operator.call(namespace, name, {"what": name}).body == {"said": name}
    apply(operator, namespace, skill("new", source={"inline": f"{SOURCE}\n# new\n"}))
    operator.ready(namespace, "new", 180)
    jobs = ("-n", BUILDS, "jobs", "-l", f"skill-operator.dev/skill-namespace={namespace}")
    until("no build is left", 60, lambda: not cluster.get(*jobs)["items"])


def test_an_outage_is_told_once_and_all_go_on_when_it_ends(operator: Operator, skills: str) -> None:
    cluster, namespace = operator.cluster, skills
    since = now(cluster)
    operator.scale("registry", 0)
    try:
        for name in SKILLS:
            away = operator.reason(namespace, name, "Built", "RegistryUnavailable")
            assert away["status"] == "True"
            assert operator.condition(namespace, name, "Ready")["status"] == "True"
        for name in ("first", "second"):
            apply(operator, namespace, skill(name, source={"inline": f"{SOURCE}\n# {name}\n"}))
            operator.reason(namespace, name, "Ready", "RegistryUnavailable")
        before = versions(operator, namespace)
        deadline = time.monotonic() + 15  # many probes
        while time.monotonic() < deadline:
            assert operator.call(namespace, "awake", {"what": "still here"}).body == {"said": "still here"}
        assert versions(operator, namespace) == before, "nothing is written without news"
    finally:
        operator.scale("registry", 1)
    until("the registry's pod", 120, lambda: pod_uid(cluster))
    back = time.monotonic()

    def all_go_on() -> bool:
        waiting = {str(operator.condition(namespace, name, "Ready").get("reason")) for name in ("first", "second")}
        kept = {str(operator.condition(namespace, name, "Built").get("reason")) for name in SKILLS}
        return "RegistryUnavailable" not in waiting | kept

    until("all Skills go on", 30, all_go_on)
    assert time.monotonic() - back < 10, "five seconds, and what this test and the endpoints take"
    for name in ("first", "second"):
        operator.ready(namespace, name, 180)
    found = log_lines(cluster, since)
    assert found["the registry is away"] <= 2, "the registry, then its first answers without its base"
    assert found["the registry is back"] == 1
    assert found.total() <= 4, found


def versions(operator: Operator, namespace: str) -> dict[str, Any]:
    names = (*SKILLS, "first", "second")
    return {name: operator.skill(namespace, name)["metadata"]["resourceVersion"] for name in names}


def test_a_restart_of_every_workload_needs_nobody(operator: Operator, skills: str) -> None:
    """As a drained node or a changed chart does it. No program has to be killed, for which a new pod would wait."""
    cluster, namespace = operator.cluster, skills
    workloads = ((NAMESPACE, "deployment"), (NAMESPACE, "statefulset"), (NODES, "daemonset"))
    former = {
        pod["metadata"]["name"] for space in (NAMESPACE, NODES) for pod in cluster.get("-n", space, "pods")["items"]
    }
    with ended_pods(cluster, NAMESPACE, NODES) as ended:
        for space, kind in workloads:
            cluster.kubectl("-n", space, "rollout", "restart", kind)
        for space, kind in workloads:
            for item in cluster.get("-n", space, kind)["items"]:
                name = f"{kind}/{item['metadata']['name']}"
                cluster.kubectl("-n", space, "rollout", "status", name, "--timeout=180s")
        # The StatefulSet's new pod has the name of the former one, so its containers end under the same name.
        until("all former pods have ended", 120, lambda: former <= ended().keys())
        killed = {name: codes for name, codes in ended().items() if 128 + signal.SIGKILL in codes.values()}
    assert not killed, "a program that heeds no SIGTERM"
    apply(operator, namespace, skill("new", source={"inline": f"{SOURCE}\n# after the restart\n"}))
    operator.ready(namespace, "new", 240)
    for name in SKILLS:
        operator.ready(namespace, name, 240)
        until(f"{name} answers", 60, partial(answers, operator, namespace, name))


@contextmanager
def ended_pods(cluster: Cluster, *namespaces: str) -> Iterator[Callable[[], dict[str, dict[str, int]]]]:
    """Yield what tells, of each pod that has ended meanwhile, the exit codes of its containers."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = [Path(folder, namespace) for namespace in namespaces]
        for namespace, file in zip(namespaces, files, strict=True):
            command = cluster.command("-n", namespace, "get", "pods", "--watch", "-o", "json")
            process = stack.enter_context(subprocess.Popen(command, stdout=stack.enter_context(file.open("wb"))))
            stack.callback(process.terminate)

        def ended() -> dict[str, dict[str, int]]:
            found: dict[str, dict[str, int]] = {}
            for file in files:
                for pod in json_documents(file.read_text()):
                    states = {each["name"]: each["state"] for each in pod["status"].get("containerStatuses", [])}
                    codes = {name: state.get("terminated", {}).get("exitCode") for name, state in states.items()}
                    if "deletionTimestamp" in pod["metadata"] and None not in codes.values():
                        found[pod["metadata"]["name"]] = codes
            return found

        yield ended


def json_documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the whole JSON documents that a text begins with."""
    decoder = json.JSONDecoder()
    with suppress(ValueError):  # the last one is being written
        while text := text.lstrip():
            document, end = decoder.raw_decode(text)
            yield document
            text = text[end:]


def answers(operator: Operator, namespace: str, name: str) -> bool:
    """Whether it does; a forwarded port is opened anew only after a connection to a gateway that is gone."""
    try:
        return operator.call(namespace, name, {"what": "x"}).status == 200
    except (OSError, HTTPException):
        return False


def test_a_wake_whose_image_is_lost_is_told_so_and_mended(operator: Operator, namespace: str) -> None:
    """Its node has not the image, nor has the registry: the call is told when to come again, and then it works."""
    apply(operator, namespace, skill("forgotten"))
    image = operator.ready(namespace, "forgotten")["status"]["image"]
    absent = image.partition("@")[0] + "@sha256:" + "0" * 64
    cluster = operator.cluster
    status = json.dumps({"status": {"image": absent, "history": []}})
    cluster.kubectl(
        "-n", namespace, "patch", "skill", "forgotten", "--type=merge", "--subresource=status", "-p", status
    )
    cluster.kubectl("-n", namespace, "delete", "deployment", "skill-forgotten")
    seen: list[int] = []

    def mended() -> bool:
        answer = operator.call(namespace, "forgotten", {"what": "back"})
        seen.append(answer.status)
        if answer.status == 503 and answer.body["type"].endswith("image-pull-failed"):
            assert int(answer.headers["Retry-After"]) > 0
        return answer.status == 200 and operator.skill(namespace, "forgotten")["status"]["image"] not in {absent, ""}

    until("it answers again, from an image that is there", 180, mended)
    assert set(seen) <= {200, 503, 504}
    operator.ready(namespace, "forgotten")


@pytest.fixture
def storage(operator: Operator, cluster: Cluster) -> Iterator[None]:
    """A default StorageClass with a volume on the node's own disk, where the cluster has none, and the chart on it."""
    if has_default_storage(cluster):
        yield
        return
    name = f"local-{uuid.uuid4().hex[:8]}"
    path = f"/var/lib/{name}"
    cluster.node("mkdir", "--mode=700", path)
    node = cluster.get("nodes")["items"][0]["metadata"]["labels"]["kubernetes.io/hostname"]
    is_default = {"storageclass.kubernetes.io/is-default-class": "true"}
    on_node = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    cluster.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name, "annotations": is_default},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "storageClassName": name,
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": path},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [on_node]}},
            },
        },
    )
    try:
        install_for_tests(cluster)
        yield
    finally:
        cluster.kubectl("delete", "storageclass", name)
        install_for_tests(cluster)
        cluster.kubectl("-n", NAMESPACE, "delete", CLAIM, "--ignore-not-found")
        cluster.kubectl("delete", "persistentvolume", name)
        cluster.node("rm", "-r", path)


@pytest.mark.usefixtures("storage")
def test_images_outlive_every_pod_of_the_registry(
    operator: Operator, namespace: str, registry: Registry, cluster: Cluster
) -> None:
    claim = cluster.get("-n", NAMESPACE, CLAIM)
    assert claim["status"]["phase"] == "Bound"
    apply(operator, namespace, skill("kept", source={"inline": f"{SOURCE}\n# {namespace}\n"}))
    built = operator.ready(namespace, "kept", 180)
    place, digest = repository(built)
    replace_pod(cluster)
    base = ("skill-operator/runtime", images.built()["runtime"]["digest"])
    until("its first answer", 60, lambda: holds(registry, *base))
    assert holds(registry, place, digest), "the image of a skill is there with the bases, built by nobody"
    operator.reason(namespace, "kept", "Built", "Built")
    assert operator.skill(namespace, "kept")["status"]["image"] == built["status"]["image"]
