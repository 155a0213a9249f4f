"""Who may call, by HTTP and as an agent: real tokens, real RBAC, and the clients that people use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from hack.cluster.identity import CHECKOUT
from hack.install import NAMESPACE, forward
from skill_operator.gateway.access import kubernetes
from tests.integration.installed import Answer, Operator, http, until
from tests.integration.test_skill import apply, skill

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Team:
    """A namespace with two Skills, and people with different rights in it."""

    operator: Operator
    namespace: str

    def token(self, name: str, audience: str = "skill-gateway") -> str:
        return self.operator.cluster.token(self.namespace, name, audience)

    def bind(self, name: str, role: str) -> None:
        account = f"--serviceaccount={self.namespace}:{name}"
        self.operator.cluster.kubectl("-n", self.namespace, "create", "rolebinding", name, role, account)

    def call(self, token: str, name: str = "echo", body: Any = None) -> Answer:
        url = f"{self.url}/v1/skills/{self.namespace}/{name}"
        return http("POST", url, json.dumps(body or {"what": "hi"}).encode(), token=token)

    def get(self, token: str, path: str) -> Answer:
        return http("GET", self.url + path, None, token=token)

    @property
    def url(self) -> str:
        return self.operator.url

    @asynccontextmanager
    async def agent(self, token: str) -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as connection,
            Client(streamable_http_client(f"{self.url}/mcp", http_client=connection), cache=None) as client,
        ):
            yield client


def snippet(language: str) -> str:
    """Return the only snippet in that language of docs/how-to/call-a-skill.md."""
    page = CHECKOUT / "docs" / "how-to" / "call-a-skill.md"
    (found,) = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def team(operator: Operator) -> Iterator[Team]:
    with operator.cluster.namespace("team") as namespace:
        made = Team(operator, namespace)
        apply(operator, namespace, skill("echo"))
        apply(operator, namespace, skill("rare", callLimits={"perMinute": 1}))
        for name in ("member", "guest", "stranger"):
            operator.cluster.kubectl("-n", namespace, "create", "serviceaccount", name)
        made.bind("member", "--clusterrole=skill-caller")
        one = ("--verb=create", "--resource=skills.skill-operator.dev/call", "--resource-name=echo")
        operator.cluster.kubectl("-n", namespace, "create", "role", "echo-only", *one)
        made.bind("guest", "--role=echo-only")
        for name in ("echo", "rare"):
            operator.ready(namespace, name)
        yield made


def test_a_token_and_a_right_are_needed(team: Team) -> None:
    assert team.call(team.token("member")).body == {"said": "hi"}
    nobody = team.call("")
    assert (nobody.status, nobody.body["type"]) == (401, "urn:skill-operator:unauthenticated")
    for token in ("rubbish", team.token("member", "https://kubernetes.default.svc"), team.token("member", "elsewhere")):
        refused = team.call(token)
        assert refused.status == 401, refused
    assert "audience" in refused.body["detail"]
    stranger = team.call(team.token("stranger"))
    assert (stranger.status, stranger.body["type"]) == (403, "urn:skill-operator:forbidden")
    assert f"system:serviceaccount:{team.namespace}:stranger" in stranger.body["detail"]
    assert team.call(team.token("stranger"), "nothing").status == 403
    assert team.call(team.token("member"), "nothing").status == 404
    assert team.call(team.token("guest")).status == 200
    assert team.call(team.token("guest"), "rare").status == 403


def test_a_right_comes_and_goes_within_seconds(team: Team) -> None:
    kubectl = team.operator.cluster.kubectl
    kubectl("-n", team.namespace, "create", "serviceaccount", "temp")
    token = team.token("temp")
    assert team.call(token).status == 403
    team.bind("temp", "--clusterrole=skill-caller")
    until("it may", kubernetes.DENIED_SECONDS + 3, lambda: team.call(token).status == 200)
    kubectl("-n", team.namespace, "delete", "rolebinding", "temp")
    until("it may not any more", kubernetes.ALLOWED_SECONDS + 3, lambda: team.call(token).status == 403)


def test_lists_show_what_one_may_call(team: Team) -> None:
    def seen(who: str) -> set[str]:
        listed = team.get(team.token(who), "/v1/skills").body["skills"]
        return {s["name"] for s in listed if s["namespace"] == team.namespace}

    assert (seen("member"), seen("guest"), seen("stranger")) == ({"echo", "rare"}, {"echo"}, set())
    assert team.get(team.token("stranger"), "/v1/skills").body == {"skills": []}
    document = team.get(team.token("guest"), "/openapi.json").body
    validate(document, cls=OpenAPIV31SpecValidator)
    assert set(document["paths"]) == {"/v1/skills", f"/v1/skills/{team.namespace}/echo"}
    described = team.get(team.token("guest"), f"/v1/skills/{team.namespace}/echo").body
    assert (described["ready"], described["input"]["required"]) == (True, ["what"])


def test_curl_as_in_the_readme(team: Team) -> None:
    command = ("curl", "-sS", "--noproxy", "*", "-w", "\n%{http_code} %header{x-request-id}")
    headers = ("-H", f"Authorization: Bearer {team.token('member')}", "-H", "X-Request-Id: from-curl-1")
    url = f"{team.url}/v1/skills/{team.namespace}/echo"
    done = subprocess.run(
        [*command, *headers, "-d", '{"what": "curl"}', url], capture_output=True, text=True, check=True
    )
    assert done.stdout == '{"said":"curl"}\n200 from-curl-1'
    kubectl = team.operator.cluster.kubectl

    def logged() -> bool:
        pod = kubectl("-n", team.namespace, "logs", "deployment/skill-echo", "--tail=20")
        gateway = kubectl("-n", NAMESPACE, "logs", f"deployment/{NAMESPACE}-gateway", "--since=1m", "--tail=-1")
        return '"from-curl-1"' in pod and '"from-curl-1"' in gateway

    until("one id in both logs", 10, logged)
    assert team.token("member")[:40] not in kubectl("-n", NAMESPACE, "logs", f"deployment/{NAMESPACE}-gateway")


def test_python_as_documented(team: Team) -> None:
    program = snippet("python").replace("127.0.0.1:8080", team.url.removeprefix("http://"))
    program = program.replace("default/invoice-total", f"{team.namespace}/echo").replace('"total"', '"said"')
    program = re.sub(r"json\.dumps\(.*\)\.encode", 'json.dumps({"what": "python"}).encode', program)
    environment = {"TOKEN": team.token("member"), "no_proxy": "*"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "python\n"


async def test_an_agent_configured_as_documented(team: Team) -> None:
    """What a client makes of this configuration: an address, and headers with variables of its environment."""
    wanted = json.loads(snippet("json"))["mcpServers"]["skills"]
    assert wanted["type"] == "http"
    headers = {name: value.replace("${TOKEN}", team.token("member")) for name, value in wanted["headers"].items()}
    url = wanted["url"].replace("127.0.0.1:8080", team.url.removeprefix("http://"))
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as connection,
        Client(streamable_http_client(url, http_client=connection)) as client,
    ):
        assert f"{team.namespace}__echo" in {tool.name for tool in (await client.list_tools()).tools}


async def test_an_agent(team: Team) -> None:
    tool = f"{team.namespace}__echo"
    async with team.agent(team.token("guest")) as client:
        (found,) = (await client.list_tools()).tools
        assert (found.name, found.description) == (tool, "Says what it is told.")
        assert found.input_schema["required"] == ["what"]
        result = await client.call_tool(tool, {"what": "agent"})
        assert result.structured_content == {"said": "agent"}
        refused = await client.call_tool(tool, {"what": "refuse"})
        assert refused.is_error
        assert "this is refused" in refused.content[0].text  # type: ignore[union-attr]
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool(f"{team.namespace}__rare", {"what": "agent"})


async def test_an_agent_wakes_what_sleeps(team: Team) -> None:
    kubectl, tool = team.operator.cluster.kubectl, f"{team.namespace}__echo"
    kubectl("-n", team.namespace, "scale", "deployment/skill-echo", "--replicas=0")
    team.operator.reason(team.namespace, "echo", "Active", "Asleep", 20)
    pods = ("pod", "-l", "app.kubernetes.io/component=skill,skill-operator.dev/skill=echo")
    kubectl("-n", team.namespace, "wait", "--for=delete", *pods, "--timeout=60s")
    told: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with team.agent(team.token("member")) as client:
        assert tool in {found.name for found in (await client.list_tools()).tools}
        asleep = kubectl("-n", team.namespace, "get", "deployment", "skill-echo", "-o", "jsonpath={.spec.replicas}")
        assert asleep == "0", "listing wakes nobody"
        result = await client.call_tool(tool, {"what": "morning"}, progress_callback=hear)
    assert result.structured_content == {"said": "morning"}
    assert told == [f"waking {tool}", *[None] * (len(told) - 1)]


def test_a_skill_s_own_limit(team: Team) -> None:
    token = team.token("member")
    assert team.call(token, "rare").status == 200
    refused = team.call(token, "rare")
    assert (refused.status, refused.body["type"]) == (429, "urn:skill-operator:rate-limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert team.call(token).status == 200


def test_calls_are_counted_by_skill(team: Team) -> None:
    team.call(team.token("member"))
    with forward(team.operator.cluster, f"deployment/{NAMESPACE}-gateway", 8081) as port:
        text = http("GET", f"http://127.0.0.1:{port}/metrics", None).body.decode()
    found = f'skill_gateway_skill_calls_total{{namespace="{team.namespace}",outcome="2xx",skill="echo"}}'
    assert found in text
    assert 'skill_gateway_authorization_duration_seconds_count{kind="TokenReview",outcome="yes"}' in text
    assert "_created " not in text
    assert "_created{" not in text
