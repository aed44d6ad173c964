"""Watchdog of a step: runs a command, and ends it and all that it started when the process of the run is gone.

`python watchdog.py LIFE SECONDS COMMAND…`, first in a process group of its own. It stands alone: it is there before
the step and must not keep it waiting.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the command, and end as it ended.

    LIFE is the reading end of a pipe whose other end the run's process alone holds, SECONDS what the command is given
    between being asked to stop and being killed.
    """
    life, seconds, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    # Who stops a step asks its whole group; the watchdog stays until the step has ended.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    os.set_inheritable(life, False)
    # What else was handed down is for the step: the lock is held for as long as it runs.
    step = subprocess.Popen(command, close_fds=False)
    orphaned = threading.Event()

    def end_with_the_run() -> None:
        os.read(life, 1)
        orphaned.set()
        os.killpg(0, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            step.wait(seconds)
        os.killpg(0, signal.SIGKILL)

    watch = threading.Thread(target=end_with_the_run, daemon=True)
    watch.start()
    code = step.wait()
    if orphaned.is_set():
        # The step has ended; what it started is still to be.
        watch.join()
    if code < 0:
        # The step's memory is of use to somebody, this process's is not.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
