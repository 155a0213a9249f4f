"""Grants of host names: what a skill reaches through the egress proxy, and all that it does not (R21, R22)."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from hack.install import NAMESPACE
from tests.hostile.canary import SPY, free_pod
from tests.hostile.internet import API, OTHER, Internet, Watched, internet
from tests.hostile.test_ways_out import addresses
from tests.integration.installed import Operator, until

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("internet")]
PROXY = f"{NAMESPACE}-egress-proxy"
SKILL = "skill-operator.dev/skill"

CALLER = '''
import base64
import os
import select
import socket
import ssl
import time
from urllib.parse import urlsplit

import requests


def proxy() -> socket.socket:
    at = urlsplit(os.environ["HTTPS_PROXY"])
    return socket.create_connection((at.hostname, at.port), 5)


def answered(connection: socket.socket, seconds: float = 3.0) -> bytes:
    """All that comes until it is quiet for so long."""
    connection.settimeout(seconds)
    found = b""
    try:
        while chunk := connection.recv(65536):
            found += chunk
            connection.settimeout(0.5)
    except TimeoutError:
        return found + b" (and then nothing)"
    except OSError as error:
        return found + b" (" + type(error).__name__.encode() + b")"
    return found + b" (closed)"


def got(url: str, trusted: str, headers: dict) -> str:
    with open("/tmp/trusted.pem", "w") as file:
        file.write(trusted)
    try:
        answer = requests.get(url, headers=headers, timeout=10, verify="/tmp/trusted.pem")
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
    return f"{answer.status_code} {answer.text}"


def tunnelled(to: str, sni: str | None, host: str, wait: float) -> str:
    """What answers inside, or how far it came; the hello of TLS comes some seconds after the tunnel."""
    with proxy() as connection:
        connection.sendall(f"CONNECT {to} HTTP/1.1\\r\\nHost: {to}\\r\\n\\r\\n".encode())
        head = connection.recv(4096)
        if not head.startswith(b"HTTP/1.1 200 "):
            return head.partition(b"\\r\\n")[0].decode()
        time.sleep(wait)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with context.wrap_socket(connection, server_hostname=sni) as tls:
                tls.sendall(f"GET /inside HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
                return answered(tls).decode()
        except OSError as error:
            return f"{type(error).__name__}: {error}"


def insisted(url: str, seconds: float) -> list[int]:
    """Over one connection, which no policy cuts."""
    end, found = time.monotonic() + seconds, []
    host = urlsplit(url).hostname
    with proxy() as connection:
        while time.monotonic() < end:
            connection.sendall(f"GET {url} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
            said = answered(connection)
            if not said.startswith(b"HTTP/1.1 "):
                break
            found.append(int(said[9:12]))
    return found


def held(count: int) -> int:
    """Of so many connections that say nothing, those that are not closed."""
    every = [proxy() for _ in range(count)]
    alive = set(every)
    while closed := select.select(list(alive), [], [], 1)[0]:
        alive -= set(closed)
    for connection in every:
        connection.close()
    return len(alive)


def reached(targets: list, seconds: float) -> list:
    found = []
    for host, port in targets:
        try:
            socket.create_connection((host, port), seconds).close()
        except OSError:
            continue
        found.append(f"{host}:{port}")
    return found


def run(input: dict) -> dict:
    if input["what"] == "insist":
        return {"said": insisted(input["url"], input["seconds"])}
    if input["what"] == "hold":
        return {"said": held(input["count"])}
    if input["what"] == "reach":
        return {"said": reached(input["targets"], 1.0)}
    if input["what"] == "get":
        return {"said": got(input["url"], input["trusted"], input.get("headers", {}))}
    if input["what"] == "tunnel":
        return {"said": tunnelled(input["to"], input.get("sni"), input.get("host", "api.example.test"), input.get("wait", 0))}
    if input["what"] == "raw":
        with proxy() as connection:
            said = b""
            for part in input["parts"]:
                connection.sendall(base64.b64decode(part))
                said += answered(connection)
            return {"said": said.decode("latin-1")}
    if input["what"] == "environment":
        return {"said": sorted(name for name in os.environ if "proxy" in name.lower())}
    return {"said": input["what"]}
'''

NAMES: dict[str, Any] = {
    "api.example.test": [API],
    "other.example.test": [OTHER],
    "private.example.test": ["10.11.12.13"],
    "service.example.test": [],  # the API server's
    "mixed.example.test": [API, "192.168.7.7"],
    "metadata.example.test": ["169.254.169.254"],
    "loopback.example.test": ["127.0.0.1"],
    "nowhere.example.test": ["0.0.0.0"],
    "six.example.test": ["fd00::1"],
    "mapped.example.test": ["::ffff:127.0.0.1"],
    "nat64.example.test": ["64:ff9b::a00:1"],
    "flip.example.test": [],  # the API, and the API server
}
"""What the internet's name server says; of lists of lists, each query gets the next."""
LEAD_INSIDE = [name for name, found in NAMES.items() if found not in ([API], [OTHER]) and name != "flip.example.test"]


def caller(name: str, *egress: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": name},
        "spec": {
            "description": "Calls hosts.",
            "input": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
            "output": {"type": "object", "required": ["said"]},
            "examples": [{"name": "echo", "input": {"what": "hello"}, "output": {"said": "hello"}}],
            "source": {"inline": CALLER},
            "egress": list(egress),
            "idleTimeoutSeconds": 0,
            **spec,
        },
    }


@dataclass
class World:
    """Skills with grants, and the internet that they are about."""

    operator: Operator
    namespace: str
    internet: Internet

    def apply(self, *skills: dict[str, Any]) -> None:
        for skill in skills:
            self.operator.cluster.kubectl(
                "apply", "--server-side", "-n", self.namespace, "-f", "-", stdin=json.dumps(skill)
            )
        for skill in skills:
            self.operator.ready(self.namespace, skill["metadata"]["name"])

    def ask(self, name: str, **body: Any) -> str:
        answer = self.operator.call(self.namespace, name, {"trusted": self.internet.certificate, **body})
        assert answer.status == 200, answer
        return str(answer.body["said"])

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        found = self.operator.cluster.get("-n", namespace, "pods", "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def raw(self, name: str, *parts: str) -> str:
        """Whatever bytes, over one connection to the proxy, and what came back."""
        return self.ask(name, what="raw", parts=[b64encode(part.encode("latin-1")).decode() for part in parts])

    def log(self) -> list[dict[str, Any]]:
        """What the proxy wrote."""
        text = self.operator.cluster.kubectl("-n", NAMESPACE, "logs", f"deployment/{PROXY}", "--tail=-1")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    @contextmanager
    def refusal(self, name: str, reason: str, **fields: Any) -> Iterator[Watched]:
        """Something is refused, and nobody hears of it but the log, which says of whom."""
        before = len(self.log())
        with self.internet.watch() as seen:
            yield seen
        wanted = {"verdict": "refused", "reason": reason, "skill": f"{self.namespace}/{name}" if name else "-"} | fields
        until(
            f"{wanted} in {self.log()[before:]}",
            10,
            lambda: any(wanted.items() <= line.items() for line in self.log()[before:]),
        )
        assert seen.connections == []
        assert not [line for line in self.log()[before:] if line["verdict"] == "allowed"]


@pytest.fixture(scope="module")
def world(operator: Operator) -> Iterator[World]:
    cluster = operator.cluster
    service = cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    names = NAMES | {"service.example.test": [service], "flip.example.test": [[API], [service]]}
    with cluster.namespace("callers") as namespace, internet(cluster, names) as outside:
        made = World(operator, namespace, outside)
        made.apply(
            caller("granted", {"host": "api.example.test", "ports": [80, 443]}),
            caller("neighbour", {"host": "other.example.test", "ports": [443]}),
            caller(
                "inward", *({"host": name, "ports": [80, 443, 6443]} for name in (*LEAD_INSIDE, "flip.example.test"))
            ),
            caller("none"),
        )
        yield made


def test_a_granted_host_answers(world: World) -> None:
    with world.internet.watch() as seen:
        assert world.ask("granted", what="get", url="https://api.example.test/a") == f"200 {API}:443 /a"
        assert world.ask("granted", what="get", url="http://api.example.test/b") == f"200 {API}:80 /b"
    assert [(one["at"], one["sni"]) for one in seen.requests] == [
        (f"{API}:443", "api.example.test"),
        (f"{API}:80", None),
    ]
    told = {name.lower() for one in seen.requests for name in one["headers"]}
    assert not told & {"via", "x-forwarded-for", "forwarded"}
    assert seen.requests[1]["headers"].get("Cache-Control") == "max-age=0"  # else the proxy would ask for old answers
    lines = [line for line in world.log() if line["skill"] == f"{world.namespace}/granted"]
    assert {(line["verdict"], line["host"], line["port"], line["server"]) for line in lines} >= {
        ("allowed", "api.example.test", "443", API),
        ("allowed", "api.example.test", "80", API),
    }


def test_only_a_grant_of_a_host_names_the_proxy(world: World) -> None:
    assert world.ask("granted", what="environment") == str(["HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy"])
    assert world.ask("none", what="environment") == "[]"


@pytest.mark.parametrize(
    ("url", "host", "reason"),
    [
        ("https://other.example.test/", "other.example.test", "host-not-granted"),
        ("http://other.example.test/", "other.example.test", "host-not-granted"),
        ("https://api.example.test:8443/", "api.example.test", "port-not-granted"),
        ("http://api.example.test:8080/", "api.example.test", "port-not-granted"),
        (f"https://{API}/", API, "host-not-granted"),
        (f"http://{API}/", API, "host-not-granted"),
        ("http://3405803786/", API, "host-not-granted"),
        ("http://0xcb00710a/", API, "host-not-granted"),
        ("http://evil.api.example.test/", "evil.api.example.test", "host-not-granted"),
        ("http://api.example.test.evil.test/", "api.example.test.evil.test", "host-not-granted"),
    ],
)
def test_r22_nothing_but_the_host_and_the_port(world: World, url: str, host: str, reason: str) -> None:
    with world.refusal("granted", reason, host=host) as seen:
        said = world.ask("granted", what="get", url=url)
    assert seen.queries == [], "what may be called is looked at first: a question for a name is a message, too"
    assert (
        said.startswith(f"403 The egress proxy refuses this: {reason}.") if url.startswith("http:") else "407" in said
    )


def test_r22_a_redirect_leads_no_further(world: World) -> None:
    with world.internet.watch() as seen:
        said = world.ask("granted", what="get", url="https://api.example.test/go?to=https://other.example.test/in")
    assert "407" in said
    assert seen.connections == [f"{API}:443"]


@pytest.mark.parametrize(
    ("to", "sni", "reason"),
    [
        ("api.example.test:443", "other.example.test", "tls-asks-for-another-host"),
        ("api.example.test:443", "evil.api.example.test", "tls-asks-for-another-host"),
        ("api.example.test:443", None, "tls-without-a-name"),
        ("other.example.test:443", "api.example.test", "host-not-granted"),
        (f"{API}:443", "api.example.test", "host-not-granted"),
        (f"[::ffff:{API}]:443", "api.example.test", "host-not-granted"),
        ("api.example.test:8443", "api.example.test", "port-not-granted"),
    ],
)
def test_r22_a_tunnel_is_for_the_host_that_tls_asks_for(world: World, to: str, sni: str | None, reason: str) -> None:
    with world.refusal("granted", reason):
        said = world.ask("granted", what="tunnel", to=to, sni=sni)
    assert "inside" not in said


@pytest.mark.parametrize(
    "inside", ["GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n", "SSH-2.0-x\r\n", "\x16\x03\x01", "\0" * 99]
)
def test_r22_a_tunnel_is_for_tls_alone(world: World, inside: str) -> None:
    with world.refusal("granted", "no-tls-in-the-tunnel", host="api.example.test"):
        world.raw("granted", "CONNECT api.example.test:443 HTTP/1.1\r\nHost: api.example.test\r\n\r\n", inside)


def test_r22_the_host_of_a_request_is_that_of_its_url(world: World) -> None:
    """What Host says is not believed, and not passed on."""
    with world.internet.watch() as seen:
        said = world.ask("granted", what="get", url="http://api.example.test/x", headers={"Host": "other.example.test"})
        assert said == f"200 {API}:80 /x"
        world.raw(
            "granted",
            "GET http://api.example.test/y HTTP/1.1\r\nHost: other.example.test\r\nHost: api.example.test\r\n\r\n",
        )
    assert [one["host"] for one in seen.requests] == [["api.example.test"]] * len(seen.requests)
    assert set(seen.connections) == {f"{API}:80"}


ANY = "X: y\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "skill", "reason"),
    [
        (f"GET http://api.example.test@other.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n{ANY}", "granted", "host-not-granted"),
        (f"CONNECT api.example.test@other.example.test:443 HTTP/1.1\r\n{ANY}", "granted", "host-not-granted"),
        (f"CONNECT other.example.test:443 HTTP/1.1\r\nHost: api.example.test:443\r\n{ANY}", "granted", "host-not-granted"),
        (f"CONNECT other.example.test:443 HTTP/1.1\r\nHost: api.example.test\r\nHost: other.example.test\r\n{ANY}", "granted", "host-not-granted"),
        (f"CONNECT api.example.test%00.other.example.test:443 HTTP/1.1\r\n{ANY}", "granted", "host-not-granted"),
        (f"GET https://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n{ANY}", "", "neither-http-nor-a-tunnel"),
        (f"GET ftp://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n{ANY}", "", "neither-http-nor-a-tunnel"),
        (f"GET /in HTTP/1.1\r\nHost: api.example.test\r\n{ANY}", "", "malformed-request"),
        (f"CONNECT api.example.test\0.other.example.test:443 HTTP/1.1\r\n{ANY}", "", "malformed-request"),
        (f'CONNECT a"b.example.test:443 HTTP/1.1\r\n{ANY}', "", "malformed-request"),
        (f'G"T http://api.example.test/ HTTP/1.1\r\n{ANY}', "", "malformed-request"),
        ("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET http://api.example.test/ HTTP/1.1\r\n\r\n", "", "malformed-request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", "malformed-request"),
        ("GET http://api.example.test/ HTTP/1.1\nHost: api.example.test\n\n", "", "malformed-request"),
        (f"GET http://api.example.test\\@other.example.test/ HTTP/1.1\r\n{ANY}", "", "malformed-request"),
        (f"GET http://api.example.test:80:443/ HTTP/1.1\r\n{ANY}", "granted", "host-not-granted"),
        (f"CONNECT api.example.test:65979 HTTP/1.1\r\n{ANY}", "", "malformed-request"),
        (f"GET http://egress-proxy:3128/squid-internal-mgr/menu HTTP/1.1\r\nHost: egress-proxy\r\n{ANY}", "", "malformed-request"),
        (f"GET /squid-internal-mgr/menu HTTP/1.1\r\nHost: api.example.test\r\n{ANY}", "", "malformed-request"),
    ],
)  # fmt: skip
def test_r22_crooked_requests(world: World, request_: str, skill: str, reason: str) -> None:
    with world.refusal(skill, reason):
        assert world.raw("granted", request_)[9:12] in {"400", "403", "407"}


def test_r22_what_follows_a_granted_request_is_judged_too(world: World) -> None:
    """Pipelined, or behind a body of two lengths: whoever counts otherwise sends two requests for one."""
    second = "GET http://other.example.test/ HTTP/1.1\r\nHost: other.example.test\r\n\r\n"
    with world.internet.watch() as seen:
        said = world.raw("granted", "GET http://api.example.test/1 HTTP/1.1\r\nHost: api.example.test\r\n\r\n" + second)
        assert said.count("HTTP/1.1 403 ") == 1
        lengths = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        world.raw("granted", "POST http://api.example.test/2 HTTP/1.1\r\nHost: api.example.test\r\n" + lengths + second)
        world.raw(
            "granted",
            "POST http://api.example.test/3 HTTP/1.1\r\nHost: api.example.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
            + second,
        )
    assert {one["at"] for one in seen.requests} <= {f"{API}:80"}
    assert {one["host"][0] for one in seen.requests} <= {"api.example.test"}
    assert {one["path"] for one in seen.requests} <= {"/1", "/2", "/3"}


@pytest.mark.parametrize("name", LEAD_INSIDE)
def test_r22_no_name_leads_inside(world: World, name: str) -> None:
    with world.internet.watch() as seen, world.refusal("inward", "address-never-granted", host=name):
        assert "407" in world.ask("inward", what="get", url=f"https://{name}/")
        assert world.ask("inward", what="get", url=f"http://{name}/").startswith("403 ")
    assert name in seen.queries


def test_r22_a_name_that_changes_its_mind(world: World) -> None:
    """Each look at the name finds the API server where the last one found a host of the internet, and the other way
    around: some tunnels are refused at once, others when they are used, and what gets through ends at the API."""
    flip, answers = "flip.example.test", list[str]()
    before = len(world.log())

    def both() -> bool:
        answers.append(
            world.ask("inward", what="tunnel", to=f"{flip}:443", sni=flip, host=flip, wait=0.3 * (len(answers) % 4))
        )
        lines = [line for line in world.log()[before:] if line["reason"] == "address-never-granted"]
        return {"-", flip} <= {line["sni"] for line in lines if line["host"] == flip}

    until("refusals before and after", 60, both)
    allowed = ("HTTP/1.1 407 ", "SSL", "ConnectionResetError", "TimeoutError")
    assert not [said for said in answers if not said.startswith(allowed) and f"{API}:443 /inside" not in said]


def test_the_proxy_itself_reaches_nothing_of_the_cluster(world: World) -> None:
    """The second wall: whatever Squid was made to believe."""
    inside, dns = addresses(world.operator)
    pod = world.pods(NAMESPACE, "app.kubernetes.io/component=egress-proxy")[0]
    targets = [*inside, [world.pods(world.namespace, f"{SKILL}=granted")[0]["status"]["podIP"], 8080], [API, 443]]
    program = f"{SPY}\nprint(reached({targets!r}, 3))"
    said = world.operator.cluster.kubectl(
        "-n", NAMESPACE, "exec", pod["metadata"]["name"], "--", "python3", "-c", program
    )
    assert said.strip() == str(sorted([f"{dns}:53", f"{API}:443"]))


def test_a_grant_is_of_no_use_to_another(world: World) -> None:
    with world.refusal("neighbour", "host-not-granted", host="api.example.test"):
        assert "407" in world.ask("neighbour", what="get", url="https://api.example.test/")
    assert world.ask("neighbour", what="get", url="https://other.example.test/n") == f"200 {OTHER}:443 /n"


def test_no_skill_takes_all_connections(world: World) -> None:
    held = int(world.ask("granted", what="hold", count=200))
    assert 24 <= held <= 32
    assert world.ask("neighbour", what="get", url="https://other.example.test/n") == f"200 {OTHER}:443 /n"


def test_who_has_no_grant_does_not_reach_the_proxy(world: World) -> None:
    cluster = world.operator.cluster
    pod = world.pods(NAMESPACE, "app.kubernetes.io/component=egress-proxy")[0]
    service = cluster.get("-n", NAMESPACE, "service", PROXY)["spec"]["clusterIP"]
    targets = [[pod["status"]["podIP"], 3128], [service, 3128]]
    assert world.ask("granted", what="reach", targets=targets) == str([f"{host}:{port}" for host, port in targets])
    assert world.ask("none", what="reach", targets=targets) == "[]"
    image = world.operator.skill(world.namespace, "none")["status"]["image"]
    with cluster.namespace("free") as outside, free_pod(cluster, outside, image) as free:
        assert free.says(f"reached({targets!r}, 2)") == []


def test_who_is_no_skill_is_refused_where_policies_are_not_asked(world: World) -> None:
    """From the proxy's own pod, which no policy keeps from itself."""
    pod = world.pods(NAMESPACE, "app.kubernetes.io/component=egress-proxy")[0]["metadata"]["name"]
    program = (
        "import socket; c = socket.create_connection(('127.0.0.1', 3128)); "
        "c.sendall(b'CONNECT api.example.test:443 HTTP/1.1\\r\\n\\r\\n'); print(c.recv(99)[9:12].decode())"
    )
    with world.refusal("", "unknown-pod", source="127.0.0.1"):
        said = world.operator.cluster.kubectl("-n", NAMESPACE, "exec", pod, "--", "python3", "-c", program)
    assert said.strip() == "407"


@pytest.mark.serial("stops the gateway")
def test_without_the_gateway_nothing_is_allowed(world: World) -> None:
    pod = world.pods(world.namespace, f"{SKILL}=granted")[0]["metadata"]["name"]
    program = (
        "import requests\ntry:\n print(requests.get('http://api.example.test/', timeout=20).status_code)\n"
        "except requests.RequestException as error:\n print(error)"
    )
    command = ("-n", world.namespace, "exec", pod, "--", "python3", "-c", program)
    assert world.operator.cluster.kubectl(*command).strip() == "200"
    world.operator.scale("gateway", 0)
    try:
        with world.refusal("", "gateway-does-not-answer"):
            assert world.operator.cluster.kubectl(*command).strip() == "403"
    finally:
        world.operator.scale("gateway", 1)


def test_r21_a_deleted_skill_calls_nobody_while_its_pods_end(world: World) -> None:
    """Over a connection that no policy cuts."""
    world.apply(caller("leaving", {"host": "api.example.test", "ports": [80]}))
    (pod,) = world.pods(world.namespace, f"{SKILL}=leaving")
    mine = {"source": pod["status"]["podIP"], "skill": f"{world.namespace}/leaving"}
    program = f"{CALLER}\nprint(insisted('http://api.example.test/leaving', 15))"
    command = world.operator.cluster.command(
        "-n", world.namespace, "exec", pod["metadata"]["name"], "--", "python3", "-c", program
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as calling:
        until("calls", 20, lambda: [line for line in world.log() if mine.items() <= line.items()])
        world.operator.cluster.kubectl("-n", world.namespace, "delete", "skill", "leaving", "--wait=false")
        gone = {"source": mine["source"], "verdict": "refused", "reason": "no-such-skill"}
        until("a refusal", 10, lambda: [line for line in world.log() if gone.items() <= line.items()])
        ending = world.operator.cluster.get("-n", world.namespace, "pod", pod["metadata"]["name"])
        assert "deletionTimestamp" in ending["metadata"]
        calling.communicate(timeout=60)
    verdicts = [line["verdict"] for line in world.log() if line["source"] == mine["source"]]
    assert verdicts == sorted(verdicts)  # allowed ones first, and then never again
    assert verdicts.count("refused") > 1


def test_the_proxy_rests_when_nobody_needs_it(world: World) -> None:
    """The last test here: of this module no Skill is left afterwards."""
    world.operator.cluster.kubectl("-n", world.namespace, "delete", "skills", "--all")
    until("no proxy", 200, lambda: not world.pods(NAMESPACE, "app.kubernetes.io/component=egress-proxy"))
    assert not world.operator.cluster.get("-n", NAMESPACE, "deployment", PROXY)["spec"].get("replicas")
