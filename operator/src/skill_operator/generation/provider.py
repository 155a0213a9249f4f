"""The provider calls an endpoint of the OpenAI Chat Completions API.

It is the only module that imports the `openai` client.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final

import httpx2
import openai

from skill_operator.generation.chat_response import ChatResponse, decode_response
from skill_operator.generation.prompt import Message
from skill_operator.settings import ModelEndpoint
from skill_operator.untrusted.text import printable
from skill_operator.untrusted.worker import Worker, WorkerFailed

log = logging.getLogger(__name__)

BYTES_PER_TOKEN: Final = 3  # of UTF-8; low on purpose: an estimate must not be lower than the bill
TOKENS_PER_MESSAGE: Final = 16  # for what separates messages
MAX_RESPONSE_BYTES: Final = 512 * 1024  # eight times the longest source
MAX_ERROR_RESPONSE_BYTES: Final = 16 * 1024  # the client parses errors itself; what is longer is cut
MAX_USAGE_FACTOR: Final = 2  # usage beyond what the request allowed, times this, is no usage of it
MAX_RETRY_AFTER_SECONDS: Final = 600.0
MAX_ERROR_CHARACTERS: Final = 300  # of an endpoint's error message
DEFAULT_TEMPERATURE: Final = 0.2
MAX_REQUEST_FORMS: Final = 3  # as it is, with the other limit field, without temperature


class ModelUnavailable(Exception):
    """ModelUnavailable is a temporary fault of the endpoint or the network: the call is made again.

    `billed`: the call may have cost tokens all the same. `retry_after`: seconds that the endpoint asked to wait.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, billed: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.billed = billed


class ModelRefused(Exception):
    """ModelRefused is a permanent refusal of the endpoint: a person has to change the settings."""


@dataclass(frozen=True)
class Completion:
    """Completion is the text of one reply, and its price in tokens."""

    text: str
    finish_reason: str
    tokens: int
    estimated: bool


@dataclass(frozen=True)
class Dialect:
    """Dialect is the form of the request that one endpoint accepts."""

    limit_field: str = "max_tokens"
    omitted_fields: frozenset[str] = field(default_factory=frozenset)


class Provider:
    """Provider calls endpoints, and remembers the dialect of each, so that it sends an unaccepted form only once.

    Responses are decoded by `worker`. `transport` replaces the network in tests.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None, worker: Worker | None = None) -> None:
        self._worker = worker or Worker()
        self._dialects: dict[str, Dialect] = {}
        self._transport = transport

    async def complete(
        self,
        endpoint: ModelEndpoint,
        api_key: str,
        messages: list[Message],
        max_tokens: int,
        temperature: float = DEFAULT_TEMPERATURE,
    ) -> Completion:
        """Return the completion of the messages.

        Raises ModelUnavailable or ModelRefused; their messages never contain the key.
        """
        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ModelRefused(
                f"the key of {endpoint.name} is no key: it contains blanks or letters that no HTTP header may contain"
            )
        try:
            async with asyncio.timeout(endpoint.timeout_seconds):  # a slow trickle of bytes resets every other timeout
                body = await self._request(endpoint, api_key, messages, max_tokens, temperature)
        except TimeoutError:
            message = f"{endpoint.name} did not answer within {endpoint.timeout_seconds:.0f} s."
            raise ModelUnavailable(message, billed=True) from None
        return _make_completion(await self._decode(body, endpoint), endpoint, api_key, messages, max_tokens)

    async def _decode(self, body: bytes, endpoint: ModelEndpoint) -> ChatResponse:
        """Return the decoded body of a response."""
        try:
            response: ChatResponse | None = await self._worker.call(decode_response, body.decode("latin-1"))
        except WorkerFailed:
            response = None
        if response is None:
            is_html = body[:MAX_ERROR_CHARACTERS].lstrip()[:1] == b"<"
            hint = "it is no Chat Completions endpoint" if is_html else "the response is malformed"
            raise ModelUnavailable(f"{endpoint.name} at {_url_without_login(endpoint)}: {hint}.", billed=not is_html)
        return response

    async def _request(
        self, endpoint: ModelEndpoint, api_key: str, messages: list[Message], max_tokens: int, temperature: float
    ) -> bytes:
        """Return the body of the response, to whichever form of the request the endpoint accepts."""
        dialect = self._dialects.get(endpoint.name, Dialect())
        for _ in range(MAX_REQUEST_FORMS):
            try:
                request = _request_body(endpoint, dialect, messages, max_tokens, temperature)
                body = await _post(endpoint, api_key, request, self._transport)
            except openai.BadRequestError as error:
                next_dialect = _next_dialect(dialect, str(error))
                if next_dialect is None:
                    detail = _clean(error, api_key)
                    raise ModelRefused(f"{endpoint.name} refuses the request (400): {detail}") from None
                dialect = next_dialect
            else:
                self._dialects[endpoint.name] = dialect  # only now: a 400 may name a field and mean something else
                return body
        raise ModelRefused(f"{endpoint.name} refuses every form of the request; see models[] in the chart's values")


async def _post(
    endpoint: ModelEndpoint, api_key: str, body: dict[str, Any], transport: httpx2.AsyncBaseTransport | None
) -> bytes:
    name, url = endpoint.name, _url_without_login(endpoint)
    try:
        async with _client(endpoint, api_key, transport) as client:
            raw = client.chat.completions.with_streaming_response
            no_key = {} if api_key else {"Authorization": openai.Omit()}
            async with raw.create(**body, extra_headers={"Accept-Encoding": "identity", **no_key}) as response:
                data: bytes = await response.read()
                return data
    except openai.APITimeoutError as error:
        was_sent = not isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        raise ModelUnavailable(f"{name} at {url} did not answer in time.", billed=was_sent) from None
    except openai.APIConnectionError as error:
        was_sent = not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol)
        detail = _clean(error.__cause__ or error, api_key)
        raise ModelUnavailable(f"{name} at {url} cannot be reached: {detail}.", billed=was_sent) from None
    except openai.BadRequestError:
        raise
    except openai.APIStatusError as error:
        raise _status_error(endpoint, api_key, error) from None
    except (httpx2.HTTPError, OSError) as error:
        raise ModelUnavailable(f"{name} closed the connection early: {_clean(error, api_key)}.", billed=True) from None
    except (openai.OpenAIError, httpx2.InvalidURL, UnicodeError) as error:
        detail = _clean(error, api_key)
        raise ModelRefused(f"{name} cannot be called: {detail}; see models[] in the chart's values") from None


def _status_error(
    endpoint: ModelEndpoint, api_key: str, error: openai.APIStatusError
) -> ModelUnavailable | ModelRefused:
    """Return the error that a status other than 200 means (RFC 9110)."""
    name, code = endpoint.name, error.status_code
    if code == 429:
        return ModelUnavailable(f"{name} reports too many requests (429).", _retry_after(error.response.headers))
    if code >= 500 or code in {408, 409, 425}:
        may_be_billed = code in {408, 504}  # a proxy gave up; the model behind it may not have
        return ModelUnavailable(f"{name} failed ({code}).", _retry_after(error.response.headers), billed=may_be_billed)
    if code in {401, 403}:
        return ModelRefused(f"{name} refuses the key ({code}): see apiKeySecret in the chart's values")
    if code == 404:
        where = f"{_url_without_login(endpoint)} and model {endpoint.model}"
        return ModelRefused(f"{name} knows no such model or path (404): check {where}")
    return ModelRefused(f"{name} refuses the request ({code}): {_clean(error, api_key)}")


def _client(endpoint: ModelEndpoint, api_key: str, transport: httpx2.AsyncBaseTransport | None) -> openai.AsyncOpenAI:
    async def limit_body(response: httpx2.Response) -> None:
        """Bound every response, also that of an error, which the SDK reads to its end."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ModelUnavailable(f"{endpoint.name} compresses its response although the request forbids it.")
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _LimitedStream(response.stream, endpoint.name, is_error=response.is_error)

    http = httpx2.AsyncClient(
        trust_env=False,
        timeout=endpoint.timeout_seconds,
        event_hooks={"response": [limit_body]},
        verify=_tls_context(),
        transport=transport,
    )
    return openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=api_key or "none",  # the SDK requires one; the header is omitted
        max_retries=0,
        timeout=endpoint.timeout_seconds,
        http_client=http,
    )


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the system's trust store, read once: reading takes 0.1 s, which blocks the event loop."""
    return ssl.create_default_context()


class _LimitedStream(httpx2.AsyncByteStream):
    """_LimitedStream raises an error once a body is too large, before it is in memory. That of an error is cut."""

    def __init__(self, stream: httpx2.AsyncByteStream, name: str, *, is_error: bool) -> None:
        self._stream = stream
        self._name = name
        self._is_error = is_error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            room = MAX_ERROR_RESPONSE_BYTES - size if self._is_error else len(chunk)
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise ModelUnavailable(f"{self._name} sent more than {MAX_RESPONSE_BYTES // 1024} KiB.", billed=True)
            if room > 0:
                yield chunk[:room]

    async def aclose(self) -> None:
        await self._stream.aclose()


def estimate(messages: list[Message]) -> int:
    """Return an upper bound of the tokens of a prompt."""
    return sum(_estimate_tokens(message["content"]) + TOKENS_PER_MESSAGE for message in messages)


def _estimate_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def _request_body(
    endpoint: ModelEndpoint, dialect: Dialect, messages: list[Message], max_tokens: int, temperature: float
) -> dict[str, Any]:
    body = {
        "model": endpoint.model,
        "messages": messages,
        dialect.limit_field: max_tokens,
        "temperature": temperature,
    }
    return {k: v for k, v in body.items() if k not in dialect.omitted_fields}


def _next_dialect(dialect: Dialect, message: str) -> Dialect | None:
    """Return the next form to try, if the refusal names a field that has another name or can be omitted."""
    if dialect.limit_field == "max_tokens" and "max_tokens" in message:
        return replace(dialect, limit_field="max_completion_tokens")
    if "temperature" in message and "temperature" not in dialect.omitted_fields:
        return replace(dialect, omitted_fields=dialect.omitted_fields | {"temperature"})
    return None


def _make_completion(
    response: ChatResponse, endpoint: ModelEndpoint, api_key: str, messages: list[Message], max_tokens: int
) -> Completion:
    """Return the completion of a response. Raises ModelUnavailable where it tells an error."""
    if "error" in response:
        detail = _clean(response["error"], api_key)
        raise ModelUnavailable(f"{endpoint.name} reports an error with status 200: {detail}.")
    text, prompt_tokens = response["text"], estimate(messages)
    reported = _reported_tokens(response["usage"], text)
    highest = MAX_USAGE_FACTOR * (prompt_tokens + max_tokens)
    if reported is not None and reported > highest:
        log.warning(
            "a model reports more tokens than its request allowed; they are estimated",
            extra={"endpoint": endpoint.name, "reported": reported, "allowed": highest},
        )
        reported = None
    tokens = prompt_tokens + _estimate_tokens(text) if reported is None else reported
    return Completion(text, response["finish_reason"], tokens, estimated=reported is None)


def _reported_tokens(usage: dict[str, int], text: str) -> int | None:
    """Return the tokens that the endpoint reports to charge, or None if the report is missing or contradicts itself."""
    prompt, completion, total = (usage.get(kind) for kind in ("prompt", "completion", "total"))
    if prompt is not None and completion is not None and (completion or not text):
        return max(prompt + completion, total or 0)
    return total or None


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110); a date is measured by the endpoint's own clock."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            until, date = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
            seconds = (until - date).total_seconds()
        except (ValueError, TypeError):  # no date, or one of the two has no time zone
            return None
    return min(MAX_RETRY_AFTER_SECONDS, max(0.0, seconds)) if math.isfinite(seconds) else None


def _url_without_login(endpoint: ModelEndpoint) -> str:
    """Return the base URL without the user name and password that it may contain."""
    return re.sub(r"//[^/@]*@", "//", endpoint.base_url, count=1)


def _clean(error: object, api_key: str) -> str:
    """Return the error's text without the key.

    The key is removed before the text is cut, so that no half of it can remain.
    """
    text = str(error)
    return printable(text.replace(api_key, "[key]") if api_key else text, MAX_ERROR_CHARACTERS)
