"""What decides whether a run reads and checks the data again: the source's version, the accepted dataset, the day."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.data.accepted import NOTHING, newest_accepted
from kfp_lifecycle.data.source_version import source_version


def fingerprint(settings: Configuration, locations: Locations, now: datetime | None = None) -> tuple[str, str]:
    """Fingerprint the source, and name what validation compares its data with.

    Args:
        settings: `source` and `validation.bounds`.
        locations: `dataset_remote`, which keeps the accepted datasets.
        now: The time, with a zone; by default the clock's.

    Returns:
        The source's version, never empty, and the reference: an accepted dataset's name or nothing, and, where a table
        has to be fresh by the clock, the day.
    """
    version = source_version(settings.source) or f"unknown-{uuid.uuid4().hex[:12]}"
    newest = newest_accepted(locations.dataset_remote)
    # What was accepted of this very version was compared with the one before it, and is again.
    compared_with = newest.before if newest.source_version == version else newest.name
    ages = any(bounds.max_age_days is not None for bounds in settings.validation.bounds.values())
    day = f"@{now or datetime.now(UTC):%Y-%m-%d}" if ages else ""
    print(f"the source is of version {version}; its data are compared with {compared_with or 'nothing'}{day}")
    return version, f"{compared_with or NOTHING}{day}"
