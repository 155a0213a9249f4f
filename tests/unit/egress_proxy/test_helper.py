"""What Squid asks its helper, and what comes back: one line for one line, whatever is in it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import helper as egress_helper
from helper import ProxyDecision, SquidRequest, decide, format_response, parse, respond

HOST = "api.example.com"
YES = ProxyDecision(True, "allowed", "granted", "team/a")
NO = ProxyDecision(False, "refused", "host-not-granted", "team/a")


async def said(line: str, verdict: ProxyDecision = YES) -> tuple[str, list[tuple[str, str, str]]]:
    """The answer, and what the gateway was asked for it."""
    asked: list[tuple[str, str, str]] = []
    found: list[bytes] = []

    async def ask(*what: str) -> ProxyDecision:
        asked.append(what)  # type: ignore[arg-type]
        return verdict

    await respond(line, ask, found.append)
    (one,) = found
    return one.decode(), asked


async def test_a_request_is_the_gateway_s_to_decide() -> None:
    line = f"7 10.0.0.1 GET {HOST} 80 - - -\n"
    assert await said(line) == ("7 OK verdict_=allowed reason_=granted skill_=team%2Fa\n", [("10.0.0.1", HOST, "80")])
    assert (await said(line, NO))[0] == "7 ERR verdict_=refused reason_=host-not-granted skill_=team%2Fa\n"


@pytest.mark.parametrize(
    ("sni", "hello", "opens", "reason"),
    [
        ("-", "-", True, "no-tls-in-the-tunnel"),  # to look into it; the log says so if nothing follows
        (HOST, "seen", True, "granted"),
        ("API.example.COM", "seen", True, "granted"),
        ("-", "seen", False, "tls-without-a-name"),
        ("other.example.com", "seen", False, "tls-asks-for-another-host"),
        (f"x.{HOST}", "seen", False, "tls-asks-for-another-host"),
        (f"{HOST}.", "seen", False, "tls-asks-for-another-host"),
        (f"{HOST}%00", "seen", False, "tls-asks-for-another-host"),
        (f"{HOST}%20", "seen", False, "tls-asks-for-another-host"),
        ("", "seen", False, "malformed-request"),
    ],
)
async def test_a_tunnel_is_for_the_host_that_tls_asks_for(sni: str, hello: str, opens: bool, reason: str) -> None:
    text, _ = await said(f"1 10.0.0.1 CONNECT {HOST} 443 {sni} {hello} -\n")
    assert text.startswith("1 OK " if opens else "1 ERR ")
    assert f" reason_={reason} " in text
    assert (" verdict_=allowed " in text) == (reason == "granted")


async def test_a_tunnel_that_is_not_granted_is_not_looked_into() -> None:
    for hello in ("-", "seen"):
        assert (
            await decide(SquidRequest("1", "10.0.0.1", "CONNECT", HOST, "443", HOST, hello), lambda *_: _given(NO))
            == NO
        )


async def _given(verdict: ProxyDecision) -> ProxyDecision:
    return verdict


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "1\n",
        f"1 10.0.0.1 GET {HOST} 80 - -\n",
        f"1 10.0.0.1 GET {HOST} 80 - - - -\n",
        "\0\n",
        "1 2 3 4 5 6 7 8 9\n",
        "  \n",
    ],
)
async def test_a_line_that_is_none_opens_nothing(line: str) -> None:
    text, asked = await said(line)
    assert " ERR " in text
    assert not asked


@pytest.mark.parametrize("hostile", ["a b", "a\nb OK", "a\r\n0 OK", "verdict_=allowed", '"', "%", "\0", "ü", "a=b c=d"])
def test_what_is_said_of_a_skill_stays_one_word(hostile: str) -> None:
    line = format_response("1", ProxyDecision(False, "refused", hostile, hostile)).decode()
    assert line.count("\n") == 1
    assert len(line.split()) == 5
    assert line.split()[2] == "verdict_=refused"


def test_what_is_encoded_is_decoded_once() -> None:
    assert parse("1 a%20b GET x%2525y 80 - - -\n") == SquidRequest("1", "a b", "GET", "x%25y", "80", "-", "-")


async def test_the_program_answers_many_at_once_in_whole_lines() -> None:
    """As Squid runs it; nobody listens where it asks."""
    command = [sys.executable, "-I", str(Path(egress_helper.__file__)), "127.0.0.1:1"]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lines = "".join(f"{n} 10.0.0.1 GET {HOST} 80 - - -\n" for n in range(200))
    out, _ = await asyncio.wait_for(process.communicate(lines.encode()), 30)
    answers = out.decode().splitlines()
    assert sorted(int(line.split()[0]) for line in answers) == list(range(200))
    assert {line.split(" ", 1)[1] for line in answers} == {
        "ERR verdict_=refused reason_=gateway-does-not-answer skill_=-"
    }
    assert process.returncode == 0
