"""Every error a caller can meet, in one tree.

    DiptychError
    ├── SettingsError          the process cannot start as configured
    └── ServiceError           has a status on the wire (RFC 9457)
        ├── Malformed          400  the body is not JSON or MessagePack
        ├── Unauthenticated    401  no key, or one that is not (any longer) valid
        ├── Forbidden          403  the key lacks a scope
        ├── NotFound           404  it does not exist, or belongs to somebody else
        ├── MethodNotAllowed   405
        ├── Conflict           409  it is there already, and different
        ├── TooLarge           413
        ├── UnsupportedMedia   415
        ├── InvalidFields      422  `errors` names each field
        ├── Overloaded         429  try again after `retry_after_s`
        ├── Internal           500  a defect; the log has the traceback under the request id
        └── Unavailable        503  try again after `retry_after_s`

One class for each different reaction of a caller. Services raise them, the HTTP layer turns them into problem
details, and the clients raise the same class again, so `except NotFound` reads the same on both sides.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """`path` is where, in the caller's own words: `$.turns[0].role`, `query.limit`, `path.collection`."""

    path: str
    message: str


class DiptychError(Exception):
    """Root of the tree."""


class SettingsError(DiptychError):
    """The process cannot start with these settings. The message lists every problem."""


class ServiceError(DiptychError):
    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __str__(self) -> str:
        lines = [f"{error.path}: {error.message}" for error in self.errors]
        return "\n  ".join([self.detail, *(line for line in lines if line != self.detail)])


class Malformed(ServiceError):
    status, code, title = 400, "malformed", "Malformed request"


class Unauthenticated(ServiceError):
    status, code, title = 401, "unauthenticated", "A valid API key is needed"


class Forbidden(ServiceError):
    """`scope` is what the key would need for it, where that is all that is missing."""

    status, code, title = 403, "forbidden", "The key may not do this"

    def __init__(self, detail: str, *, scope: str | None = None, **more: Any) -> None:
        super().__init__(detail, **more)
        self.scope = scope


class NotFound(ServiceError):
    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"


class Conflict(ServiceError):
    status, code, title = 409, "conflict", "Conflict"


class TooLarge(ServiceError):
    status, code, title = 413, "too_large", "Request too large"


class UnsupportedMedia(ServiceError):
    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class InvalidFields(ServiceError):
    status, code, title = 422, "invalid_fields", "Invalid fields"


class Overloaded(ServiceError):
    status, code, title = 429, "overloaded", "Too many requests"


class Internal(ServiceError):
    status, code, title = 500, "internal", "Internal error"


class Unavailable(ServiceError):
    status, code, title = 503, "unavailable", "Temporarily unavailable"


SERVICE_ERRORS: tuple[type[ServiceError], ...] = (
    Malformed,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    UnsupportedMedia,
    InvalidFields,
    Overloaded,
    Internal,
    Unavailable,
)


def invalid(path: str, message: str) -> InvalidFields:
    """The common case: one field is wrong."""
    return InvalidFields(f"{path}: {message}", errors=[FieldError(path, message)])
