"""The completion client makes the calls of models: it sends a completion request, and reads the code in the reply.

It tells the endpoint's circuit breaker and the metrics how each call ended; `completion_outcome.py` records it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from skill_operator.generation.circuit_breaker import CircuitBreaker
from skill_operator.generation.completion_reader import CompletionContent, CompletionParts, read_completion
from skill_operator.generation.ledger import NO_ANSWER
from skill_operator.generation.provider import Completion, ModelRefused, ModelUnavailable, Provider
from skill_operator.generation.request import CompletionRequest
from skill_operator.observability import logs, metrics
from skill_operator.settings import ModelEndpoint
from skill_operator.untrusted.worker import Worker, WorkerFailed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadCompletion:
    """ReadCompletion is a completion with what was found in it."""

    completion: Completion
    content: CompletionContent


class CompletionClient:
    """CompletionClient makes calls through `provider`. Replies are read by `worker`.

    `breakers` are the circuit breakers by the name of their endpoint.
    """

    def __init__(
        self,
        provider: Provider,
        worker: Worker,
        breakers: Mapping[str, CircuitBreaker],
        clock: Callable[[], datetime],
    ) -> None:
        self._provider = provider
        self._worker = worker
        self._breakers = breakers
        self._clock = clock

    async def complete_and_read(self, request: CompletionRequest) -> ReadCompletion:
        """Return the completion with the code in it. A reply that cannot be read within the limits has none."""
        completion = await self._complete(request)
        parts: CompletionParts = {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "reasoning": completion.reasoning,
            "reasoning_field": completion.reasoning_field,
            "reasoning_tokens": completion.reasoning_tokens,
            "refusal": completion.refusal,
            "tool": completion.tool,
        }
        try:
            content = CompletionContent(*await self._worker.call(read_completion, parts, request.accepted_source))
        except WorkerFailed as error:
            log.warning("a reply cannot be read: %s", error, extra={"endpoint": request.endpoint.name})
            message = "the reply is too complex to be read; answer with simpler code"
            content = CompletionContent("", "no-code", message, "", "")
        if content.flaw == NO_ANSWER:
            self._provider.record_cut_reply(request.endpoint, completion.reply_limit or request.max_tokens)
        return ReadCompletion(replace(completion, text="", reasoning=""), content)

    async def _complete(self, request: CompletionRequest) -> Completion:
        """Return the completion. The endpoint's circuit breaker knows the outcome before anyone else."""
        name, breaker = request.endpoint.name, self._breakers[request.endpoint.name]
        outcome, tokens, reasoning_tokens = "failed", 0, 0
        try:
            api_key = await asyncio.to_thread(_read_api_key, request.endpoint)
            completion = await self._provider.complete(
                request.endpoint, api_key, request.messages, request.max_tokens, request.temperature
            )
        except ModelUnavailable as error:
            outcome, tokens = "unavailable", error.tokens or 0
            breaker.record_failure(self._clock(), str(error), error.retry_after)
            raise
        except ModelRefused as error:
            outcome, tokens = "refused", error.tokens
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        else:
            outcome, tokens, reasoning_tokens = "answered", completion.tokens, completion.reasoning_tokens
            breaker.record_success()
            return completion
        finally:
            metrics.record_model_request(name, outcome, tokens, reasoning_tokens)
            metrics.set_circuit_state(name, breaker.state(self._clock()))


def _read_api_key(endpoint: ModelEndpoint) -> str:
    """Return the key of the endpoint, or an empty string where it needs none. Raises ModelRefused."""
    if not endpoint.api_key_file:
        return ""
    try:
        api_key = Path(endpoint.api_key_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ModelRefused(f"the key of {endpoint.name} cannot be read: {error.strerror}; see apiKeySecret") from error
    logs.hide_secret(api_key)
    return api_key
