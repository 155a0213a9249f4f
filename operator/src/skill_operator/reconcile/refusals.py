"""Refusals of the API server: how a write that it refuses is told, and when the write is tried again."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from skill_operator import naming
from skill_operator.api.conditions import LIMIT
from skill_operator.k8s.errors import ClusterError, Conflict, Forbidden, NotFound, Unavailable
from skill_operator.k8s.interface import Object
from skill_operator.naming import SkillKey
from skill_operator.untrusted.text import single_line

OBJECT_REFUSED: Final = "ObjectRefused"
MAX_WORDS: Final = 700  # characters of the API server's, so that a message has room for what to do
ENDING_RETRY_SECONDS: Final = 120.0  # of what a namespace that ends has no place for
MAX_RETRY_AFTER_SECONDS: Final = 600.0  # that the API server may ask for
QUICK_RETRY_SECONDS: Final = (1.0, 4.0)  # of what may be over by then: a conflict, a webhook that starts
_EARLY_SECONDS: Final = 0.5  # by which a timer may come before what it waits for
_VARIABLE: Final = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")
_NAMESPACE_ENDS: Final = "because it is being terminated"
_Identity = tuple[str, str, str, str]


class NotWritten(ClusterError):
    """NotWritten says why an object was not written; `reason` and `message` are those of a condition."""

    retryable = False

    def __init__(
        self,
        reason: str,
        message: str,
        cause: ClusterError | None = None,
        namespace: str = "",
        obj: Object | None = None,
    ) -> None:
        """`cause` is what the API server said, `namespace` where, and `obj` what it refuses to write."""
        super().__init__(message)
        self.reason = reason
        self.retry_after = cause.retry_after if cause else None
        self.may_pass = cause is not None and cause.retryable
        self.obj = obj
        self._ending_namespace = namespace if cause and _tells_of_its_end(cause, namespace) else ""

    def is_end_of(self, namespace: str) -> bool:
        """Return whether it was not written because this namespace is being deleted, or is gone."""
        return bool(namespace) and self._ending_namespace == namespace


def _tells_of_its_end(cause: ClusterError, namespace: str) -> bool:
    if isinstance(cause, NotFound):
        return cause.message.startswith(f'namespaces "{namespace}" not found')
    return isinstance(cause, Forbidden) and _NAMESPACE_ENDS in cause.message


@contextlib.contextmanager
def refusals(
    kind: str, namespace: str, name: str, obj: Object | None = None, *, conflicts: bool = True
) -> Iterator[None]:
    """Raise NotWritten, with the words of the API server, where it refuses a write.

    An API server that does not answer refuses nothing.
    """
    try:
        yield
    except NotWritten:
        raise
    except ClusterError as error:
        is_away = isinstance(error, Unavailable) and not error.status
        if is_away or (isinstance(error, Conflict) and not conflicts):
            raise
        words = single_line(error.message, MAX_WORDS)
        message = f"the cluster refuses {kind} {namespace}/{name}: {words} — {_advise(error)}"
        raise NotWritten(OBJECT_REFUSED, message, error, namespace, obj) from error


def _advise(error: ClusterError) -> str:
    """Return what a person does about a refusal, as far as its words tell what refuses."""
    return next((advice for words, advice in _ADVICE.items() if words in error.message), _NO_ADVICE)


_NO_ADVICE: Final = "correct what it names, and the operator goes on by itself"
_ADVICE: Final = {  # the first match counts
    "exceeded quota": "raise the quota, or delete what is not needed",
    "failed calling webhook": "repair the webhook, which does not answer as it must",
    "denied": f"change the policy, or exempt from it what has the label {naming.MANAGED_BY}={naming.MANAGER}",
    "cannot ": "give the operator the rights that its chart asks for",
    "oo large": "make the spec smaller",
    "too many requests": "wait, since the API server asks for it",
}


def refusals_of(obj: Object, *, conflicts: bool = True) -> contextlib.AbstractContextManager[None]:
    """Raise NotWritten where the API server refuses to write this object. Without `conflicts`, a Conflict stays one."""
    meta = obj["metadata"]
    return refusals(obj["kind"], meta["namespace"], meta["name"], obj, conflicts=conflicts)


def equal_words(one: str, other: str) -> bool:
    """Return whether two messages say the same, save for numbers: counts, times, ports and ids of requests.

    Else a refusal whose words count the tries would be told with each of them.
    """
    return _shape(one) == _shape(other)


def _shape(message: str) -> str:
    return _VARIABLE.sub("#", single_line(message, LIMIT))


class RefusalTracker:
    """RefusalTracker remembers of each Skill what was refused, so that it is told once and tried again at leisure."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock` tells seconds. With it, a write that was refused is held back until it is due, whatever event comes.

        Without it each reconcile tries again.
        """
        self._clock = clock
        self._passing: Counter[SkillKey] = Counter()  # refusals in a row that may be over at once
        self._held: dict[SkillKey, dict[_Identity, tuple[NotWritten, float]]] = {}
        self._reported: dict[SkillKey, str] = {}

    def quick_retry_seconds(self, key: SkillKey, problem: NotWritten) -> float | None:
        """Return in how many seconds an untold retry follows; None where the refusal is to be told.

        Nobody is told of a namespace that ends, nor of a conflict that is over with the next try.
        """
        if problem.is_end_of(key.namespace):
            return ENDING_RETRY_SECONDS
        if not problem.may_pass or (problem.retry_after or 0) > QUICK_RETRY_SECONDS[-1]:
            return None
        self._passing[key] += 1
        tries = self._passing[key]
        return QUICK_RETRY_SECONDS[tries - 1] if tries <= len(QUICK_RETRY_SECONDS) else None

    def retry_seconds(self, key: SkillKey, problem: NotWritten, seconds: float) -> float:
        """Return in how many seconds to try again: `seconds`, but what is held back as soon as it is due.

        An API server that asks for more time gets it, within bounds.
        """
        if left := self._seconds_left(key, problem.obj):
            return left
        seconds = max(seconds, min(MAX_RETRY_AFTER_SECONDS, problem.retry_after or 0))
        if self._clock is not None and problem.obj is not None:
            self._held.setdefault(key, {})[_identity(problem.obj)] = problem, self._clock() + seconds - _EARLY_SECONDS
        return seconds

    def check(self, key: SkillKey, wanted: Object) -> None:
        """Raise the NotWritten of the last try, where it is too early for the next one.

        An object with other content is tried at once: somebody may have put right what was wrong with it.
        """
        if self._seconds_left(key, wanted):
            raise self._held[key][_identity(wanted)][0]

    def forget(self, key: SkillKey) -> None:
        """Forget a Skill of which everything was written, or which is gone."""
        self._passing.pop(key, None)
        self._held.pop(key, None)
        self._reported.pop(key, None)

    def is_news(self, key: SkillKey, problem: NotWritten) -> bool:
        """Return whether this was not told before, and note that it is."""
        known = self._reported.get(key, "")
        self._reported[key] = problem.message
        return not equal_words(known, problem.message)

    def _seconds_left(self, key: SkillKey, obj: Object | None) -> float:
        if self._clock is None or obj is None:
            return 0.0
        _, until = self._held.get(key, {}).get(_identity(obj), (None, 0.0))
        return max(0.0, until - self._clock())


def _identity(obj: Object) -> _Identity:
    """Return what tells one write from another. A Job's name tells its content, and its key is new each time."""
    meta = obj["metadata"]
    annotations = meta.get("annotations", {})
    content = "" if obj["kind"] == "Job" else annotations.get(naming.APPLIED_ANNOTATION, "")
    return obj["kind"], meta["namespace"], meta["name"], content
