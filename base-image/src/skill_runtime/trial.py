"""The command `trial`: PID 1 of a pod that serves as in production and calls itself, before others may call it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import h11

from skill_runtime import log, problems, serve, strict_json
from skill_runtime import operator_contract as oc
from skill_runtime.check import report
from skill_runtime.check.examples import first_difference
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.request import CheckExample, CheckRequest, EncodedRequest
from skill_runtime.pod_client import call_pod
from skill_runtime.server import Examination
from skill_runtime.settings import RuntimeSettings, RuntimeSettingsError
from skill_runtime.text import one_line, one_line_json

MAX_VALUE_CHARACTERS = 200
_ERRORS = frozenset(problem.slug for problem in (problems.INPUT_REJECTED, problems.SKILL_ERROR))
"""Problems by which callers learn that the code raised an exception; its class stays inside."""


def main() -> int:
    """Serve, answer the visible examples, and return the exit code. The report says whether all passed."""
    try:
        encoded = EncodedRequest.take(os.environ)
        request = encoded.decode()
        examiner = Examiner(request, encoded.key, RuntimeSettings.read(os.environ).uid)
    except RuntimeSettingsError as error:
        log.write("error", "invalid trial request", detail=str(error))
        return oc.EXIT_UNUSABLE
    return serve.main(examiner)


@dataclass(frozen=True)
class Examiner:
    """Examiner calls the pod as the gateway does and compares what comes with the examples."""

    request: CheckRequest
    key: bytes
    uid: str
    """The uid of the Skill whose calls the pod takes."""

    async def examine(self, port: int) -> Examination:
        """Call each example at this port until one fails. Return the signed report, and the exit code that it needs."""
        finding, passed = None, 0
        for example in self.request.examples:
            if failure := await self._failure(port, example):
                finding = GateFinding("examples", failure)
                break
            passed += 1
        log.write("info", "trial", passed=passed, examples=len(self.request.examples))
        signed = report.sign_report(self.key, self.request, finding, report.CheckEvidence(passed))
        return Examination(oc.EXIT_OK if finding is None else oc.EXIT_REFUSED, signed)

    async def _failure(self, port: int, example: CheckExample) -> str:
        """Return what is wrong with the response to an example; empty where it passes."""
        body = strict_json.encode(example.input)
        timeout = self.request.contract.call_timeout_seconds
        try:
            status, answer = await call_pod(port, body, self.uid, timeout)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            return _describe(example, f"no response: {type(error).__name__}")
        text = one_line(answer.decode("utf-8", "replace"), MAX_VALUE_CHARACTERS)
        try:
            value = strict_json.parse_lenient(answer)
        except strict_json.StrictJsonError:
            return _describe(example, text)
        return "" if _passes(example, status, value) else _describe(example, text)


def _passes(example: CheckExample, status: int, value: Any) -> bool:
    if example.error:
        kind = str(value.get("type", "")) if isinstance(value, dict) else ""
        return status >= 400 and kind.removeprefix(oc.PROBLEM_URN_PREFIX) in _ERRORS
    return status == 200 and (not example.has_output or first_difference(example.output, value) is None)


def _describe(example: CheckExample, got: str) -> str:
    expected = example.error or one_line_json(example.output, MAX_VALUE_CHARACTERS)
    return "\n".join((f"example {one_line(example.name, 80)!r} expects {expected}", f"got {got}"))
