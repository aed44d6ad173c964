"""Run the tests, each folder below `tests/` under the environment of its name: `make test`, `make test-fast`."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
sys.path.insert(0, str(CHECKOUT / "src"))

from kfp_lifecycle.environments.locks import environment_directory, interpreter  # noqa: E402

# Two at a time, as there are two cores at the least; those that take longest come first.
FOLDERS = ("platform", "modelling", "validation", "node", "katib", "serving", "clients")
# The environment of a folder that is not called as one.
ENVIRONMENTS = {"node": "platform"}
AT_A_TIME = 2
NO_TESTS = 5
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
WIDTH = 200


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


def run_folder(folder: str, fast: bool, arguments: list[str]) -> Outcome:
    """Run the tests of one folder; each line is shown as it comes, behind the folder's name."""
    started = time.monotonic()
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables |= {"PYTHONPATH": f"{CHECKOUT / 'src'}:{CHECKOUT}", "COLUMNS": str(WIDTH)}
    options = ["--durations", "10", "-m", "not slow"] if fast else ["--durations", "10"]
    environment = ENVIRONMENTS.get(folder, folder)
    if folder == "platform":
        # Most of its tests wait for servers and for steps. A file's tests share what it starts.
        options += ["--numprocesses", "2", "--dist", "loadfile"]
    if environment != "platform":
        variables["PYTHONPATH"] += f":{environment_directory('testing')}"
        options += ["-p", "no:cacheprovider"]
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
            reasons.append(line.rstrip()[:WIDTH])
    code = process.wait()
    print(f"{folder:10} | took {time.monotonic() - started:.0f} s", flush=True)
    return Outcome(folder, code, {kind.rstrip("s"): int(count) for count, kind in COUNTS.findall(last)}, reasons)


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
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = list(pool.map(lambda folder: run_folder(folder, options.fast, options.arguments), wanted))
    total = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
    for outcome in outcomes:
        for kind, count in outcome.counts.items():
            total[kind] += count
    broken = [outcome.folder for outcome in outcomes if outcome.code not in (0, NO_TESTS)]
    failed = total["failed"] + total["error"] or len(broken)
    print(f"\nall tests took {time.monotonic() - started:.0f} s" + (f"; broken: {', '.join(broken)}" if broken else ""))
    # Once more, where the end of a log is read.
    for outcome in outcomes:
        for reason in outcome.reasons:
            print(reason)
    print(f"{total['passed']} passed, {failed} failed, {total['skipped']} skipped")
    return 1 if broken or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
