"""JSON document: its values as they are read, or why they cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kfp_lifecycle.runtime.contract import ContractViolation


def read_values(file: Path, form: int, writer: str) -> dict[str, Any]:
    """The values of a document.

    Args:
        file: The file.
        form: Version of the format that the reader knows.
        writer: The component that writes it, for the remedy of an error.

    Raises:
        ContractViolation: it is missing, no JSON, or of another format.
    """
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not JSON: {error}"
        raise ContractViolation(f"{file} cannot be read ({reason}). {remedy(writer)}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != form:
        raise ContractViolation(f"{file} is of format {found!r}, and this step reads {form}. {remedy(writer)}")
    return dict(values)


def remedy(writer: str) -> str:
    """What helps where a document cannot be used."""
    return f"Run {writer} again, or hand on what it wrote."
