"""Hosts of "the internet" that count what reaches them, and pods that nobody fences, to show that they would."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from hack.cluster import engine
from hack.cluster.access import Cluster
from hack.cluster.shell import run, wait

ADDRESS = "203.0.113.10"

SPY = '''
import errno
import select
import socket
import time


def reached(targets: list[list], seconds: float) -> list[str]:
    """Those of host:port that took a connection."""
    poll, pending, found = select.poll(), {}, []
    for host, port in targets:
        attempt = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        attempt.setblocking(False)
        if attempt.connect_ex((host, port)) in (0, errno.EINPROGRESS):
            pending[attempt.fileno()] = (attempt, f"{host}:{port}")
            poll.register(attempt, select.POLLOUT)
    end = time.monotonic() + seconds
    while pending and time.monotonic() < end:
        for number, _ in poll.poll(50):
            attempt, name = pending.pop(number)
            poll.unregister(number)
            if not attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                found.append(name)
            attempt.close()
    for attempt, _ in pending.values():
        attempt.close()
    return sorted(found)


QUERY = b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + b"\\x0akubernetes\\x07default\\x03svc\\x07cluster\\x05local\\x00\\x00\\x01\\x00\\x01"


def answered(servers: list[str], seconds: float) -> list[str]:
    """Those name servers that answer over UDP."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for server in servers:
            try:
                asking.sendto(QUERY, (server, 53))
            except OSError:
                continue
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            asking.settimeout(left)
            try:
                _, sender = asking.recvfrom(512)
            except OSError:
                continue
            if sender[0] not in found:
                found.append(sender[0])
    return sorted(found)


def shouted(host: str) -> list[str]:
    """Everything but TCP that a socket takes: which of it was sent, as far as the kernel told."""
    sent = []
    for name, kind, protocol in (
        ("udp", socket.SOCK_DGRAM, 0), ("ping", socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        ("raw", socket.SOCK_RAW, socket.IPPROTO_ICMP), ("sctp", socket.SOCK_STREAM, 132), ("udplite", socket.SOCK_DGRAM, 136),
    ):
        try:
            with socket.socket(socket.AF_INET, kind, protocol) as out:
                out.setblocking(False)
                if name == "sctp":
                    out.connect_ex((host, 9))
                else:
                    out.sendto(b"\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00secret", (host, 9))
            sent.append(name)
        except OSError:
            continue
    return sent
'''

RUN = """

def run(input: dict) -> dict:
    seconds = input.get("seconds", 1.5)
    if input["what"] == "connect":
        return {"said": reached(input["targets"], seconds)}
    if input["what"] == "resolve":
        return {"said": answered(input["servers"], seconds)}
    if input["what"] == "shout":
        return {"said": shouted(input["host"])}
    if input["what"] == "insist":
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shouted(input["host"])
            reached([[input["host"], 9]], 0.05)
        return {"said": ["done"]}
    if input["what"] == "look":
        return {"said": open("/etc/resolv.conf").read().split()}
    return {"said": [input["what"]]}
"""


def spy(name: str, source: str = SPY + RUN, **spec: Any) -> dict[str, Any]:
    """A Skill that tries every way out it is told of."""
    return {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": name},
        "spec": {
            "description": "Looks for a way out.",
            "input": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
            "output": {"type": "object", "properties": {"said": {"type": "array"}}, "required": ["said"]},
            "examples": [{"name": "echo", "input": {"what": "hello"}, "output": {"said": ["hello"]}}],
            "source": {"inline": source},
            "callTimeoutSeconds": 30,
            **spec,
        },
    }


@contextmanager
def host(cluster: Cluster, address: str = ADDRESS, port: int = 8080) -> Iterator[None]:
    """A web server on the internet, once it listens."""
    with cluster.internet("python3", "-m", "http.server", str(port), "--bind", address):
        listens = engine.on_internet(cluster.engine, "ss", "-Hltn", f"src {address}:{port}")
        wait(f"{address}:{port}", 60, lambda: bool(run(*listens).strip()))
        yield


class Canary:
    """Counts the packets, of whatever protocol, that come in for an address of the internet."""

    def __init__(self, cluster: Cluster, address: str = ADDRESS) -> None:
        self._cluster = cluster
        self._address = address
        self._rule = ("-d", address, "-m", "comment", "--comment", f"canary-{uuid.uuid4().hex[:8]}")

    def __enter__(self) -> Self:
        """Begin once no connection is left from before, of which the last packet may still be on its way."""
        connections = ("ss", "-Htn", "state", "connected", "exclude", "time-wait", f"src {self._address}")
        former = engine.on_internet(self._cluster.engine, *connections)
        wait(f"the end of former connections to {self._address}", 60, lambda: not run(*former).strip())
        self._iptables("-I", "INPUT", *self._rule)
        return self

    def __exit__(self, *_: object) -> None:
        self._iptables("-D", "INPUT", *self._rule)

    @property
    def packets(self) -> int:
        (line,) = (line for line in self._iptables("-nvxL", "INPUT").splitlines() if self._rule[-1] in line)
        found = re.match(r"\s*(\d+)", line)
        assert found is not None
        return int(found[1])

    def _iptables(self, *arguments: str) -> str:
        return run(*engine.on_internet(self._cluster.engine, "iptables", "-w", *arguments))


@contextmanager
def free_pod(cluster: Cluster, namespace: str, image: str, labels: dict[str, str] | None = None) -> Iterator[FreePod]:
    """A pod that no policy selects, with Python in it: whatever it cannot reach proves nothing about isolation."""
    name = f"free-{uuid.uuid4().hex[:6]}"
    container = {"name": "free", "image": image, "command": ["sleep", "600"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    meta = {"name": name, "namespace": namespace, "labels": labels or {"app": "free"}}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    try:
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        yield FreePod(cluster, namespace, name)
    finally:
        cluster.kubectl("-n", namespace, "delete", "pod", name, "--wait=false")


class FreePod:
    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster, self._namespace, self._name = cluster, namespace, name

    def says(self, expression: str) -> Any:
        """The value of an expression over the functions of SPY, computed in there."""
        program = f"{SPY}\nimport json\nprint(json.dumps({expression}))"
        command = ("-n", self._namespace, "exec", self._name, "--", "python3", "-c", program)
        return json.loads(self._cluster.kubectl(*command))
