"""Watching of a run: ask for it until it has ended, through whatever happens to the connection."""

from __future__ import annotations

import time
from collections.abc import Callable

from kfp_lifecycle.backends.backend import Backend, RunStatus, Unreachable
from kfp_lifecycle.runtime.states import State

# Seconds between two questions, on a cluster and here, and for how long a target that does not answer is waited for.
PAUSES = {"local": 0.3, "kubeflow": 3.0, "vertex": 10.0}
PATIENCE = 1800.0


def watch(
    backend: Backend,
    run_id: str,
    show: Callable[[RunStatus], None],
    say: Callable[[str], None],
    pause: float | None = None,
) -> RunStatus:
    """Show a run until it has ended.

    Args:
        backend: Whose run it is.
        run_id: The run.
        show: Called with it each time it was asked for.
        say: Called once when the target stops answering, and once when it answers again; and of a step that does not
            begin, with what Kubernetes says of its pod.
        pause: Seconds between two questions; by default what suits the target.

    Returns:
        The run at its end.

    Raises:
        BackendError: it cannot be asked for, or the target did not answer for half an hour. The run goes on.
    """
    silent_since: float | None = None
    told: set[str] = set()
    while True:
        try:
            status = backend.status(run_id)
        except Unreachable as error:
            if silent_since is None:
                silent_since = time.monotonic()
                say(f"{error} The run goes on; asking again.")
            elif time.monotonic() - silent_since > PATIENCE:
                raise
        else:
            if silent_since is not None:
                say("it answers again")
                silent_since = None
            for step in status.progress.steps.values():
                if step.state in (State.waiting, State.running) and step.reason and step.name not in told:
                    say(f"{step.name} does not begin. {step.reason}")
                    told.add(step.name)
            show(status)
            if status.ended:
                return status
        time.sleep(PAUSES[backend.target] if pause is None else pause)
