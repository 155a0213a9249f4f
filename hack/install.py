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
from typing import Any

from hack import publish
from hack.cluster.access import Cluster
from hack.cluster.cli import current
from hack.cluster.identity import CHECKOUT, RELEASE
from hack.cluster.packages import ensure
from hack.cluster.shell import ClusterError, run, say, step, wait
from hack.model import deploy

NAMESPACE = RELEASE
BUILDS = f"{NAMESPACE}-builds"
IMAGES = CHECKOUT / ".cluster" / "images.json"
MARK = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


def install(cluster: Cluster, *values: Path, bases: dict[str, str] | None = None) -> None:
    """Load operator and egress proxy, install the chart, push the base images, wait until both processes are ready.

    `bases` are the names of runtime and checker in a registry that is not the chart's, where they must be already.
    """
    images = json.loads(IMAGES.read_text())
    for which in images.ARCHIVES:
        deploy.load(cluster, which)
    pushed = {name: f"skill-operator/{name}@{images[name]['digest']}" for name in ("runtime", "checker")}
    with step("installed the chart"):
        _helm(cluster, images, bases or pushed, values)
    if bases is None:
        with step("started the registry"):
            rollout(cluster, "registry")
        push(cluster, images)
    with step("started controller and gateway"):
        rollout(cluster, "controller")
        rollout(cluster, "gateway")


def rollout(cluster: Cluster, component: str, seconds: int = 180) -> None:
    """Wait for a Deployment of the chart; on failure the error says what its pods say."""
    name = f"deployment/{NAMESPACE}-{component}"
    try:
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", name, f"--timeout={seconds}s")
    except ClusterError as error:
        selector = f"app.kubernetes.io/component={component}"
        pods = cluster.kubectl("-n", NAMESPACE, "describe", "pods", "-l", selector, check=False)[-2500:]
        logs = cluster.kubectl("-n", NAMESPACE, "logs", "-l", selector, "--tail=20", check=False)
        raise ClusterError(f"{name} does not become ready: {error}\n{pods}\n{logs}") from error


@contextmanager
def forward(cluster: Cluster, target: str, port: int, namespace: str = NAMESPACE) -> Iterator[int]:
    """A local port that leads to a port of a Service or pod, for as long as it is open: kubectl leads to one pod, and
    ends with it, or with the API server on the way; then it is started again."""
    command = [str(cluster.tools / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", "-n", namespace]
    command += ["port-forward", target]
    process, local = _forwarding([*command, f":{port}"])
    over = threading.Event()

    def keep() -> None:
        nonlocal process
        while True:
            for _ in process.stdout or ():  # a line for each connection, which somebody must read
                pass
            process.wait()
            while not over.wait(0.2):
                with suppress(ClusterError):
                    process, _ = _forwarding([*command, f"{local}:{port}"])
                    break
            else:
                return
            if over.is_set():
                process.terminate()

    keeping = threading.Thread(target=keep)
    keeping.start()
    try:
        yield local
    finally:
        over.set()
        process.terminate()
        keeping.join()


def _forwarding(command: list[str]) -> tuple[subprocess.Popen[str], int]:
    """kubectl, and the local port that it has opened."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = process.stdout.readline() if process.stdout else ""
    found = MARK.search(line)
    if found is None:
        process.terminate()
        process.wait()
        raise ClusterError(f"no way to {command[-2]}: {line.strip()}")
    return process, int(found.group(1))


def _helm(cluster: Cluster, images: dict[str, Any], bases: dict[str, str], values: tuple[Path, ...]) -> None:
    repository, _, tag = images["operator"]["name"].rpartition(":")
    proxy, _, proxy_tag = images["egress-proxy"]["name"].rpartition(":")
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
        "--take-ownership", *chosen, *files,
    )  # fmt: skip


def push(cluster: Cluster, images: dict[str, Any]) -> None:
    """Through a port-forward, as from any laptop; what the registry holds already is not sent again."""
    ensure(("skopeo",))
    user, password = _credential(cluster)
    with forward(cluster, f"service/{NAMESPACE}-registry", 5000) as port:
        for name in ("runtime", "checker"):
            image = images[name]
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
    engine = current()
    status = engine.status()
    if not status.get("healthy"):
        say("error: no cluster runs; start it with `make cluster`")
        return 1
    try:
        cluster = Cluster(engine, status)
        kept = [deploy.VALUES] if deploy.VALUES.exists() else []  # of a demo before
        install(cluster, *([Path(a) for a in arguments] or kept))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
