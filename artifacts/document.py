"""JSON document of an artifact: typed, versioned, written by one step and read by all others through one class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kfp_lifecycle.artifacts.json_document import read_values, remedy
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole


class Part(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="null", defer_build=True
    )


class Document(Part):
    """A document, kept as one JSON file.

    A subclass names its file and the step that writes it. `format` is raised when what a field means has changed:
    readers refuse other numbers, in words.
    """

    FILE: ClassVar[str]
    """Its name in the artifact's folder."""
    WRITER: ClassVar[str]
    """The component that writes it, for the remedy of an error."""
    FORMAT: ClassVar[int] = 1

    format: int = 1
    """Version of the document's format."""

    @classmethod
    def read(cls, place: Path) -> Self:
        """Read it.

        Args:
            place: The artifact's folder, or the file itself.

        Raises:
            ContractViolation: it is missing, no JSON, of another format, or lacks a field; the message names the file,
                the field and the step that writes it.
        """
        file = place / cls.FILE if place.is_dir() else place
        values = read_values(file, cls.FORMAT, cls.WRITER)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            detail = error.errors()[0]
            field = ".".join(str(part) for part in detail["loc"])
            raise ContractViolation(f"{file}: {field}: {detail['msg']}. {remedy(cls.WRITER)}") from error

    def write(self, place: Path) -> Path:
        """Write it whole or not at all, the same bytes for the same content; returns the file.

        Args:
            place: The artifact's folder, or, where it has no such folder, the file to write.
        """
        file = place / self.FILE if place.is_dir() else place
        write_whole(file, self.text())
        return file

    def text(self) -> str:
        """The file's content."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def schema_text(cls) -> str:
        """Its published JSON Schema."""
        schema: dict[str, Any] = cls.model_json_schema()
        return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"
