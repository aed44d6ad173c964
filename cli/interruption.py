"""Signals that stop a run: a supervisor's, CI's, a terminal's end."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def stop_like_ctrl_c() -> None:
    """Treat SIGTERM and a closed terminal (SIGHUP) as Ctrl-C is treated: nothing is left behind.

    Not by way of SIGINT itself, which a script's background jobs ignore.
    """
    shown = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    def stop(number: int, frame: FrameType | None) -> None:
        # A closing terminal tells it more than once, and what is being put in order is not to be cut off.
        signal.signal(number, signal.SIG_IGN)
        if number == signal.SIGHUP:
            # Nobody reads any more, and each line that is printed would be an error.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in shown:
                os.dup2(nowhere, descriptor)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # `nohup` has it ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)
