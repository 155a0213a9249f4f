"""The cluster of the tests is itself tested: what it enforces, what it repairs, what it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import node_images, records
from hack.cluster.access import Cluster
from hack.cluster.identity import CHECKOUT, OUTSIDE, STATES
from hack.cluster.oci import Image
from hack.cluster.shell import run, wait

SECOND = "skill-second"
NETWORK = ("link", "route", "rule", "netns")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both ends of a connection in one static executable."""
    target = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).parent / "probe" / "probe.c"
    run("gcc", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror", "-o", target, source)
    return target


@pytest.fixture(scope="session")
def probe(cluster: Cluster, program: Path) -> Image:
    """The same as an image, known to the node."""
    image = Image("localhost/probe:1", {"Entrypoint": ["/probe"], "Cmd": ["listen", "8080"]}, {"probe": program})
    cluster.load(image.archive(program.parent))
    return image


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace() as name:
        yield name


def pod(namespace: str, name: str, image: str, *arguments: str, **more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, "args": list(arguments), **more.pop("container", {})}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, **more}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": spec,
    }


def ready(cluster: Cluster, namespace: str, *names: str) -> None:
    pods = [f"pod/{name}" for name in names]
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "--timeout=60s", *pods)


@pytest.mark.cluster
@pytest.mark.xdist_group("internet")
def test_a_pod_that_may_not_leave_reaches_nobody(cluster: Cluster, namespace: str, probe: Image, program: Path) -> None:
    """The same connections succeed without the policy and fail with it."""
    cluster.apply(
        *(pod(namespace, name, probe.name, "listen", "8080") for name in ("server", "free", "isolated")),
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny-all", "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"app": "isolated"}}, "policyTypes": ["Ingress", "Egress"]},
        },
    )
    ready(cluster, namespace, "server", "free", "isolated")
    server, isolated = (cluster.get("-n", namespace, "pod", name)["status"]["podIP"] for name in ("server", "isolated"))
    api = cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    others = [(server, "8080"), (api, "443"), *((address, "8080") for address in OUTSIDE)]
    with cluster.internet(cluster.place(program), "listen", "8080"):
        wait("the canary", 10, lambda: reaches(cluster, namespace, "free", *others[-1]))
        assert [other for other in others if not reaches(cluster, namespace, "free", *other)] == []
        wait("the policy", 10, lambda: not reaches(cluster, namespace, "isolated", *others[0]))
        assert [other for other in others if reaches(cluster, namespace, "isolated", *other)] == []
        assert not reaches(cluster, namespace, "free", isolated, "8080"), "nobody may reach the isolated one either"


def reaches(cluster: Cluster, namespace: str, name: str, address: str, port: str) -> bool:
    """Whether a connection from that pod is accepted; a question that could not be asked is no answer."""
    kubectl = (cluster.tools / "kubectl", f"--kubeconfig={cluster.kubeconfig}", "-n", namespace)
    question = ("exec", name, "--", "/probe", "connect", address, port)
    answer = subprocess.run([*kubectl, *question], capture_output=True, text=True, check=False)
    assert answer.returncode == 0 or "connect: " in answer.stderr, answer.stderr
    return answer.returncode == 0


@pytest.mark.cluster
def test_the_node_pulls_from_a_registry_pod_on_localhost(
    cluster: Cluster, namespace: str, program: Path, tmp_path: Path
) -> None:
    """As the chart's registry is reached: through a NodePort, as localhost, over plain HTTP, by an unprivileged pod."""
    config = {"version": 0.1, "http": {"addr": ":5000"}, "storage": {"filesystem": {"rootdirectory": "/data"}}}
    confined = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 54321,
        "capabilities": {"drop": ["ALL"]},
    }
    container = {
        "args": ["serve", "/etc/distribution/config.yml"],
        "securityContext": confined,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/distribution"}, {"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"httpGet": {"path": "/v2/", "port": 5000}, "periodSeconds": 1},
    }
    volumes = [{"name": "config", "configMap": {"name": "registry"}}, {"name": "data", "emptyDir": {}}]
    named = {"name": "registry", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {"config.yml": json.dumps(config)}},
        pod(
            namespace,
            "registry",
            node_images.REGISTRY,
            container=container,
            volumes=volumes,
            securityContext={"fsGroup": 54321},
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named,
            "spec": {"type": "NodePort", "selector": {"app": "registry"}, "ports": [{"port": 5000}]},
        },
    )
    ready(cluster, namespace, "registry")
    service = cluster.get("-n", namespace, "service", "registry")["spec"]
    port = service["ports"][0]["nodePort"]
    # Never seen by this node: the kubelet does not let an image that it pulled pass for one that was loaded.
    unseen = Image("unseen:1", {"Entrypoint": ["/probe"]}, {"probe": program}, {"nonce": os.urandom(16)})
    push(unseen.archive(tmp_path), f"http://{service['clusterIP']}:5000", "unseen", "1")
    cluster.apply(pod(namespace, "pulled", f"localhost:{port}/unseen:1", "listen", "8080"))
    ready(cluster, namespace, "pulled")


def push(archive: Path, registry: str, name: str, tag: str) -> None:
    """Upload an archive of one image."""
    with tarfile.open(archive) as tar:
        content = {Path(entry.name).name: file.read() for entry in tar if (file := tar.extractfile(entry))}
    manifest = content[json.loads(content["index.json"])["manifests"][0]["digest"].removeprefix("sha256:")]
    described = json.loads(manifest)
    for blob in (described["config"], *described["layers"]):
        place = send("POST", f"{registry}/v2/{name}/blobs/uploads/", b"", "application/octet-stream")
        place += ("&" if "?" in place else "?") + f"digest={blob['digest']}"
        send("PUT", place, content[blob["digest"].removeprefix("sha256:")], "application/octet-stream")
    send("PUT", f"{registry}/v2/{name}/manifests/{tag}", manifest, described["mediaType"])


def send(method: str, url: str, body: bytes, kind: str) -> str:
    """One request; where its answer points."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)
    with direct.open(request, timeout=10) as answer:
        return str(answer.headers["Location"])


@pytest.mark.cluster
@pytest.mark.xdist_group("internet")  # whose tests restart the cluster's DNS
def test_names_resolve(cluster: Cluster) -> None:
    """Every pod gets the address of cluster DNS, and somebody answers there."""
    address = cluster.get("-n", "kube-system", "service", "kube-dns")["spec"]["clusterIP"]
    question = (
        bytes.fromhex("0001 0100 0001 0000 0000 0000")
        + b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local".split(b"."))
        + bytes.fromhex("00 0001 0001")
    )
    ask = (
        f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); "
        f"s.sendto({question!r}, ({address!r}, 53)); print('.'.join(map(str, s.recv(512)[-4:])))"
    )
    expected = cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    assert run(sys.executable, "-c", ask).strip() == expected


def command(*arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "CLUSTER": SECOND}
    return subprocess.Popen(
        ["python3", "-m", "hack.cluster", *arguments],
        cwd=CHECKOUT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def succeed(*arguments: str) -> str:
    process = command(*arguments)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    return output


def traces(name: str) -> dict[str, set[str]]:
    """What of this machine a cluster could leave changed; other clusters and builds of images do not count."""
    others = [other for other in records.names() if other != name]
    groups = (str(path) for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir())
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    commands = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            commands[process.name] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {
        "network": {
            line for kind in NETWORK for line in run("ip", "-o", kind).splitlines() if "skill" in line or kind != "link"
        },
        "mounts": {mount for mount in mounts if "/var/lib/containers/" not in mount},
        "groups": {group for group in groups if Path(group).name not in others},
        "processes": {
            text for text in commands.values() if name in text and "pytest" not in text and "hack.cluster" not in text
        },
        "files": {str(path) for path in Path("/tmp/skill-clusters").glob("*")},
        "checkout": {str(path) for path in (CHECKOUT / ".cluster").glob("*") if path.is_dir() and path.name != "cache"},
        "kernel": {
            f"{knob}={(records.KERNEL / knob).read_text()}" for knob in (*records.CHANGED_BY_KUBELET, records.WATCHES)
        },
    }


@pytest.fixture
def second(cluster: Cluster) -> Iterator[dict[str, set[str]]]:
    """The name is free before, and free again afterwards; the first cluster does not notice."""
    succeed("down")
    before = traces(SECOND)
    yield before
    succeed("down")
    assert traces(SECOND) == before
    assert cluster.engine.status()["healthy"], "the first cluster was harmed"


@pytest.mark.cluster
@pytest.mark.bare
@pytest.mark.serial("starts a second cluster, which takes the whole machine")
def test_a_second_cluster_stands_beside_the_first_and_leaves_nothing(
    cluster: Cluster, second: dict[str, set[str]]
) -> None:
    crash(command("up"), "containerd.toml")
    exported = succeed("up").splitlines()[-1]
    assert re.fullmatch(rf"export KUBECONFIG=\S+/{SECOND}/kubeconfig PATH=\S+/{SECOND}/bin:\$PATH", exported)
    first, other = cluster.status, json.loads(succeed("status"))
    assert other["healthy"]
    assert not {first[part] for part in ("slot", "api", "host", "node", "pods", "services")} & {
        other[part] for part in ("slot", "api", "host", "node", "pods", "services")
    }
    nodes = run("sh", "-c", f"{exported}; kubectl get nodes -o jsonpath='{{.items[*].status.addresses[0].address}}'")
    assert nodes == other["node"]
    assert "is up" in succeed("up"), "a healthy cluster is left alone"
    assert json.loads(succeed("status"))["init"] == other["init"]
    os.kill(other["init"], signal.SIGKILL)
    wait("its end", 10, lambda: not json.loads(command("status").communicate()[0])["healthy"])
    succeed("up")
    anew = json.loads(succeed("status"))
    assert anew["init"] != other["init"], "what was killed is started anew"
    succeed("kill", "netpol", "apiserver")
    assert command("status").wait() == 1, "a cluster without these is not healthy"
    succeed("up")
    assert json.loads(succeed("status"))["init"] == anew["init"], "what can be repaired is not started anew"


@pytest.mark.cluster
@pytest.mark.bare
@pytest.mark.parametrize("moment", ["slot", "init", "begun", "pki/ca.crt", "containerd.toml", "pids/apiserver"])
@pytest.mark.serial("starts a second cluster, which takes the whole machine")
def test_what_crashed_half_way_is_undone(second: dict[str, set[str]], moment: str) -> None:
    """`up` is killed as soon as the file is there; what `down` then leaves, the fixture sees."""
    crash(command("up"), moment)


def crash(starting: subprocess.Popen[str], moment: str) -> None:
    """Kill `up` as soon as it has written that file of its state."""
    written = STATES / SECOND / moment
    try:
        wait(f"{moment} (or the end of up)", 60, lambda: written.exists() or starting.poll() is not None)
    finally:
        starting.kill()
        starting.communicate()
    assert starting.returncode == -signal.SIGKILL, "the moment never came"
