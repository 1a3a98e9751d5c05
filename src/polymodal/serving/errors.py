"""Errors of requests in the form that OpenAI clients read: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from starlette.responses import JSONResponse

from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.core.formatting import escape_controls, truncate

#: The types of errors by status.
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
#: Seconds after which a client that was refused may try again.
RETRY_AFTER = "1"
#: Longest message of an error, in characters.
MAX_MESSAGE = 1_000


class RequestError(PolymodalError):
    """A request cannot be answered.

    status: the status of the response
    code: a short name for programs
    param: the key of the request that is wrong
    """

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


def request_error(error: Exception) -> RequestError:
    """The error that a client is told: problems of its rows and settings as they are, everything else without details.

    Example:
        >>> request_error(ZeroDivisionError("secret")).status
        500
        >>> str(request_error(RecipeError("temperature", "must not be negative")))
        'temperature: must not be negative'
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, RecipeError):
        return RequestError(str(error), code="invalid_setting", param=error.path or None)
    if isinstance(error, DataError):
        return RequestError(str(error), code="invalid_rows", param=error.column)
    return RequestError(
        "the request could not be computed; the log of the service names the cause under the request id",
        status=500,
        code="internal_error",
    )


def error_response(error: RequestError) -> JSONResponse:
    """The response of an error. A client repeats a request only where that may help."""
    message = truncate(escape_controls(str(error), keep="\n\t"), MAX_MESSAGE)
    kind = TYPES.get(error.status, "invalid_request_error")
    headers = {"retry-after": RETRY_AFTER} if error.status in (429, 503) else {"x-should-retry": "false"}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}}
    return JSONResponse(body, error.status, headers)
