"""Work of the process beside a training. Importing it is quick: what it works with is imported there."""

from __future__ import annotations

from typing import Any


def prepare() -> None:
    """Import what describes a model, so that nothing waits for that later."""
    from kfp_lifecycle.components.training.train_model import importance, learning_curve, plots  # noqa: F401


def draw_plots(*arguments: Any) -> dict[str, str]:
    """What `training_plots` gives; only where they are drawn is matplotlib imported."""
    from kfp_lifecycle.components.training.train_model.plots import training_plots

    return training_plots(*arguments)
