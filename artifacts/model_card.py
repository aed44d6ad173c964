"""Model card (Mitchell et al. 2019, "Model cards for model reporting"), section by section."""

from __future__ import annotations

from pydantic import Field

from kfp_lifecycle.artifacts.document import Document, Part


class CardSection(Part):
    """A heading, sentences, and perhaps a table and pictures."""

    heading: str
    """What it is about."""
    sentences: list[str] = Field(default=[])
    """For a reader; code stands between backticks."""
    table: list[list[str]] = Field(default=[])
    """Its rows, the columns' titles first."""
    plots: list[str] = Field(default=[])
    """Pictures, by the name of their file in `plots/`."""


class ModelCard(Document):
    """What a model is for, what it learned from, how good it was measured to be, and what nobody tested. Beside it are
    `model_card.md` and `model_card.html`, which say the same."""

    FILE = "model_card.json"
    WRITER = "train_model"

    title: str
    """The project in a few words."""
    sections: list[CardSection]
    """In the order of reading: those of `train_model`, then, of an approved model, those of `decide_promotion`."""
