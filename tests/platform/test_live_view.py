"""What a person sees while a run works, whatever a clock says."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from kfp_lifecycle.backends.backend import RunSummary
from kfp_lifecycle.cli.live_view import RunView
from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.states import RunState, State


def test_a_step_of_a_cluster_whose_clock_is_ahead_has_not_begun_in_the_future() -> None:
    begun = datetime.now(UTC) + timedelta(minutes=3)
    step = StepRecord("ingest-data", State.running, started_at=begun)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with RunView(console) as view:
        view.update(RunSummary("1", "1", "training", "churn", RunState.running, begun), RunProgress({step.name: step}))
    assert "0.0 s" in screen.getvalue()
    assert "-" not in screen.getvalue().replace("ingest-data", "").split("running")[1][:20]
