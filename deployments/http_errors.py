"""The one table from error to HTTP: status, OpenAI error type, code, and whether a retry can help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experts.errors import (
    BadRequest,
    BodyTooLarge,
    ConfigurationError,
    DeadlineExceeded,
    EncoderMismatch,
    ExpertUnavailable,
    FleetFileError,
    GuildhallError,
    IndexDamaged,
    IndexUnavailable,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotServing,
    Overloaded,
    PromptTooLong,
    Unavailable,
    UnknownModel,
    Unsupported,
)
from router.question import Failure


@dataclass(frozen=True, slots=True)
class HttpError:
    """How one error class looks over HTTP; `retry_after_s` is None where a retry cannot help."""

    status: int
    type: str
    code: str
    retry_after_s: int | None = None

    @property
    def retryable(self) -> bool:
        return self.retry_after_s is not None


# A full limit empties within the seconds that one answer takes; a replica that died is back after an engine's start,
# but another replica may serve before that.
RETRY_OVERLOADED_S = 1
RETRY_UNAVAILABLE_S = 5

INTERNAL = HttpError(500, "server_error", "internal_error")

HTTP_ERRORS: Mapping[type[GuildhallError], HttpError] = {
    GuildhallError: INTERNAL,
    BadRequest: HttpError(400, "invalid_request_error", "invalid_request"),
    UnknownModel: HttpError(404, "invalid_request_error", "model_not_found"),
    PromptTooLong: HttpError(400, "invalid_request_error", "context_length_exceeded"),
    BodyTooLarge: HttpError(413, "invalid_request_error", "body_too_large"),
    NotFound: HttpError(404, "invalid_request_error", "not_found"),
    Unsupported: HttpError(400, "invalid_request_error", "unsupported_parameter"),
    NotAuthenticated: HttpError(401, "invalid_request_error", "invalid_api_key"),
    NotAllowed: HttpError(403, "invalid_request_error", "permission_denied"),
    Overloaded: HttpError(429, "rate_limit_error", "overloaded", RETRY_OVERLOADED_S),
    Unavailable: HttpError(503, "server_error", "unavailable", RETRY_UNAVAILABLE_S),
    ExpertUnavailable: HttpError(503, "server_error", "expert_unavailable", RETRY_UNAVAILABLE_S),
    IndexUnavailable: HttpError(503, "server_error", "index_unavailable", RETRY_UNAVAILABLE_S),
    NotServing: HttpError(503, "server_error", "not_serving", RETRY_UNAVAILABLE_S),
    DeadlineExceeded: HttpError(504, "server_error", "deadline_exceeded", RETRY_UNAVAILABLE_S),
    ConfigurationError: HttpError(503, "server_error", "misconfigured"),
    FleetFileError: HttpError(503, "server_error", "misconfigured"),
    EncoderMismatch: HttpError(503, "server_error", "misconfigured"),
    IndexDamaged: HttpError(503, "server_error", "misconfigured"),
}

PROTOCOL_CODES: Mapping[int, str] = {
    404: "route_not_found",
    405: "method_not_allowed",
    415: "unsupported_media_type",
}


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as it goes out: status, headers and OpenAI's error body."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])


@dataclass(frozen=True, slots=True)
class FailedPart:
    """A sub-query's failure with the status that it has when nothing else answered."""

    failure: Failure
    status: int
    param: str | None = None


def describe_error(error: GuildhallError) -> HttpError:
    """The table's line for an error: that of its class, or of the nearest class above it."""
    return next(HTTP_ERRORS[cls] for cls in type(error).__mro__ if cls in HTTP_ERRORS)


def reply_to_error(error: GuildhallError) -> ErrorReply:
    """What the caller gets for an error."""
    line = describe_error(error)
    param = error.param if isinstance(error, BadRequest) else None
    headers = {"www-authenticate": "Bearer"} if isinstance(error, NotAuthenticated) else {}
    return _build_reply(line, str(error), param, headers)


def reply_to_internal_error(request_id: str) -> ErrorReply:
    """What the caller gets for a mistake of ours: where to find it, and nothing of its inside."""
    return _build_reply(INTERNAL, f"an internal error occurred; the log names it under request id {request_id}", None)


def reply_to_protocol_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> ErrorReply:
    """What the caller gets when HTTP itself was misused: no such route, method or media type."""
    line = HttpError(status, "invalid_request_error", PROTOCOL_CODES.get(status, "invalid_request"))
    return _build_reply(line, message, None, headers or {})


def reply_to_failures(parts: Sequence[FailedPart]) -> ErrorReply:
    """What the caller gets when every sub-query failed.

    The caller's own mistake comes first, because no retry mends it; then a limit, then a deadline, then the rest.
    """
    order = (400, 404, 413, 429, 504)
    first = min(parts, key=lambda part: order.index(part.status) if part.status in order else len(order))
    retry_after_s = None
    if first.status < 500 and first.status != 429:
        kind = "invalid_request_error"
    else:
        kind = "rate_limit_error" if first.status == 429 else "server_error"
        if first.failure.retryable:
            retry_after_s = RETRY_OVERLOADED_S if first.status == 429 else RETRY_UNAVAILABLE_S
    status = 503 if first.status == 500 else first.status
    line = HttpError(status, kind, first.failure.code, retry_after_s)
    return _build_reply(line, first.failure.message, first.param)


def fail_part(error: GuildhallError) -> FailedPart:
    """An error as the failure of one sub-query."""
    line = describe_error(error)
    param = error.param if isinstance(error, BadRequest) else None
    return FailedPart(Failure(line.code, str(error), line.retryable), line.status, param)


def _build_reply(
    line: HttpError, message: str, param: str | None, headers: Mapping[str, str] | None = None
) -> ErrorReply:
    sent = dict(headers or {})
    if line.retry_after_s is not None:
        sent["retry-after"] = str(line.retry_after_s)
    # OpenAI's client retries every 5xx unless this header says no.
    sent["x-should-retry"] = "true" if line.retryable else "false"
    body = {"error": {"message": message, "type": line.type, "param": param, "code": line.code}}
    return ErrorReply(line.status, sent, body)
