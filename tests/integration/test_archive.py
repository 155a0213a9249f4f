"""What nobody calls is put away on the real cluster, and comes back: the same layer, no token, no call lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError

import pytest

from hack.cluster.access import Cluster
from hack.install import NAMESPACE, NODES, forward
from skill_operator import naming
from tests.integration import test_generation as generation
from tests.integration.installed import Answer, Operator, http, until
from tests.integration.test_build import Registry, repository
from tests.integration.test_skill import SOURCE, apply, skill
from tests.integration.test_tools import agent

pytestmark = pytest.mark.cluster
SOON: dict[str, Any] = {"idleTimeoutSeconds": 1, "archiveAfterSeconds": 3}
LATER: dict[str, Any] = {"idleTimeoutSeconds": 1, "archiveAfterSeconds": 20}  # for who looks at it after a call
NEVER: dict[str, Any] = {"idleTimeoutSeconds": 0, "archiveAfterSeconds": 0}
CALLERS = 20
KINDS = "deployments,replicasets,pods,services,networkpolicies,configmaps,serviceaccounts"


@pytest.fixture(scope="module")
def registry(operator: Operator) -> Iterator[Registry]:
    with forward(operator.cluster, f"service/{NAMESPACE}-registry-mirror", 5002, NODES) as port:
        yield Registry(port)


def archived(operator: Operator, space: str, name: str, seconds: float = 60) -> dict[str, Any]:
    """Return the Skill once it is archived and its Deployment is gone."""
    operator.reason(space, name, "Active", "Archived", seconds)
    child = f"deployment.apps/{naming.child(name)}"
    until("its Deployment is gone", 20, lambda: child not in kept(operator, space))
    return operator.skill(space, name)


def kept(operator: Operator, space: str) -> set[str]:
    return set(operator.cluster.kubectl("-n", space, "get", KINDS, "-o", "name").split())


def sweep(cluster: Cluster) -> None:
    """Sweep the registry as its own sweeper does, told not to wait."""
    where = ("-n", NAMESPACE, "exec", f"statefulset/{NAMESPACE}-registry", "-c", "sweeper", "--")
    command = ("python3", "-m", "skill_operator", "registry-sweep", "/var/lib/registry", "--once", "--grace=0")
    cluster.kubectl(*where, *command)


def is_stored(registry: Registry, place: str, digest: str) -> bool:
    try:
        return bool(registry.manifest(place, digest))
    except HTTPError as error:
        if error.code != 404:
            raise
        return False


def get(operator: Operator, path: str) -> Any:
    context = operator.service.forwarded_context
    return http("GET", f"{operator.url}{path}", None, token=operator.token, context=context).body


def listed(operator: Operator, space: str, query: str = "") -> dict[str, str]:
    """Return name and state of the Skills that the gateway lists, or finds."""
    found = get(operator, f"/v1/skills?namespace={space}" + (f"&q={query}&limit=20" if query else ""))
    return {each["name"]: each["state"] for each in found["skills"]}


def events(operator: Operator, space: str, reason: str) -> int:
    found = operator.cluster.get("-n", space, "events", f"--field-selector=reason={reason}")["items"]
    return sum(event.get("count", 1) for event in found)


def at_once(operator: Operator, space: str, name: str, number: int = CALLERS) -> list[Answer]:
    start = threading.Barrier(number, timeout=60)

    def call(index: int) -> Answer:
        start.wait()
        return operator.call(space, name, {"what": f"call {index}"})

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(call, range(number)))


@pytest.mark.serial("sweeps the registry")
async def test_a_written_skill_goes_to_the_archive_and_comes_back_as_it_was(
    operator: Operator, namespace: str, registry: Registry
) -> None:
    marker = generation.skill(operator, namespace, "old", [generation.reply(generation.RIGHT)], **LATER)
    operator.ready(namespace, "old")
    child = naming.child("old")
    before = archived(operator, namespace, "old")
    tokens, ledger = generation.spent(operator, namespace), generation.ledgers(operator, namespace)[0]["data"]
    place, digest = repository(before)

    rest = kept(operator, namespace)
    gone = {f"deployment.apps/{child}", f"service/{child}", f"networkpolicy.networking.k8s.io/{child}"}
    assert not rest & gone
    assert not operator.cluster.get("-n", namespace, "configmaps", "-l", f"{naming.COMPONENT}=contract")["items"]
    assert f"configmap/{naming.source('old')}" in rest
    assert f"serviceaccount/{child}" in rest
    ready = operator.condition(namespace, "old", "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Archived")
    operator.cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "skill/old", "--timeout=5s")
    row = operator.cluster.kubectl("-n", namespace, "get", "skill", "old", "--no-headers").split()
    assert row[:3] == ["old", "True", "Archived"]
    until("its pods are gone", 60, lambda: not any(each.startswith("pod/") for each in kept(operator, namespace)))
    assert is_stored(registry, place, digest)
    sweep(operator.cluster)
    assert not is_stored(registry, place, digest)

    until("no list has it", 10, lambda: listed(operator, namespace) == {})
    assert namespace not in json.dumps(get(operator, "/openapi.json")["paths"])
    assert listed(operator, namespace, "old") == {"old": "archived"}
    async with agent(operator, f"/mcp/{namespace}/") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == []
    async with agent(operator, "/mcp/search") as client:
        found = await client.call_tool("find_skills", {"query": f"{namespace} old"})
        states = {each["name"]: each["state"] for each in found.structured_content["skills"]}
        assert states[naming.tool(namespace, "old")] == "archived"

    assert operator.call(namespace, "old", {"what": 7}).status == 422
    assert operator.condition(namespace, "old", "Active")["reason"] == "Archived", "a bad input restores nothing"
    began = time.monotonic()
    answers = at_once(operator, namespace, "old")
    took = time.monotonic() - began
    assert [answer.body for answer in answers] == [{"said": f"call {index}"} for index in range(CALLERS)]
    print(f"restored with a build in {took:.1f} s")

    after = operator.ready(namespace, "old")
    assert "archive" not in after["status"]
    assert after["status"]["image"] == before["status"]["image"], "the very image that was swept"
    assert is_stored(registry, place, digest)
    assert after["status"]["revisionDigest"] == before["status"]["revisionDigest"]
    assert after["status"]["generation"] == before["status"]["generation"]
    assert generation.spent(operator, namespace) == tokens
    assert generation.ledgers(operator, namespace)[0]["data"] == ledger
    assert len(operator.asked(marker)) == 1
    assert listed(operator, namespace)["old"] in {"awake", "asleep"}
    until("the events are written", 30, lambda: events(operator, namespace, "Restoring"))
    assert events(operator, namespace, "Restoring") == 1, "20 calls restore it once"
    assert events(operator, namespace, "Archived") == 1


def test_a_new_value_of_the_annotation_restores_it(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("old", **SOON))
    operator.ready(namespace, "old")
    image = archived(operator, namespace, "old")["status"]["image"]
    where = ("-n", namespace, "annotate", "skill", "old", "--overwrite")
    operator.cluster.kubectl(*where, f"{naming.RESTORE_ANNOTATION}=1")
    until("it left the archive", 30, lambda: "archive" not in operator.skill(namespace, "old")["status"])
    assert archived(operator, namespace, "old")["status"]["image"] == image, "the value is an old one by then"
    apply(operator, namespace, skill("old", **NEVER))
    operator.reason(namespace, "old", "Active", "Awake", 60)
    assert operator.call(namespace, "old", {"what": "again"}).body == {"said": "again"}


def test_it_never_sleeps_and_is_archived_all_the_same(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("old", idleTimeoutSeconds=0, archiveAfterSeconds=6))
    operator.ready(namespace, "old")
    until("it answers", 20, lambda: operator.call(namespace, "old", {"what": "once"}).status == 200)
    called = time.monotonic()
    archived(operator, namespace, "old")
    assert time.monotonic() - called > 5
    apply(operator, namespace, skill("old", **NEVER))


def test_a_call_at_the_very_moment_of_archiving_is_answered(operator: Operator, namespace: str) -> None:
    """Its archive time is so short that calls meet each step of it, and of the way back.

    How often it is archived depends on how long each step takes, so it goes on until that was twice.
    """
    apply(operator, namespace, skill("old", idleTimeoutSeconds=1, archiveAfterSeconds=1))
    operator.ready(namespace, "old")
    answers: list[Answer] = []
    start, pause = time.monotonic(), 1.3
    while time.monotonic() - start < 150 and (
        time.monotonic() - start < 30 or events(operator, namespace, "Archived") < 2
    ):
        time.sleep(pause)
        answers.append(operator.call(namespace, "old", {"what": f"{pause:.2f}"}))
        pause = 1.0 + (pause - 0.7) % 4.0  # around the moments at which it sleeps and is archived, on a busy node too
    assert {answer.status for answer in answers} == {200}, [a.body for a in answers if a.status != 200][:3]
    assert events(operator, namespace, "Archived") >= 2, "else nothing was tried"
    print(f"{len(answers)} calls, archived {events(operator, namespace, 'Archived')} times")
    apply(operator, namespace, skill("old", **NEVER))


@pytest.mark.serial("restarts gateways and controller, and sweeps the registry")
def test_what_is_killed_in_between_puts_nothing_off(operator: Operator, namespace: str) -> None:
    source = {"inline": SOURCE + f"\n# {namespace}\n"}
    apply(operator, namespace, skill("old", source=source, idleTimeoutSeconds=0, archiveAfterSeconds=30))
    operator.ready(namespace, "old")
    ready = time.monotonic()
    for component in ("gateway", "controller"):
        where = ("-n", NAMESPACE, "-l", f"app.kubernetes.io/component={component}")
        operator.cluster.kubectl("delete", "pods", *where, "--force", "--grace-period=0")
        operator.scale(component, 1)
    archived(operator, namespace, "old", 90)
    assert time.monotonic() - ready < 60, "the restarts do not count as calls"
    until("its pods are gone", 60, lambda: not any(each.startswith("pod/") for each in kept(operator, namespace)))
    sweep(operator.cluster)

    answers: list[Answer] = []
    call = threading.Thread(target=lambda: answers.extend(at_once(operator, namespace, "old", 5)))
    call.start()
    operator.reason(namespace, "old", "Active", "Restoring", 30)
    generation.restart(operator)
    call.join()
    assert len(answers) == 5
    for answer in answers:  # whoever has waited as long as a call may is told to call again
        assert answer.status == 200 or (answer.status == 503 and answer.headers["Retry-After"]), answer
    until("it answers", 90, lambda: operator.call(namespace, "old", {"what": "x"}).status == 200)
    apply(operator, namespace, skill("old", **NEVER))
