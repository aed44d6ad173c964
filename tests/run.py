"""Run the tests, each folder below `tests/` under the environment of its name: `make test`, `make test-fast`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
sys.path.insert(0, str(CHECKOUT))

from environments.locks import environment_directory, interpreter  # noqa: E402

# The quickest to fail first; the whole pipeline, in `platform`, last.
FOLDERS = ("validation", "serving", "modelling", "platform")
NO_TESTS = 5
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")


def run_folder(folder: str, fast: bool, arguments: list[str]) -> tuple[int, dict[str, int]]:
    """Run the tests of one folder, its output shown as it comes.

    Returns:
        pytest's exit code, and how many tests passed, failed, were skipped or broke.
    """
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables["PYTHONPATH"] = str(CHECKOUT)
    options = ["--durations", "5", "-m", "not slow"] if fast else ["--durations", "5"]
    if folder == "platform":
        options += ["--cov", "--cov-report", "term:skip-covered"] if not fast else []
    else:
        variables["PYTHONPATH"] += f":{environment_directory('testing')}"
        options += ["-p", "no:cacheprovider"]
    command = [str(interpreter(folder)), "-m", "pytest", str(TESTS / folder), *options, *arguments]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line if COUNTS.search(line) else last
    return process.wait(), {kind.rstrip("s"): int(count) for count, kind in COUNTS.findall(last)}


def main() -> int:
    """Exit code 0 when every folder's tests passed and at least one ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow")
    parser.add_argument("--only", choices=FOLDERS, action="append", help="only this folder; may be repeated")
    parser.add_argument("arguments", nargs="*", help="passed on to pytest, after --")
    options = parser.parse_args()
    started = time.monotonic()
    total = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
    broken = []
    for folder in options.only or FOLDERS:
        print(f"\n=== tests/{folder}, in the environment {folder}", flush=True)
        code, counts = run_folder(folder, options.fast, options.arguments)
        for kind, count in counts.items():
            total[kind] += count
        if code not in (0, NO_TESTS):
            broken.append(folder)
    failed = total["failed"] + total["error"] or len(broken)
    print(f"\nall tests took {time.monotonic() - started:.0f} s" + (f"; broken: {', '.join(broken)}" if broken else ""))
    print(f"{total['passed']} passed, {failed} failed, {total['skipped']} skipped")
    return 1 if broken or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
