"""Model folder: what `train_model` writes and every later step reads, its description checked whole."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.modelling.scoring import Scorer
from kfp_lifecycle.runtime.contract import ContractViolation

if TYPE_CHECKING:
    from kfp_lifecycle.config.configuration import Configuration


class ModelFolder:
    """A `model` artifact."""

    def __init__(self, folder: Path) -> None:
        """Read its description.

        Raises:
            ContractViolation: the folder holds no complete model.
        """
        missing = [name for name in (Model.FILE, "model.onnx") if not (folder / name).is_file()]
        if missing:
            raise ContractViolation(
                f"{folder} holds no complete model: {', '.join(missing)} is missing. Run train_model again, or give "
                "the step a model that was approved."
            )
        self.folder = folder
        self.description = Model.read(folder)
        self.features, self.threshold = self.description.inputs, self.description.threshold

    @cached_property
    def settings(self) -> Configuration:
        """What it keeps of the configuration: DEFINITION_SETTINGS.

        Raises:
            ContractViolation: a section is missing or wrong.
        """
        # The whole configuration takes a while to import, and few need it.
        from kfp_lifecycle.features.settings import definition_settings

        return definition_settings(self.description.settings)

    @property
    def feature_repo(self) -> Path:
        """The feature definitions that it was trained on."""
        return self.folder / "feature_repo"

    def scorer(self, threads: int = 0) -> Scorer:
        """The model, loaded.

        Raises:
            ContractViolation: it cannot be loaded, or does not fit its description.
        """
        return Scorer((self.folder / "model.onnx").read_bytes(), self.features, threads)
