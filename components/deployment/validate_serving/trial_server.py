"""Trial server: the registered model's own, on free ports of this machine, for as long as a block runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Client
from kfp_lifecycle.serving.ports import LOOPBACK, free_ports

READY_SECONDS = 120.0
# What its log may take to be written on a busy machine, and what it is answering.
STOP_SECONDS = 40.0
MOST_OUTPUT_BYTES = 2**20


class TrialServer:
    """The model's server, run from the code that was registered with it.

    Attributes:
        ready_seconds: From the start of its process until it answered that it is ready.
    """

    def __init__(self, folder: Path, model: str, version: str, prediction_log: Path, **settings: object) -> None:
        """Choose ports.

        Args:
            folder: The registered model.
            model: Its name.
            version: Its version.
            prediction_log: Folder the server logs predictions to.
            settings: What else the server is told.
        """
        self.folder = folder
        self.model = model
        self.version = version
        self.prediction_log = prediction_log
        self.settings = settings
        self.http_port, self.grpc_port = free_ports(2)
        self._output: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        started = time.monotonic()
        code = self.folder / "code"
        if not (code / "kfp_lifecycle" / "serving" / "server" / "server.py").is_file():
            raise ContractViolation(f"{code} does not hold the server. Take the output of register_model.")
        # Only what was registered may be found, not the modules of this step.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-m", "kfp_lifecycle.serving.server.server", *self._arguments()],
            cwd=code,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        self.ready_seconds = time.monotonic() - started
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def client(self) -> Client:
        """A connection to it."""
        return Client(self.http_port, timeout=30)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def output(self) -> str:
        """What it has said so far."""
        return os.pread(self._output.fileno(), MOST_OUTPUT_BYTES, 0).decode(errors="replace")

    def peak_memory_mb(self) -> float | None:
        """The most memory that the running server has held; None where the system does not tell."""
        status = Path(f"/proc/{self._process.pid}/status")
        if not status.is_file():
            return None
        peaks = [line.split()[1] for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:")]
        return round(int(peaks[0]) / 1024, 1) if peaks else None

    def _arguments(self) -> list[str]:
        settings = {
            "model_dir": str(self.folder.resolve()),
            "model_name": self.model,
            "version": self.version,
            "prediction_log": str(self.prediction_log),
            "http_port": str(self.http_port),
            "grpc_port": str(self.grpc_port),
            "host": LOOPBACK,
            **{name: str(value) for name, value in self.settings.items()},
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        with Client(self.http_port, timeout=5) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                if client.get(f"/v2/models/{self.model}/ready").status == 200:
                    return
                time.sleep(0.05)
        self._output.seek(0)
        ended = self._process.poll()
        state = f"does not answer within {READY_SECONDS:.0f} s" if ended is None else f"ended with exit code {ended}"
        raise ContractViolation(
            f"the server of {self.folder} {state}. Its last words:\n"
            + "\n".join(self._output.read().splitlines()[-15:])
        )

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
