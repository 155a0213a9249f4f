"""The server of one skill: requests are validated here, and run elsewhere."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from skill_runtime import (
    egress_gate,
    guard,
    log,
    problems,
    process,
    replies,
    resource_limits,
    strict_json,
    termination,
    worker_pool,
)
from skill_runtime import operator_contract as oc
from skill_runtime.contract import SkillContract
from skill_runtime.http_server import HttpRequest, HttpResponse, HttpServer
from skill_runtime.output import OutputCollector, write_to_log
from skill_runtime.redaction import Redactor
from skill_runtime.settings import RuntimeSettings, RuntimeSettingsError
from skill_runtime.signals import SignalReceiver
from skill_runtime.spawn import ZygoteProcess
from skill_runtime.text import printable
from skill_runtime.worker_client import WorkerError, ZygoteClient


@dataclass(frozen=True)
class ServeOutcome:
    """ServeOutcome is the exit code of the server, with the last message of the pod where there is one."""

    code: int
    message: str = ""


class Examination(NamedTuple):
    """Examination is the end of a pod that was examined: the exit code, which no other process has, and the report."""

    code: int
    report: str


class PodExaminer(Protocol):
    """PodExaminer calls the pod once it serves, and ends its life with a report."""

    def examine(self, port: int) -> Coroutine[Any, Any, Examination]:
        """Call the pod at this port of its own, and return what came of it."""
        ...


def main(
    proof: egress_gate.EgressProof,
    zygote: ZygoteProcess,
    receiver: SignalReceiver,
    examiner: PodExaminer | None = None,
) -> int:
    """Run what follows the first steps of `serve` and return the exit code."""
    try:
        settings = RuntimeSettings.read(os.environ)
        if not termination.wait_for_proof(proof, settings.termination_log):
            return oc.EXIT_EGRESS_NOT_BLOCKED
        watchman = guard.Guard(proof, settings.termination_log, settings.recheck_seconds)
        outcome = _run(settings, zygote, receiver, watchman, examiner)
        if outcome.message:
            termination.write_message(settings.termination_log, outcome.message)
    except RuntimeSettingsError as error:
        outcome = ServeOutcome(oc.EXIT_UNUSABLE, str(error))
    finally:
        process.kill_all()
    if outcome.message and outcome.code not in {oc.EXIT_OK, oc.EXIT_REFUSED}:
        log.write("error", "server failed", detail=outcome.message)
    return outcome.code


def _run(
    settings: RuntimeSettings,
    zygote: ZygoteProcess,
    receiver: SignalReceiver,
    watchman: guard.Guard,
    examiner: PodExaminer | None,
) -> ServeOutcome:
    contract = SkillContract.read(settings.contract, settings.contract_digest)
    resource_limits.empty_scratch(settings.scratch, always=True)  # it outlives a container that was started again
    config = worker_pool.PoolConfig(
        settings.skill,
        settings.workers,
        settings.queue,
        contract.call_timeout_seconds,
        settings.max_body_bytes,
        resource_limits.skill_limits(settings.scratch),
        scratch=settings.scratch,
    )
    return asyncio.run(_serve(settings, contract, config, zygote, receiver, watchman, examiner))


async def _serve(
    settings: RuntimeSettings,
    contract: SkillContract,
    config: worker_pool.PoolConfig,
    zygote: ZygoteProcess,
    receiver: SignalReceiver,
    watchman: guard.Guard,
    examiner: PodExaminer | None,
) -> ServeOutcome:
    loop = asyncio.get_running_loop()
    redactor = Redactor(settings.secrets, contract.open_secrets)
    workers = worker_pool.WorkerPool(config, ZygoteClient(zygote), OutputCollector(write_to_log, redactor))
    service = _SkillService(contract, workers, redactor, settings.max_body_bytes)
    server = HttpServer(service.handle, settings.max_body_bytes, settings.uid)
    stop = asyncio.Event()
    receiver.on_terminate = functools.partial(loop.call_soon_threadsafe, stop.set)
    watchman.watch(loop)
    port = await server.listen(settings.port)
    log.write("info", "listening", port=port, skill=contract.name)
    supervisor = asyncio.create_task(workers.supervise())
    tasks = [supervisor, asyncio.create_task(stop.wait())]
    examination = None if examiner is None else asyncio.create_task(_examine(examiner, workers, port))
    await asyncio.wait((*tasks, *filter(None, (examination,))), return_when=asyncio.FIRST_COMPLETED)
    outcome = ServeOutcome(oc.EXIT_OK)
    if supervisor.done():
        try:
            supervisor.result()
        except WorkerError as error:
            outcome = ServeOutcome(oc.EXIT_FAILED, printable(redactor.redact_log_text(str(error)), 900))
    elif examination is not None and examination.done():
        outcome = ServeOutcome(*examination.result())
    else:
        log.write("info", "stopping")
    await server.drain(settings.grace_seconds)
    for task in (*tasks, *filter(None, (examination,))):
        task.cancel()
    workers.close()
    return outcome


async def _examine(examiner: PodExaminer, workers: worker_pool.WorkerPool, port: int) -> Examination:
    """Return the examination of the pod, once the skill is loaded."""
    await workers.loaded.wait()
    return await examiner.examine(port)


class _SkillService:
    """_SkillService turns requests into responses."""

    def __init__(
        self, contract: SkillContract, workers: worker_pool.WorkerPool, redactor: Redactor, max_output_bytes: int
    ) -> None:
        self._contract, self._workers, self._redactor = contract, workers, redactor
        self._max_output_bytes = max_output_bytes

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Respond to one request."""
        if request.path == oc.HEALTH_PATH:
            if self._workers.loaded.is_set():
                return HttpResponse(200, b'{"status":"ready"}')
            return HttpResponse(503, b'{"status":"loading"}', headers=(("retry-after", "1"),))
        if request.path != oc.CALL_PATH:
            return HttpResponse.from_problem(problems.NOT_FOUND, f"call / with POST, or get {oc.HEALTH_PATH}")
        if request.method != oc.CALL_METHOD:
            return HttpResponse.from_problem(
                problems.METHOD_NOT_ALLOWED,
                f"call with {oc.CALL_METHOD}, not with {request.method}",
                ("allow", oc.CALL_METHOD),
            )
        start = time.monotonic()
        status, note = 499, "the caller disconnected"
        try:
            response, note = await self._call(request)
            status = response.status
        finally:
            level = "info" if status < 500 else "error"
            duration = round((time.monotonic() - start) * 1000, 1)
            log.write(level, "call", request=request.request_id, status=status, milliseconds=duration, detail=note)
        return response

    async def _call(self, request: HttpRequest) -> tuple[HttpResponse, str]:
        """Return the response to a call, and what the log adds to it."""
        try:
            value, body = strict_json.canonicalize(request.body)
        except strict_json.StrictJsonError as error:
            return HttpResponse.from_problem(problems.INVALID_JSON, str(error)), ""
        if violation := self._contract.input.violation(value):
            return HttpResponse.from_problem(problems.INVALID_INPUT, violation), ""
        body = self._contract.input.encode(value, body)
        try:
            reply = await self._workers.call(body, request.request_id, request.deadline)
        except worker_pool.OverloadedError:
            return HttpResponse.not_taken(oc.NOT_TAKEN_NO_PLACE, problems.OVERLOADED, "try again"), ""
        except WorkerError as error:
            return HttpResponse.from_problem(problems.SKILL_ERROR, "the skill's process is being replaced"), str(error)
        return self._respond(reply)

    def _respond(self, reply: replies.WorkerReply) -> tuple[HttpResponse, str]:
        """Turn a reply into a response. Nothing of a skill leaves the pod but through here, without secret values."""
        if isinstance(reply, replies.WorkerFailure):
            problem, detail = problems.problem_for(reply)
            location = f" (skill.py line {reply.line})" if reply.line else ""
            response = HttpResponse.from_problem(problem, self._redactor.redact_message(detail))
            return response, self._redactor.redact_log_text(reply.exception) + location
        value, text, redacted = self._redactor.redact_output(reply.value, reply.text)
        if len(text) > self._max_output_bytes:
            detail = (
                f"the output is {len(text)} bytes of JSON in UTF-8, and may be {self._max_output_bytes}; ask for less"
            )
            return HttpResponse.from_problem(problems.RESPONSE_TOO_LARGE, detail), ""
        if violation := self._contract.output.violation(value):
            hint = "; the value of a secret was taken out of it" if redacted else ""
            detail = self._redactor.redact_message(violation) + hint
            return HttpResponse.from_problem(problems.INVALID_OUTPUT, detail), ""
        return HttpResponse(200, text), "the value of a secret was taken out of the output" if redacted else ""
