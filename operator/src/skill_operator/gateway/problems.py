"""The catalogue of problems that a caller can get, as application/problem+json (RFC 9457). Each `type` is stable.

`PROBLEMS` are the gateway's own. `RUNTIME_PROBLEMS` are those of a skill's runtime, which the gateway passes on with
the titles that the runtime gives them. docs/ shows both as one table, which a test holds equal to these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from skill_operator import runtime_contract

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = runtime_contract.PROBLEM_URN_PREFIX


class ProblemDefinition(NamedTuple):
    """ProblemDefinition says what one problem type means, and what to do about it."""

    status: int
    title: str
    meaning: str
    action: str


class RuntimeProblemDefinition(NamedTuple):
    """RuntimeProblemDefinition describes a problem type of the runtime, whose title is in the runtime's own code."""

    status: int
    meaning: str
    action: str


PROBLEMS: Mapping[str, ProblemDefinition] = {
    "bad-request": ProblemDefinition(
        400,
        "Bad request",
        "The gateway cannot read the request, or it could be read in two ways.",
        "Send plain HTTP/1.1 with one Content-Length or with chunked encoding.",
    ),
    "invalid-json": ProblemDefinition(
        400, "The body is not JSON", "The body is not one JSON value in UTF-8.", "Send one JSON value."
    ),
    "unauthenticated": ProblemDefinition(
        401,
        "Authentication required",
        "The request has no bearer token, or the API server does not accept it.",
        "Send `Authorization: Bearer TOKEN` with a token for the gateway's audience.",
    ),
    "forbidden": ProblemDefinition(
        403,
        "Not allowed to call this skill",
        "The caller may not create `skills/call` of this Skill, which may not exist.",
        "Bind the ClusterRole `skill-caller` to the caller in the Skill's namespace.",
    ),
    "creation-forbidden": ProblemDefinition(
        403,
        "Not allowed to create Skills",
        "The caller may not `create` `skills` in this namespace, which may not exist.",
        "Bind a role with `create` on `skills` to the caller there, such as the ClusterRole `skill-maker`.",
    ),
    "workshop-closed": ProblemDefinition(
        403,
        "The workshop is closed here",
        "The namespace does not have the label `skill-operator.dev/workshop: enabled`.",
        "Ask in another namespace, or have its administrator set the label.",
    ),
    "creation-refused": ProblemDefinition(
        403,
        "The cluster refuses the Skill",
        "The API server refuses to store the Skill: by a quota, a policy, or a right that the gateway lacks.",
        "Do what the detail says; it has the API server's own words.",
    ),
    "origin-not-allowed": ProblemDefinition(
        403,
        "Origin not allowed",
        "A web page of an origin that `gateway.origins` does not name sent the request.",
        "Call from a program, or add the origin.",
    ),
    "not-found": ProblemDefinition(404, "Not found", "The gateway has no such path.", "See `GET /v1/skills`."),
    "task-not-found": ProblemDefinition(
        404,
        "Task not found",
        "There is no such task of this caller.",
        "Ask for the Skill again: an equal request finds its task.",
    ),
    "skill-not-found": ProblemDefinition(
        404, "Skill not found", "The caller may call this Skill, but it does not exist.", "See `GET /v1/skills`."
    ),
    "method-not-allowed": ProblemDefinition(
        405,
        "Method not allowed",
        "The path does not support this method.",
        "Use a method that the header `Allow` names; a skill is called with POST.",
    ),
    "not-acceptable": ProblemDefinition(
        406,
        "Not acceptable",
        "The caller accepts neither JSON nor an event stream, or no event stream where there is nothing else.",
        "Send `Accept: application/json, text/event-stream`.",
    ),
    "request-timeout": ProblemDefinition(
        408, "Request body timed out", "The body did not arrive in time.", "Send the whole body at once."
    ),
    "skill-exists": ProblemDefinition(
        409,
        "The name is taken",
        "There is a Skill of this name that was not asked for by this caller in these words.",
        "Ask under another name, or under none.",
    ),
    "task-ended": ProblemDefinition(
        409,
        "The task takes no more answers",
        "The task was cancelled, or its Skill was promoted, so that its maker changes it no more.",
        "Ask for another Skill.",
    ),
    "too-large": ProblemDefinition(
        413, "Request body too large", "The body is larger than 1 MiB.", "Send a smaller body."
    ),
    "unsupported-encoding": ProblemDefinition(
        415, "Content-Encoding not supported", "The body has a Content-Encoding.", "Send the body without encoding."
    ),
    "unsupported-media-type": ProblemDefinition(
        415, "Content-Type not supported", "The body is not JSON.", "Send `Content-Type: application/json`."
    ),
    "host-not-allowed": ProblemDefinition(
        421,
        "Host not allowed",
        "With `gateway.auth: none`, the gateway accepts only its own host names.",
        "Add the name to `gateway.hosts`, or have callers send a token.",
    ),
    "invalid-input": ProblemDefinition(
        422,
        "The body does not fit spec.input",
        "The body violates the Skill's input schema; the detail names each violation.",
        "Change the body as the schema says.",
    ),
    "invalid-skill": ProblemDefinition(
        422,
        "The request describes no valid Skill",
        "A field is missing or wrong, a schema is invalid, or examples do not fit the schemas or each other.",
        "Change what the detail names. Nothing was written, and no model was asked.",
    ),
    "concurrency-limit": ProblemDefinition(
        429,
        "Too many concurrent calls",
        "The caller or the Skill has as many calls in flight as its limit allows.",
        "Call again after Retry-After, or raise the limit.",
    ),
    "rate-limited": ProblemDefinition(
        429,
        "Rate limit exceeded",
        "The caller or the Skill has used up its calls per minute.",
        "Call again after Retry-After, or raise the limit.",
    ),
    "headers-too-large": ProblemDefinition(
        431,
        "Request headers too large",
        "The headers are larger than 32 KiB, or more than 100 lines.",
        "Send fewer or shorter headers.",
    ),
    "internal-error": ProblemDefinition(
        500,
        "Internal error of the gateway",
        "The gateway itself failed.",
        "Look for the request id in the gateway's log and report the error.",
    ),
    "upstream-closed": ProblemDefinition(
        502,
        "The skill's pod closed the connection",
        "The pod ended during the call; the call may have taken effect.",
        "Call again if the call may run twice; the Skill's conditions say why a pod ended.",
    ),
    "invalid-upstream-response": ProblemDefinition(
        502,
        "Invalid response from the skill",
        "The pod sent a response that no skill sends.",
        "Look at the log of the skill's pod.",
    ),
    "response-too-large": ProblemDefinition(
        502,
        "Response too large",
        "The skill's response is larger than 1 MiB, as JSON in UTF-8.",
        "Ask for less.",
    ),
    "authorization-unavailable": ProblemDefinition(
        503,
        "Authorization unavailable",
        "The gateway cannot ask the API server who calls or what the caller may do.",
        "Call again; if it lasts, look at the gateway's log and its ClusterRoleBinding.",
    ),
    "starting": ProblemDefinition(
        503, "The gateway is starting", "The gateway does not know all Skills yet.", "Call again after Retry-After."
    ),
    "stopping": ProblemDefinition(
        503,
        "The gateway is stopping",
        "The gateway was replaced, and the call took longer than `gateway.finishSeconds` after that.",
        "With Retry-After: call again, nothing was done. Else the skill may have done what was asked.",
    ),
    "overloaded": ProblemDefinition(
        503,
        "Too many calls in flight",
        "The gateway or the skill's pods have as many calls or connections as they take, or yours hold their share.",
        "Call again after Retry-After; add replicas of the gateway, or raise `gateway.wake.queue`, as the detail says.",
    ),
    "not-ready": ProblemDefinition(
        503,
        "Skill not ready",
        "The Skill is not ready; the detail is its own condition.",
        "Run `kubectl describe skill`.",
    ),
    "pod-not-accepting": ProblemDefinition(
        503,
        "The skill's pod accepts no calls yet",
        "A pod exists but accepts no connections yet.",
        "Call again after Retry-After.",
    ),
    "wake-queue-full": ProblemDefinition(
        503,
        "Too many calls wait for the skill",
        "As many calls as `gateway.wake.queue` allows wait for the Skill to wake.",
        "Call again after Retry-After, or raise `gateway.wake.queue`.",
    ),
    "wake-rejected": ProblemDefinition(
        503,
        "The skill cannot be woken",
        "The API server rejects the patch that would start a pod.",
        "Look at the detail, and at the gateway's rights in the Skill's namespace.",
    ),
    "api-server-unavailable": ProblemDefinition(
        503,
        "The API server is unavailable",
        "The Skill is asleep, and the API server, which alone can start a pod, does not respond.",
        "Call again after Retry-After.",
    ),
    "unschedulable": ProblemDefinition(
        503,
        "No node can run the skill's pod",
        "The scheduler finds no node for the pod.",
        "Add a node, or lower `spec.resources`.",
    ),
    "image-pull-failed": ProblemDefinition(
        503,
        "The skill's image cannot be pulled",
        "The node cannot pull the Skill's image.",
        "Check that the nodes reach the registry.",
    ),
    "quota-exceeded": ProblemDefinition(
        503,
        "Resource quota exceeded",
        "The namespace's quota has no room for the pod.",
        "Raise the quota, or let other Skills of the namespace sleep.",
    ),
    "pod-creation-failed": ProblemDefinition(
        503,
        "The skill's pod cannot be created",
        "The cluster does not create the pod; the detail says why.",
        "Look at the events of the Skill's Deployment.",
    ),
    "pod-start-failed": ProblemDefinition(
        503,
        "The skill's pod does not start",
        "The pod starts and ends, or cannot start as it is.",
        "Run `kubectl describe skill` and look at the pod's log.",
    ),
    "restoring": ProblemDefinition(
        503,
        "Skill is being restored",
        "The Skill was archived. The operator builds and starts it again, which takes longer than the call may wait.",
        "Call again after Retry-After; nothing else is needed. If it lasts, run `kubectl describe skill`.",
    ),
    "suspended": ProblemDefinition(
        503,
        "Skill suspended",
        "The Skill is asleep, and `spec.suspend` keeps it from waking.",
        "Set `spec.suspend` to false.",
    ),
    "timeout": ProblemDefinition(
        504,
        "Call timed out",
        "The call took longer than `spec.callTimeoutSeconds`.",
        "Ask for less, or raise `spec.callTimeoutSeconds`.",
    ),
    "wake-timeout": ProblemDefinition(
        504,
        "The skill did not wake in time",
        "No pod responded within `gateway.wake.seconds`.",
        "Call again; the detail says what the pod waits for.",
    ),
    "http-version-not-supported": ProblemDefinition(
        505,
        "HTTP version not supported",
        "The response has no known length, and the client speaks HTTP/1.0.",
        "Use HTTP/1.1.",
    ),
}

RUNTIME_PROBLEMS: Mapping[str, RuntimeProblemDefinition] = {
    "input-rejected": RuntimeProblemDefinition(
        422, "The skill raised `ValueError`: it does not take this input.", "Change the input as the detail says."
    ),
    "skill-error": RuntimeProblemDefinition(
        500, "The skill raised another exception.", "Look at the log of the skill's pod."
    ),
    "out-of-memory": RuntimeProblemDefinition(
        500,
        "The call used more memory than `spec.resources` allows.",
        "Ask for less, or raise `spec.resources.limits.memory`.",
    ),
    "disk-full": RuntimeProblemDefinition(
        500,
        "The call wrote more to `/tmp` than `spec.resources` allows.",
        "Ask for less, or raise `spec.resources.limits.ephemeral-storage`.",
    ),
    "too-many-processes": RuntimeProblemDefinition(
        500, "The call started more processes and threads than a skill may.", "Ask for less, or change the skill."
    ),
    "invalid-output": RuntimeProblemDefinition(
        500, "The skill's result does not fit `spec.output`.", "Add an example to the Skill that shows the case."
    ),
}


class Problem(Exception):
    """Problem ends a request with a type of `PROBLEMS`, which has its status and title. `detail` says what to do."""

    def __init__(
        self,
        slug: str,
        detail: str,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        """`retry_after` is in seconds; `status` replaces that of the catalogue. Raises KeyError for another slug."""
        super().__init__(detail)
        definition = PROBLEMS[slug]
        self.status = definition.status if status is None else status
        self.slug = slug
        self.title = definition.title
        self.detail = detail
        self.headers = dict(headers or {}) | ({} if retry_after is None else {"Retry-After": str(retry_after)})

    @property
    def type(self) -> str:
        """The URI by which programs know the problem."""
        return f"{TYPE_PREFIX}{self.slug}"

    def body(self, request_id: str) -> bytes:
        """Return the problem document."""
        document = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "requestId": request_id,
        }
        return json.dumps(document).encode()


def internal_error(request_id: str) -> Problem:
    """Return the problem for an exception that nobody expected: the traceback is in the gateway's log alone."""
    return Problem("internal-error", f"the gateway failed; its log says more under request {request_id}")
