"""Every error that a caller can meet, in one table: status, OpenAI type and code, and whether trying again may help.

A message says what happened and what to do next. It never holds text of a prompt, a path or a stack trace.
"""

from typing import Any


class MegaCityError(Exception):
    """Base of all errors that are answered rather than logged as a fault."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    retry_after_s: int | None = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code
        self.retry_after_s = retry_after_s if retry_after_s is not None else type(self).retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions with keyword arguments don't pickle by themselves, and these travel between processes."""
        return _rebuild, (type(self), self.message, self.param, self.code, self.retry_after_s)

    def envelope(self) -> dict[str, dict[str, str | None]]:
        """The OpenAI error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def _rebuild(
    cls: type[MegaCityError], message: str, param: str | None, code: str | None, retry_after_s: int | None
) -> MegaCityError:
    return cls(message, param=param, code=code, retry_after_s=retry_after_s)


class BadRequest(MegaCityError):
    status, type, code = 400, "invalid_request_error", "invalid_request"


class Unauthorized(MegaCityError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(MegaCityError):
    status, type, code = 403, "permission_error", "forbidden"


class NotFound(MegaCityError):
    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(MegaCityError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class Conflict(MegaCityError):
    status, type, code = 409, "invalid_request_error", "conflict"


class TooLarge(MegaCityError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class WrongMedia(MegaCityError):
    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class Unprocessable(MegaCityError):
    status, type, code = 422, "invalid_request_error", "unprocessable"


class QueueFull(MegaCityError):
    status, type, code, retry_after_s = 429, "rate_limit_error", "queue_full", 1


class RateLimited(MegaCityError):
    status, type, code, retry_after_s = 429, "rate_limit_error", "rate_limit_exceeded", 1


class InsufficientQuota(MegaCityError):
    """The budget is spent or held by runs on their way. Waiting does not help, so there is no `retry-after`."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"


class EngineFailed(MegaCityError):
    """The engine broke in the middle of a run; what it had produced so far is not a whole answer."""

    status, type, code = 500, "server_error", "engine_failed"


class Unavailable(MegaCityError):
    status, type, code, retry_after_s = 503, "server_error", "unavailable", 5


class Lost(Unavailable):
    """The engine's process or machine is gone, and its run with it. Another one is on its way."""


class Refused(Unavailable):
    """What an engine itself depends on has turned it away, and would do so again before `retry_after_s` is over."""

    code = "backend_refused"


class DeadlineExceeded(MegaCityError):
    status, type, code = 504, "server_error", "deadline_exceeded"


class ConfigError(Exception):
    """A profile that cannot be used. One line: the key, what is wrong and the remedy."""
