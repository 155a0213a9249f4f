"""The provider against a real server on loopback that does what bad days bring."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hack.model.server import ScriptedModel
from skill_operator.generation.provider import (
    MAX_RESPONSE_BYTES,
    MAX_RETRY_AFTER_SECONDS,
    Completion,
    ModelRefused,
    ModelUnavailable,
    Provider,
    estimate,
)
from skill_operator.settings import ModelEndpoint
from tests.unit.generation.world import InlineWorker

KEY = "sk-very-secret-0123456789"
ASKED: list[dict[str, str]] = [{"role": "system", "content": "rules"}, {"role": "user", "content": "task X"}]
Json = dict[str, Any]


def endpoint(url: str, **values: Any) -> ModelEndpoint:
    return ModelEndpoint(name="main", base_url=url, model="m-1", timeout_seconds=values.pop("timeout", 5), **values)


@contextmanager
def scripted(*replies: Json) -> Iterator[ScriptedModel]:
    with ScriptedModel({"task X": list(replies)}) as model:
        yield model


async def ask(model: ScriptedModel, provider: Provider | None = None, key: str = KEY, **values: Any) -> Completion:
    return await (provider or Provider(worker=InlineWorker())).complete(endpoint(model.url, **values), key, ASKED, 77)


async def unavailable(asking: Callable[[], Awaitable[Completion]]) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        await asking()
    assert KEY not in str(caught.value)
    return caught.value


async def test_reply_and_its_price_arrive_and_the_request_is_the_common_subset() -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 5}
    with scripted({"text": "hi", "usage": usage, "finish_reason": "length"}) as model:
        assert await ask(model) == Completion("hi", "length", 16, estimated=False)
    (request,) = model.requests
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert request["body"] == {"model": "m-1", "messages": ASKED, "max_tokens": 77, "temperature": 0.2}


async def test_no_key_no_authorization_header() -> None:
    with scripted({"text": "hi"}) as model:
        await ask(model, key="")
    assert "authorization" not in model.requests[0]["headers"]


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "sk-ключ", "tab\t"])
async def test_what_is_no_key_is_refused_before_it_is_sent_and_not_shown(key: str) -> None:
    with scripted({"text": "hi"}) as model:
        with pytest.raises(ModelRefused) as caught:
            await ask(model, key=key)
        assert model.requests == []
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("99999", MAX_RETRY_AFTER_SECONDS),
        ("-3", 0.0),
        (None, None),
        ("soon", None),
        ("nan", None),
    ],
)
async def test_429_is_tried_again_when_the_endpoint_says(header: str | None, expected: float | None) -> None:
    with scripted({"fault": "429"} | ({"retry_after": header} if header is not None else {})) as model:
        error = await unavailable(lambda: ask(model))
        assert (error.retry_after, error.billed) == (expected, False)
        assert len(model.requests) == 1, "the SDK retries on its own"


async def test_retry_after_may_be_a_date_by_the_endpoints_clock() -> None:
    with scripted({"fault": "429", "retry_after": "Fri, 01 Jan 2100 00:00:00 GMT"}) as model:
        assert (await unavailable(lambda: ask(model))).retry_after == MAX_RETRY_AFTER_SECONDS
    with scripted({"fault": "503", "retry_after": "Fri, 01 Jan 1999 00:00:00 GMT"}) as model:
        assert (await unavailable(lambda: ask(model))).retry_after == 0.0


@pytest.mark.parametrize(("status", "billed"), [(500, False), (502, False), (503, False), (408, True), (504, True)])
async def test_faults_of_the_endpoint_are_nobodys_fault_here(status: int, billed: bool) -> None:
    with scripted({"fault": str(status)}) as model:
        assert (await unavailable(lambda: ask(model))).billed is billed
        assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, "because"), (401, "apiKeySecret"), (403, "apiKeySecret"), (404, "m-1"), (422, "because"), (307, "307")],
)
async def test_refusals_say_what_a_person_has_to_change_and_hide_the_key(status: int, expected: str) -> None:
    message = "because " + "y" * 270 + f" {KEY} and {KEY}"  # cut to length, half a key would be left
    with scripted({"fault": str(status), "message": message}) as model:
        with pytest.raises(ModelRefused) as caught:
            await ask(model)
        assert len(model.requests) == 1
    assert expected in str(caught.value)
    assert KEY[:8] not in str(caught.value)


async def test_what_an_endpoint_says_cannot_play_with_the_terminal() -> None:
    refusal = {"fault": "400", "message": "red \x1b[31m \u202e"}
    with scripted(refusal) as model, pytest.raises(ModelRefused) as caught:
        await ask(model)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("fault", [{"fault": "hang"}, {"fault": "drip", "interval": 0.05}])
async def test_silence_and_dripping_end_by_the_wall_clock_and_may_be_billed(fault: Json) -> None:
    with scripted(fault | {"text": "x" * 1000}) as model:
        began = time.monotonic()
        assert (await unavailable(lambda: ask(model, timeout=0.4))).billed
        assert time.monotonic() - began < 2


async def test_the_wall_clock_covers_every_form_of_the_request() -> None:
    slow = {"fault": "reject_max_tokens", "delay": 0.7, "text": "late"}
    with scripted(slow) as model:
        await unavailable(lambda: ask(model, timeout=1))
        assert len(model.requests) == 2


async def test_nobody_listens() -> None:
    with socket.socket() as bound:  # bound but not listening: nobody else can have the port
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        error = await unavailable(lambda: Provider(worker=InlineWorker()).complete(endpoint(url), KEY, ASKED, 9))
    assert not error.billed
    assert url in str(error)


@pytest.mark.parametrize(
    ("fault", "billed"),
    [("html200", False), ("truncated", True), ("disconnect", True)],
)
async def test_broken_answers(fault: str, billed: bool) -> None:
    with scripted({"fault": fault, "text": "hello"}) as model:
        assert (await unavailable(lambda: ask(model))).billed is billed
        assert len(model.requests) == 1


@pytest.mark.parametrize("fault", [{"fault": "huge"}, {"fault": "500", "message": "z" * (MAX_RESPONSE_BYTES + 1)}])
async def test_bodies_are_cut_off_before_they_fill_the_memory_errors_included(fault: Json) -> None:
    with scripted(fault) as model:
        assert "KiB" in str(await unavailable(lambda: ask(model)))


async def test_wrong_content_type_is_no_reason_to_refuse_a_right_answer() -> None:
    with scripted({"fault": "wrong_content_type", "text": "hi"}) as model:
        assert (await ask(model)).text == "hi"


async def test_without_usage_the_price_is_estimated_and_not_too_low() -> None:
    text = "def run(input): return {}\n" * 20
    with scripted({"fault": "no_usage", "text": text}) as model:
        done = await ask(model)
    assert done.estimated
    assert done.tokens >= estimate(ASKED) + len(text) // 3


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, 7),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 20}, 20),  # reasoning, counted in the total alone
        ({"total_tokens": 9}, 9),
        ({"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 0}, None),  # there was a text
        ({"prompt_tokens": -3, "completion_tokens": 4}, None),
        ({"prompt_tokens": True, "completion_tokens": "4"}, None),
        ([], None),
        ("cheap", None),
        (None, None),
    ],
)
async def test_usage_is_believed_as_far_as_it_can_be_true(raw: Raw, usage: Any, tokens: int | None) -> None:
    done = await raw({"choices": [{"message": {"content": "text"}, "finish_reason": "stop"}], "usage": usage})
    assert (done.estimated, done.tokens) == (tokens is None, tokens or estimate(ASKED) + 2)


HIGHEST = 2 * (estimate(ASKED) + 9)  # of the request below, which allows 9 tokens


@pytest.mark.parametrize(
    "usage",
    [
        *(
            {"prompt_tokens": count, "completion_tokens": 1}
            for count in (HIGHEST, 10**12, 10**400, 2**63, -(10**30), True, "7", 1.5, [7], None)
        ),
        *({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": count} for count in (HIGHEST + 1, 10**12)),
        '{"prompt_tokens": NaN, "completion_tokens": 1}',
        '{"prompt_tokens": Infinity, "total_tokens": -Infinity}',
        '{"prompt_tokens": 1e400, "completion_tokens": 1e400}',
    ],
    ids=lambda usage: str(usage)[:50],
)
async def test_usage_that_cannot_be_true_is_estimated(raw: Raw, usage: Any) -> None:
    written = usage if isinstance(usage, str) else json.dumps(usage)
    done = await raw('{"choices": [{"message": {"content": "text"}}], "usage": ' + written + "}")
    assert done.estimated
    assert done.tokens == estimate(ASKED) + 2


async def test_the_highest_usage_that_can_be_true_is_believed(raw: Raw) -> None:
    usage = {"prompt_tokens": HIGHEST - 1, "completion_tokens": 1}
    done = await raw({"choices": [{"message": {"content": "text"}}], "usage": usage})
    assert (done.tokens, done.estimated) == (HIGHEST, False)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Rate limit exceeded, wait", "code": 429}},
        {"error": {"message": "Rate limit exceeded, wait"}, "choices": None},
        {"error": "Rate limit exceeded, wait", "choices": []},
        {"choices": [{"error": {"message": "Rate limit exceeded, wait", "code": 502}, "message": {"content": ""}}]},
        {"choices": [{"finish_reason": "error"}], "error": {"message": "Rate limit exceeded, wait"}},
    ],
)
async def test_an_error_under_status_200_is_a_fault_in_the_words_of_the_endpoint(raw: Raw, body: Json) -> None:
    error = await unavailable(lambda: raw(body))
    assert not error.billed
    assert "Rate limit exceeded, wait" in str(error)


async def test_finish_reason_error_alone_is_a_fault(raw: Raw) -> None:
    body = {"choices": [{"finish_reason": "error", "message": {"content": "half of the"}}]}
    assert not (await unavailable(lambda: raw(body))).billed


async def test_an_error_under_status_200_does_not_show_the_key(raw: Raw) -> None:
    await unavailable(lambda: raw({"error": {"message": f"bad key {KEY}"}}))


async def test_a_response_is_decoded_in_another_process() -> None:
    with scripted({"text": "hi \u00e9\u4e2d"}) as model:
        assert (await ask(model, Provider())).text == "hi \u00e9\u4e2d"


async def test_no_content_is_an_empty_reply() -> None:
    with scripted({"fault": "null_content", "text": "hi"}) as model:
        assert (await ask(model)).text == ""


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"choices": []}',
        '{"choices": [{}]}',
        '{"choices": ["x"]}',
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": {"content": 7}}]}',
        '{"choices": [{"message": {"content": [7]}}]}',
        '{"error": {"message": "overloaded"}}',
        "[]",
        "null",
        "",
        "[" * 100_000,
        '"\\ud800',
        b"\xff\xfe\x00",
    ],
)
async def test_rubbish_with_200_is_a_fault_of_the_endpoint(raw: Raw, body: str | bytes) -> None:
    await unavailable(lambda: raw(body))


async def test_parts_of_a_content_list_are_joined(raw: Raw) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert (await raw({"choices": [{"message": {"content": parts}}]})).text == "ab"


async def test_an_answer_compressed_against_our_wish_is_not_unpacked(raw: Raw) -> None:
    body = {"choices": [{"message": {"content": "hi"}}]}
    assert "compresses" in str(await unavailable(lambda: raw(body, headers={"Content-Encoding": "gzip"})))


async def test_the_limit_field_is_switched_once_and_remembered() -> None:
    provider = Provider(worker=InlineWorker())
    with scripted({"fault": "reject_max_tokens", "text": "hi"}) as model:
        assert (await ask(model, provider)).text == "hi"
        assert (await ask(model, provider)).text == "hi"
    limits = [[name for name in request["body"] if name.startswith("max_")] for request in model.requests]
    assert limits == [["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"]]
    assert {request["body"].get(limit[0]) for request, limit in zip(model.requests, limits, strict=True)} == {77}


async def test_temperature_is_dropped_once_and_remembered() -> None:
    provider = Provider(worker=InlineWorker())
    with scripted({"fault": "refuse_temperature", "text": "hi"}) as model:
        await ask(model, provider)
        await ask(model, provider)
    assert ["temperature" in request["body"] for request in model.requests] == [True, False, False]


async def test_a_refusal_that_merely_names_a_field_teaches_nothing() -> None:
    provider = Provider(worker=InlineWorker())
    long = {"fault": "400", "message": "maximum context length is 4096 tokens; reduce max_tokens"}
    with scripted(long, long, {"text": "hi"}) as model:
        with pytest.raises(ModelRefused):
            await ask(model, provider)
        await ask(model, provider)
    assert "max_tokens" in model.requests[-1]["body"]


async def test_dialects_are_kept_apart() -> None:
    provider = Provider(worker=InlineWorker())
    with scripted({"fault": "refuse_temperature", "text": "hi"}) as model:
        await ask(model, provider)
        other = ModelEndpoint(name="other", base_url=model.url, model="m-2")
        await provider.complete(other, KEY, ASKED, 9)
    assert "temperature" in model.requests[2]["body"]


@pytest.mark.parametrize("url", ["http://[", "ftp://127.0.0.1/v1", "not a url", "http://127.0.0.1:0/v1"])
async def test_a_base_url_that_cannot_be_is_told_and_no_crash(url: str) -> None:
    with pytest.raises((ModelRefused, ModelUnavailable)):
        await Provider(worker=InlineWorker()).complete(endpoint(url), KEY, ASKED, 9)


async def test_a_password_in_the_base_url_is_not_shown() -> None:
    with scripted({"fault": "404"}) as model:
        url = model.url.replace("http://", "http://me:hunter2@")
        with pytest.raises(ModelRefused) as caught:
            await Provider(worker=InlineWorker()).complete(endpoint(url), KEY, ASKED, 9)
    assert "hunter2" not in str(caught.value)


Raw = Callable[..., Awaitable[Completion]]


@pytest.fixture
async def raw() -> Any:
    """Ask an endpoint that answers 200 with exactly these bytes."""
    import asyncio

    servers: list[asyncio.Server] = []

    async def ask_raw(body: Any, headers: dict[str, str] | None = None) -> Completion:
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(data)}\r\n\r\n"

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + data)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return await Provider(worker=InlineWorker()).complete(endpoint(f"http://127.0.0.1:{port}/v1"), KEY, ASKED, 9)

    yield ask_raw
    for server in servers:
        server.close()
