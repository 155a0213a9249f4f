"""The server of one skill: requests are judged here, and run elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from skill_runtime import bounds, documents, ending, gate, log, pool, problems, process, replies
from skill_runtime.contract import Contract
from skill_runtime.http import Request, Response, Server
from skill_runtime.launch import Started
from skill_runtime.offspring import OffspringError, Zygote
from skill_runtime.output import Drain, to_log
from skill_runtime.redaction import Redactor
from skill_runtime.settings import Settings, SettingsError
from skill_runtime.text import printable


@dataclass(frozen=True)
class Outcome:
    """How it ended."""

    code: int
    message: str = ""


def main(proof: gate.Proof, zygote: Started) -> int:
    """What follows the first steps of `serve`; the exit code."""
    try:
        settings = Settings.read(os.environ)
        if not ending.may_go_on(proof, settings.termination_log):
            return ending.NOT_SHUT_IN
        outcome = _run(settings, zygote, proof)
        if outcome.message:
            ending.conclude(settings.termination_log, outcome.message)
    except SettingsError as error:
        outcome = Outcome(ending.UNUSABLE, str(error))
    finally:
        process.end_everything()
    if outcome.message:
        log.write("error", "ended", detail=outcome.message)
    return outcome.code


def _run(settings: Settings, zygote: Started, proof: gate.Proof) -> Outcome:
    contract = Contract.read(settings.contract)
    bounds.tidy(settings.scratch, always=True)  # it outlives a container that was started again
    plan = pool.Plan(
        settings.skill,
        settings.workers,
        settings.queue,
        contract.call_timeout,
        settings.max_body,
        bounds.limits(settings.scratch),
        scratch=settings.scratch,
    )
    return asyncio.run(_serve(settings, contract, plan, zygote, proof))


async def _serve(
    settings: Settings, contract: Contract, plan: pool.Plan, zygote: Started, proof: gate.Proof
) -> Outcome:
    loop = asyncio.get_running_loop()
    redactor = Redactor(settings.secrets, contract.open_secrets)
    workers = pool.Pool(plan, Zygote(zygote), Drain(to_log, redactor))
    service = _Service(contract, workers, redactor)
    server = Server(service.handle, settings.max_body)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(pool.CHILD_ENDED, pool.reap, workers)
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
        outcome, grace = Outcome(ending.NOT_SHUT_IN, guard.result()), 1.0
    elif keeper.done():
        try:
            keeper.result()
        except OffspringError as error:
            outcome = Outcome(ending.FAILED, printable(redactor.note(str(error)), 900))
    else:
        log.write("info", "stopping")
    await server.drain(grace)
    for task in (keeper, stopping, guard):
        task.cancel()
    workers.end()
    return outcome


async def _guard(proof: gate.Proof, seconds: float) -> str:
    """Look at the way out again and again; return only once it is open, with what to say of it."""
    while proof.required and seconds:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(proof.again)
        except gate.EgressNotBlockedError as error:
            return ending.not_shut_in(error)
    nobody_wants_to_know: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await nobody_wants_to_know


class _Service:
    """From request to response."""

    def __init__(self, contract: Contract, workers: pool.Pool, redactor: Redactor) -> None:
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
            value, body = documents.canonical(request.body)
        except documents.DocumentError as error:
            return Response.problem(problems.INVALID_JSON, str(error)), ""
        if wrong := self._contract.input.problem(value):
            return Response.problem(problems.INVALID_INPUT, wrong), ""
        try:
            reply = await self._workers.call(body, request.request_id, request.ends)
        except pool.OverloadedError:
            return Response.problem(problems.OVERLOADED, "try again", ("retry-after", "1")), ""
        except OffspringError as error:
            return Response.problem(problems.FAULT, "the skill's process is being replaced"), str(error)
        return self._answer(reply)

    def _answer(self, reply: replies.Reply) -> tuple[Response, str]:
        """Nothing that a skill said leaves the pod but through here, and without the values of secrets."""
        if isinstance(reply, replies.Failure):
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
