"""Collection of predictions: a window of the prediction log as a table, with the version that it is judged by."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.predictions import TABLE_FILE, LogTable, Predictions
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.monitoring.log_files import Window, log_files, window_ending
from kfp_lifecycle.monitoring.log_window import OpenLog, read_log, served_versions, write_table
from kfp_lifecycle.registry.champion import Champion, registered_version, require_champion
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
        settings: `deployment.model`, `monitoring.window_days` and `monitoring.min_window`.
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
    with complete_folder(destination) as folder, tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        scratch = Path(temporary)
        files = log_files(locations.prediction_log, settings.deployment.model, window, scratch)

        def read(log: OpenLog) -> tuple[list[str], LogTable]:
            unknown, inputs = inputs_of(champion, served_versions(log, window), scratch)
            return unknown, write_table(log, inputs, window, folder / TABLE_FILE)

        unknown, found = read_log(files, scratch / "log-files", read, writable=folder)
        predictions = Predictions(
            model=champion.model,
            champion=champion.version,
            version=judged_version(champion.version, found, settings.monitoring.min_window, unknown),
            start=window.start,
            end=window.end,
            found=found,
            notes=notes_on(window, found, settings.monitoring.min_window, unknown),
        )
        predictions.write(folder)
    days = f"{settings.monitoring.window_days} days"
    summary = f"{found.predictions:,} predictions in {days}" if found.predictions else f"no predictions in {days}"
    print(summary)
    for note in predictions.notes:
        print(f"  {note}")
    for flaw in found.broken.examples:
        print(f"  not readable: {flaw.file}: {flaw.reason} ({flaw.rows:,} predictions)")
    return {**predictions.metadata(), "summary": summary}


def inputs_of(champion: Champion, versions: Sequence[str], scratch: Path) -> tuple[list[str], list[Feature]]:
    """The inputs of all versions that served, the champion's first, each once; and the versions that nobody knows.

    Where two versions give one input another type, the champion's counts.
    """
    unknown: list[str] = []
    inputs = {item.name: item for item in champion.description(scratch / "champion").inputs}
    for version in versions:
        if version == champion.version:
            continue
        served = registered_version(champion.tracking_uri, champion.model, version)
        if served is None:
            unknown.append(version)
        else:
            description = served.description(scratch / f"version-{version}")
            inputs = {**{item.name: item for item in description.inputs}, **inputs}
    return unknown, list(inputs.values())


def judged_version(champion: str, found: LogTable, enough: int, unknown: Sequence[str]) -> str:
    """The version that a window is judged by.

    The champion where enough of its predictions count; else, of those that the registry knows, the one of which most
    do, the later of two; where none answered, the champion.
    """
    counted = {served.version: served.counted for served in found.versions if served.version not in unknown}
    if not counted or counted.get(champion, 0) >= enough:
        return champion
    return max(reversed(counted), key=lambda version: counted[version])


def notes_on(window: Window, found: LogTable, enough: int, unknown: Sequence[str]) -> list[str]:
    """What a reader of the window must know, in sentences."""
    notes = []
    if window.end > window.now:
        notes.append(f"The window ends at {window.end:%Y-%m-%d %H:%M} UTC, which is not over: it will hold more.")
    counted = sum(served.counted for served in found.versions)
    if not found.predictions:
        notes.append("The window is empty: nothing was served, or nothing was logged.")
    elif counted < enough:
        notes.append(f"The window is small: {counted:,} predictions count, and monitoring.min_window is {enough:,}.")
    if len(found.versions) > 1:
        spans = [
            f"version {served.version} ({served.counted:,} from {served.first:%Y-%m-%d %H:%M} to "
            f"{served.last:%Y-%m-%d %H:%M})"
            for served in found.versions
        ]
        notes.append(f"Several versions answered in it: {', '.join(spans)}.")
    if unknown:
        notes.append(f"The registry does not know version {', '.join(unknown)}, which answered in it.")
    left_out = found.left_out
    if left_out.repeated:
        notes.append(f"{left_out.repeated:,} older predictions about the same entities are left out.")
    if left_out.identical:
        probes = f", {found.probes:,} of them most likely a probe's" if found.probes else ""
        notes.append(
            f"{left_out.identical:,} requests without an entity bring features that were asked before{probes}: each "
            "counts once."
        )
    if left_out.future:
        notes.append(f"{left_out.future:,} predictions come from a clock that is ahead.")
    if found.broken.files or found.broken.rows:
        notes.append(f"{found.broken.files:,} files and {found.broken.rows:,} predictions cannot be read.")
    return notes
