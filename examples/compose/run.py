"""Run the other team's pipeline on this machine: `python examples/compose/run.py [--refunds 3]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from kfp import compiler
from pipeline import orders

from kfp_lifecycle.local.kfp_runner import Session, StepOutputs, run_pipeline
from kfp_lifecycle.runtime.state_folder import state_folder


class Printed:
    """Prints what happens to each step, in the terminal: what kfp prints meanwhile goes to its log."""

    def _print(self, line: str) -> None:
        print(line, file=sys.__stdout__, flush=True)

    def started(self, step: str, log: Path) -> None:
        """A step begins."""

    def cached(self, step: str, outputs: StepOutputs) -> None:
        self._print(f"{step}: taken from an earlier run")

    def done(self, step: str, outputs: StepOutputs) -> None:
        said = [data["summary"] for _, data in outputs.artifacts.values() if "summary" in data]
        self._print(f"{step}: {said[0] if said else 'done'}")

    def failed(self, step: str, reason: str, log: Path) -> None:
        self._print(f"{step} failed: {reason}")

    def interrupted(self, step: str) -> None:
        self._print(f"{step}: stopped")


def main() -> int:
    """Returns the exit code: 0 when every step is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="orders to make")
    parser.add_argument("--refunds", type=int, default=0, help="orders with a negative amount")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orders-") as work:
        folder = Path(work)
        compiler.Compiler().compile(orders, str(folder / "orders.yaml"))
        for place in ("logs", "scratch"):
            (folder / place).mkdir()
        session = Session(Printed(), folder / "logs", folder / "scratch", state_folder() / "code", {})
        run_pipeline(
            folder / "orders.yaml",
            {"rows": options.rows, "refunds": options.refunds},
            session=session,
            artifacts=folder / "artifacts",
            cache_root=None,
            kfp_log=folder / "logs" / "kfp.log",
        )
        return 1 if session.failures else 0


if __name__ == "__main__":
    sys.exit(main())
