"""Errors as Google's APIs write them."""

from __future__ import annotations

from typing import Any

from tests.control_planes.kubeflow.errors import ApiError, Code


class GoogleError(ApiError):
    """A request that is refused, with nothing before its message."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.message = message

    def body(self) -> dict[str, Any]:
        """The error in JSON."""
        return {
            "error": {"code": self.code.status, "message": self.message, "status": self.code.name.upper()},
        }


def invalid(message: str) -> GoogleError:
    """Something in the request cannot be."""
    return GoogleError(Code.invalid_argument, message)


def not_found(kind: str, name: str) -> GoogleError:
    """What the request names is not there."""
    return GoogleError(Code.not_found, f"The {kind} does not exist: {name}")
