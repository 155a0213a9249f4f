"""The access log: one line for each request, and its place in the metrics."""

from __future__ import annotations

import logging
from functools import lru_cache

from skill_operator.observability import logs, metrics
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
CLIENT_DISCONNECTED = "client-disconnected"  # the outcome of a request whose caller did not wait for the response
CLIENT_CLOSED_REQUEST = 499  # its status, as nginx has it: HTTP has none, since nobody gets it
MAX_TEXT_LENGTH = 200  # characters of a caller's text in one line
_CUT = MAX_TEXT_LENGTH + 1  # one more than is shown, so that a text that was cut shows it


def record_request(
    method: str, path: str, request_id: str, caller: str, status: int, outcome: str, seconds: float
) -> None:
    """Count a request and log it; `outcome` is a problem's slug, the class of the status, or CLIENT_DISCONNECTED."""
    metrics.record_request(outcome, seconds)
    if log.isEnabledFor(logging.INFO):
        logs.log_later(_line, method, path, request_id, caller, status, outcome, seconds)


def _line(method: str, path: str, request_id: str, caller: str, status: int, outcome: str, seconds: float) -> str:
    return (
        f'"logger": "{__name__}", "message": "call", "request": {logs.quote(request_id)}, '
        f'"method": {_quoted(method[:_CUT])}, "path": {_quoted(path[:_CUT])}, "caller": {_quoted(caller[:_CUT])}, '
        f'"status": {status}, "outcome": {_quoted(outcome)}, "seconds": {seconds:.4f}'
    )


@lru_cache(4096)
def _quoted(text: str) -> str:
    """Return a caller's text as JSON for the log. There are few such texts and many calls."""
    return logs.quote(printable(text, MAX_TEXT_LENGTH))
