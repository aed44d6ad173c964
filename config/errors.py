"""The error of a configuration."""

from __future__ import annotations


class ConfigurationError(Exception):
    """The project or an override of it cannot be used; the message says what, why and what to do."""
