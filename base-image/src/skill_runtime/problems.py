"""What a caller is told when there is no output: application/problem+json."""

from __future__ import annotations

import json
from dataclasses import dataclass

from skill_runtime import replies
from skill_runtime.text import printable


@dataclass(frozen=True)
class ProblemType:
    """One kind of failure."""

    slug: str
    status: int
    title: str

    def body(self, detail: str) -> bytes:
        """The document."""
        document = {
            "type": f"urn:skill-operator:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": printable(detail, 600),
        }
        return json.dumps(document).encode()


INVALID_JSON = ProblemType("invalid-json", 400, "The body is not JSON")
INVALID_REQUEST = ProblemType("invalid-request", 400, "The request is not HTTP as it should be")
NOT_FOUND = ProblemType("not-found", 404, "There is nothing here")
METHOD_NOT_ALLOWED = ProblemType("method-not-allowed", 405, "A skill is called with POST")
TOO_LARGE = ProblemType("too-large", 413, "The body is too large")
INVALID_INPUT = ProblemType("invalid-input", 422, "The input does not fit the skill's schema")
REFUSED = ProblemType("refused", 422, "The skill refused the input")
FAULT = ProblemType("fault", 500, "The skill failed")
INVALID_OUTPUT = ProblemType("invalid-output", 500, "The skill's output does not fit its schema")
OVERLOADED = ProblemType("overloaded", 503, "Too many calls wait already")
OUT_OF_MEMORY = ProblemType("out-of-memory", 500, "The skill used more memory than it may")
TOO_MANY_PROCESSES = ProblemType("too-many-processes", 500, "The skill started more processes or threads than it may")
DISK_FULL = ProblemType("disk-full", 500, "The skill wrote more to /tmp than it may")
TIMEOUT = ProblemType("timeout", 504, "The skill did not answer in time")


def of(failure: replies.WorkerFailure) -> tuple[ProblemType, str]:
    """The problem that a failed call is to its caller, who learns nothing of how the skill works inside."""
    if failure.kind == "timeout":
        return TIMEOUT, failure.message
    if (ran_out := exhausted(failure)) is not None:
        return ran_out, "spec.resources of the Skill says how much that is"
    if failure.kind == "raised" and "ValueError" in failure.types:
        return REFUSED, failure.message
    if failure.kind in ("unserialisable", "oversized", "malformed"):
        return (
            INVALID_OUTPUT,
            failure.message if failure.kind == "oversized" else "the result cannot be written as JSON",
        )
    return FAULT, "the skill raised an exception; its log says more"


def exhausted(failure: replies.WorkerFailure) -> ProblemType | None:
    """What the skill ran out of, as far as the kernel or the exception tells."""
    if failure.kind == "memory" or "MemoryError" in failure.types:
        return OUT_OF_MEMORY
    if failure.kind != "raised":
        return None
    return next((problem for sign, problem in _SIGNS.items() if sign in failure.message), None)


_SIGNS = {
    "can't start new thread": TOO_MANY_PROCESSES,
    "[Errno 11] Resource temporarily unavailable": TOO_MANY_PROCESSES,
    "[Errno 28] No space left on device": DISK_FULL,
    "[Errno 27] File too large": DISK_FULL,
}
