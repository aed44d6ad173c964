"""Served model: what a server reads of a model's folder.

The description was checked whole when the model was registered (`artifacts.model.Model`). A server reads the few fields
that it serves by, and does without the library that checks all of them: it would be ready a third later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.json_document import read_values, remedy
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation

DESCRIPTION, MODEL = "model.json", "model.onnx"
FORMAT, WRITER = 1, "train_model"


@dataclass(frozen=True)
class _Description:
    """These fields of `Model`."""

    inputs: Annotated[list[Feature], msgspec.Meta(min_length=1)]
    threshold: float
    settings: dict[str, Any] = field(default_factory=dict)
    expected_score: float | None = None
    learned_until: str | None = None
    key_type: str = ""


class ServedModel:
    """A `model` artifact, as far as it is served."""

    def __init__(self, folder: Path) -> None:
        """Read its description.

        Raises:
            ContractViolation: the folder holds no complete model.
        """
        missing = [name for name in (DESCRIPTION, MODEL) if not (folder / name).is_file()]
        if missing:
            raise ContractViolation(
                f"{folder} holds no complete model: {', '.join(missing)} is missing. Train and register the model "
                "again."
            )
        self._folder, self._file = folder, folder / DESCRIPTION
        try:
            found = msgspec.convert(read_values(self._file, FORMAT, WRITER), _Description)
        except msgspec.ValidationError as error:
            raise ContractViolation(f"{self._file}: {error}. {remedy(WRITER)}") from error
        self.features, self.threshold, self.settings = found.inputs, found.threshold, found.settings
        self.expected_score, self.learned_until = found.expected_score, found.learned_until
        self.key_type = found.key_type

    @property
    def entity_key(self) -> str:
        """Name of the key of the entities that it scores.

        Raises:
            ContractViolation: its description names none.
        """
        entity = self.settings.get("entity")
        if not isinstance(entity, dict) or not isinstance(entity.get("key"), str):
            raise ContractViolation(
                f"{self._file} names no entity key (settings: entity: key). Train and register the model again."
            )
        return str(entity["key"])

    @property
    def feature_repo(self) -> Path:
        """The feature definitions that it was trained on."""
        return self._folder / "feature_repo"

    def scorer(self) -> Scorer:
        """The model, loaded. A row takes microseconds: threads inside one request only get in the way of others.

        Raises:
            ContractViolation: it cannot be loaded, or does not fit its description.
        """
        return Scorer((self._folder / MODEL).read_bytes(), self.features, threads=1)
