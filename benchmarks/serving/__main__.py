"""What a prediction costs in this server, beside the bare limit and other servers around the same model.

The reference project's 26 features. Processor time of all processes of a server a request, throughput and latency at 1,
8 and 64 clients, memory, time to ready; a request of one row, of 100 rows, by an entity's key out of SQLite and out of
Redis; and what 10,000 rows do to a probe of readiness. The servers are asked, and started, in turns, so that whatever
else the machine does meets all alike.

python -m benchmarks.serving [--rounds 3] [--seconds 2] [--starts 20]
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from benchmarks.serving.load import Found, answers, http_request, load, memory_mb
from kfp_lifecycle.environments.locks import interpreter, is_built
from kfp_lifecycle.serving.ports import free_ports
from tests.servers import ServerMissing, redis

ROOT = Path(__file__).resolve().parents[2]
PYTHON_PATH = f"{ROOT / 'src'}:{ROOT}"
INFER, READY = "/v2/models/benchmark/infer", "/v2/models/benchmark/ready"
READY_SECONDS = 60.0
CLIENTS = (1, 8, 64)
PROBE_SECONDS = 10.0
MANY_REQUESTS = 200_000
PEERS = {
    "KServe": ("clients", "kserve_peer", READY),
    "MLServer": ("mlserver", "mlserver_peer", READY),
    "BentoML": ("bentoml", "bentoml_peer", "/readyz"),
}


@dataclass
class Server:
    """One way to serve the model."""

    name: str
    python: Path
    arguments: list[str]
    ready: str = READY
    """Path of its probe of readiness."""
    ready_seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    found: dict[str, list[Found]] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[tuple[int, int]]:
        """Its port and its process."""
        port, grpc_port, _ = free_ports(3)
        told = [part.format(port=port, grpc_port=grpc_port) for part in self.arguments]
        began = time.perf_counter()
        with (folder / f"{self.name}.log").open("a") as log:
            process = subprocess.Popen(
                [self.python, *told],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": PYTHON_PATH},
                cwd=folder,
            )
        try:
            while not answers(port, self.ready):
                if process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                    raise SystemExit(
                        f"{self.name} does not start:\n{(folder / f'{self.name}.log').read_text()[-2000:]}"
                    )
                time.sleep(0.005)
            self.ready_seconds.append(time.perf_counter() - began)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()

    def processor_us(self, what: str) -> float:
        """The least that a round took: others' work only adds."""
        return min(found.processor_us for found in self.found[what])


def request_of(inputs: list[dict[str, str]], rows: int) -> bytes:
    """A v2 request of made-up rows."""
    random = np.random.default_rng(rows)
    tensors = [
        {"name": item["name"], "shape": [rows], "datatype": "FP64", "data": random.normal(size=rows).round(6).tolist()}
        if item["type"] == "numeric"
        else {
            "name": item["name"],
            "shape": [rows],
            "datatype": "BYTES",
            "data": random.choice(["basic", "plus", "premium"], rows).tolist(),
        }
        for item in inputs
    ]
    return http_request(INFER, json.dumps({"inputs": tensors}).encode())


def ours(name: str, folder: Path, store: str) -> Server:
    """This server, with its log and an online store."""
    told = {
        "model_dir": folder / "model",
        "model_name": "benchmark",
        "version": "1",
        "host": "127.0.0.1",
        "online_store": store,
        "prediction_log": folder / "predictions",
        "http_port": "{port}",
        "grpc_port": "{grpc_port}",
    }
    arguments = [f"--{key}={value}" for key, value in told.items()]
    return Server(name, interpreter("serving"), ["-s", "-m", "kfp_lifecycle.serving.server.server", *arguments])


def servers(folder: Path, store: str) -> list[Server]:
    """All that can be measured here; this server with an online store."""
    model = str(folder / "model")
    found = [
        Server("bare", interpreter("clients"), ["-m", "benchmarks.serving.bare", model, "{port}"]),
        ours("ours", folder, store),
    ]
    for name, (environment, module, ready) in PEERS.items():
        if is_built(environment):
            arguments = ["-m", f"benchmarks.serving.{module}", model, "{port}"]
            found.append(Server(name, interpreter(environment), arguments, ready))
        else:
            builder = f"python -m kfp_lifecycle.environments.checkout {environment}"
            print(f"{name} is not measured: {builder} builds what it needs")
    return found


def measure(server: Server, folder: Path, requests: dict[str, tuple[bytes, int]], seconds: float) -> None:
    """One round of one server."""
    with server.running(folder) as (port, pid):
        for what, (request, clients) in requests.items():
            load(port, pid, request, clients, seconds / 4)
            found = load(port, pid, request, clients, seconds)
            server.found.setdefault(what, []).append(found)
            print(f"{server.name:10} {what:22} {found.processor_us:8,.0f} µs  {found.per_second:8,.0f}/s", flush=True)
        server.memory.append(memory_mb(pid))


def probe_beside(server: Server, idle: Server, folder: Path, first: bytes, request: bytes) -> tuple[float, float]:
    """The slowest probe of readiness while 10,000 rows are asked for again and again, of the server that answers them
    and of one that nobody asks: what the machine itself does to a probe. In milliseconds.

    Args:
        server: Which one.
        idle: The other one.
        folder: Where both run.
        first: A request that is waited for before, so that the server has imported what it imports beside its answers.
        request: Of 10,000 rows.
    """
    with server.running(folder) as (port, pid), idle.running(folder) as (idle_port, _):
        load(port, pid, first, 1, 0.0)
        asking = threading.Thread(target=load, args=(port, pid, request, 1, PROBE_SECONDS))
        asking.start()
        slowest = [0.0, 0.0]
        while asking.is_alive():
            for position, probed in enumerate((port, idle_port)):
                began = time.perf_counter()
                if not answers(probed, READY):
                    raise SystemExit(f"port {probed} was not ready")
                slowest[position] = max(slowest[position], time.perf_counter() - began)
            time.sleep(0.01)
        return slowest[0] * 1000, slowest[1] * 1000


def growth(server: Server, folder: Path, first: bytes, request: bytes) -> tuple[float, float]:
    """Its memory after a tenth of many requests, and after all of them, in megabytes; `first` as in `probe_beside`."""
    with server.running(folder) as (port, pid):
        load(port, pid, first, 1, 0.0)
        asked, early = 0, 0.0
        while asked < MANY_REQUESTS:
            asked += load(port, pid, request, 8, 1.0).requests
            if not early and asked >= MANY_REQUESTS / 10:
                early = memory_mb(pid)
        return early, memory_mb(pid)


def time_to_ready(own: Server, bare: Server, folder: Path, starts: int) -> float:
    """Time to ready over another server's: the median of starts in turn. The first one of each is for the disk."""
    for _ in range(starts + 1):
        for server in (bare, own):
            with server.running(folder):
                pass
    for server in (bare, own):
        del server.ready_seconds[0]
    return statistics.median(ours / theirs for ours, theirs in zip(own.ready_seconds, bare.ready_seconds, strict=True))


def table(measured: list[Server], requests: dict[str, tuple[bytes, int]]) -> None:
    """Print what was found."""
    for server in measured:
        ready, memory = statistics.median(server.ready_seconds), statistics.median(server.memory)
        print(f"\n{server.name}: ready in {ready:.2f} s, {memory:.0f} MB")
        for what in requests:
            if rounds := server.found.get(what):
                best = max(rounds, key=lambda one: one.per_second)
                print(
                    f"  {what:22} {server.processor_us(what):8,.0f} µs  {best.per_second:8,.0f}/s  "
                    f"p50 {best.p50_ms:8.2f} ms  p99 {best.p99_ms:8.2f} ms"
                )


def main() -> None:
    """Measure in turns, print, and save the ratios."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--starts", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serving-") as temporary, contextlib.ExitStack() as of_redis:
        folder = Path(temporary)
        stores = [str(folder / "online.db")]
        try:
            stores.append(of_redis.enter_context(redis()))
        except ServerMissing as missing:
            print(missing)
        subprocess.run(
            [interpreter("modelling"), "-W", "ignore", "-m", "benchmarks.serving.model", folder, *stores],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        )
        inputs: Any = json.loads((folder / "model" / "model.json").read_text("utf-8"))["inputs"]
        entity = {"inputs": [{"name": "customer_id", "shape": [1], "datatype": "INT64", "data": [7]}]}
        # First what makes this server import Feast, which it does beside its first answers.
        requests = {"entity": (http_request(INFER, json.dumps(entity).encode()), 1)}
        requests |= {f"1 row, {clients} clients": (request_of(inputs, 1), clients) for clients in CLIENTS}
        one, hundred = "1 row, 1 clients", "100 rows"
        requests[hundred] = request_of(inputs, 100), 1
        measured = servers(folder, stores[0])
        bare, own, *peers = measured
        over_redis = [ours("over Redis", folder, store) for store in stores[1:]]
        of_rows = {what: request for what, request in requests.items() if what != "entity"}
        of_entities = {what: requests[what] for what in ("entity", one)}
        ready = time_to_ready(own, bare, folder, options.starts)
        for _ in range(options.rounds):
            for server in (bare, own, *over_redis, *peers):
                asked = requests if server is own else of_entities if server in over_redis else of_rows
                measure(server, folder, asked, options.seconds)
        table([*measured, *over_redis], requests)
        beside = [
            probe_beside(own, bare, folder, requests["entity"][0], request_of(inputs, 10_000))
            for _ in range(options.rounds)
        ]
        print("\nthe slowest probe of readiness beside 10,000 rows, and of an idle server meanwhile:")
        print("  " + "; ".join(f"{slowest:.0f} and {machine:.0f} ms" for slowest, machine in beside))
        # Others' work only adds.
        delay = max(0.0, min(slowest - machine for slowest, machine in beside))
        early, late = growth(own, folder, requests["entity"][0], requests["1 row, 8 clients"][0])
        print(
            f"memory after {MANY_REQUESTS // 10:,} requests and after {MANY_REQUESTS:,}: {early:.0f} and {late:.0f} MB"
        )
    ratios = [
        Ratio("a row over the bare limit's", own.processor_us(one) / bare.processor_us(one), "≤ 1.5"),
        Ratio("100 rows over the bare limit's", own.processor_us(hundred) / bare.processor_us(hundred), "≤ 1.5"),
        Ratio("an entity over a row", own.processor_us("entity") / own.processor_us(one), "≤ 2"),
        Ratio("ready over the bare limit's", ready, "≤ 1.5"),
        Ratio("memory after 200,000 requests over that after 20,000", late / early, "≤ 1.1"),
        Ratio("what 10,000 rows add to the slowest probe, over 50 ms", delay / 50, "≤ 1"),
    ]
    for server in over_redis:
        ratio = server.processor_us("entity") / server.processor_us(one)
        ratios.append(Ratio("an entity over a row, over Redis", ratio, "≤ 2"))
    for peer in peers:
        promises = ("≤ 0.5", "≤ 1") if peer.name == "MLServer" else ("", "")
        for what, promise in zip((one, hundred), promises, strict=True):
            ratio = own.processor_us(what) / peer.processor_us(what)
            ratios.append(Ratio(f"{what.split(',')[0]} over {peer.name}'s", ratio, promise))
    for ratio in ratios:
        print(f"{ratio.what:50} {ratio.value:6.2f}  {ratio.promise}")
    save_ratios(ratios, options.ratios)


if __name__ == "__main__":
    main()
