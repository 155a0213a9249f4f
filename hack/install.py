"""Install the chart on the checkout's cluster, with the images of this checkout.

    python3 -m hack.install [VALUES.yaml ...]

Idempotent. The images must have been built (`python3 -m hack.images`).
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hack import images, publish
from hack.cluster.access import Cluster
from hack.cluster.cli import current
from hack.cluster.identity import CHECKOUT, RELEASE
from hack.cluster.packages import ensure
from hack.cluster.shell import ClusterError, run, say, step, wait
from hack.model import deploy

NAMESPACE = RELEASE
BUILDS = f"{NAMESPACE}-builds"
NODES = f"{NAMESPACE}-nodes"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


def install(cluster: Cluster, *values: Path, bases: dict[str, str] | None = None) -> None:
    """Load operator and egress proxy, install the chart, push the base images, wait until both processes are ready.

    `bases` names runtime and checker in a registry that is not the chart's and that has them already.
    """
    built = images.built()
    for which in images.ARCHIVES:
        images.load(cluster, which)
    pushed = {name: f"skill-operator/{name}@{built[name]['digest']}" for name in ("runtime", "checker")}
    with step("installed the chart"):
        _helm(cluster, built, bases or pushed, values)
    if bases is None:
        with step("started the registry"):
            rollout(cluster, "registry")
            rollout(cluster, "registry-mirror", kind="daemonset", namespace=NODES)
        push(cluster, built)
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
    settings = {
        "image.repository": repository,
        "image.tag": tag,
        "egressProxy.image.repository": proxy,
        "egressProxy.image.tag": proxy_tag,
        "images.runtime": bases["runtime"],
        "images.checker": bases["checker"],
        "images.builder": "localhost/kaniko:1",
        "registry.image": "localhost/registry:3",
    }
    chosen = [part for key, value in settings.items() for part in ("--set-string", f"{key}={value}")]
    files = [part for path in values for part in ("--values", str(path))]
    run(
        cluster.tools / "helm", f"--kubeconfig={cluster.kubeconfig}", "upgrade", "--install", NAMESPACE,
        CHECKOUT / "charts" / "skill-operator", "--namespace", NAMESPACE, "--create-namespace",
        "--take-ownership", "--force-conflicts", *chosen, *files,
    )  # fmt: skip


def push(cluster: Cluster, built: dict[str, dict[str, str]]) -> None:
    """Push runtime and checker to the chart's registry through a port-forward, unless it has them already."""
    ensure(("skopeo",))
    user, password = _credential(cluster)
    with forward(cluster, f"service/{NAMESPACE}-registry", 5000) as port:
        for name in ("runtime", "checker"):
            image = built[name]
            place = f"127.0.0.1:{port}/skill-operator/{name}"
            known = ("skopeo", "inspect", "--tls-verify=false", "--raw", "--creds", f"{user}:{password}")
            if run(*known, f"docker://{place}@{image['digest']}", check=False):
                continue
            options = ("--dest-tls-verify=false", f"--dest-creds={user}:{password}")
            publish.push(name, image, f"{place}:latest", *options)


def _credential(cluster: Cluster) -> tuple[str, str]:
    wait("the registry's credential", 60, lambda: bool(_secret(cluster)))
    config = json.loads(base64.b64decode(_secret(cluster)))
    (entry,) = config["auths"].values()
    user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    return user, password


def _secret(cluster: Cluster) -> str:
    path = "jsonpath={.data.\\.dockerconfigjson}"
    return cluster.kubectl("-n", BUILDS, "get", "secret", "registry-push", "-o", path, check=False).strip()


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
