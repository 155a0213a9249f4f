"""What callers notice of it when a part of the cluster goes: the API server, a gateway, a pod."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.bare import Bare
from hack.install import NAMESPACE
from tests.integration.installed import Answer, Operator, until
from tests.integration.test_skill import apply, skill
from tests.integration.test_sleep import SLOW

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.serial("ends the API server, gateways and what runs on them"),
    pytest.mark.timeout(600),
]
AWAY = float(os.environ.get("AWAY", "16"))  # seconds


@pytest.fixture(scope="module")
def space(operator: Operator) -> Iterator[str]:
    """A namespace with two skills that never fall asleep by themselves."""
    with operator.cluster.namespace("available") as name:
        for each in ("awake", "asleep"):
            apply(operator, name, skill(each, source=SLOW, idleTimeoutSeconds=0, callTimeoutSeconds=20))
        for each in ("awake", "asleep"):
            operator.ready(name, each)
        yield name


@pytest.fixture
def engine(operator: Operator) -> Iterator[Bare]:
    """What can end the API server; it is back afterwards, and all that ended with it."""
    engine = operator.cluster.engine
    assert isinstance(engine, Bare)
    yield engine
    engine.up()
    operator.cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{NAMESPACE}-controller")


def calling(
    operator: Operator, namespace: str, *plans: str, during: Callable[[], None], until_then: bool = False
) -> list[dict[str, Any]]:
    """Calls from a pod, as caller.py makes them, while something happens; `until_then` no longer than that."""
    cluster, script = operator.cluster, Path(__file__).with_name("caller.py")
    operator.run_script(namespace, script, operator.service.url, operator.token, *plans)

    def log() -> str:
        return cluster.kubectl("-n", namespace, "logs", "caller", check=False)

    until("the first call", 60, lambda: "begins" in log())
    during()
    if until_then:
        cluster.kubectl("-n", namespace, "exec", "caller", "--", "python3", "-c", "import os; os.kill(1, 15)")
    over = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("-n", namespace, "wait", over, "pod/caller", "--timeout=180s")
    found: list[dict[str, Any]] = json.loads(log().splitlines()[-1])
    cluster.kubectl("-n", namespace, "delete", "pod", "caller")
    return found


def of(calls: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [call for call in calls if call["skill"].endswith(f"/{name}")]


def passes(seconds: float) -> None:
    began = time.monotonic()
    until(f"{seconds} s are over", seconds + 5, lambda: time.monotonic() - began > seconds)


@pytest.mark.bare  # kind's kubelet starts the API server again before anybody could look
def test_without_an_api_server_what_is_awake_answers(operator: Operator, space: str, engine: Bare) -> None:
    operator.cluster.kubectl("-n", space, "scale", "deployment/skill-asleep", "--replicas=0")
    operator.reason(space, "asleep", "Active", "Asleep", 20)
    assert operator.call(space, "asleep", {"what": 7}).status == 422, "who may call is known, and nobody is woken"

    def goes() -> None:
        engine.kill("apiserver")
        passes(AWAY)
        engine.up()  # and what ended for want of it, as a kubelet would

    end = AWAY + 8
    plans = (f"{space}/awake:0:{end}:0.2", f"{space}/asleep:4:{AWAY - 4}:2")
    calls = calling(operator, space, *plans, during=goes)
    assert [call for call in of(calls, "awake") if call["status"] != 200] == []
    told = of(calls, "asleep")
    assert len(told) >= 3
    assert {call["body"]["type"] for call in told} == {"urn:skill-operator:api-server-unavailable"}, told
    assert all(call["status"] == 503 and int(call["wait"]) > 0 and call["took"] < 10 for call in told), told
    until("what slept answers", 120, lambda: operator.call(space, "asleep", {"what": "x"}).status == 200)


def test_after_an_outage_the_operator_works_on(operator: Operator, space: str) -> None:
    apply(operator, space, skill("later"))
    operator.ready(space, "later", 180)
    operator.cluster.kubectl("-n", space, "delete", "skill", "later")


def test_a_pod_that_goes_in_the_middle_of_a_call(operator: Operator, space: str) -> None:
    answers: list[Answer] = []
    call = threading.Thread(target=lambda: answers.append(operator.call(space, "awake", {"what": "15"})))
    call.start()
    selector = "skill-operator.dev/skill=awake,app.kubernetes.io/component=skill"
    until("the call is under way", 30, lambda: "open" in busy(operator))
    operator.cluster.kubectl("-n", space, "delete", "pod", "-l", selector, "--grace-period=0", "--force")
    call.join()
    assert [(a.status, a.body["type"]) for a in answers] == [(502, "urn:skill-operator:upstream-closed")]
    assert operator.call(space, "awake", {"what": "again"}).body == {"said": "again"}


def busy(operator: Operator) -> str:
    """What the gateways hold, as their metrics say."""
    text = operator.cluster.kubectl(
        "-n", NAMESPACE, "exec", f"deployment/{NAMESPACE}-gateway", "--", "python3", "-c",
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/metrics').read().decode())",
    )  # fmt: skip
    line = next(line for line in text.splitlines() if line.startswith("skill_gateway_calls_in_flight "))
    return "open" if float(line.split()[1]) else ""


@pytest.fixture
def two(operator: Operator) -> Iterator[None]:
    operator.scale("gateway", 2)
    yield
    operator.scale("gateway", 1)


def test_a_roll_out_of_gateways_costs_no_call(operator: Operator, space: str, two: None) -> None:
    def rolls() -> None:
        name = f"deployment/{NAMESPACE}-gateway"
        operator.cluster.kubectl("-n", NAMESPACE, "rollout", "restart", name)
        operator.cluster.kubectl("-n", NAMESPACE, "rollout", "status", name, "--timeout=120s")

    calls = calling(operator, space, *[f"{space}/awake:0:30:0.1"] * 3, during=rolls)
    assert len(calls) > 200
    assert [call for call in calls if call["status"] != 200] == []


def test_a_gateway_that_is_killed_costs_what_it_held(operator: Operator, space: str, two: None) -> None:
    def dies() -> None:
        pods = operator.cluster.get("-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/component=gateway")["items"]
        for pod in pods[:1]:
            name = pod["metadata"]["name"]
            operator.cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force")

    plans = [f"{space}/awake:0:15:0.1"] * 4
    calls = calling(operator, space, *plans, during=dies)
    broken = [call for call in calls if call["status"] != 200]
    assert len(broken) <= len(plans), broken
    assert {call["status"] for call in broken} <= {0}, "what answers at all answers right"
    assert calls[-1]["status"] == 200
