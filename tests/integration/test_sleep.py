"""Asleep until called, on the real cluster: wake, sleep, and what must not be lost in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest

from hack.install import NAMESPACE
from tests.integration import races
from tests.integration.installed import Answer, Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def space(operator: Operator) -> Iterator[str]:
    """A namespace with one Skill, `echo`, that the tests of this file share."""
    with operator.cluster.namespace("sleep") as name:
        apply(operator, name, skill("echo", idleTimeoutSeconds=0))
        operator.ready(name, "echo")
        yield name


def replicas(operator: Operator, space: str, name: str = "echo") -> int:
    found: int = operator.cluster.get("-n", space, "deployment", f"skill-{name}")["spec"]["replicas"]
    return found


def put_to_sleep(operator: Operator, space: str) -> None:
    operator.cluster.kubectl("-n", space, "scale", "deployment/skill-echo", "--replicas=0")
    operator.reason(space, "echo", "Active", "Asleep", 20)
    selector = "app.kubernetes.io/component=skill"
    operator.cluster.kubectl("-n", space, "wait", "--for=delete", "pod", "-l", selector, "--timeout=60s")


def test_a_call_wakes_it(operator: Operator, space: str) -> None:
    put_to_sleep(operator, space)
    assert operator.condition(space, "echo", "Ready")["status"] == "True", "asleep is healthy"
    answer = operator.call(space, "echo", {"what": "good morning"})
    assert (answer.status, answer.body) == (200, {"said": "good morning"})
    assert 0 < int(answer.headers["x-skill-cold-start"]) < 30_000
    assert operator.condition(space, "echo", "Ready")["status"] == "True", "so is waking"
    operator.reason(space, "echo", "Active", "Awake", 20)
    assert "x-skill-cold-start" not in operator.call(space, "echo", {"what": "again"}).headers
    logs = {
        (NAMESPACE, f"deployment/{NAMESPACE}-gateway"): '"woken"',
        (NAMESPACE, f"deployment/{NAMESPACE}-controller"): '"woken by a call"',
        (space, "deployment/skill-echo"): '"call"',
    }
    told_in(operator, answer.headers["x-request-id"], logs)


@pytest.mark.parametrize("number", [60, 100])
def test_a_burst_at_a_sleeping_skill_is_answered(operator: Operator, space: str, number: int) -> None:
    """More calls than its pod takes at once; `gateway.wake.queue` is 100. The same burst, once it is awake."""
    put_to_sleep(operator, space)
    for state in ("asleep", "awake"):
        start = threading.Barrier(number, timeout=60)

        def call(index: int, start: threading.Barrier = start, state: str = state) -> tuple[int, Answer]:
            start.wait()
            return index, operator.call(space, "echo", {"what": f"{state} {index}"})

        with ThreadPoolExecutor(number) as threads:
            answers = list(threads.map(call, range(number)))
        assert [answer.body for _, answer in answers if answer.status != 200] == []
        assert [answer.body for _, answer in answers] == [{"said": f"{state} {index}"} for index, _ in answers]


def test_what_cannot_be_right_wakes_nobody(operator: Operator, space: str) -> None:
    put_to_sleep(operator, space)
    assert operator.call(space, "echo", {"what": 7}).status == 422
    assert replicas(operator, space) == 0


@pytest.mark.serial("measures how soon a Skill sleeps")
def test_it_sleeps_when_nobody_calls_and_loses_nothing(operator: Operator, space: str) -> None:
    """Calls come until it sleeps, at the very end as often as at the beginning."""
    limit = 6
    operator.call(space, "echo", {"what": "up"})
    operator.reason(space, "echo", "Active", "Awake", 20)
    apply(operator, space, skill("echo", idleTimeoutSeconds=limit))
    operator.ready(space, "echo")
    answers = [operator.call(space, "echo", {"what": "last"})]
    last = time.monotonic()
    until("it sleeps", limit * 3, lambda: replicas(operator, space) == 0)
    assert limit <= time.monotonic() - last + 0.2
    took = time.monotonic() - last
    operator.reason(space, "echo", "Active", "Asleep", 20)
    assert "lastActiveTime" in operator.skill(space, "echo")["status"]
    answers.append(operator.call(space, "echo", {"what": "woken"}))
    apply(operator, space, skill("echo", idleTimeoutSeconds=0))
    assert [a.status for a in answers] == [200, 200]
    assert took < limit * 1.15 + 2, "two seconds are for a crowded machine"


def test_an_open_call_keeps_it_awake(operator: Operator, space: str) -> None:
    operator.call(space, "echo", {"what": "up"})
    apply(operator, space, skill("echo", idleTimeoutSeconds=2, callTimeoutSeconds=12, source=SLOW))
    operator.ready(space, "echo")
    until("the new revision answers", 60, lambda: operator.call(space, "echo", {"what": "0"}).body == {"said": "0"})
    answers: list[Answer] = []
    calling = threading.Thread(target=lambda: answers.append(operator.call(space, "echo", {"what": "7"})))
    calling.start()
    while calling.is_alive():
        assert replicas(operator, space) == 1
        time.sleep(0.2)
    assert [a.status for a in answers] == [200]
    until("it sleeps", 20, lambda: replicas(operator, space) == 0)
    apply(operator, space, skill("echo", idleTimeoutSeconds=0))
    operator.ready(space, "echo")


def test_a_caller_who_leaves_is_not_waited_for(operator: Operator, space: str) -> None:
    apply(operator, space, skill("echo", idleTimeoutSeconds=0, callTimeoutSeconds=120, source=SLOW))
    operator.ready(space, "echo")
    until("the new revision answers", 60, lambda: operator.call(space, "echo", {"what": "0"}).body == {"said": "0"})
    headers = {"Authorization": f"Bearer {operator.token}", "X-Request-Id": "leaves-early"}
    caller = HTTPConnection("127.0.0.1", operator.gateway, timeout=1)
    caller.request("POST", f"/v1/skills/{space}/echo", b'{"what": "110"}', headers)
    with pytest.raises(TimeoutError):
        caller.getresponse()
    caller.close()
    logs = {
        (NAMESPACE, f"deployment/{NAMESPACE}-gateway"): '"client-disconnected"',
        (space, "deployment/skill-echo"): '"the caller disconnected"',
    }
    told_in(operator, "leaves-early", logs)
    apply(operator, space, skill("echo", idleTimeoutSeconds=0))
    operator.ready(space, "echo")


def told_in(operator: Operator, request: str, logs: dict[tuple[str, str], str]) -> None:
    """Each log, by namespace and Deployment, has a line with the call's id and this text."""
    for (namespace, deployment), text in logs.items():

        def told(where: tuple[str, ...] = ("-n", namespace, "logs", deployment), text: str = text) -> bool:
            lines = operator.cluster.kubectl(*where, "--since=2m", "--tail=-1").splitlines()
            return any(f'"{request}"' in line and text in line for line in lines)

        until(f"the call's id in the log of {deployment}", 30, told)


SLOW: dict[str, Any] = {
    "inline": "import time\n\ndef run(input: dict) -> dict:\n    if input['what'] == 'refuse':\n"
    "        raise ValueError('no')\n    if input['what'].isdecimal():\n        time.sleep(int(input['what']))\n"
    "    return {'said': input['what']}\n"
}


def test_what_a_person_scaled_is_left_alone(operator: Operator, space: str) -> None:
    apply(operator, space, skill("echo", idleTimeoutSeconds=1))
    operator.cluster.kubectl("-n", space, "scale", "deployment/skill-echo", "--replicas=2")
    found = operator.reason(space, "echo", "Active", "ScaledByHand", 30)
    assert "2" in found["message"]
    began = time.monotonic()
    until("three times its idle time is over", 10, lambda: time.monotonic() - began > 3)
    assert replicas(operator, space) == 2
    operator.cluster.kubectl("-n", space, "scale", "deployment/skill-echo", "--replicas=1")
    until("it sleeps", 30, lambda: replicas(operator, space) == 0)
    apply(operator, space, skill("echo", idleTimeoutSeconds=0))


def test_a_rolling_update_under_load_fails_no_call(operator: Operator, space: str) -> None:
    apply(operator, space, skill("echo", idleTimeoutSeconds=0))
    operator.call(space, "echo", {"what": "up"})
    operator.ready(space, "echo")
    answers: list[Answer] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(operator.call(space, "echo", {"what": "x"}))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        before = operator.skill(space, "echo")["status"]["revision"]
        apply(operator, space, skill("echo", idleTimeoutSeconds=0, source=SLOW))
        until("it is deployed", 90, lambda: operator.skill(space, "echo")["status"]["revision"] != before)
        operator.ready(space, "echo")
        selector = f"skill-operator.dev/revision={before},app.kubernetes.io/component=skill"
        operator.cluster.kubectl("-n", space, "wait", "--for=delete", "pod", "-l", selector, "--timeout=60s")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(answers) > 20
    assert {a.status for a in answers} == {200}, [a.body for a in answers if a.status != 200][:3]


@pytest.mark.serial("counts how often any Deployment is scaled")
def test_nothing_is_lost_between_sleep_and_wake(operator: Operator, namespace: str) -> None:
    """Calls that come just when a skill falls asleep, from a client that knows nothing of it."""
    names = [f"racer-{number}" for number in range(2)]
    for name in names:
        apply(operator, namespace, skill(name, idleTimeoutSeconds=races.IDLE, callTimeoutSeconds=20, source=SLOW))
    for name in names:
        operator.ready(namespace, name)
    outcome = races.race(operator, namespace, names, seconds=30)
    assert outcome.wrong == []
    assert outcome.slept_in_use == []
    assert outcome.wakes >= 1
    assert outcome.patches <= outcome.wakes * 1.1
