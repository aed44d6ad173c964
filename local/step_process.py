"""A step's process: one of its own, with its own log, variables and process group, that ends with the run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kfp_lifecycle.local import watchdog

# Seconds between asking a step to stop and killing it.
GRACE_SECONDS = 5


def run_step(command: Sequence[str], log: Path, variables: Mapping[str, str], held: Sequence[int] = ()) -> int:
    """Run a step to its end. It ends with this process, too, even where that is killed.

    Args:
        command: Program and arguments.
        log: File that gets the step's output.
        variables: The step's environment variables, all of them.
        held: Descriptors of locks that are held for as long as the step runs, whatever becomes of this process.

    Returns:
        The step's exit code, negative for a signal.

    Raises:
        KeyboardInterrupt: after the step and all it started were ended.
    """
    theirs, life = os.pipe()
    # Isolated and without site-packages, the watchdog costs a step some 30 ms.
    watched = [sys.executable, "-I", "-S", watchdog.__file__, str(theirs), str(GRACE_SECONDS), *command]
    try:
        with log.open("ab") as output:
            step = subprocess.Popen(
                watched,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
                pass_fds=(theirs, *held),
            )
        try:
            code = step.wait()
        except KeyboardInterrupt:
            end(step)
            raise
    finally:
        os.close(theirs)
        os.close(life)
    if code != 0:
        # A step that was killed could not end its own workers.
        signal_group(step.pid, signal.SIGKILL)
    return code


def end(step: subprocess.Popen[bytes]) -> None:
    """Ask a step and its children to stop, and kill those that do not."""
    signal_group(step.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        step.wait(GRACE_SECONDS)
    signal_group(step.pid, signal.SIGKILL)
    step.wait()


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to all processes of a group, if there are any left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
