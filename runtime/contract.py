"""What makes a step a contract: a failure in plain words, and a record of the work on every output."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

# Kubernetes shows the content of this file as the container's reason for ending. The local runner names its own.
TERMINATION_LOG = "/dev/termination-log"
# Kubernetes keeps no more than this of it.
TERMINATION_LOG_BYTES = 4096
# What of a decision's metadata is said there, for an exit handler, which can have no inputs.
DECISION_KEYS = ("sentence", "verdict")
# Characters of each, so that both are kept, whatever alphabet they are of.
LONGEST_SAID = 900
# Which component a process runs: told by the executor.
STEP_VARIABLE = "LIFECYCLE_STEP"
# New objects until the first, second and third generation are searched for garbage.
GARBAGE_THRESHOLDS = (50_000, 20, 100)
# GNU OpenMP's threads spin for milliseconds where they wait for each other. Beside another busy process, as on a node
# with other pods, the one that they wait for does not get the core meanwhile: a fit of half a second took minutes. Not
# to spin at all (OMP_WAIT_POLICY=PASSIVE) costs much on a virtual machine that is idle, where each wait halts a core.
# So many turns are near the best of both (docs/benchmarks.md).
OPENMP_VARIABLES = {"GOMP_SPINCOUNT": "2000"}
# How a step's log says what became of it: all that a log's reader has where metadata and termination logs are far away.
DONE, STOPPED = "Done: ", "The run stops here:"
# What may follow a reason: Python's own account of the error, and the lines of Kubeflow's launcher.
AFTERWARDS = re.compile(r"^(?:Traceback \(most recent call last\):|[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ )", re.MULTILINE)
PROCESS_GONE = (
    "A process of this step was gone before its work was done: it was killed, and the system's log says whether memory "
    "was short, or its own error stands in the step's log. Give the step more memory, and resume the run."
)


class OutputArtifact(Protocol):
    """A KFP artifact, as far as a record needs it."""

    metadata: dict[str, Any]


class ContractViolation(Exception):
    """What a step was given, or would have to hand on, cannot be trusted.

    The message is for the person who has to act: it names the input, the rule and the remedy.
    """


@contextlib.contextmanager
def step(*outputs: OutputArtifact) -> Iterator[None]:
    """Run a component's work: time it, record it on its outputs, and turn a failure into plain words.

    What the work imports is best imported inside: it is timed, a library that is missing is a failure like others, and
    OpenMP looks at `OPENMP_VARIABLES` when it is loaded.

    Args:
        outputs: The artifacts the step writes. When the work is done each carries `step` (the component's name),
            `started_at` (ISO 8601, UTC) and `seconds` in its metadata, whatever the target.

    Raises:
        SystemExit: the work raised ContractViolation, or a process that it had started was killed: the message went
            to the log and to the termination log.
        Exception: any other failure, unchanged, after the termination log was written.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    import_quickly()
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in OPENMP_VARIABLES.items():
            os.environ.setdefault(name, value)
    try:
        yield
    except (ContractViolation, BrokenExecutor) as violation:
        reason = PROCESS_GONE if isinstance(violation, BrokenExecutor) else str(violation)
        report_failure(reason)
        raise SystemExit(1) from violation
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        report_failure(f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})")
        raise
    for output in outputs:
        output.metadata["step"] = os.environ.get(STEP_VARIABLE, "")
        output.metadata["started_at"] = started_at.isoformat(timespec="milliseconds")
        output.metadata["seconds"] = round(time.monotonic() - started, 3)
    summary = next((output.metadata["summary"] for output in outputs if output.metadata.get("summary")), "")
    if summary:
        print(f"\n{DONE}{summary}", flush=True)
    decided = next((output.metadata for output in outputs if output.metadata.get("sentence")), {})
    if decided:
        said = {key: str(decided[key])[:LONGEST_SAID] for key in DECISION_KEYS if key in decided}
        _write_termination_log(json.dumps(said, ensure_ascii=False))


def outcome_in(log: str) -> tuple[str, str]:
    """A step's summary and the reason of its failure, out of its log; empty where it says none."""
    _, stopped, reason = log.rpartition(f"\n{STOPPED}\n")
    if stopped:
        return "", AFTERWARDS.split(reason, maxsplit=1)[0].strip()
    _, done, summary = log.rpartition(f"\n{DONE}")
    return (summary.partition("\n")[0].strip() if done else ""), ""


def import_quickly() -> None:
    """Seldom look for garbage in this process, and not at its end.

    Libraries make hundreds of thousands of objects that stay. By Python's defaults they are searched for garbage over
    and over while they are imported, and once more when the interpreter ends: a quarter to a third of a small step.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    atexit.register(gc.freeze)


def report_failure(reason: str) -> None:
    """Write the reason to the log, and where whoever runs this container looks for it, if there is such a place."""
    print(f"\n{STOPPED}\n{reason}", file=sys.stderr, flush=True)
    _write_termination_log(reason)


def _write_termination_log(text: str) -> None:
    file = Path(os.environ.get("TERMINATION_LOG", TERMINATION_LOG))
    if file.parent.is_dir() and os.access(file if file.exists() else file.parent, os.W_OK):
        file.write_bytes(text.encode()[:TERMINATION_LOG_BYTES])
