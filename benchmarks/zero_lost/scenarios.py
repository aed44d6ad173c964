"""What happens to an endpoint while well-behaved clients ask it, and a reckless one does its worst: releases and kills.

Each scenario says how many requests of well-behaved clients it may cost: none where somebody planned it, and where a
process is killed those that it was answering, of which a client has one at a time.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.zero_lost.load import MODEL, Outcome, under_load
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.release.local.operations import endpoints, release_of, rollback, start
from kfp_lifecycle.serving.release.local.servers import envoy_of
from tests.platform.local_release import ROOT, Place

SETTLED_SECONDS = 60.0
# What a killed server had not written yet.
FLUSH_SECONDS = 1.0
IDS = """
import csv, pathlib, sys
from tests.prediction_logs import read_log
csv.writer(sys.stdout).writerows((row["request_id"], row["version"]) for row in read_log(pathlib.Path(sys.argv[1])))
"""


@dataclass(frozen=True)
class Kill:
    """The end of a process, in Unix times."""

    at: float
    gone: float
    """From when on nothing can have reached it: all of its threads have ended."""


@dataclass(frozen=True)
class Happening:
    """One scenario."""

    what: str
    happen: Callable[[Place, Mapping[str, Path]], list[Kill]]
    """Lets it happen; returns when processes were killed."""
    planned: bool


@dataclass
class Report:
    """What a scenario cost."""

    what: str
    requests: int
    allowed: int
    """How many may have failed."""
    failures: list[Outcome]
    outcomes: list[Outcome]
    killed: list[Kill] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Outcome]:
        """Failures of requests that no process that was killed can have been answering."""
        return [outcome for outcome in self.failures if not any(outcome.sent <= kill.gone for kill in self.killed)]


def observed(happening: Happening, place: Place, models: Mapping[str, Path], clients: int) -> Report:
    """Let it happen under load.

    Args:
        happening: What.
        place: The endpoint.
        models: Servable models by name.
        clients: How many ask.
    """
    with under_load(place.port, place.port + 1, clients, place.folder) as load:
        killed = happening.happen(place, models)
        settle(place)
        time.sleep(0.5)
    allowed = 0 if happening.planned else clients
    return Report(happening.what, len(load.outcomes), allowed, load.failures(), load.outcomes, killed)


def settle(place: Place) -> None:
    """Wait until all that was killed is back.

    Raises:
        TimeoutError: it does not come back.
    """
    deadline = time.monotonic() + SETTLED_SECONDS
    while time.monotonic() < deadline:
        [endpoint] = endpoints(place.serving)
        if (
            endpoint.healthy
            and not endpoint.remarks
            and envoy_of(place.serving, release_of(place.serving, MODEL)).is_whole()
        ):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{endpoint} has not come back")


def altered(model: Path, folder: Path, version: str, line: str) -> Path:
    """A copy of a model with another version, and a line before it scores."""
    shutil.copytree(model, folder)
    description = folder / "model.json"
    description.write_text(description.read_text().replace('"version": "1"', f'"version": "{version}"'))
    code = folder / "code" / "kfp_lifecycle" / "modelling" / "scoring.py"
    [signature] = [text for text in code.read_text().splitlines() if text.strip().startswith("def run(self, feed")]
    code.write_text(code.read_text().replace(f"{signature}\n", f"{signature}\n        {line}\n"))
    return folder


def broken_models(good: Path, folder: Path) -> dict[str, Path]:
    """A model that turns slow when a file appears, and one that refuses what the clients here ask."""
    slow = f"import os, time; os.path.exists({str(folder / 'slow')!r}) and time.sleep(0.05)"
    refuse = (
        "from kfp_lifecycle.serving.server.errors import InvalidRequest\n"
        "        if (feed['temperature'] == 30).any(): raise InvalidRequest('no')"
    )
    return {
        "slow": altered(good, folder / "turning-slow", "8", slow),
        "refusing": altered(good, folder / "refusing", "9", refuse),
    }


def processes(place: Place, argument: str) -> list[psutil.Process]:
    """Processes of the place with an argument that contains a text, those that look after others left out."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        ours = any(str(place.serving) in part for part in command) and any(argument in part for part in command)
        if ours and ("-I" not in command or "supervisor.supervisord" in command):
            found.append(process)
    return found


def server_of(place: Place, version: str) -> psutil.Process:
    """The server of a version."""
    return next(
        p for p in processes(place, "--model_dir") if p.cmdline()[p.cmdline().index("--version") + 1] == version
    )


def releases_by(strategy: str, name: str) -> Callable[[Place, Mapping[str, Path]], list[Kill]]:
    """A release that goes well."""

    def happen(place: Place, models: Mapping[str, Path]) -> list[Kill]:
        steps = [10, 50, 100] if strategy == "canary" else [100]
        place.release(models[name], strategy=strategy, steps=steps, max_latency_p99_ms=5_000, max_latency_ratio=10)
        return []

    return happen


def returns(place: Place, _: Mapping[str, Path]) -> list[Kill]:
    """A rollback."""
    rollback(place.serving, MODEL)
    return []


def refuses(place: Place, models: Mapping[str, Path]) -> list[Kill]:
    """A candidate that refuses what people ask is found out before it has traffic."""
    with contextlib.suppress(ContractViolation):
        place.release(models["refusing"], strategy="blue_green", requests_per_step=40, max_latency_p99_ms=5_000)
        raise AssertionError("a candidate that refuses was promoted")
    return []


def turns_slow(place: Place, models: Mapping[str, Path]) -> list[Kill]:
    """A candidate turns slow when it has half of the traffic."""
    flag = models["slow"].parent / "slow"
    with at_half(place, flag.touch), contextlib.suppress(ContractViolation):
        place.release(models["slow"], steps=[50, 100], requests_per_step=1_000, max_latency_p99_ms=5_000)
        raise AssertionError("a candidate that turned slow was promoted")
    flag.unlink()
    return []


def crashes(place: Place, models: Mapping[str, Path]) -> list[Kill]:
    """A candidate crashes when it has half of the traffic."""
    killed: list[Kill] = []

    def crash() -> None:
        change = release_of(place.serving, MODEL).change
        assert change is not None
        kill([server_of(place, change.candidate)], killed)

    champion = endpoints(place.serving)[0].version
    name = next(name for name in "123" if name != champion)
    with at_half(place, crash), contextlib.suppress(ContractViolation):
        place.release(models[name], steps=[50, 100], requests_per_step=1_000, max_latency_p99_ms=5_000)
        raise AssertionError("a candidate that crashed was promoted")
    return killed


@contextlib.contextmanager
def at_half(place: Place, act: Callable[[], object]) -> Iterator[None]:
    """Act when the candidate of the release in the block has had half of the traffic for a moment."""

    def watch() -> None:
        deadline = time.monotonic() + SETTLED_SECONDS
        while time.monotonic() < deadline:
            change = release_of(place.serving, MODEL).change
            if change is not None and change.percent == 50:
                time.sleep(0.5)
                act()
                return
            time.sleep(0.02)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        watching.join()


def kill(found: list[psutil.Process], killed: list[Kill]) -> None:
    """Kill processes, and note when."""
    at = time.time()
    for process in found:
        process.kill()
    psutil.wait_procs(found, timeout=SETTLED_SECONDS)
    killed.append(Kill(at, time.time()))


def champion_killed(place: Place, _: Mapping[str, Path]) -> list[Kill]:
    """The server that answers everyone is killed."""
    killed: list[Kill] = []
    kill([server_of(place, endpoints(place.serving)[0].version)], killed)
    time.sleep(1.0)
    return killed


def champion_ended(place: Place, _: Mapping[str, Path]) -> list[Kill]:
    """The server that answers everyone is told to end."""
    server_of(place, endpoints(place.serving)[0].version).terminate()
    time.sleep(1.0)
    return []


def front_killed(place: Place, _: Mapping[str, Path]) -> list[Kill]:
    """One of the two processes before the servers is killed."""
    killed: list[Kill] = []
    kill(processes(place, "bootstrap-1.json"), killed)
    time.sleep(1.0)
    return killed


def supervisor_killed(place: Place, _: Mapping[str, Path]) -> list[Kill]:
    """The process manager is killed, and another one adopts what it left."""
    kill(processes(place, "supervisor.supervisord"), [])
    time.sleep(0.5)
    start(place.serving)
    return []


RELEASES = [
    Happening("a canary", releases_by("canary", "2"), planned=True),
    Happening("blue-green", releases_by("blue_green", "3"), planned=True),
    Happening("a rollback", returns, planned=True),
    Happening("a shadow", releases_by("shadow", "1"), planned=True),
]
FAILURES = [
    Happening("a candidate that refuses", refuses, planned=True),
    Happening("a candidate that turns slow at 50%", turns_slow, planned=True),
    Happening("a candidate that crashes at 50%", crashes, planned=False),
]
KILLS = [
    Happening("the process manager killed, and lifecycle serve", supervisor_killed, planned=True),
    Happening("the champion ended (SIGTERM)", champion_ended, planned=True),
    Happening("the champion killed", champion_killed, planned=False),
    Happening("the front killed", front_killed, planned=False),
]


def lost_of_log(place: Place, outcomes: list[Outcome]) -> list[Outcome]:
    """Answers that are not in the prediction log; the servers have ended."""
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [str(interpreter("serving")), "-c", IDS, str(place.predictions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    logged = {request_id for request_id, _ in csv.reader(done.stdout.splitlines())}
    return [outcome for outcome in outcomes if outcome.status == 200 and outcome.request_id not in logged]
