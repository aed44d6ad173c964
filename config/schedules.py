"""Configuration of recurring runs: cron expressions."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from kfp_lifecycle.config.section import Section

_CRON_FIELD = r"(\*|\d+(-\d+)?)(/\d+)?(,(\*|\d+(-\d+)?)(/\d+)?)*"
Cron = Annotated[str, StringConstraints(strip_whitespace=True, pattern=rf"^{_CRON_FIELD}( {_CRON_FIELD}){{4}}$")]


class Schedules(Section):
    """When pipelines recur on a cluster: cron expressions, UTC, of minute, hour, day of month, month, day of week.

    Compiling names them as the target wants them; a pipeline without one is started by a person or another system.
    """

    materialization: Cron | None = "0 5 * * *"
    """The online store is filled. It has to recur well within `features.freshness_days`, after which a feature that
    nobody confirmed is missing."""
    monitoring: Cron | None = "0 6 * * *"
    """Drift is looked for."""
    batch_scoring: Cron | None = None
    """All entities are scored."""
    training: Cron | None = None
    """A new candidate is trained, whether or not monitoring asks for one."""
