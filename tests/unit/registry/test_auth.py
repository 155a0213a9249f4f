"""Registries that answer nobody unasked: one that wants Basic, and one that wants a token of its realm."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from skill_operator.registry import auth
from skill_operator.registry.auth import RegistryAuth, RegistryAuthError
from tests.unit.web_server import served

NAME, PASSWORD = "ada", "to:p-secret"
USER = aiohttp.encode_basic_auth(NAME, PASSWORD)


class Guarded:
    """A registry and its realm. `open_to`: whom the realm gives tokens."""

    def __init__(self) -> None:
        self.scheme = "Basic"
        self.open_to = {USER}
        self.realm = ""
        self.said: object = {"token": "t-1"}
        self.asked: list[dict[str, str]] = []
        self.url = ""

    async def registry(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if given == (USER if self.scheme == "Basic" else "Bearer t-1"):
            return web.Response(text="read")
        challenge = f'Bearer realm="{self.realm}",service="reg",scope="repository:a/b:pull"'
        header = 'Basic realm="reg"' if self.scheme == "Basic" else challenge
        return web.Response(status=401, headers={"WWW-Authenticate": header})

    async def token(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        if request.headers.get("Authorization", "") not in self.open_to:
            return web.Response(status=403)
        return web.json_response(self.said)

    async def moved(self, _: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/token"})


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    made = Guarded()
    app = web.Application()
    app.router.add_get("/v2/", made.registry)
    app.router.add_get("/token", made.token)
    app.router.add_get("/moved", made.moved)
    async with served(app) as host:
        made.url = f"http://{host}"
        made.realm = f"{made.url}/token"
        yield made


def kept(folder: Path, guarded: Guarded, host: str = "", **entry: str) -> str:
    """A Docker configuration, also with what is of no concern here."""
    entry = entry or {"auth": base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()}
    other = {"auth": base64.b64encode(b"eve:other").decode()}
    auths = {"reg.example": other, host or guarded.url.removeprefix("http://"): entry}
    file = folder / "config.json"
    file.write_text(json.dumps({"auths": auths, "credHelpers": {}}))
    return str(file)


async def read(guarded: Guarded, file: str, hosts: Sequence[str] = ()) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(middlewares=(RegistryAuth(file, hosts),)) as session,
        session.get(f"{guarded.url}/v2/") as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
@pytest.mark.parametrize("entry", [{}, {"username": NAME, "password": PASSWORD}])
async def test_who_is_known_reads(tmp_path: Path, guarded: Guarded, scheme: str, entry: dict[str, str]) -> None:
    guarded.scheme = scheme
    assert await read(guarded, kept(tmp_path, guarded, **entry)) == (200, "read")
    wanted = {"service": "reg", "scope": "repository:a/b:pull"}
    assert guarded.asked == ([wanted] if scheme == "Bearer" else [])


async def test_a_realm_that_is_open_to_all_is_asked_without_a_name(guarded: Guarded) -> None:
    guarded.scheme, guarded.open_to, guarded.said = "Bearer", {""}, {"access_token": "t-1"}
    assert await read(guarded, "") == (200, "read")


async def test_a_credential_of_another_registry_goes_nowhere(tmp_path: Path, guarded: Guarded) -> None:
    file = kept(tmp_path, guarded, host="127.0.0.2:5000")
    assert (await read(guarded, file))[0] == 401
    guarded.scheme = "Bearer"
    with pytest.raises(RegistryAuthError, match="gives no token to nobody"):
        await read(guarded, file)


async def test_a_wrong_password_is_told_and_not_shown(tmp_path: Path, guarded: Guarded) -> None:
    file = kept(tmp_path, guarded, username="ada", password="wr0ng")
    assert (await read(guarded, file))[0] == 401
    guarded.scheme = "Bearer"
    with pytest.raises(RegistryAuthError, match="gives no token to user ada: HTTP 403") as told:
        await read(guarded, file)
    assert "wr0ng" not in str(told.value)


@pytest.mark.parametrize("realm", ["ftp://127.0.0.1/token", "", "token"])
async def test_a_strange_realm_gets_no_credential(tmp_path: Path, guarded: Guarded, realm: str) -> None:
    guarded.scheme, guarded.realm = "Bearer", realm
    with pytest.raises(RegistryAuthError, match="is no https address"):
        await read(guarded, kept(tmp_path, guarded))
    assert guarded.asked == []


@pytest.mark.parametrize(
    "realm",
    [
        "http://localhost:PORT/token",
        "https://localhost:PORT/token",
        "http://127.0.0.2:PORT/token",
        "http://[::1]:PORT/token",
        "https://kubernetes.default.svc/token",
        "http://169.254.169.254/token",
        "https://127.0.0.1.evil.example/token",
        "https://evil.example/127.0.0.1",
        "https://evil.example#@127.0.0.1/token",
    ],
)
async def test_a_realm_of_another_site_gets_no_credential(tmp_path: Path, guarded: Guarded, realm: str) -> None:
    guarded.scheme, guarded.realm = "Bearer", realm.replace("PORT", guarded.url.rpartition(":")[2])
    with pytest.raises(RegistryAuthError, match=r"registry\.trustedHosts"):
        await read(guarded, kept(tmp_path, guarded))
    assert guarded.asked == []


async def test_a_realm_of_the_setting_gets_the_credential(tmp_path: Path, guarded: Guarded) -> None:
    guarded.scheme, guarded.realm = "Bearer", guarded.realm.replace("127.0.0.1", "localhost")
    assert await read(guarded, kept(tmp_path, guarded), hosts=["localhost"]) == (200, "read")


@pytest.mark.parametrize("login", ["user@", "user:pw@", ":@"])
async def test_a_realm_with_a_login_is_no_address(tmp_path: Path, guarded: Guarded, login: str) -> None:
    guarded.scheme, guarded.realm = "Bearer", guarded.realm.replace("//", f"//{login}")
    with pytest.raises(RegistryAuthError, match="is no https address"):
        await read(guarded, kept(tmp_path, guarded))
    assert guarded.asked == []


async def test_a_redirect_of_the_realm_is_not_followed(tmp_path: Path, guarded: Guarded) -> None:
    guarded.scheme, guarded.realm = "Bearer", f"{guarded.url}/moved"
    with pytest.raises(RegistryAuthError, match="HTTP 307"):
        await read(guarded, kept(tmp_path, guarded))
    assert guarded.asked == []


@pytest.mark.parametrize("rest", ["a" * 8000, "a=" * 4000, 'a="' * 2500, "a" + " " * 8000, "realm " * 1300])
def test_a_challenge_is_read_in_linear_time(rest: str) -> None:
    """Each step of the match begins where no other did: the words of the header are begun once."""
    assert auth._PARAMETER.pattern.startswith(r"\b(\w++)")
    assert "realm" not in dict(auth._PARAMETER.findall(rest))


@pytest.mark.parametrize(
    "said",
    [
        {},
        [],
        {"token": ""},
        {"token": 7},
        {"token": ["t-1"]},
        {"token": {"a": 1}},
        {"token": "t-1\r\nX-Evil: 1"},
        {"token": "t 1"},
        {"token": "x" * 20_000},
        {"token": "x" * 100_000},
        {"access_token": None},
    ],
)
async def test_a_realm_that_says_nothing_of_use(tmp_path: Path, guarded: Guarded, said: object) -> None:
    guarded.scheme, guarded.said = "Bearer", said
    with pytest.raises(RegistryAuthError, match="gives no token"):
        await read(guarded, kept(tmp_path, guarded))


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"auths": {"HOST": {"auth": "%"}}}', '{"auths": {"HOST": {}}}'])
async def test_a_file_that_is_no_such_thing(tmp_path: Path, guarded: Guarded, text: str | None) -> None:
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text.replace("HOST", guarded.url.removeprefix("http://")))
    with pytest.raises(RegistryAuthError, match=r"registry\.readSecret"):
        await read(guarded, str(file))
