"""One call of an OpenAI-compatible endpoint. The only module that imports its client."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from skill_operator.generation.prompt import Message
from skill_operator.generation.reply import LARGEST_REPLY
from skill_operator.settings import ModelEndpoint

CHARACTERS_PER_TOKEN = 3  # on the safe side: an estimate must not be lower than the bill
LARGEST_BODY = 2 * LARGEST_REPLY


class ModelUnavailable(Exception):
    """The endpoint's fault or the network's: it is asked again. `billed`: it may have cost tokens all the same."""

    def __init__(self, message: str, retry_after: float | None = None, *, billed: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.billed = billed


class ModelRefused(Exception):
    """The endpoint will never answer this: a person has to change the settings."""


@dataclass(frozen=True)
class Completion:
    text: str
    finish_reason: str
    tokens: int
    estimated: bool


@dataclass
class Dialect:
    """What an endpoint was found not to understand; remembered, so that it is asked wrongly once."""

    limit_field: str = "max_tokens"
    dropped: set[str] = field(default_factory=set)


class Provider:
    def __init__(self) -> None:
        self._dialects: dict[str, Dialect] = {}

    async def complete(
        self, endpoint: ModelEndpoint, api_key: str, messages: list[Message], max_tokens: int
    ) -> Completion:
        """Raises ModelUnavailable or ModelRefused; neither ever holds the key."""
        dialect = self._dialects.setdefault(endpoint.name, Dialect())
        for _ in range(3):
            try:
                async with asyncio.timeout(endpoint.timeoutSeconds):  # a dripping reply resets every other clock
                    body = await self._post(endpoint, api_key, _body(endpoint, dialect, messages, max_tokens))
                return _completion(body, messages, endpoint)
            except TimeoutError as error:
                late = f"{endpoint.name} did not answer within {endpoint.timeoutSeconds:.0f} s."
                raise ModelUnavailable(late, billed=True) from error
            except openai.BadRequestError as error:
                if not _learn(dialect, str(error)):
                    raise ModelRefused(f"{endpoint.name} refuses the request (400): {_clean(error, api_key)}") from None
        raise ModelRefused(f"{endpoint.name} refuses every form of the request; see models[] in the chart's values")

    async def _post(self, endpoint: ModelEndpoint, api_key: str, body: dict[str, Any]) -> bytes:
        name = endpoint.name
        async with openai.AsyncOpenAI(
            base_url=endpoint.baseURL,
            api_key=api_key or "none",
            max_retries=0,
            timeout=endpoint.timeoutSeconds,
            http_client=httpx2.AsyncClient(trust_env=False, timeout=endpoint.timeoutSeconds),
        ) as client:
            try:
                raw = client.chat.completions.with_streaming_response
                async with raw.create(**body) as response:
                    return await _limited(response, name)
            except openai.APITimeoutError as error:
                raise TimeoutError from error
            except openai.APIConnectionError as error:
                cause = error.__cause__ or error
                raise ModelUnavailable(
                    f"{name} at {endpoint.baseURL} cannot be reached: {_clean(cause, api_key)}."
                ) from None
            except openai.BadRequestError:
                raise
            except openai.RateLimitError as error:
                pause = _retry_after(error.response.headers.get("retry-after"))
                raise ModelUnavailable(f"{name} says too many requests (429).", pause) from None
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                code = error.status_code
                raise ModelRefused(f"{name} refuses the key ({code}): see apiKeySecret in the chart's values") from None
            except openai.NotFoundError:
                where = f"{endpoint.baseURL} and model {endpoint.model}"
                raise ModelRefused(f"{name} knows no such model or path (404): check {where}") from None
            except openai.APIStatusError as error:
                if error.status_code >= 500 or error.status_code in {408, 409}:
                    raise ModelUnavailable(f"{name} failed ({error.status_code}).") from None
                raise ModelRefused(
                    f"{name} refuses the request ({error.status_code}): {_clean(error, api_key)}"
                ) from None
            except (httpx2.HTTPError, OSError) as error:
                raise ModelUnavailable(f"{name} broke off: {_clean(error, api_key)}.", billed=True) from None


def estimate(messages: list[Message]) -> int:
    """Tokens of a prompt, at most."""
    return sum(len(m["content"]) for m in messages) // CHARACTERS_PER_TOKEN + 16 * len(messages)


def _body(endpoint: ModelEndpoint, dialect: Dialect, messages: list[Message], max_tokens: int) -> dict[str, Any]:
    body = {"model": endpoint.model, "messages": messages, dialect.limit_field: max_tokens, "temperature": 0.2}
    return {k: v for k, v in body.items() if k not in dialect.dropped}


def _learn(dialect: Dialect, message: str) -> bool:
    if dialect.limit_field in message and dialect.limit_field == "max_tokens":
        dialect.limit_field = "max_completion_tokens"
        return True
    if "temperature" in message and "temperature" not in dialect.dropped:
        dialect.dropped.add("temperature")
        return True
    return False


async def _limited(response: Any, name: str) -> bytes:
    data = b""
    async for chunk in response.iter_bytes():
        data += chunk
        if len(data) > LARGEST_BODY:
            raise ModelUnavailable(f"{name} sent more than {LARGEST_BODY // 1024} KiB.", billed=True)
    return data


def _completion(body: bytes, messages: list[Message], endpoint: ModelEndpoint) -> Completion:
    try:
        parsed = json.loads(body)
        choice = parsed["choices"][0]
        text = choice["message"].get("content") or ""
        usage = parsed.get("usage") or {}
        total = usage.get("total_tokens")
        if not isinstance(text, str):
            raise TypeError("content is no text")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        hint = "it is no Chat Completions endpoint" if body.lstrip()[:1] == b"<" else "the answer is broken"
        raise ModelUnavailable(f"{endpoint.name} at {endpoint.baseURL}: {hint}.", billed=True) from None
    guess = estimate(messages) + len(text) // CHARACTERS_PER_TOKEN
    known = isinstance(total, int) and not isinstance(total, bool) and total > 0
    tokens = total if isinstance(total, int) and known else guess
    return Completion(text, str(choice.get("finish_reason") or ""), tokens, not known)


def _retry_after(value: str | None) -> float | None:
    try:
        return min(600.0, max(0.0, float(value))) if value is not None else None
    except ValueError:
        return None


def _clean(error: object, api_key: str) -> str:
    text = str(error)[:300]
    return text.replace(api_key, "[key]") if api_key else text
