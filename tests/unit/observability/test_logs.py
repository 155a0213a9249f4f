"""Lines that machines read, which never tell a secret."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skill_operator.observability import logs

log = logging.getLogger("skill_operator.test")
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    printed = capsys.readouterr()
    assert printed.out == ""
    return [json.loads(line) for line in printed.err.splitlines()]


def test_one_line_of_json_for_each_record(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    log.debug("unseen")
    log.info("two\nlines \x1b[31m %s", "né", extra={"stage": "build", "k8s_ref": "noise", "odd": {1, 2}})
    (line,) = lines(capsys)
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "skill_operator.test",
        "message": "two\nlines \x1b[31m né",
        "stage": "build",
        "odd": "{1, 2}",
    }


async def test_each_task_says_whose_work_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")

    async def work(name: str) -> None:
        with logs.context(skill=name):
            await asyncio.sleep(0)
            with logs.context(stage="check"):
                log.info("in")
            log.info("out")

    await asyncio.gather(work("a"), work("b"))
    log.info("after")
    said = [(line.get("skill"), line.get("stage"), line["message"]) for line in lines(capsys)]
    assert said == [
        ("a", "check", "in"),
        ("a", None, "out"),
        ("b", "check", "in"),
        ("b", None, "out"),
        (None, None, "after"),
    ]


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer abcdefgh12345678.~+/=",
        "authorization: basic dXNlcjpwYXNzd29yZA==",
        f"token {JWT} was refused",
        "Incorrect API key provided: sk-proj-abcdefghijklmnop1234",
        "http://robot:hunter22-long@registry.example/v2/",
        "http://robot:hun@hunter22@registry.example/v2/",
        "https://:hunter22-long@registry.example/v2/",
        "x-api-key: hunter22abcdefghijklmnop",
        "api_key='hunter22abcdefghijklmnop'",
        '{"apiKey": "hunter22abcdefghijklmnop"}',
        "password=hunter22hunter22",
        "?token=hunter22hunter22&a=b",
        "hf_hunter22abcdefghijklmnop",
        "ghp_hunter22abcdefghijklmnop0123456789",
        "github_pat_hunter22_abcdefghijklmnop0123456789",
        "glpat-hunter22abcdefghijkl",
        "xoxb-hunter22-123456789012-abcdefghijkl",
        "AIzahunter22abcdefghijklmnopqrstuvw",
        "AKIAhunter22EXAMPLE0",
    ],
)
def test_a_secret_in_an_error_is_not_told(capsys: pytest.CaptureFixture[str], secret: str) -> None:
    logs.configure("info")
    error = RuntimeError(secret)
    log.error(
        "failed: %s",
        error,
        exc_info=error,
        extra={"why": secret, "list": [secret], "map": {"a": secret}, "object": error},
    )
    printed = capsys.readouterr().err
    (line,) = [json.loads(text) for text in printed.splitlines()]
    assert "RuntimeError" in line["exception"]
    for part in ("abcdefgh12345678", "dXNlcjpwYXNzd29yZA", "eyJzdWIi", "abcdefghijklmnop", "hunter22"):
        assert part not in printed
    assert "[removed]" in line["message"]


@pytest.mark.parametrize(
    "text",
    [
        "a basic understanding",
        "bearer of news",
        "http://registry.example:5000/a@sha256:0",
        "https://user@host/",
        "eyJ is how a token begins",
        "eyJhbGciOiJIUzI1NiJ9.only-two-parts",
        "prompt_tokens: 1234567890",
        "the secret team/echo is missing",
        "skill-operator, ask_ghost, half_baked",
    ],
)
def test_what_is_no_secret_stays(capsys: pytest.CaptureFixture[str], text: str) -> None:
    logs.configure("info")
    log.info(text)
    assert lines(capsys)[0]["message"] == text


def test_a_known_secret_is_hidden_whatever_its_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    logs.hide_secret('c0rrect"horse\\battery')
    logs.hide_secret("plainkey1234")
    logs.hide_secret("short")
    log.info('it is c0rrect"horse\\battery, or plainkey1234', extra={"short": 'c0rrect"horse\\battery'})
    (line,) = lines(capsys)
    assert line["message"] == "it is [removed], or [removed]"
    assert line["short"] == "[removed]"
    assert logs.quote("plainkey1234") == '"[removed]"'
    for number in range(2 * logs.MAX_KNOWN_SECRETS):
        logs.hide_secret(f"rotated-{number:08}")
    assert len(logs._known_secrets) <= logs.MAX_KNOWN_SECRETS


@pytest.mark.parametrize(
    "part", ["eyJ", "eyJ-", "eyJ.", "://a:", "a:", "bearer ", "api-key:", "sk-", "AIza", "@", "hf_"]
)
def test_a_stranger_s_line_is_searched_once(part: str) -> None:
    """A search that goes back over what it has read would take hours for this."""
    logs._redact("://" + part * 100_000)
    logs._redact(part * 100_000 + " ")


def test_chatty_libraries_are_told_to_be_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    for name in ("kopf.objects", "httpx", "openai", "aiohttp.access"):
        logging.getLogger(name).info("handler succeeded")
        logging.getLogger(name).warning("handler failed")
    assert [line["message"] for line in lines(capsys)] == ["handler failed"] * 4


async def test_lines_for_later_are_written_together_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    for number in range(3):
        logs.log_later('"message": "call", "number": {}'.format, number)
    assert capsys.readouterr().err == "", "not one by one"
    async with asyncio.timeout(20):
        while not (printed := capsys.readouterr().err):  # noqa: ASYNC110 - a stream has no event
            await asyncio.sleep(0.001)
    assert [json.loads(line)["number"] for line in printed.splitlines()] == [0, 1, 2]
    logs.log_later('"message": "call"'.format)
    log.info("after it")
    told = lines(capsys)
    assert [line["message"] for line in told] == ["call", "after it"]
    assert {line["level"] for line in told} == {"info"}
    assert str(told[0]["time"])[:19] <= str(told[1]["time"])[:19]


async def test_lines_for_later_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(logs.MAX_PENDING):
        logs.log_later('"message": "call"'.format)
    assert len(lines(capsys)) == logs.MAX_PENDING


def test_lines_for_later_are_written_before_the_process_ends() -> None:
    program = """
import asyncio
from skill_operator.observability import logs

async def main():
    logs.log_later('"message": "the last"'.format)

asyncio.run(main())
"""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", program]
    ended = subprocess.run(argv, env=paths, capture_output=True, text=True, timeout=60, check=True)
    assert [json.loads(line)["message"] for line in ended.stderr.splitlines()] == ["the last"]


async def test_nobody_suffers_from_a_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    logs.log_later('"message": "call"'.format)
    logs.flush()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain", "plain"),
        ('a"b\\c\n\x7f\u2028', 'a"b\\c\n\x7f\u2028'),
        ("\ud800", "\ud800"),
        (f"x {JWT} y", "x [removed] y"),
        ("Bearer abcdefgh12345678", "Bearer [removed]"),
    ],
)
def test_foreign_text_in_a_line_made_by_hand(text: str, told: str) -> None:
    made = logs.quote(text)
    assert made.isascii()
    assert "\n" not in made
    assert json.loads(made) == told
