"""Errors of the API: gRPC's codes, and the JSON that grpc-gateway makes of them."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Code(Enum):
    """A gRPC code with the HTTP status that grpc-gateway answers it by."""

    invalid_argument = (3, 400)
    not_found = (5, 404)
    already_exists = (6, 409)
    permission_denied = (7, 403)
    resource_exhausted = (8, 429)
    failed_precondition = (9, 400)
    aborted = (10, 409)
    unimplemented = (12, 501)
    internal = (13, 500)
    unavailable = (14, 503)
    unauthenticated = (16, 401)

    @property
    def number(self) -> int:
        """gRPC's number."""
        return self.value[0]

    @property
    def status(self) -> int:
        """HTTP's status."""
        return self.value[1]


# What the API server puts before a message for its log, which the client is sent, too.
_KINDS = {
    Code.invalid_argument: "Invalid input error",
    Code.not_found: "ResourceNotFoundError",
    Code.already_exists: "Already exist error",
    Code.permission_denied: "PermissionDenied",
    Code.failed_precondition: "FailedPreconditionError",
    Code.aborted: "BadRequestError",
    Code.internal: "InternalServerError",
    Code.unavailable: "ServiceUnavailable",
    Code.unauthenticated: "Unauthenticated",
}


class ApiError(Exception):
    """A request that is refused."""

    def __init__(self, code: Code, message: str, *, cause: str = "", external: str | None = None) -> None:
        """
        Args:
            code: Why.
            message: In words.
            cause: What lies below it, at the end of the message.
            external: The message in the error's details; by default the message itself.
        """
        super().__init__(message)
        self.code = code
        self.message = f"{_KINDS.get(code, code.name)}: {message}" + (f": {cause}" if cause else "")
        self.external = message if external is None else external

    def within(self, *doing: str) -> ApiError:
        """The same, said to have happened while something was done, the outermost first."""
        self.message = ": ".join((*doing, self.message))
        return self

    def body(self) -> dict[str, Any]:
        """What grpc-gateway answers."""
        details = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code.number, "message": self.external}
        return {"code": self.code.number, "message": self.message, "details": [details]}


def invalid(message: str) -> ApiError:
    """Something in the request cannot be."""
    return ApiError(Code.invalid_argument, message)


def not_found(kind: str, name: str) -> ApiError:
    """What the request names is not there."""
    return ApiError(Code.not_found, f"{kind} {name} not found")


def internal(message: str, cause: str = "") -> ApiError:
    """The server could not; the details say no more than that."""
    return ApiError(Code.internal, message, cause=cause, external="Internal Server Error")
