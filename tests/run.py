"""Run the tests, each folder below `tests/` under the environment of its name: `make test`, `make test-fast`."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
sys.path.insert(0, str(CHECKOUT / "src"))

from kfp_lifecycle.environments.locks import environment_directory, interpreter  # noqa: E402
from kfp_lifecycle.runtime.contract import OPENMP_VARIABLES  # noqa: E402

# Two at a time, as there are two cores at the least; those that take longest come first.
FOLDERS = ("platform", "modelling", "validation", "node", "katib", "serving", "clients")
# The environment of a folder that is not called as one.
ENVIRONMENTS = {"node": "platform"}
AT_A_TIME = 2
TESTS_FAILED, NO_TESTS = 1, 5
# Failures in so few files may be the work of neighbours that took a core for a minute. They are run once more, alone.
FEW = 5
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
WIDTH = 200
# Of a failure; the names of a whole file of tests would hide why.
REASON_WIDTH = 600


@dataclass
class Outcome:
    """What came of one folder."""

    folder: str
    code: int
    """pytest's exit code."""
    counts: dict[str, int]
    """How many tests passed, failed, were skipped or broke."""
    reasons: list[str] = field(default_factory=list)
    """pytest's line for each test that failed."""

    @property
    def broken_files(self) -> set[str]:
        """Files with a test that failed or broke: what one of their fixtures lacks fails all of their tests."""
        return {name_of(reason).partition("::")[0].split()[-1] for reason in self.reasons}


def run_folder(folder: str, fast: bool, arguments: list[str], memory: Path, *, again: bool = False) -> Outcome:
    """Run the tests of one folder; each line is shown as it comes, behind the folder's name.

    Args:
        folder: Its name.
        fast: Leave out the tests marked slow.
        arguments: For pytest.
        memory: Where pytest keeps which tests failed.
        again: Only those that failed, one after the other.
    """
    started = time.monotonic()
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # As a step's process has them: tests beside each other would wait minutes for a fit of half a second.
    variables |= OPENMP_VARIABLES
    # Fits are small and cores are busy: two threads that wait for each other take ten times as much of them as one, and
    # `test_the_number_of_threads_changes_no_byte` holds that the models are the same.
    variables |= {"OMP_NUM_THREADS": "1"}
    variables |= {"PYTHONPATH": f"{CHECKOUT / 'src'}:{CHECKOUT}", "COLUMNS": str(WIDTH)}
    options = ["--durations", "10", "-m", "not slow"] if fast else ["--durations", "10"]
    environment = ENVIRONMENTS.get(folder, folder)
    options += ["-o", f"cache_dir={memory / folder}"]
    if again:
        options += ["--last-failed"]
    elif folder == "platform" and not fast:
        # Most of its slow tests wait for servers and for steps; for the others a second process would only import all
        # of it once more. A file's tests share what it starts, and files keep their order, in which those that take
        # long come first.
        options += ["--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    if environment != "platform":
        variables["PYTHONPATH"] += f":{environment_directory('testing')}"
    # The checkout is a package, whose parent pytest would put on the path: a clone named `kfp` would then be imported.
    options += ["--confcutdir", str(TESTS)]
    command = [str(interpreter(environment)), "-m", "pytest", str(TESTS / folder), *options, *arguments]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    last, reasons = "", []
    for line in process.stdout:
        print(f"{folder:10} | {line}", end="", flush=True)
        last = line if COUNTS.search(line) else last
        if line.startswith(("FAILED ", "ERROR ")):
            reasons.append(line.rstrip()[:REASON_WIDTH])
    code = process.wait()
    print(f"{folder:10} | took {time.monotonic() - started:.0f} s", flush=True)
    return Outcome(folder, code, {kind.rstrip("s"): int(count) for count, kind in COUNTS.findall(last)}, reasons)


def name_of(reason: str) -> str:
    """The test that pytest's line of a failure is about."""
    return reason.partition(" - ")[0]


def second_look(first: Outcome, second: Outcome) -> Outcome:
    """What came of a folder when the tests that had failed were run again."""
    counts = {**first.counts, "passed": first.counts.get("passed", 0) + second.counts.get("passed", 0)}
    counts |= {"failed": second.counts.get("failed", 0), "error": second.counts.get("error", 0)}
    return Outcome(first.folder, second.code, counts, second.reasons)


def main() -> int:
    """Exit code 0 when every folder's tests passed and at least one ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow")
    parser.add_argument("--only", choices=FOLDERS, action="append", help="only this folder; may be repeated")
    parser.add_argument("arguments", nargs="*", help="passed on to pytest, after --")
    options = parser.parse_args()
    # A shell starts what it puts in the background deaf to an interrupt; the tests of an interrupt need ears.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    wanted = options.only or FOLDERS
    with tempfile.TemporaryDirectory(prefix="tests-") as name, ThreadPoolExecutor(AT_A_TIME) as pool:
        run = partial(run_folder, fast=options.fast, arguments=options.arguments, memory=Path(name))
        outcomes = list(pool.map(run, wanted))
        unsteady: list[str] = []
        if 0 < sum(len(outcome.broken_files) for outcome in outcomes) <= FEW:
            for number, outcome in enumerate(outcomes):
                if outcome.code == TESTS_FAILED:
                    outcomes[number] = second_look(outcome, run(outcome.folder, again=True))
                    still = {name_of(reason) for reason in outcomes[number].reasons}
                    unsteady += [reason for reason in outcome.reasons if name_of(reason) not in still]
    total = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
    for outcome in outcomes:
        for kind, count in outcome.counts.items():
            total[kind] += count
    broken = [outcome.folder for outcome in outcomes if outcome.code not in (0, NO_TESTS)]
    failed = total["failed"] + total["error"] or len(broken)
    print(f"\nall tests took {time.monotonic() - started:.0f} s" + (f"; broken: {', '.join(broken)}" if broken else ""))
    # Once more, where the end of a log is read.
    for reason in unsteady:
        print(f"UNSTEADY, mend it: it passed when it was run again, alone: {reason}")
    for outcome in outcomes:
        for reason in outcome.reasons:
            print(reason)
    print(f"{total['passed']} passed, {failed} failed, {total['skipped']} skipped")
    return 1 if broken or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
