"""The server of one skill: requests are judged here, and run elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from skill_runtime import (
    egress_gate,
    log,
    problems,
    process,
    replies,
    resource_limits,
    strict_json,
    termination,
    worker_pool,
)
from skill_runtime.contract import Contract
from skill_runtime.http_server import Request, Response, Server
from skill_runtime.output import Drain, to_log
from skill_runtime.redaction import Redactor
from skill_runtime.settings import RuntimeSettings, RuntimeSettingsError
from skill_runtime.spawn import Started
from skill_runtime.text import printable
from skill_runtime.worker_client import WorkerError, Zygote


@dataclass(frozen=True)
class Outcome:
    """How it ended."""

    code: int
    message: str = ""


def main(proof: egress_gate.Proof, zygote: Started) -> int:
    """What follows the first steps of `serve`; the exit code."""
    try:
        settings = RuntimeSettings.read(os.environ)
        if not termination.may_go_on(proof, settings.termination_log):
            return termination.NOT_SHUT_IN
        outcome = _run(settings, zygote, proof)
        if outcome.message:
            termination.conclude(settings.termination_log, outcome.message)
    except RuntimeSettingsError as error:
        outcome = Outcome(termination.UNUSABLE, str(error))
    finally:
        process.end_everything()
    if outcome.message:
        log.write("error", "ended", detail=outcome.message)
    return outcome.code


def _run(settings: RuntimeSettings, zygote: Started, proof: egress_gate.Proof) -> Outcome:
    contract = Contract.read(settings.contract)
    resource_limits.tidy(settings.scratch, always=True)  # it outlives a container that was started again
    plan = worker_pool.Plan(
        settings.skill,
        settings.workers,
        settings.queue,
        contract.call_timeout,
        settings.max_body,
        resource_limits.limits(settings.scratch),
        scratch=settings.scratch,
    )
    return asyncio.run(_serve(settings, contract, plan, zygote, proof))


async def _serve(
    settings: RuntimeSettings, contract: Contract, plan: worker_pool.Plan, zygote: Started, proof: egress_gate.Proof
) -> Outcome:
    loop = asyncio.get_running_loop()
    redactor = Redactor(settings.secrets, contract.open_secrets)
    workers = worker_pool.WorkerPool(plan, Zygote(zygote), Drain(to_log, redactor))
    service = _Service(contract, workers, redactor)
    server = Server(service.handle, settings.max_body)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(worker_pool.CHILD_ENDED, worker_pool.reap, workers)
    port = await server.listen("0.0.0.0", settings.port)
    log.write("info", "listening", port=port, skill=contract.name)
    keeper = asyncio.create_task(workers.live())
    stopping = asyncio.create_task(stop.wait())
    guard = asyncio.create_task(_guard(proof, settings.recheck))
    await asyncio.wait((keeper, stopping, guard), return_when=asyncio.FIRST_COMPLETED)
    outcome, grace = Outcome(0), settings.grace
    if guard.done():
        keeper.cancel()
        workers.end()  # at once, whatever they are doing
        outcome, grace = Outcome(termination.NOT_SHUT_IN, guard.result()), 1.0
    elif keeper.done():
        try:
            keeper.result()
        except WorkerError as error:
            outcome = Outcome(termination.FAILED, printable(redactor.note(str(error)), 900))
    else:
        log.write("info", "stopping")
    await server.drain(grace)
    for task in (keeper, stopping, guard):
        task.cancel()
    workers.end()
    return outcome


async def _guard(proof: egress_gate.Proof, seconds: float) -> str:
    """Look at the way out again and again; return only once it is open, with what to say of it."""
    while proof.required and seconds:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(proof.again)
        except egress_gate.EgressNotBlockedError as error:
            return termination.not_shut_in(error)
    nobody_wants_to_know: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await nobody_wants_to_know


class _Service:
    """From request to response."""

    def __init__(self, contract: Contract, workers: worker_pool.WorkerPool, redactor: Redactor) -> None:
        self._contract, self._workers, self._redactor = contract, workers, redactor

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        if request.path == "/healthz":
            if self._workers.loaded.is_set():
                return Response(200, b'{"status":"ready"}')
            return Response(503, b'{"status":"loading"}', headers=(("retry-after", "1"),))
        if request.path != "/":
            return Response.problem(problems.NOT_FOUND, "call / with POST, or ask /healthz")
        if request.method != "POST":
            return Response.problem(problems.METHOD_NOT_ALLOWED, f"not with {request.method}", ("allow", "POST"))
        began = time.monotonic()
        status, note = 499, "the caller left"
        try:
            response, note = await self._call(request)
            status = response.status
        finally:
            level = "info" if status < 500 else "error"
            took = round((time.monotonic() - began) * 1000, 1)
            log.write(level, "call", request=request.request_id, status=status, milliseconds=took, detail=note)
        return response

    async def _call(self, request: Request) -> tuple[Response, str]:
        """The answer to a call, and what the log adds to it."""
        try:
            value, body = strict_json.canonical(request.body)
        except strict_json.DocumentError as error:
            return Response.problem(problems.INVALID_JSON, str(error)), ""
        if wrong := self._contract.input.problem(value):
            return Response.problem(problems.INVALID_INPUT, wrong), ""
        try:
            reply = await self._workers.call(body, request.request_id, request.ends)
        except worker_pool.OverloadedError:
            return Response.problem(problems.OVERLOADED, "try again", ("retry-after", "1")), ""
        except WorkerError as error:
            return Response.problem(problems.FAULT, "the skill's process is being replaced"), str(error)
        return self._answer(reply)

    def _answer(self, reply: replies.Reply) -> tuple[Response, str]:
        """Nothing that a skill said leaves the pod but through here, and without the values of secrets."""
        if isinstance(reply, replies.WorkerFailure):
            problem, detail = problems.of(reply)
            where = f" (skill.py line {reply.line})" if reply.line else ""
            return Response.problem(problem, self._redactor.message(detail)), self._redactor.note(
                reply.exception
            ) + where
        value, text, redacted = self._redactor.answer(reply.value, reply.text)
        if wrong := self._contract.output.problem(value):
            hint = "; the value of a secret was taken out of it" if redacted else ""
            return Response.problem(problems.INVALID_OUTPUT, self._redactor.message(wrong) + hint), ""
        return Response(200, text), "the value of a secret was taken out of the answer" if redacted else ""
