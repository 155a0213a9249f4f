"""A skill that takes all it can get: its neighbours do not notice, and its callers are told what happened.

The code is such as the check's policy does not see through: what holds here is the pod, not a list of names.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.installed import Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster
SOURCE = r"""
import operator
import os
import signal
import threading
import time


def fill(path):
    with open(path, "wb") as file:
        for _ in range(4096):
            file.write(bytes(1 << 20))
            file.flush()


def run(input: dict) -> dict:
    what = input["what"]
    if what == "fork":
        fork = operator.attrgetter(what)(os)  # a name that only the call tells
        while True:
            fork()
    if what == "threads":
        for _ in range(5000):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if what == "memory":
        held = [bytearray(1 << 20) for _ in range(1024)]
        return {"said": str(len(held))}
    if what == "disk":
        fill("/tmp/full")
    if what == "termination log":
        fill("/dev/termination-log")
    if what == "shared memory":
        fill("/dev/shm/full")
    if what == "loop":
        while True:
            pass
    if what == "flood":
        while True:
            print("x" * 1000)
    if what == "deaf":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(60)
    if what == "isolation":
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        written = []
        for path in ("/skill/x", "/usr/x", "/opt/x", "/etc/x", "/x", "/proc/sys/kernel/core_pattern"):
            try:
                open(path, "w").close()
                written.append(path)
            except OSError:
                pass
        facts = {
            "map": open("/proc/self/uid_map").read().split(),
            "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
            "no new privileges": status["NoNewPrivs"].strip(),
            "seccomp": status["Seccomp"].strip(),
            "written": written,
            "token": os.path.exists("/var/run/secrets/kubernetes.io"),
            "services": sorted(name for name in os.environ if "SERVICE" in name),
            "tmp": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
        }
        import json
        return {"said": json.dumps(facts)}
    return {"said": what}
"""
ATTACKS = {
    "fork": {"too-many-processes", "timeout", "out-of-memory", "upstream-closed"},  # whichever limit is met first
    "threads": {"too-many-processes"},
    "memory": {"out-of-memory"},
    "disk": {"disk-full"},
    "termination log": {"disk-full"},
    "shared memory": {"disk-full", "out-of-memory"},
    "loop": {"timeout"},
    "flood": {"timeout"},
}

CONDITIONS = {
    "too-many-processes": "TooManyProcesses",
    "out-of-memory": "OOMKilled",
    "disk-full": "DiskFull",
    "timeout": "CallTimeout",
}


@pytest.fixture(scope="module")
def pair(operator: Operator) -> Iterator[str]:
    """A namespace with a greedy skill and a neighbour."""
    with operator.cluster.namespace("greedy") as name:
        for each in ("greedy", "neighbour"):
            body = skill(
                each, source={"inline": SOURCE}, examples=skill("x")["spec"]["examples"][:1], callTimeoutSeconds=3
            )
            apply(operator, name, body)
        for each in ("greedy", "neighbour"):
            operator.ready(name, each)
        yield name


def seconds(operator: Operator, namespace: str) -> float:
    began = time.monotonic()
    answer = operator.call(namespace, "neighbour", {"what": "hello"})
    assert answer.body == {"said": "hello"}, answer
    return time.monotonic() - began


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def pods_of(operator: Operator, namespace: str, name: str) -> list[dict[str, Any]]:
    label = f"skill-operator.dev/skill={name}"
    pods = operator.cluster.get("-n", namespace, "pods", "-l", f"app.kubernetes.io/component=skill,{label}")
    found: list[dict[str, Any]] = pods["items"]
    return found


@pytest.mark.last("measures what a neighbour notices")
def test_the_neighbour_does_not_notice_and_the_caller_is_told(operator: Operator, pair: str) -> None:
    idle = p95([seconds(operator, pair) for _ in range(40)])
    with ThreadPoolExecutor() as threads:
        for what, told in ATTACKS.items():
            attack = threads.submit(operator.call, pair, "greedy", {"what": what})
            times = [seconds(operator, pair)]
            while not attack.done() or len(times) < 20:
                times.append(seconds(operator, pair))
            answer = attack.result()
            slug = answer.body["type"].removeprefix("urn:skill-operator:")
            assert slug in told or what == "memory", (what, answer)
            until_told(operator, pair, CONDITIONS.get(slug, "OOMKilled"))
            assert p95(times) < 5 * idle + 0.5, f"{what}: {p95(times):.3f} s, idle {idle:.3f} s"
            until(f"greedy answers after {what}", 30, lambda: greets(operator, pair))
    nodes = operator.cluster.get("nodes")["items"]
    conditions = {c["type"]: c["status"] for node in nodes for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert {conditions.get(f"{what}Pressure", "False") for what in ("Memory", "Disk", "PID")} == {"False"}
    (neighbour,) = pods_of(operator, pair, "neighbour")
    assert neighbour["status"]["containerStatuses"][0]["restartCount"] == 0
    for pod in pods_of(operator, pair, "greedy"):
        log = operator.cluster.kubectl("-n", pair, "logs", pod["metadata"]["name"], "--tail=-1")
        assert len(log) < 2_000_000


def until_told(operator: Operator, namespace: str, reason: str) -> None:
    """By the Skill's condition; in the end the kernel may have taken the container, which is told instead."""
    reasons = {reason, "OOMKilled"}

    def told() -> bool:
        said: str = operator.condition(namespace, "greedy", "Active").get("reason", "")
        return said in reasons

    until(f"Active says one of {reasons}", 30, told)


def greets(operator: Operator, namespace: str) -> bool:
    said: dict[str, str] = operator.call(namespace, "greedy", {"what": "hello"}).body
    return said == {"said": "hello"}


def test_what_the_code_finds_around_it(operator: Operator, pair: str) -> None:
    facts = json.loads(operator.call(pair, "greedy", {"what": "isolation"}).body["said"])
    assert set(facts["capabilities"]) == {"0000000000000000"}
    assert (facts["no new privileges"], facts["seccomp"]) == ("1", "2")
    assert (facts["written"], facts["token"], facts["services"]) == ([], False, [])
    assert facts["tmp"] <= 64 << 20
    (inside, outside, _) = map(int, facts["map"])
    assert (inside, outside > 0) == (0, True)


def test_who_ignores_the_end_is_ended_in_time(operator: Operator, pair: str) -> None:
    (pod,) = pods_of(operator, pair, "greedy")
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    with ThreadPoolExecutor() as threads:
        threads.submit(operator.call, pair, "greedy", {"what": "deaf"})
        began = time.monotonic()
        operator.cluster.kubectl("-n", pair, "delete", "pod", pod["metadata"]["name"], f"--timeout={grace + 30}s")
        assert time.monotonic() - began < grace + 10
    operator.ready(pair, "greedy")


@pytest.mark.parametrize("mode", ["skill", "check"])
def test_restricted_pod_security_has_nothing_to_say(operator: Operator, pair: str, mode: str) -> None:
    """The labels are left out: the admission policies would refuse a pod of ours made by anybody else."""
    if mode == "skill":
        template = operator.cluster.get("-n", pair, "deployment", "skill-greedy")["spec"]["template"]
    else:
        apply(operator, pair, skill("checked", source={"inline": SOURCE + "\n# again\n"}))
        template = until("the check", 60, lambda: check_of(operator, pair))["spec"]["template"]
        operator.cluster.kubectl("-n", pair, "delete", "skill", "checked", "--wait=false")
    spec = template["spec"] | {"serviceAccountName": "default"}
    spec.pop("serviceAccount", None)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "twin"}, "spec": spec}
    strict = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn", "audit")}
    with operator.cluster.namespace("strict", strict) as name:
        made = ("create", "-n", name, "--dry-run=server", "--warnings-as-errors", "-f", "-")
        operator.cluster.kubectl(*made, stdin=json.dumps(pod))


def check_of(operator: Operator, namespace: str) -> dict[str, Any] | None:
    jobs = operator.cluster.get("-n", namespace, "jobs", "-l", "skill-operator.dev/skill=checked")["items"]
    return jobs[0] if jobs else None
