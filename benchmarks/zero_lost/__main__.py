"""Requests of well-behaved clients that releases, broken candidates and killed processes cost. Run in platform.

    python -m benchmarks.zero_lost [--requests N] [--clients N]

Clients by REST and gRPC, over kept and new connections, ask as soon as they are answered; a reckless one keeps
connections open with headers that never end, closes them half-way, sends too much, garbage and pipelines. Meanwhile
everything of `scenarios.py` happens, and then nothing for N requests, while the memory of the servers is looked at.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from itertools import count
from pathlib import Path

import psutil

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from benchmarks.zero_lost.load import Outcome, under_load
from benchmarks.zero_lost.reckless import reckless_client
from benchmarks.zero_lost.scenarios import (
    FAILURES,
    FLUSH_SECONDS,
    KILLS,
    RELEASES,
    Kill,
    Report,
    broken_models,
    lost_of_log,
    observed,
    processes,
    server_of,
)
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.ports import free_ports, is_free
from kfp_lifecycle.serving.release.local.operations import endpoints, stop
from kfp_lifecycle.serving.release.local.servers import INTERPRETER_VARIABLE
from tests.platform.local_release import Place, make_model

# Memory is looked at so often; what comes before is caches that fill.
LOOK_SECONDS, WARM_SECONDS = 5.0, 20.0


def steady(place: Place, clients: int, requests: int) -> tuple[Report, dict[str, tuple[float, float]]]:
    """Many requests of the same servers.

    Returns:
        What came of them, and by process its memory in MB after a while and at the end.
    """
    champion = server_of(place, endpoints(place.serving)[0].version)
    watched = {"server": champion} | {
        f"front {number}": process for number, process in enumerate(processes(place, "bootstrap-"), start=1)
    }
    seen: dict[str, list[float]] = {name: [] for name in watched}
    per_second = 0.0
    with under_load(place.port, place.port + 1, clients, place.folder) as load:
        began = time.monotonic()
        answered = requests_of(champion)
        time.sleep(WARM_SECONDS)
        while not seen["server"] or requests_of(champion) - answered < requests:
            for name, process in watched.items():
                seen[name].append(process.memory_full_info().uss / 1e6)
            time.sleep(LOOK_SECONDS)
        per_second = (requests_of(champion) - answered) / (time.monotonic() - began)
    print(f"{per_second:.0f} requests a second", flush=True)
    report = Report("nothing", len(load.outcomes), 0, load.failures(), load.outcomes)
    return report, {name: (values[0], values[-1]) for name, values in seen.items()}


def requests_of(server: psutil.Process) -> int:
    """How many requests a server has counted."""
    from kfp_lifecycle.serving.client import Client

    command = server.cmdline()
    with Client(int(command[command.index("--http_port") + 1])) as client:
        lines = client.get("/metrics").body.splitlines()
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith("inference_requests_total"))


def tell(report: Report) -> None:
    """A row of the table."""
    counts = f"{len(report.failures)} | {report.allowed} | {len(report.unexplained)}"
    print(f"| {report.what} | {report.requests} | {counts} |", flush=True)
    for outcome in report.unexplained[:3]:
        print(f"    {outcome.kind} {outcome.status} {outcome.detail} after {outcome.ended - outcome.sent:.2f} s")


def told_late(lost: list[Outcome], killed: list[Kill]) -> float:
    """How long before the kill that took it the oldest lost answer was given, in seconds; 0 where none was lost."""
    before = [
        min((kill.at - outcome.ended for kill in killed if kill.gone > outcome.sent), default=math.inf)
        for outcome in lost
    ]
    return max(before, default=0.0)


def main() -> None:
    """Let everything happen, print the table, and save the ratios."""
    parser = argument_parser(__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    os.environ[INTERPRETER_VARIABLE] = str(interpreter("serving"))
    with tempfile.TemporaryDirectory(prefix="zero-lost-") as temporary:
        folder = Path(temporary)
        models = {version: make_model(folder / f"v{version}", version, 1 + int(version) / 10) for version in "123"}
        models |= broken_models(models["1"], folder)
        port = next(port for port in (free_ports(1)[0] for _ in count()) if is_free(port + 1))
        place = Place(folder / "place", port)
        reports: list[Report] = []
        memory: dict[str, tuple[float, float]] = {}
        print("| what happens | requests | failed | clients that a kill met | failed otherwise |")
        print("| --- | --- | --- | --- | --- |")
        try:
            place.release(models["1"])
            with reckless_client(place.port, place.port + 1) as reckless:
                for happening in [*RELEASES, *FAILURES, *KILLS]:
                    reports.append(observed(happening, place, models, options.clients))
                    tell(reports[-1])
                last, memory = steady(place, options.clients, options.requests)
                reports.append(last)
                tell(last)
        finally:
            stop(place.serving)
        outcomes = [outcome for report in reports for outcome in report.outcomes]
        lost, killed = lost_of_log(place, outcomes), [kill for report in reports for kill in report.killed]
        oldest = told_late(lost, killed)
    print(f"\n{len(outcomes)} requests; the reckless client: {dict(reckless)}")
    print(f"{len(lost)} answers are not in the prediction log; the oldest was given {oldest:.2f} s before a kill")
    for name, (before, after) in memory.items():
        print(f"{name}: {before:.1f} MB after {WARM_SECONDS:.0f} s, {after:.1f} MB at the end")
    otherwise = sum(len(report.unexplained) for report in reports)
    most = max(len(report.failures) / report.allowed for report in reports if report.allowed)
    ratios = [
        Ratio("failed requests that no killed process was answering", float(otherwise), "0"),
        Ratio("failed requests of a kill over those that were asked at once", most, "≤ 1"),
        Ratio("the oldest answer that the log lost over a second before a kill", oldest / FLUSH_SECONDS, "≤ 1"),
        *(Ratio(f"memory of the {name}, end over beginning", b / a, "≤ 1.05") for name, (a, b) in memory.items()),
    ]
    save_ratios(ratios, options.ratios)


if __name__ == "__main__":
    main()
