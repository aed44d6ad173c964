"""What a person sees while a run works: every step and its state; plain lines where the output is no terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from kfp_lifecycle.local.events import RunProgress, StepRecord
from kfp_lifecycle.runtime.states import State

SIGNS = {
    State.waiting: ("·", "dim"),
    State.running: ("", "cyan"),
    State.cached: ("≡", "blue"),
    State.done: ("✓", "green"),
    State.failed: ("✗", "bold red"),
    State.skipped: ("–", "dim"),
}


def duration(seconds: float) -> str:
    """Seconds as a person writes them: `4.2 s`, `1 min 12 s`."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


class ShownRun(Protocol):
    """What the view's heading needs of a run."""

    @property
    def id(self) -> str: ...
    @property
    def pipeline(self) -> str: ...
    @property
    def project(self) -> str: ...


class RunView:
    """Shows a run's progress on a console until the `with` block ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(self, console=console, refresh_per_second=8) if console.is_terminal else None
        self._record: ShownRun | None = None
        self._progress = RunProgress({})
        self._spinner = Spinner("dots")
        self._shown: dict[str, State] = {}

    def __enter__(self) -> RunView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def waiting(self, holder: str) -> None:
        """Another run holds this checkout."""
        self._console.print(f"waiting for {holder} to end: two runs would write the same stores")

    def update(self, record: ShownRun, progress: RunProgress) -> None:
        """Show the run as it stands now."""
        if self._live is None and self._record is None:
            self._console.print(f"run {record.id}: {record.pipeline} of {record.project}, {len(progress.steps)} steps")
        self._record, self._progress = record, progress
        if self._live is None:
            self._print_changes()

    def _print_changes(self) -> None:
        for position, step in enumerate(self._progress.steps.values(), start=1):
            if step.state is self._shown.get(step.name, State.waiting):
                continue
            self._shown[step.name] = step.state
            # What a run does not come to is plain from how it ended.
            if step.state is State.skipped:
                continue
            took = f" in {duration(step.seconds)}" if step.seconds is not None else ""
            detail = f": {step.summary}" if step.summary else ""
            self._console.print(
                f"[{position:2}/{len(self._progress.steps)}] {step.name} {step.state}{took}{detail}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._record is None:
            yield Text("compiling the pipeline …", style="dim")
            return
        yield Text.assemble((self._record.pipeline, "bold"), f" of {self._record.project}  ", (self._record.id, "dim"))
        table = Table.grid(padding=(0, 2))
        for step in self._progress.steps.values():
            sign, style = SIGNS[step.state]
            marker = self._spinner if step.state is State.running else Text(sign, style=style)
            table.add_row(
                marker,
                Text(step.name.replace("-", " "), style="dim" if step.state is State.waiting else ""),
                Text(step.state, style=style),
                Text(_elapsed(step), style="dim", justify="right"),
                Text(step.summary, overflow="ellipsis", no_wrap=True),
            )
        yield table


def _elapsed(step: StepRecord) -> str:
    if step.seconds is not None:
        return duration(step.seconds)
    if step.state is State.running and step.started_at is not None:
        # A cluster's clock may be ahead of the one here.
        return duration(max(0.0, (datetime.now(UTC) - step.started_at).total_seconds()))
    return ""
