"""People sign in by the standard: an OpenID provider, an API server that trusts it, and the MCP SDK's own client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import jwt
import pytest
from mcp.client.auth import OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from hack.cluster.access import Cluster
from hack.cluster.bare import Bare
from hack.cluster.shell import run
from tests.integration import npm_packages
from tests.integration.installed import Operator, install_for_tests, installed, until
from tests.integration.test_skill import apply, skill

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.bare,
    pytest.mark.serial("has the API server trust an issuer, and installs the chart so that callers sign in there"),
    pytest.mark.timeout(300),
]
WELL_KNOWN = "/.well-known/oauth-protected-resource"
API_SERVER_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
GATEWAY = "https://skill-operator-gateway.skill-operator.svc"
RESOURCE = f"{GATEWAY}/mcp"
BRIEF = f"{GATEWAY}/brief"
OTHER_RESOURCE = "https://other.example/mcp"
CALLBACK = "http://127.0.0.1:1/callback"
TRUST_SECONDS = 90.0
"""The API server sees the changed file at once, or by a look at it each minute."""


@dataclass(frozen=True)
class Issuer:
    """A running OpenID provider."""

    url: str
    certificate: Path

    def authenticator(self, *audiences: str) -> dict[str, Any]:
        """Return what the API server needs to know of it, as docs/how-to/sign-in.md has it."""
        return {
            "issuer": {
                "url": self.url,
                "audiences": list(audiences),
                "audienceMatchPolicy": "MatchAny",
                "certificateAuthority": self.certificate.read_text(),
            },
            "claimMappings": {
                "username": {"claim": "sub", "prefix": "mcp:"},
                "groups": {"claim": "groups", "prefix": "mcp:"},
            },
        }


@dataclass(frozen=True)
class SignIn:
    """The operator whose callers sign in, the issuer, and a Skill that its staff may call."""

    operator: Operator
    issuer: Issuer
    namespace: str

    @property
    def trust(self) -> ssl.SSLContext:
        """Return a context that trusts issuer and gateway, each by its published certificate."""
        context = ssl.create_default_context(cafile=str(self.issuer.certificate))
        context.load_verify_locations(cadata=self.operator.service.authorities)
        return context

    def client(self, **options: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=Rerouted(self), trust_env=False, timeout=30, **options)


class Rerouted(httpx2.AsyncHTTPTransport):
    """A transport that reaches the gateway's name at the forwarded port, and holds it to that name."""

    def __init__(self, world: SignIn) -> None:
        super().__init__(verify=world.trust)
        self._port = world.operator.gateway

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        name = urlsplit(GATEWAY).hostname
        if request.url.host == name:
            request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
            request.extensions |= {"sni_hostname": name}
        return await super().handle_async_request(request)


@contextmanager
def issuing(cluster: Cluster, folder: Path) -> Iterator[Issuer]:
    """Run an issuer at the address under which the node reaches this machine."""
    with socket.create_server((cluster.host, 0)) as free:
        url = f"https://{cluster.host}:{free.getsockname()[1]}"
    certificate, key = folder / "issuer.crt", folder / "issuer.key"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-subj", "/CN=issuer", "-addext", f"subjectAltName=IP:{cluster.host}", "-keyout", key, "-out", certificate),
    )
    settings = {"issuer": url, "address": cluster.host, "resource": RESOURCE, "brief": BRIEF, "group": "staff"}
    settings |= {"certificate": certificate.read_text(), "key": key.read_text()}
    program = npm_packages.ensure() / "issuer.mjs"
    environment = os.environ | {"ISSUER_SETTINGS": json.dumps(settings)}
    log = folder / "issuer.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            ("node", program), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n", log.read_text()
            yield Issuer(url, certificate)
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def trusted(engine: Bare, issuer: Issuer) -> Iterator[None]:
    engine.trust(issuer.authenticator(RESOURCE))
    try:
        yield
    finally:
        engine.trust()


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignIn]:
    engine = cluster.engine
    assert isinstance(engine, Bare)
    with issuing(cluster, tmp_path_factory.mktemp("issuer")) as issuer, trusted(engine, issuer):
        gateway = {
            "audiences": ["skill-gateway", API_SERVER_AUDIENCE],
            "oauth": {"authorizationServers": [issuer.url], "scopes": ["openid", "skills:call"]},
            "tls": {"selfSigned": True},
        }
        try:
            with installed(cluster, gateway=gateway) as operator, cluster.namespace("sign-in") as name:
                apply(operator, name, skill("echo", callTimeoutSeconds=20))
                group = ("--clusterrole=skill-caller", "--group=mcp:staff")
                cluster.kubectl("-n", name, "create", "rolebinding", "staff", *group)
                operator.ready(name, "echo")
                made = SignIn(operator, issuer, name)
                until("the API server trusts the issuer", TRUST_SECONDS, lambda: is_known(made))
                yield made
        finally:
            install_for_tests(cluster)


def is_known(world: SignIn) -> bool:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    token = asyncio.run(client_token(world, RESOURCE))
    status = json.loads(
        world.operator.cluster.kubectl(
            "create", "-o", "json", "-f", "-", stdin=json.dumps(review | {"spec": {"token": token}})
        )
    )["status"]
    return status.get("authenticated") is True


class Memory:
    """The storage of a client that has not signed in yet."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Browser:
    """A person at a browser, who signs in under a name, agrees to everything, and comes back to the client."""

    def __init__(self, world: SignIn, name: str) -> None:
        self._world = world
        self._name = name
        self.asked: dict[str, list[str]] = {}
        self._result: AuthorizationCodeResult | None = None

    async def open(self, url: str) -> None:
        self.asked = parse_qs(urlsplit(url).query)
        async with self._world.client() as browser:
            answer = await browser.get(url)
            for _ in range(12):
                if answer.has_redirect_location:
                    target = urljoin(str(answer.request.url), answer.headers["location"])
                    if target.startswith(CALLBACK):
                        given = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
                        self._result = AuthorizationCodeResult.model_validate(given)
                        return
                    answer = await browser.get(target)
                else:
                    assert answer.status_code == 200, answer.text
                    login = 'name="login"' in answer.text
                    form = {"prompt": "login", "login": self._name, "password": "x"} if login else {"prompt": "consent"}
                    answer = await browser.post(answer.request.url, data=form)
        raise AssertionError(f"the provider asks and asks: {answer.text[:500]}")

    async def come_back(self) -> AuthorizationCodeResult:
        assert self._result is not None
        return self._result


@asynccontextmanager
async def signed_in(world: SignIn, url: str, name: str = "alice") -> AsyncIterator[tuple[Client, Memory, Browser]]:
    """Connect as a client that knows nothing but the URL, at which a person signs in."""
    memory, browser = Memory(), Browser(world, name)
    metadata = OAuthClientMetadata(client_name="an agent", redirect_uris=[AnyUrl(CALLBACK)])
    oauth = OAuthClientProvider(url, metadata, memory, browser.open, browser.come_back)
    async with (
        world.client(auth=oauth) as connection,
        Client(streamable_http_client(url, http_client=connection), cache=None) as client,
    ):
        yield client, memory, browser


async def client_token(world: SignIn, resource: str) -> str:
    """Return a token for a resource, which a program gets without a person."""
    async with world.client() as client:
        asked = {"grant_types": ["client_credentials"], "redirect_uris": [], "response_types": []}
        registered = (await client.post(f"{world.issuer.url}/reg", json=asked)).json()
        login = (registered["client_id"], registered["client_secret"])
        form = {"grant_type": "client_credentials", "resource": resource, "scope": "skills:call"}
        answer = (await client.post(f"{world.issuer.url}/token", data=form, auth=login)).json()
    return str(answer["access_token"])


async def call(world: SignIn, token: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    path = f"/v1/skills/{world.namespace}/echo"
    async with world.client() as client:
        return await client.post(f"{GATEWAY}{path}", json={"what": "hi"}, headers=headers)


async def test_an_agent_s_user_signs_in_finds_a_tool_and_calls_it(world: SignIn) -> None:
    async with signed_in(world, RESOURCE) as (client, memory, browser):
        tools = [tool.name for tool in (await client.list_tools()).tools]
        assert tools == [f"{world.namespace}__echo"], "what staff may call, and no more"
        result = await client.call_tool(tools[0], {"what": "hi"})
        assert result.structured_content == {"said": "hi"}
    assert browser.asked["code_challenge_method"] == ["S256"]
    assert browser.asked["resource"] == [RESOURCE]
    assert set(browser.asked["scope"][0].split()) >= {"openid", "skills:call"}
    assert memory.tokens is not None
    claims = jwt.decode(memory.tokens.access_token, options={"verify_signature": False})
    assert (claims["iss"], claims["aud"], claims["sub"]) == (world.issuer.url, RESOURCE, "alice")
    answer = await call(world, memory.tokens.access_token)
    assert (answer.status_code, answer.json()) == (200, {"said": "hi"}), "one token, either way"


async def test_anybody_reads_where_to_sign_in(world: SignIn) -> None:
    async with world.client() as client:
        for end, resource in (("", ""), ("/mcp", "/mcp"), (f"/mcp/{world.namespace}", f"/mcp/{world.namespace}")):
            document = (await client.get(f"{GATEWAY}{WELL_KNOWN}{end}")).json()
            assert document["resource"] == GATEWAY + resource
            assert document["authorization_servers"] == [world.issuer.url]


async def test_a_token_that_is_not_for_the_gateway_is_refused(world: SignIn) -> None:
    good = await client_token(world, RESOURCE)
    assert (await call(world, good)).status_code == 200, "the others are refused for what they are"
    brief = await client_token(world, BRIEF)
    other = await client_token(world, OTHER_RESOURCE)
    expiry = jwt.decode(brief, options={"verify_signature": False})["exp"]
    until("the token is over", 10, lambda: time.time() > expiry + 0.1)
    claims = jwt.decode(good, options={"verify_signature": False})
    key = "a key that the issuer does not have, of 32 bytes"
    forged = {
        "another key": jwt.encode(claims, key, "HS256", headers={"kid": "tests"}),
        "another issuer": jwt.encode(claims | {"iss": "https://other.example"}, key, "HS256"),
        "no signature": jwt.encode(claims, "", "none"),
        "changed": ".".join([good.rpartition(".")[0], other.rpartition(".")[2]]),
    }
    for why, token in {"another audience": other, "over": brief, "none": "", **forged}.items():
        answer = await call(world, token)
        challenge = answer.headers.get("WWW-Authenticate", "")
        assert answer.status_code == 401, (why, answer.text)
        assert f'resource_metadata="{GATEWAY}{WELL_KNOWN}"' in challenge, why
        assert ('error="invalid_token"' in challenge) is bool(token), why
        async with world.client(headers={"Authorization": f"Bearer {token}"} if token else {}) as client:
            answer = await client.post(RESOURCE, json={})
        assert answer.status_code == 401, why
        assert f'resource_metadata="{GATEWAY}{WELL_KNOWN}/mcp"' in answer.headers["WWW-Authenticate"], why


async def test_a_token_lends_no_more_than_its_user_may(world: SignIn) -> None:
    cluster = world.operator.cluster
    cluster.kubectl("-n", world.namespace, "delete", "rolebinding", "staff")
    try:
        token = await client_token(world, RESOURCE)

        def refused() -> bool:
            return asyncio.run(call(world, token)).status_code == 403

        await asyncio.to_thread(until, "a right that was taken away is gone", 30, refused)
    finally:
        group = ("--clusterrole=skill-caller", "--group=mcp:staff")
        cluster.kubectl("-n", world.namespace, "create", "rolebinding", "staff", *group)
