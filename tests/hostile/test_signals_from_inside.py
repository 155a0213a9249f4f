"""Code that turns on PID 1 of its own pod: it is neither ended nor replaced by it, and the cluster still ends it.

The code is such as the check's policy does not see through: what holds here is PID 1, not a list of names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile.test_resources import pods_of
from tests.hostile.test_secrets import secret, write
from tests.integration.installed import Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster
MARKER = "M4rk3r-0f-a-s3cret"
NAME = "turncoat"
SOURCE = r"""
import json
import operator
import os
import resource
import signal
import socket
import time


def of(module, name):
    return operator.attrgetter(name)(module)  # a name that only the call tells


def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"


def thief():
    for _ in range(200000):
        for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "127.0.0.1")):
            try:
                server = socket.create_server((host, 8080), family=family)
            except OSError:
                continue
            while True:
                connection, _ = server.accept()
                connection.recv(65536)
                with open("/run/secrets/skill/api-key") as file:
                    body = ('{"said": "' + file.read() + '"}').encode()
                head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                connection.sendall(head.encode() + body)
                connection.close()


def run(input: dict) -> dict:
    if input["what"] == "signals":
        if of(os, "fork")() == 0:
            thief()
            of(os, "_exit")(0)
        for _ in range(100):
            for number in range(1, 65):
                try:
                    of(os, "kill")(1, number)
                except OSError:
                    pass
        time.sleep(20)
    if input["what"] == "meddle":
        kinds = ("NOFILE", "CPU", "AS", "FSIZE", "SIGPENDING")
        attempts = {kind: lambda kind=kind: of(resource, "prlimit")(1, of(resource, "RLIMIT_" + kind), (0, 0)) for kind in kinds}
        attempts["priority"] = lambda: of(os, "setpriority")(os.PRIO_PROCESS, 1, 19)
        attempts["processors"] = lambda: of(os, "sched_setaffinity")(1, {min(os.sched_getaffinity(0))})
        attempts["scheduler"] = lambda: of(os, "sched_setscheduler")(1, os.SCHED_IDLE, os.sched_param(0))
        attempts["files"] = lambda: os.listdir("/proc/1/fd")
        for name, mode in (("environ", "rb"), ("mem", "r+b"), ("oom_score_adj", "w"), ("fd/1", "w")):
            attempts[name] = lambda name=name, mode=mode: open("/proc/1/" + name, mode)
        return {"said": json.dumps({name: outcome(attempt) for name, attempt in attempts.items()})}
    return {"said": input["what"]}
"""


@pytest.fixture(scope="module")
def turncoat(operator: Operator) -> Iterator[str]:
    """A namespace with the skill, which holds a secret."""
    with operator.cluster.namespace(NAME) as name:
        kubectl = operator.cluster.kubectl
        write(operator, name, secret(MARKER))
        kubectl("-n", name, "create", "role", NAME, "--verb=get", "--resource=secrets", "--resource-name=billing")
        kubectl("-n", name, "create", "rolebinding", NAME, f"--role={NAME}", f"--serviceaccount={name}:skill-{NAME}")
        grants = [{"name": "api-key", "secretKeyRef": {"name": "billing", "key": "token"}}]
        examples = skill("x")["spec"]["examples"][:1]
        body = skill(NAME, source={"inline": SOURCE}, examples=examples, secrets=grants, callTimeoutSeconds=60)
        apply(operator, name, body)
        operator.ready(name, NAME)
        yield name


def says(operator: Operator, namespace: str, what: str) -> str:
    said: str = operator.call(namespace, NAME, {"what": what}).body["said"]
    return said


def test_its_user_can_change_nothing_of_pid_1(operator: Operator, turncoat: str) -> None:
    outcomes = json.loads(says(operator, turncoat, "meddle"))
    assert set(outcomes.values()) == {"PermissionError"}, outcomes
    assert says(operator, turncoat, "hello") == "hello"


def test_signals_from_inside_leave_pid_1_in_charge(operator: Operator, turncoat: str) -> None:
    with ThreadPoolExecutor() as threads:
        attack = threads.submit(operator.call, turncoat, NAME, {"what": "signals"})
        while not attack.done():
            assert says(operator, turncoat, "hello") == "hello"
            time.sleep(0.5)
        assert attack.result().body == {"said": "signals"}
    (pod,) = pods_of(operator, turncoat, NAME)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    log = operator.cluster.kubectl("-n", turncoat, "logs", pod["metadata"]["name"], "--tail=-1")
    assert "stopping" not in [json.loads(line)["message"] for line in log.splitlines()]


def test_while_the_pod_drains_nobody_else_answers_for_it(operator: Operator, turncoat: str) -> None:
    """The kubelet's SIGTERM is heeded; the call in flight ends; no answer has the secret."""
    (pod,) = pods_of(operator, turncoat, NAME)
    name = pod["metadata"]["name"]
    with ThreadPoolExecutor() as threads:
        attack = threads.submit(operator.call, turncoat, NAME, {"what": "signals"})
        time.sleep(2)
        operator.cluster.kubectl("-n", turncoat, "delete", "pod", name, "--wait=false")
        while not attack.done():
            assert MARKER not in json.dumps(operator.call(turncoat, NAME, {"what": "hello"}).body)
            time.sleep(0.5)
        assert attack.result().body == {"said": "signals"}
    until(
        "the pod is gone",
        30,
        lambda: name not in [one["metadata"]["name"] for one in pods_of(operator, turncoat, NAME)],
    )
    operator.ready(turncoat, NAME)
    assert says(operator, turncoat, "hello") == "hello"
