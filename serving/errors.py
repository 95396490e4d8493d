"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`, and never a stack trace.

Place in the data's way: a route raises an `ApiError` or lets a `LocalsmithError` pass; `api_error` is the one
place that turns the latter into a status and words.

Example:
    >>> api_error(ContextOverflow(prompt_tokens=9000, reserved_tokens=512, n_ctx=8192)).status_code
    400
"""

from __future__ import annotations

import math

from fastapi import Response
from fastapi.exceptions import HTTPException

from ..core import errors as core
from ..core.errors import ContextOverflow, LocalsmithError
from .json_bytes import dumps

OVERLOADED_RETRY_S = 2.0
LOADING_RETRY_S = 5.0
INTERNAL_ERROR = "internal_error"

# From the particular to the general: the first class that fits decides.
_RULES: tuple[tuple[type[LocalsmithError], int, str, str, float | None], ...] = (
    (core.Overloaded, 429, "rate_limit_error", "overloaded", OVERLOADED_RETRY_S),
    (core.ModelNotReadyError, 503, "server_error", "model_not_ready", LOADING_RETRY_S),
    (core.AccessDenied, 403, "permission_error", "access_denied", None),
    (core.IndexNotFoundError, 404, "invalid_request_error", "collection_not_found", None),
    (core.LibraryBusyError, 503, "server_error", "library_busy", OVERLOADED_RETRY_S),
    (core.GenerationError, 500, "server_error", "generation_failed", None),
    (core.ModelNotFoundError, 503, "server_error", "model_unavailable", None),
    (core.ModelDownloadError, 503, "server_error", "model_unavailable", None),
    (core.ModelLoadError, 503, "server_error", "model_unavailable", None),
    # What is left of the model's errors are refusals of the conversation by its template.
    (core.ModelError, 400, "invalid_request_error", "refused_by_model", None),
    (LocalsmithError, 500, "server_error", INTERNAL_ERROR, None),
)


class ApiError(HTTPException):
    """A refusal, ready to be sent.

    Args:
        status: HTTP status.
        message: What is wrong and what to do next, for people.
        code: The kind of error, for programs.
        kind: OpenAI's `type`.
        param: The parameter at fault; None where there is none.
        retry_after_s: When to try again, in seconds; None where trying again is of no use.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status, message)
        self.message = message
        self.code = code
        self.kind = kind
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return dumps({"error": error})

    def response(self) -> Response:
        """Return the response that says so."""
        headers = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status_code == 401:
            headers["www-authenticate"] = "Bearer"
        if self.status_code in (408, 413):
            headers["connection"] = "close"  # the rest of the body is not read
        return Response(self.body, self.status_code, headers, "application/json")


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Return a 400 about one parameter."""
    return ApiError(400, message, code, param=param)


def api_error(exc: Exception) -> ApiError:
    """Return how an exception is told to a client; unknown ones become a 500 without details."""
    if isinstance(exc, ApiError):
        return exc
    if isinstance(exc, ContextOverflow):
        return ApiError(400, _words(exc), "context_length_exceeded", param="messages")
    if isinstance(exc, LocalsmithError):
        for error_class, status, kind, code, retry_after_s in _RULES:
            if isinstance(exc, error_class):
                return ApiError(status, _words(exc), code, kind=kind, retry_after_s=retry_after_s)
    return ApiError(500, "The server failed; its log says why.", INTERNAL_ERROR, kind="server_error")


def _words(exc: LocalsmithError) -> str:
    return f"{exc} {exc.hint}".rstrip()
