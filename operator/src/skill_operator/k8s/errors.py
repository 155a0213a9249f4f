"""Define the errors of the API server: one class for each way to react."""

from __future__ import annotations


class ClusterError(Exception):
    """ClusterError says that the API server did not do what was requested; `message` is its own."""

    retryable = True

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after: float | None = None  # seconds, where the API server said so


class NotFound(ClusterError):
    """NotFound says that the object, or its kind, does not exist."""

    retryable = False


class Conflict(ClusterError):
    """Conflict says that the object exists already, or that somebody else wrote it first."""


class Forbidden(ClusterError):
    """Forbidden says that the operator lacks the right to do this, or a valid token."""

    retryable = False


class Invalid(ClusterError):
    """Invalid says that the request itself is wrong, so that a retry does not help."""

    retryable = False


class TooManyRequests(ClusterError):
    """TooManyRequests says that the API server limits the operator's rate: try again later."""


class Unavailable(ClusterError):
    """Unavailable says that the API server does not answer, or not with success: try again later."""


class TooMuch(ClusterError):
    """TooMuch says that a cluster stores more than the operator reads at once."""


class Gone(ClusterError):
    """Gone says that the resource version is too old: list again."""
