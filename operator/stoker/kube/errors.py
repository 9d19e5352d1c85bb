"""What can go wrong between us and the API server, by what the caller does next.

KubeError
  NotFound      the object is not there: for a delete as good as done
  Conflict      the name is taken, or the object is another one now (uid, resourceVersion): look again
  Gone          the resourceVersion is too old to go on from: list anew
  Rejected      the request itself is wrong or not allowed: asking again brings the same answer
  Unavailable   no answer, or "later": try again after a while
"""


class KubeError(Exception):
    """An answer of the API server that is not success.

    status: HTTP status, 0 when there was none. reason: the server's CamelCase word. message: the server's own text.
    """

    def __init__(self, message: str, *, reason: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.status = status


class NotFound(KubeError):
    """404: no such object (or no such kind)."""


class Conflict(KubeError):
    """409: reason AlreadyExists when the name is taken, Conflict when a uid or resourceVersion no longer holds."""

    @property
    def name_taken(self) -> bool:
        return self.reason == "AlreadyExists"


class Gone(KubeError):
    """410: the resourceVersion or continue token has expired."""


class Rejected(KubeError):
    """4xx: invalid, forbidden, unauthorized, too large; `reason` and `message` are for the person who must act."""


class Unavailable(KubeError):
    """Connection errors, 429 and 5xx that outlasted the retries. retry_after: seconds the server asked for, bounded, or 0."""

    def __init__(self, message: str, *, reason: str = "", status: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(message, reason=reason, status=status)
        self.retry_after = retry_after


def error_for(status: int, reason: str, message: str, retry_after: float = 0.0) -> KubeError:
    """The error of an HTTP status and the `Status` object that came with it."""
    kinds: dict[int, type[KubeError]] = {404: NotFound, 409: Conflict, 410: Gone}
    if kind := kinds.get(status):
        return kind(message, reason=reason, status=status)
    if status == 429 or status >= 500:
        return Unavailable(message, reason=reason, status=status, retry_after=retry_after)
    return Rejected(message, reason=reason, status=status)
