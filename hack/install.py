"""Install the chart on the checkout's cluster, with the images of this checkout.

    python3 -m hack.install [VALUES.yaml ...]

Idempotent. The images must have been built (`python3 -m hack.images`).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hack import images
from hack.cluster.access import Cluster
from hack.cluster.cli import current
from hack.cluster.identity import CHECKOUT, RELEASE
from hack.cluster.shell import ClusterError, run, say, step
from hack.model import deploy

NAMESPACE = RELEASE
BUILDS = f"{NAMESPACE}-builds"
NODES = f"{NAMESPACE}-nodes"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


def install(cluster: Cluster, *values: Path, bases: dict[str, str] | None = None) -> None:
    """Load the chart's images, install the chart, wait until its registry, controller and gateway are ready.

    `bases` names runtime and checker in a registry that is not the chart's and that has them already.
    """
    built = images.built()
    for which in images.ARCHIVES:
        images.load(cluster, which)
    seeded = {name: f"skill-operator/{name}@{built[name]['digest']}" for name in ("runtime", "checker")}
    with step("installed the chart"):
        _helm(cluster, built, bases or seeded, values)
    if bases is None:
        with step("started the registry"):
            rollout(cluster, "registry", kind="statefulset")
            rollout(cluster, "registry-mirror", kind="daemonset", namespace=NODES)
    with step("started controller and gateway"):
        rollout(cluster, "controller")
        rollout(cluster, "gateway")


def rollout(
    cluster: Cluster, component: str, seconds: int = 180, kind: str = "deployment", namespace: str = NAMESPACE
) -> None:
    """Wait for a workload of the chart. Raises ClusterError with its pods' description and logs."""
    name = f"{kind}/{NAMESPACE}-{component}"
    try:
        cluster.kubectl("-n", namespace, "rollout", "status", name, f"--timeout={seconds}s")
    except ClusterError as error:
        selector = f"app.kubernetes.io/component={component}"
        pods = cluster.kubectl("-n", namespace, "describe", "pods", "-l", selector, check=False)[-2500:]
        logs = cluster.kubectl("-n", namespace, "logs", "-l", selector, "--tail=20", check=False)
        raise ClusterError(f"{name} does not become ready: {error}\n{pods}\n{logs}") from error


@contextmanager
def forward(cluster: Cluster, target: str, port: int, namespace: str = NAMESPACE) -> Iterator[int]:
    """Forward a local port to a port of a Service or pod, and yield the local one.

    kubectl forwards to one pod and ends with it, or with the API server on the way; it is then started again.
    """
    command = [str(cluster.tools / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", "-n", namespace]
    command += ["port-forward", target]
    process, local = _forwarding([*command, f":{port}"])
    stop = threading.Event()

    def supervise() -> None:
        nonlocal process
        while True:
            for _ in process.stdout or ():  # a line for each connection, which somebody must read
                pass
            process.wait()
            pause = 0.2
            while not stop.wait(pause):
                pause = min(2 * pause, 3.0)  # the Service may have no such port for minutes
                with suppress(ClusterError):
                    process, _ = _forwarding([*command, f"{local}:{port}"])
                    break
            else:
                return
            if stop.is_set():
                process.terminate()

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        yield local
    finally:
        stop.set()
        process.terminate()
        supervisor.join()


def _forwarding(command: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start kubectl; return its process and the local port that it has opened."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = process.stdout.readline() if process.stdout else ""
    found = _FORWARDING.search(line)
    if found is None:
        process.terminate()
        process.wait()
        raise ClusterError(f"cannot reach {command[-2]}: {line.strip()}")
    return process, int(found.group(1))


def _helm(cluster: Cluster, built: dict[str, dict[str, str]], bases: dict[str, str], values: tuple[Path, ...]) -> None:
    repository, _, tag = built["operator"]["name"].rpartition(":")
    proxy, _, proxy_tag = built["egress-proxy"]["name"].rpartition(":")
    seeds, _, seeds_tag = built[images.BASES]["name"].rpartition(":")
    persistence = {"registry": {"persistence": {"enabled": has_default_storage(cluster)}}}
    settings = {
        "image.repository": repository,
        "image.tag": tag,
        "egressProxy.image.repository": proxy,
        "egressProxy.image.tag": proxy_tag,
        "images.runtime": bases["runtime"],
        "images.checker": bases["checker"],
        "images.builder": "localhost/kaniko:1",
        "registry.bases.repository": seeds,
        "registry.bases.tag": seeds_tag,
        "registry.image": "localhost/registry:3",
    }
    chosen = [part for key, value in settings.items() for part in ("--set-string", f"{key}={value}")]
    files = [part for path in values for part in ("--values", str(path))]
    upgrade: tuple[str | Path, ...] = (
        cluster.tools / "helm", f"--kubeconfig={cluster.kubeconfig}", "upgrade", "--install", NAMESPACE,
        CHECKOUT / "charts" / "skill-operator", "--namespace", NAMESPACE, "--create-namespace",
        "--take-ownership", "--force-conflicts", "--values", "-", *files, *chosen,
    )  # fmt: skip
    try:
        run(*upgrade, stdin=json.dumps(persistence))
    except ClusterError as error:
        if "updates to statefulset spec" not in str(error):
            raise
        # Kubernetes changes no claim of a StatefulSet. The images come back by themselves.
        cluster.kubectl("-n", NAMESPACE, "delete", "statefulset", f"{NAMESPACE}-registry")
        run(*upgrade, stdin=json.dumps(persistence))


def has_default_storage(cluster: Cluster) -> bool:
    """Return whether a claim that names no StorageClass gets a volume."""
    classes = cluster.get("storageclasses")["items"]
    return any(
        each["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
        for each in classes
    )


def main(arguments: list[str]) -> int:
    """Install the chart with these files of values."""
    engine = current()
    status = engine.status()
    if not status.get("healthy"):
        say("error: no cluster runs; start it with `make cluster`")
        return 1
    try:
        cluster = Cluster(engine, status)
        models = [deploy.VALUES] if deploy.VALUES.exists() else []  # an earlier demo's
        install(cluster, *([Path(a) for a in arguments] or models))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
