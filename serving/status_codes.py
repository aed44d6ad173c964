"""Status codes of HTTP and gRPC, as servers count their answers by them: whose fault each is."""

from __future__ import annotations

# Of gRPC; of HTTP it is 5xx. Whoever gave up (CANCELLED), or asked for too much, was not failed.
_FAILURES = ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED")
FAILURES = "|".join(("5..", *_FAILURES))
"""The server's fault, as a regular expression of Prometheus, which holds for a whole code."""


def is_good(code: str) -> bool:
    """Whether the answer is what was asked for."""
    return code == "OK" or code.startswith("2")


def is_failure(code: str) -> bool:
    """Whether that there is no answer is the server's fault."""
    return code in _FAILURES or code.startswith("5")


def is_refusal(code: str) -> bool:
    """Whether it is the client's."""
    return not is_good(code) and not is_failure(code)
