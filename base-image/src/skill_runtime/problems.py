"""Problem details (RFC 9457): what a caller receives when there is no output."""

from __future__ import annotations

import json
from dataclasses import dataclass

from skill_runtime import operator_contract as oc
from skill_runtime import replies
from skill_runtime.text import printable


@dataclass(frozen=True)
class ProblemType:
    """ProblemType is one kind of failure, with its HTTP status and title."""

    slug: str
    status: int
    title: str

    def body(self, detail: str) -> bytes:
        """Return the document of one occurrence."""
        document = {
            "type": f"{oc.PROBLEM_URN_PREFIX}{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": printable(detail, 600),
        }
        return json.dumps(document).encode()


INVALID_JSON = ProblemType("invalid-json", 400, "The body is not valid JSON")
INVALID_REQUEST = ProblemType("invalid-request", 400, "The request is not valid HTTP")
NOT_FOUND = ProblemType("not-found", 404, "Not found")
METHOD_NOT_ALLOWED = ProblemType("method-not-allowed", 405, "Method not allowed")
TOO_LARGE = ProblemType("too-large", 413, "The body is too large")
MISDIRECTED = ProblemType("misdirected", 421, "The pod belongs to another skill")
INVALID_INPUT = ProblemType("invalid-input", 422, "The input does not fit the skill's schema")
INPUT_REJECTED = ProblemType("input-rejected", 422, "The skill rejected the input")
SKILL_ERROR = ProblemType("skill-error", 500, "The skill failed")
INVALID_OUTPUT = ProblemType("invalid-output", 500, "The skill's output does not fit its schema")
RESPONSE_TOO_LARGE = ProblemType("response-too-large", 502, "Response too large")
OVERLOADED = ProblemType("overloaded", 503, "Too many calls are waiting")
DRAINING = ProblemType("draining", 503, "The pod is about to end")
OUT_OF_MEMORY = ProblemType("out-of-memory", 500, "The skill exceeded its memory limit")
TOO_MANY_PROCESSES = ProblemType("too-many-processes", 500, "The skill exceeded its limit of processes and threads")
DISK_FULL = ProblemType("disk-full", 500, "The skill exceeded the size limit of /tmp")
TIMEOUT = ProblemType("timeout", 504, "The skill did not answer in time")


def problem_for(failure: replies.WorkerFailure) -> tuple[ProblemType, str]:
    """Return the problem of a failed call and its detail; the caller learns nothing of the skill's inside."""
    if failure.kind == "timeout":
        return TIMEOUT, failure.message
    if (exhausted := exhausted_resource(failure)) is not None:
        return exhausted, "spec.resources of the Skill sets the limit"
    if failure.kind == "raised" and "ValueError" in failure.types:
        return INPUT_REJECTED, failure.message
    if failure.kind == "oversized":
        return RESPONSE_TOO_LARGE, f"{failure.message}; ask for less"
    if failure.kind in ("unserialisable", "malformed"):
        return INVALID_OUTPUT, "the result cannot be written as JSON"
    return SKILL_ERROR, "the skill raised an exception; its log has the details"


def exhausted_resource(failure: replies.WorkerFailure) -> ProblemType | None:
    """Return the limit that the skill exceeded, as far as the kernel or the exception shows."""
    if failure.kind == "memory" or "MemoryError" in failure.types:
        return OUT_OF_MEMORY
    if failure.kind != "raised":
        return None
    return next((problem for text, problem in _ERROR_TEXTS.items() if text in failure.message), None)


_ERROR_TEXTS = {
    "can't start new thread": TOO_MANY_PROCESSES,
    "[Errno 11] Resource temporarily unavailable": TOO_MANY_PROCESSES,
    "[Errno 28] No space left on device": DISK_FULL,
    "[Errno 27] File too large": DISK_FULL,
}
