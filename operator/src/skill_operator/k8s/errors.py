"""The errors of the API server: one class for each way to react."""

from __future__ import annotations


class ClusterError(Exception):
    """The API server did not do what was asked; `message` is its own."""

    retryable = True

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after: float | None = None  # seconds, where the API server said so


class NotFound(ClusterError):
    retryable = False


class Conflict(ClusterError):
    """It exists already, or somebody else wrote it first."""


class Forbidden(ClusterError):
    retryable = False


class Invalid(ClusterError):
    retryable = False


class TooManyRequests(ClusterError):
    pass


class Unavailable(ClusterError):
    """No answer, or one that is not the API server's fault alone: ask again later."""


class Gone(ClusterError):
    """The resource version is too old: list again."""
