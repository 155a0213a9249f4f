"""The decisions of the gateway for the egress proxy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import helper as egress_helper
from skill_operator import naming
from skill_operator.api.granted_hosts import hosts_annotation
from skill_operator.api.v1alpha1 import Skill
from skill_operator.gateway import egress_authorizer
from skill_operator.gateway.egress_authorizer import EgressAuthorizer, EgressDecision
from skill_operator.gateway.pods.directory import Directory
from tests.unit.gateway.objects import pod, skill

HOST, AT = "api.example.com", "10.0.0.1"
GRANT = {"host": HOST, "ports": [443, 8443]}
NAME = "finance/invoice"
DEPLOYED = f"{HOST}:443,8443"


def placed(
    name: str = "a", address: str = AT, *, uid: str = "", phase: str = "Running", hosts: str = DEPLOYED, **more: Any
) -> dict[str, Any]:
    """Return a pod that was deployed with grants of `hosts`; where that is empty, it says nothing of them."""
    found = pod(name, address, **more)
    found["metadata"]["uid"] = uid or name
    if hosts:
        found["metadata"]["annotations"] = {naming.HOSTS_ANNOTATION: hosts}
    found["status"] |= {"phase": phase, "podIPs": [{"ip": address}, {"ip": "fd00::1"}]}
    return found


@pytest.fixture
def directory() -> Directory:
    return Directory(unsynced=set())


@pytest.fixture
def authorizer(directory: Directory) -> EgressAuthorizer:
    made = EgressAuthorizer(directory)
    directory.on_skill("ADDED", skill(egress=[GRANT, {"cidr": "203.0.113.0/24", "ports": [80]}]))
    directory.on_pod("ADDED", placed())
    return made


@pytest.mark.parametrize("source", [AT, "fd00::1"])
def test_a_pod_has_the_grants_of_its_skill(authorizer: EgressAuthorizer, source: str) -> None:
    assert authorizer.decide(source, HOST, 443) == EgressDecision(True, "granted", NAME)
    assert authorizer.decide(source, HOST, 8443).allowed


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        (HOST, 80, "port-not-granted"),
        (HOST, 0, "port-not-granted"),
        ("example.com", 443, "host-not-granted"),
        ("x.api.example.com", 443, "host-not-granted"),
        ("API.example.com", 443, "host-not-granted"),
        ("api.example.com.", 443, "host-not-granted"),
        ("203.0.113.1", 80, "host-not-granted"),
        ("203.0.113.0/24", 80, "host-not-granted"),
        ("", 443, "host-not-granted"),
        ("-", 443, "host-not-granted"),
        ("\0", 443, "host-not-granted"),
    ],
)
def test_and_no_others(authorizer: EgressAuthorizer, host: str, port: int, reason: str) -> None:
    assert authorizer.decide(AT, host, port) == EgressDecision(False, reason, NAME)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "kubernetes.default.svc", "x.cluster.local", "localhost", "*.example.com"]
)
def test_a_grant_that_should_not_have_been_stored_is_none(directory: Directory, host: str) -> None:
    authorizer = EgressAuthorizer(directory)
    directory.on_skill("ADDED", skill(egress=[{"host": host, "ports": [443]}]))
    directory.on_pod("ADDED", placed(hosts=f"{host}:443"))
    assert not authorizer.decide(AT, host, 443).allowed


def test_who_is_not_known_is_nobody(authorizer: EgressAuthorizer) -> None:
    for source in ("10.0.0.2", "", "-", "10.0.0.1 ", "127.0.0.1"):
        assert authorizer.decide(source, HOST, 443) == EgressDecision(False, "unknown-pod")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_address_is_a_pod_s_while_it_lives(authorizer: EgressAuthorizer, directory: Directory, phase: str) -> None:
    """What has ended keeps its address in its status; another pod may have it."""
    directory.on_pod("MODIFIED", placed(phase=phase))
    assert authorizer.decide(AT, HOST, 443).reason == "unknown-pod"
    directory.on_pod("ADDED", placed("b", uid="b"))
    assert authorizer.decide(AT, HOST, 443).allowed
    directory.on_pod("MODIFIED", placed("b", "10.0.0.9", uid="b"))
    assert authorizer.decide(AT, HOST, 443).reason == "unknown-pod"
    directory.on_pod("DELETED", placed("b", "10.0.0.9", uid="b"))
    assert authorizer.decide("10.0.0.9", HOST, 443).reason == "unknown-pod"
    assert not authorizer._pods_by_address


def test_an_address_of_two_is_nobody_s(authorizer: EgressAuthorizer, directory: Directory) -> None:
    directory.on_pod("ADDED", placed("b", namespace="other", uid="b"))
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "address-of-two-pods")
    directory.on_pod("DELETED", placed("b", namespace="other", uid="b"))
    assert authorizer.decide(AT, HOST, 443).allowed


def test_a_pod_of_another_namespace_is_not_the_skill_s(directory: Directory, authorizer: EgressAuthorizer) -> None:
    """Whoever may label pods there is not whoever may write this Skill."""
    directory.on_pod("ADDED", placed("b", "10.0.0.3", namespace="other", uid="b"))
    assert authorizer.decide("10.0.0.3", HOST, 443) == EgressDecision(False, "no-such-skill")


def test_r21_a_skill_that_goes_opens_nothing_though_its_pods_are_there(
    authorizer: EgressAuthorizer, directory: Directory
) -> None:
    going = skill(egress=[GRANT])
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    directory.on_skill("MODIFIED", going)
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "skill-is-being-deleted", NAME)
    directory.on_skill("DELETED", going)
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "no-such-skill")
    again = skill(egress=[GRANT])
    again["metadata"]["uid"] = "another"
    directory.on_skill("ADDED", again)
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "no-such-skill")


def test_a_pod_that_ends_may_finish_while_its_skill_is_there(
    authorizer: EgressAuthorizer, directory: Directory
) -> None:
    ending = placed()
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    directory.on_pod("MODIFIED", ending)
    assert authorizer.decide(AT, HOST, 443).allowed


def test_a_revoked_grant_is_revoked_at_once(authorizer: EgressAuthorizer, directory: Directory) -> None:
    directory.on_skill("MODIFIED", skill(generation=2, egress=[{"cidr": "203.0.113.0/24", "ports": [443]}]))
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "host-not-granted", NAME)


EVIL = "evil.example.net"


def test_a_host_that_is_added_to_the_spec_is_closed_to_pods_deployed_without_it(
    authorizer: EgressAuthorizer, directory: Directory
) -> None:
    """The change may await an approval, or a check, or be invalid: the gateway cannot know."""
    directory.on_skill("MODIFIED", skill(generation=2, egress=[GRANT, {"host": EVIL, "ports": [443]}]))
    assert authorizer.decide(AT, EVIL, 443) == EgressDecision(False, "grant-not-deployed", NAME)
    assert authorizer.decide(AT, HOST, 443).allowed
    directory.on_pod("ADDED", placed("b", "10.0.0.2", uid="b", hosts=f"{DEPLOYED} {EVIL}:443"))
    assert authorizer.decide("10.0.0.2", EVIL, 443) == EgressDecision(True, "granted", NAME)
    assert not authorizer.decide(AT, EVIL, 443).allowed


def test_a_port_that_is_added_to_the_spec_is_likewise(authorizer: EgressAuthorizer, directory: Directory) -> None:
    directory.on_skill("MODIFIED", skill(generation=2, egress=[GRANT | {"ports": [443, 22]}]))
    assert authorizer.decide(AT, HOST, 22) == EgressDecision(False, "grant-not-deployed", NAME)
    assert authorizer.decide(AT, HOST, 8443) == EgressDecision(False, "port-not-granted", NAME)


@pytest.mark.parametrize(
    "hosts",
    [
        "", " ", ":", ",", f"{HOST}", f"{HOST}:", f":443 {HOST}", f"{HOST}:443x", f"{HOST}:0443", f"{HOST}: 443",
        f"x.{HOST}:443", f"{HOST}.:443", f"{HOST}/443", f'{{"{HOST}": [443]}}', "\0", f"{HOST}:44" + "3" * 9,
        f"{HOST}:443 " + " ".join(f"h{n}.example.com:443" for n in range(9999)),
    ],
)  # fmt: skip
def test_what_a_pod_does_not_say_plainly_opens_nothing(directory: Directory, hosts: str) -> None:
    authorizer = EgressAuthorizer(directory)
    directory.on_skill("ADDED", skill(egress=[GRANT]))
    directory.on_pod("ADDED", placed(hosts=hosts))
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "grant-not-deployed", NAME)


def test_the_largest_grants_of_a_spec_are_read(directory: Directory) -> None:
    label = "a" * 61
    hosts = [f"{n:02}{label[2:]}.{label}.{label}.{label}.org" for n in range(10, 26)]
    ports = [*range(65000, 65016)]
    body = skill(egress=[{"host": host, "ports": ports} for host in hosts])
    authorizer = EgressAuthorizer(directory)
    directory.on_skill("ADDED", body)
    hosts_of_pod = hosts_annotation(Skill.model_validate(body).spec)[naming.HOSTS_ANNOTATION]
    directory.on_pod("ADDED", placed(hosts=hosts_of_pod))
    assert all(authorizer.decide(AT, host, port).allowed for host in hosts for port in ports)


async def changes(*events: tuple[str, dict[str, Any]]) -> Any:
    for event in events:
        yield event


async def test_what_is_not_heard_of_is_not_believed(authorizer: EgressAuthorizer, directory: Directory) -> None:
    what = ("Pod", None)
    await directory._consume(what, changes(("CUT", {})), directory.on_pod)
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "api-server-not-heard")
    await directory._consume(what, changes(("SYNCED", {})), directory.on_pod)
    assert authorizer.decide(AT, HOST, 443).allowed
    directory.unsynced.add(("Skill", None))
    assert authorizer.decide(AT, HOST, 443) == EgressDecision(False, "api-server-not-heard")


async def test_a_pod_that_has_just_begun_is_waited_for(authorizer: EgressAuthorizer, directory: Directory) -> None:
    asking = asyncio.create_task(authorizer.authorize("10.0.0.7", HOST, 443))
    await asyncio.sleep(0)
    directory.on_pod("ADDED", placed("b", "10.0.0.7", uid="b"))
    assert (await asking).allowed


async def test_but_not_for_ever(authorizer: EgressAuthorizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_authorizer, "WAIT_TIMEOUT_SECONDS", 0.1)
    assert await authorizer.authorize("10.0.0.7", HOST, 443) == EgressDecision(False, "unknown-pod")


async def test_the_helper_and_the_gateway_understand_each_other(
    authorizer: EgressAuthorizer, unused_tcp_port: int
) -> None:
    async with egress_authorizer.serve_authorizer(authorizer, unused_tcp_port):
        ask = egress_helper.make_client(f"127.0.0.1:{unused_tcp_port}")
        assert await ask(AT, HOST, "443") == egress_helper.ProxyDecision(True, "allowed", "granted", NAME)
        assert await ask(AT, "a b&port=443\r\n", "443") == egress_helper.ProxyDecision(
            False, "refused", "host-not-granted", NAME
        )
        for port in ("", "443x", "-", "9" * 5000):
            assert await ask(AT, HOST, port) == egress_helper.ProxyDecision(
                False, "refused", "gateway-rejects-the-request"
            )
    assert await ask(AT, HOST, "443") == egress_helper.ProxyDecision(False, "refused", "gateway-does-not-answer")


@pytest.mark.parametrize(
    "response",
    [
        b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n[]", b"HTTP/1.1 200 OK\r\n\r\nnull", b"\0" * 99,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 99_999,
        b"HTTP/1.1 500 No\r\n\r\n" + json.dumps({"allowed": True, "reason": "", "skill": ""}).encode(),
        b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"allowed": "false", "reason": "", "skill": ""}).encode(),
        b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"allowed": 1, "reason": "", "skill": ""}).encode(),
        b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"allowed": True}).encode(),
    ],
)  # fmt: skip
async def test_whatever_else_is_said_opens_nothing(response: bytes, unused_tcp_port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", unused_tcp_port):
        assert not (await egress_helper.make_client(f"127.0.0.1:{unused_tcp_port}")(AT, HOST, "443")).allowed
