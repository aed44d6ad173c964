"""Collection of predictions: a window of the prediction log as a table, with the champion that it belongs to."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.predictions import TABLE_FILE, Predictions
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.monitoring.log_window import log_files, window_ending, write_table
from kfp_lifecycle.registry.champion import require_champion
from kfp_lifecycle.runtime.outputs import complete_folder


def collect_predictions(
    settings: Configuration,
    locations: Locations,
    destination: Path,
    as_of: str = "",
    now: datetime | None = None,
) -> dict[str, Any]:
    """Write the predictions of the last `monitoring.window_days` as a table.

    Args:
        settings: `deployment.model` and `monitoring.window_days`.
        locations: `tracking_uri` says where the registry is, `prediction_log` where predictions are.
        destination: Folder to write; it appears whole or not at all.
        as_of: End of the window, ISO 8601; empty: now.
        now: The time on this machine; by default what its clock says.

    Returns:
        Metadata: the content of `predictions.json` and a `summary`.

    Raises:
        ContractViolation: no model is in production, the log cannot be read, or `as_of` is no time.
    """
    window = window_ending(as_of, settings.monitoring.window_days, now or datetime.now(UTC))
    champion = require_champion(locations.tracking_uri, settings.deployment.model)
    with complete_folder(destination) as folder, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        files = log_files(locations.prediction_log, settings.deployment.model, window, Path(scratch))
        inputs = champion.description(Path(scratch)).inputs
        found = write_table(files, inputs, window, folder / TABLE_FILE, Path(scratch))
        predictions = Predictions(
            model=champion.model,
            champion=champion.version,
            start=window.start.replace(microsecond=0),
            end=window.end.replace(microsecond=0),
            found=found,
        )
        predictions.write(folder)
    days = f"{settings.monitoring.window_days} days"
    summary = f"{found.rows:,} predictions in {days}" if found.rows else f"no predictions in {days}"
    print(summary)
    for flaw in found.broken.examples:
        print(f"  not readable: {flaw.file}: {flaw.reason} ({flaw.rows:,} predictions)")
    return {**predictions.metadata(), "summary": summary}
