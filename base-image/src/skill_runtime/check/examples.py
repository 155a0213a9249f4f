"""Running the examples: the candidate caged as in production, the expectations known to PID 1 only."""

from __future__ import annotations

import asyncio
import builtins
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skill_runtime import launch, pool, replies
from skill_runtime.check.bundle import Bundle, Example
from skill_runtime.check.findings import Finding, excerpt
from skill_runtime.documents import DocumentError, canonical
from skill_runtime.offspring import LoadError, OffspringError, Zygote
from skill_runtime.output import Drain
from skill_runtime.text import one_line

TOTAL_SECONDS = 75.0
"""For all examples together."""
LOAD_SECONDS = 20.0
SHOWN = 3
"""Failures told of, and looked for."""
MAX_REPLY = 1 << 20
LIMITS = {"CORE": 0, "CPU": 120, "DATA": 1 << 29, "FSIZE": 1 << 26, "NOFILE": 256}
_VALUE = 200


@dataclass(frozen=True)
class Failed:
    """An example that does not hold."""

    example: Example
    got: str
    failure: replies.Failure | None = None


@dataclass(frozen=True)
class Result:
    """How the examples went."""

    finding: Finding | None
    passed: int


async def judge(bundle: Bundle, skill: Path) -> Result:
    """Visible examples first; hidden ones only if all of these hold."""
    loop = asyncio.get_running_loop()
    plan = pool.Plan(
        skill,
        1,
        0,
        bundle.contract.call_timeout,
        MAX_REPLY,
        LIMITS,
        load_seconds=LOAD_SECONDS,
    )
    workers = pool.Pool(plan, Zygote(launch.start()), Drain(lambda _line, _request_id: None))
    loop.add_signal_handler(pool.CHILD_ENDED, pool.reap, workers)
    keeper = asyncio.create_task(workers.live())
    try:
        return await _judge(bundle, workers, keeper)
    finally:
        keeper.cancel()
        loop.remove_signal_handler(pool.CHILD_ENDED)
        workers.end()


async def _judge(bundle: Bundle, workers: pool.Pool, keeper: asyncio.Task[None]) -> Result:
    loaded = asyncio.create_task(workers.loaded.wait())
    await asyncio.wait((keeper, loaded), return_when=asyncio.FIRST_COMPLETED)
    loaded.cancel()
    if keeper.done():
        return Result(_not_loaded(keeper.exception(), bundle.source), 0)
    end = time.monotonic() + TOTAL_SECONDS
    visible = [example for example in bundle.examples if not example.hidden]
    hidden = [example for example in bundle.examples if example.hidden]
    passed, failed = await _run(bundle, visible, workers, end)
    if failed:
        return Result(_visible(failed, passed, len(visible), bundle.source), passed)
    more, failed = await _run(bundle, hidden, workers, end)
    if failed:
        return Result(_hidden(failed, more, len(hidden), bundle.source), passed + more)
    return Result(None, passed + more)


async def _run(bundle: Bundle, examples: list[Example], workers: pool.Pool, end: float) -> tuple[int, list[Failed]]:
    passed, failed = 0, list[Failed]()
    for example in examples:
        if len(failed) == SHOWN:
            break
        wrong = await _one(bundle, example, workers, end)
        if wrong:
            failed.append(wrong)
        else:
            passed += 1
    return passed, failed


async def _one(bundle: Bundle, example: Example, workers: pool.Pool, end: float) -> Failed | None:
    left = end - time.monotonic()
    if left <= 0:
        return Failed(example, f"nothing: all examples together took more than {TOTAL_SECONDS:.0f} s")
    try:
        async with asyncio.timeout(left):
            reply = await workers.call(canonical(json.dumps(example.input).encode())[1])
    except TimeoutError:
        return Failed(example, f"nothing: all examples together took more than {TOTAL_SECONDS:.0f} s")
    except DocumentError as error:
        return Failed(example, f"nothing: the example's input is no JSON: {error}")
    except (OffspringError, pool.OverloadedError):
        return Failed(example, "nothing: the process ended")
    return compare(bundle, example, reply)


def compare(bundle: Bundle, example: Example, reply: replies.Reply) -> Failed | None:
    """Whether the reply is what the example expects."""
    if isinstance(reply, replies.Failure):
        if example.error and reply.kind == "raised" and example.error in reply.types:
            return None
        return Failed(example, reply.exception, reply)
    got = one_line(reply.text.decode(), _VALUE)
    if example.error:
        return Failed(example, got)
    if wrong := bundle.contract.output.problem(reply.value):
        return Failed(example, f"{got}, which does not fit the output schema: {wrong}")
    if example.has_output and not equal(example.output, reply.value):
        return Failed(example, got)
    return None


def equal(expected: Any, got: Any) -> bool:
    """Equality of JSON values; numbers may differ by rounding, and 3 is 3.0."""
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, int | float) and isinstance(got, int | float):
        try:
            return expected == got or math.isclose(expected, got, rel_tol=1e-9, abs_tol=1e-12)
        except OverflowError:  # an integer beyond any float
            return False
    if isinstance(expected, dict) and isinstance(got, dict):
        return expected.keys() == got.keys() and all(equal(value, got[key]) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(equal, expected, got))
    return type(expected) is type(got) and bool(expected == got)


def _not_loaded(error: BaseException | None, source: str) -> Finding:
    if isinstance(error, LoadError):
        context = excerpt(source, error.failure.line)
        return Finding("examples", f"the file cannot be loaded: {error}\n{context}".rstrip(), error.failure.line)
    return Finding("examples", f"the file cannot be loaded: {error}")


def _visible(failed: list[Failed], passed: int, total: int, source: str) -> Finding:
    parts = [f"{passed}/{total} visible examples pass."]
    for wrong in failed:
        expected = wrong.example.error or one_line(_spelled(wrong.example.output), _VALUE)
        parts.append(
            f"example {one_line(wrong.example.name, 80)!r}:\n"
            f"  input:    {one_line(_spelled(wrong.example.input), _VALUE)}\n"
            f"  expected: {expected}\n"
            f"  got:      {one_line(wrong.got, 2 * _VALUE)}"
        )
        if wrong.failure and (context := excerpt(source, wrong.failure.line)):
            parts.append(f"  at line {wrong.failure.line}:\n{context}")
    line = next((wrong.failure.line for wrong in failed if wrong.failure and wrong.failure.line), None)
    return Finding("examples", "\n".join(parts), line)


def _hidden(failed: list[Failed], passed: int, total: int, source: str) -> Finding:
    """What can be said without what was asked and what was expected: a model must not learn the answers one by one."""
    first = failed[0]
    parts = [f"All visible examples pass, but only {passed} of {total} held-out ones."]
    failure = first.failure
    if failure is None:
        parts.append("The first that fails returned something else than expected.")
        return Finding("hidden", "\n".join(parts))
    parts.append(f"The first that fails ended with {_known(failure)}.")
    if context := excerpt(source, failure.line):
        parts.append(f"  at line {failure.line}:\n{context}")
    return Finding("hidden", "\n".join(parts), failure.line)


def _known(failure: replies.Failure) -> str:
    """The name of an exception, unless the candidate made it up, perhaps from the input."""
    if failure.kind != "raised":
        return {"timeout": "no answer in time", "died": "the end of the process"}.get(
            failure.kind, "a result that is no JSON"
        )
    known = (name for name in failure.types if isinstance(getattr(builtins, name, None), type))
    return next(known, "an exception")


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
