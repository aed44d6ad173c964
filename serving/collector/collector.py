"""Collector of KServe's payload logger: `python -m kfp_lifecycle.serving.collector.collector --prediction_log PLACE`.

Takes the CloudEvents of all models of a namespace and writes the prediction log that their servers would have written,
so that no server needs the volume, or the keys, that the log is kept by.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import uvloop
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from kfp_lifecycle.config.log_policy import LogFormat
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.collector.cloud_event import half_of
from kfp_lifecycle.serving.collector.collection import Collection, NotLogged, Writer
from kfp_lifecycle.serving.collector.pairing import MOST_WAITING_BYTES, PATIENCE_SECONDS, Pairs
from kfp_lifecycle.serving.server.encoding import refusal
from kfp_lifecycle.serving.server.errors import Refusal, TooLarge, TooManyRequests
from kfp_lifecycle.serving.server.http_message import HttpRequest, HttpResponse
from kfp_lifecycle.serving.server.http_protocol import Connections, Limits
from kfp_lifecycle.serving.server.log_storage import storage_of
from kfp_lifecycle.serving.server.logs import start_logging
from kfp_lifecycle.serving.server.served import Served

LOGGER = logging.getLogger(__name__)
TELL_SECONDS = 60
GRACE_SECONDS = 10.0
# What takes longer to read than the event loop may wait is read on a thread, of which so much may wait.
BYTES_AT_ONCE = 64 * 1024
MOST_LARGE = 32


def arguments() -> argparse.ArgumentParser:
    """What the collector is told."""
    parser = argparse.ArgumentParser(prog="kfp_lifecycle.serving.collector.collector")
    parser.add_argument("--prediction_log", required=True, help="Folder, or s3://, gs://, minio://, to write to.")
    parser.add_argument("--host", default="0.0.0.0", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=8080, help="Port for events, /metrics and probes.")
    parser.add_argument("--max_body_mb", type=int, default=16, help="Largest body of an event, as a server takes it.")
    parser.add_argument("--patience_seconds", type=float, default=PATIENCE_SECONDS, help="How long a half may wait.")
    parser.add_argument("--max_waiting_mb", type=int, default=MOST_WAITING_BYTES // 2**20, help="How much may.")
    parser.add_argument("--log_format", type=LogFormat, choices=list(LogFormat), default=LogFormat.text)
    return parser


class Collector:
    """Answers what is sent."""

    def __init__(self, collection: Collection) -> None:
        """Note who takes the events."""
        self.collection = collection
        self._large = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-events")
        self._large_waiting = 0

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Take an event, or answer a probe."""
        if request.method in (b"GET", b"HEAD"):
            return self._looked_at(request.target.partition(b"?")[0])
        try:
            self._take(request)
        except NotLogged as why:
            # The logger does not send it again, and would not know better.
            self.collection.count(why)
        except Refusal as error:
            return self.refused(error, request)
        return HttpResponse(200, b"{}")

    def refused(self, error: Refusal, request: HttpRequest | None) -> HttpResponse:
        """Answer, and count, what is no event of KServe's logger."""
        reason = {TooLarge: "too_large", TooManyRequests: "crowded_out"}.get(type(error), "foreign")
        self.collection.count(NotLogged(reason, str(error)))
        return HttpResponse(error.status, refusal(str(error)), closes=error.closes)

    def close(self) -> None:
        """Write what is waiting."""
        self._large.shutdown()
        self.collection.close()

    def _take(self, request: HttpRequest) -> None:
        found = self.collection.take(half_of(request))
        if found is None:
            return
        asked, answer = found
        if len(answer.body) + (0 if asked is None else len(asked.body)) <= BYTES_AT_ONCE:
            self.collection.write(*self.collection.read(asked, answer))
            return
        if self._large_waiting >= MOST_LARGE:
            raise TooManyRequests(f"{MOST_LARGE} large events are waiting to be read")
        self._large_waiting += 1
        work = asyncio.get_running_loop().run_in_executor(self._large, self.collection.read, asked, answer)
        work.add_done_callback(self._done)

    def _done(self, work: asyncio.Future[tuple[Writer, Served]]) -> None:
        self._large_waiting -= 1
        try:
            self.collection.write(*work.result())
        except NotLogged as why:
            self.collection.count(why)
        except Exception:
            LOGGER.exception("a large event was not read")

    def _looked_at(self, path: bytes) -> HttpResponse:
        if path == b"/metrics":
            return HttpResponse(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST.encode())
        if path in (b"/health/live", b"/health/ready"):
            return HttpResponse(200 if self.collection.is_alive else 503, b"{}")
        return HttpResponse(404, refusal("there are /metrics, /health/live and /health/ready; events are posted to /"))


async def collect(collector: Collector, asked: argparse.Namespace) -> None:
    """Take events until told to stop.

    Raises:
        ContractViolation: the port is taken.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    connections = Connections(collector, collector.refused, Limits(body_bytes=asked.max_body_mb * 2**20))
    try:
        listening = await loop.create_server(connections, asked.host, asked.port, backlog=2_048)
    except OSError as error:
        raise ContractViolation(f"the collector cannot listen on {asked.host}:{asked.port}: {error}") from error
    gc.collect()
    gc.freeze()
    LOGGER.info("events are taken on port %d, for %s", asked.port, asked.prediction_log)
    seconds = 0
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
        connections.tick()
        collector.collection.give_up()
        seconds += 1
        if seconds % TELL_SECONDS == 0:
            collector.collection.tell()
    await connections.drain(GRACE_SECONDS, listening.close)


def main() -> None:
    """Collect what the command line says."""
    asked = arguments().parse_args()
    log = start_logging(asked.log_format is LogFormat.json, "", "")
    try:
        # A folder that cannot be made is known at once, and not with the first event.
        storage_of(asked.prediction_log, "")
        pairs = Pairs(asked.patience_seconds, asked.max_waiting_mb * 2**20)
        collector = Collector(Collection(asked.prediction_log, pairs, asked.max_body_mb * 2**20))
        try:
            uvloop.run(collect(collector, asked))
        finally:
            collector.close()
    except (ContractViolation, OSError) as error:
        LOGGER.critical("The collector cannot start: %s", error)
        sys.exit(1)
    finally:
        log.stop()


if __name__ == "__main__":
    main()
