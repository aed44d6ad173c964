"""The collector of KServe's payload logger writes the log that the server would have written, whatever comes to it.

Events are those of the logger: heads as its program sends them (kserve/kserve at aaac4e294, `cmd/agent`, which was run
before this server and this collector: 8,419 rows of both logs were the same), by HTTP's binary mode of CloudEvents 1.0.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.prediction_log import hashed_caller
from kfp_lifecycle.components.deployment.validate_serving.trial_server import TrialServer
from kfp_lifecycle.config.deployment import LogSettings
from kfp_lifecycle.serving.client import Client, digest, v2_request
from kfp_lifecycle.serving.payload_logger import ANNOTATION, LoggedModel
from kfp_lifecycle.serving.ports import free_ports
from tests.prediction_logs import read_log

INPUTS = [Feature("temperature", "numeric"), Feature("site", "categorical")]
INFER, PREDICT = "/v2/models/devices/infer", "/v1/models/devices:predict"
MODEL = LoggedModel(features=tuple(INPUTS), entity_key="device_id", threshold=0.3, shadow=digest("hush"))
ROWS = [{"temperature": 1.5, "site": "north"}, {"temperature": None, "site": "süd"}]
POD = "devices-v1-predictor-7f-x1"


class Collector:
    """One, on a port of this machine, and the logger's events to it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self._said = folder.with_suffix(".txt")
        said = {"prediction_log": folder, "host": "127.0.0.1", "port": self.port, **settings}
        with self._said.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kfp_lifecycle.serving.collector.collector"]
                + [f"--{name}={value}" for name, value in said.items()],
                stderr=output,
                env={**os.environ, "TMPDIR": str(folder.parent)},
            )
        until(lambda: self.process.poll() is not None or self.answers())
        assert self.process.poll() is None, self.said

    @property
    def said(self) -> str:
        return self._said.read_text("utf-8")

    def answers(self) -> bool:
        try:
            with Client(self.port) as client:
                return client.get("/health/ready").status == 200
        except OSError:
            return False

    def send(self, kind: str, body: bytes | dict[str, Any], identifier: str, **changes: Any) -> int:
        """An event as the logger sends it.

        Returns:
            The status that it is answered with.
        """
        changes = {"after": 0.0, "headers": {}, "model": MODEL, "source": POD, "at": datetime.now(UTC), **changes}
        at = changes["at"] + timedelta(seconds=changes["after"])
        head = {
            "ce-specversion": "1.0",
            "ce-type": f"org.kubeflow.serving.inference.{kind}",
            "ce-id": identifier,
            "ce-source": changes["source"],
            "ce-time": at.isoformat().replace("+00:00", "Z"),
            "ce-recordedtime": at.isoformat().replace("+00:00", "Z"),
            "ce-inferenceservicename": "devices",
            "ce-namespace": "models",
            "ce-component": "predictor",
            "ce-endpoint": "",
            "ce-metadata": json.dumps({name: [value] for name, value in changes["headers"].items()}),
        }
        if changes["model"] is not None:
            head["ce-annotations"] = json.dumps({ANNOTATION: changes["model"].written()})
        with Client(self.port, timeout=60) as client:
            return client.post("/", body, head).status

    def counts(self) -> dict[str, float]:
        """What was not logged, by the reason."""
        with Client(self.port) as client:
            lines = client.get("/metrics").body.splitlines()
        head = 'collected_events_not_logged_total{reason="'
        return {
            line.removeprefix(head).partition('"')[0]: float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(head)
        }

    def stop(self, by: int = signal.SIGTERM) -> None:
        """End it, with all that waits written where it is told."""
        self.process.send_signal(by)
        self.process.wait(60)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    started: list[Collector] = []

    def begin(**settings: object) -> Collector:
        started.append(Collector(tmp_path / "log", **settings))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def answer(identifier: str, *scores: float) -> dict[str, Any]:
    """What a server answers."""
    outputs = [{"name": "score", "datatype": "FP64", "shape": [len(scores)], "data": list(scores)}]
    return {"model_name": "devices", "model_version": "1", "id": identifier, "outputs": outputs}


def requests_in(collector: Collector) -> list[str]:
    return [row["request_id"] for row in read_log(collector.folder)]


def holds_already(collector: Collector, identifier: str) -> bool:
    """Whether a log that is being written holds a request."""
    try:
        return identifier in requests_in(collector)
    except (pa.ArrowException, OSError):
        # Its file is being begun.
        return False


def tensor_bytes() -> tuple[bytes, int]:
    """Two rows by the binary extension."""
    numbers = np.array([1.0, 2.0], "<f4").tobytes()
    places = b"".join(struct.pack("<I", len(place)) + place for place in (b"north", b"south"))
    inputs = [
        {"name": name, "datatype": kind, "shape": [2], "parameters": {"binary_data_size": len(content)}}
        for name, kind, content in (("temperature", "FP32", numbers), ("site", "BYTES", places))
    ]
    wanted = {"id": "binary", "inputs": inputs, "parameters": {"binary_data_output": True}}
    head = json.dumps(wanted).encode()
    return head + numbers + places, len(head)


def test_the_log_is_the_one_that_the_server_itself_would_have_written(
    model: Path, tmp_path: Path, start: Callable[..., Collector]
) -> None:
    token = tmp_path / "token"
    token.write_text("hush")
    threshold = json.loads((model / "model.json").read_text("utf-8"))["threshold"]
    described = MODEL.model_copy(update={"threshold": threshold, "hold_out": 0.5, "trusted_proxies": 1})
    score_alone = {**v2_request(INPUTS, ROWS), "outputs": [{"name": "score"}], "id": "who is held out is not asked"}
    score_alone["inputs"].append({"name": "device_id", "datatype": "BYTES", "shape": [2], "data": ["d1", "d2"]})
    collector = start()
    body, raw = v2_request(INPUTS, ROWS), json.dumps({**v2_request(INPUTS, ROWS), "id": "packed"}).encode()
    binary, length = tensor_bytes()
    large = v2_request(INPUTS, ROWS * 4_000)
    asked: list[tuple[str, bytes | dict[str, Any], dict[str, str]]] = [
        (INFER, {**body, "id": "plain"}, {}),
        (PREDICT, {"instances": [{**ROWS[0], "device_id": "d1"}]}, {"x-request-id": "by v1"}),
        (INFER, {**body, "id": "a release's"}, {"X-Shadow": "hush"}),
        (INFER, {**body, "id": "anybody's"}, {"X-Shadow": "true"}),
        (INFER, gzip.compress(raw), {"Content-Encoding": "gzip"}),
        (INFER, binary, {"Inference-Header-Content-Length": str(length)}),
        (INFER, {**large, "id": "large"}, {"X-Forwarded-For": "claimed, 192.0.2.7"}),
        (INFER, score_alone, {"X-Forwarded-For": "192.0.2.8"}),
    ]
    with (
        TrialServer(
            model, "devices", "1", tmp_path / "own", shadow_token_file=token, hold_out=0.5, trusted_proxies=1
        ) as server,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.http_port)) as client,
    ):
        for number, (path, content, special) in enumerate(asked):
            headers = {"X-Forwarded-For": "192.0.2.1", **special}
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            client.request("POST", path, sent, headers)
            answered = client.getresponse()
            assert answered.status == 200
            collector.send("request", sent, str(number), headers=headers, model=described, after=-0.002)
            collector.send("response", answered.read(), str(number), headers=headers, model=described)
    collector.stop()
    own, collected = read_log(tmp_path / "own"), read_log(collector.folder)
    assert len(own) == 2 * 6 + 1 + 8_000
    assert [*map(compared, sorted(collected, key=order))] == [*map(compared, sorted(own, key=order))]
    assert {row["request_id"] for row in collected if row["shadow"]} == {"a release's"}
    callers = {row["request_id"]: row["caller"] for row in own}
    assert callers["large"] == hashed_caller(digest("hush").encode(), "192.0.2.7") != callers[score_alone["id"]]
    assert {row["hold_out"] for row in collected if row["request_id"] == score_alone["id"]} == {True, False}
    assert all(0 < row["latency_ms"] < 60_000 for row in collected)
    assert sorted(path.parent.parent.name for path in collector.folder.rglob("*.parquet")) == ["devices"]


def order(row: dict[str, Any]) -> tuple[str, str]:
    return row["request_id"], str(row["features"])


def compared(row: dict[str, Any]) -> dict[str, Any]:
    # A server knows a release by the token that it is told, and does not look where it asks from.
    others = ("time", "latency_ms", *(["caller"] if row["shadow"] else []))
    return {name: value for name, value in row.items() if name not in others}


def test_halves_meet_in_any_order_though_a_client_gives_all_its_requests_one_id(
    start: Callable[..., Collector],
) -> None:
    collector, now = start(), datetime.now(UTC)
    events = [
        (kind, number, number + (0.5 if kind == "response" else 0.0))
        for number in range(4)
        for kind in ("request", "response")
    ]
    # An answer comes before its request, and both after those of later ones.
    for kind, number, after in [*events[4:], *reversed(events[:4])]:
        row = {"temperature": float(number), "site": "north"}
        body = v2_request(INPUTS, [row]) if kind == "request" else answer(f"r{number}", number / 10)
        assert collector.send(kind, body, "one", at=now, after=after) == 200
    collector.stop()
    logged = {row["request_id"]: row for row in read_log(collector.folder)}
    assert {name: row["features"]["temperature"] for name, row in logged.items()} == {f"r{n}": n for n in range(4)}
    assert {round(row["latency_ms"]) for row in logged.values()} == {500}
    assert [logged[f"r{number}"]["decision"] for number in range(4)] == [False, False, False, True]


@pytest.mark.slow
def test_what_comes_alone_twice_or_from_elsewhere_is_counted_and_told_and_nothing_is_logged_of_it(
    start: Callable[..., Collector],
) -> None:
    collector, now = start(patience_seconds=1, max_body_mb=1), datetime.now(UTC)
    body = v2_request(INPUTS, ROWS[:1])
    for _ in range(2):
        collector.send("request", body, "twice", at=now)
        collector.send("response", answer("twice", 0.5), "twice", at=now, after=0.1)
    collector.send("request", body, "refused by the server")
    collector.send("response", answer("lost", 0.5), "its request was lost")
    # Of the same id, and of another pod.
    collector.send("request", body, "other", source="another pod")
    # What was asked of another path: KServe's logger sends it, too.
    collector.send("request", b"", "metadata")
    collector.send("response", {"name": "devices", "versions": ["1"]}, "metadata")
    collector.send("response", b"# HELP python_info", "metrics")
    alone = [{"name": "device_id", "datatype": "BYTES", "shape": [1], "data": ["d1"]}]
    decisions = [{"name": "decision", "datatype": "BOOL", "shape": [1], "data": [True]}]
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (body, answer("mismatch", 0.5, 0.6)),
        ({"inputs": alone}, answer("looked up", 0.5)),
        (body, {**answer("no score"), "outputs": decisions}),
        (body, {**answer("elsewhere", 0.5), "model_name": "../../etc"}),
        (body, {**answer("elsewhere", 0.5), "model_version": "../1"}),
        (body, {**answer("broken"), "outputs": [{"name": "score", "data": ["a"]}]}),
        ({"inputs": []}, answer("unread", 0.5)),
    ]
    for number, (asked, answered) in enumerate(pairs):
        collector.send("request", asked, str(number), at=now)
        assert collector.send("response", answered, str(number), at=now, after=0.1) == 200
    collector.send("request", body, "no release's", model=None)
    collector.send("request", body, "early", at=now - timedelta(hours=2))
    assert collector.send("other", body, "another type") == 400
    with Client(collector.port) as client:
        assert client.post("/", {"events": "of nobody"}).status == 400
    assert collector.send("request", b"x" * (2**20 + 1), "huge") == 413
    expected = {
        "duplicate": 2, "no_answer": 2, "no_request": 1, "no_prediction": 3, "mismatch": 1, "looked_up": 1,
        "no_score": 1, "unreadable": 2, "foreign": 5, "wrong_time": 1, "too_large": 1,
    }  # fmt: skip
    until(lambda: collector.counts() == expected)
    collector.stop()
    assert requests_in(collector) == ["twice"]
    for told in (
        "came twice",
        "came without its request",
        "2 answered",
        "features that the server looked up",
        "CloudEvents 1.0",
    ):
        assert told in collector.said


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["v1", "v2", "v2 with raw bytes"])
def test_who_is_held_out_is_logged_as_the_server_told_it(start: Callable[..., Collector], protocol: str) -> None:
    collector = start()
    told: dict[str, Any] | bytes = answer("ours", 0.25, 0.75)
    assert isinstance(told, dict)
    if protocol == "v1":
        rows = [{"score": 0.25, "hold_out": True}, {"score": 0.75, "hold_out": False}]
        told = {key: told[key] for key in ("model_name", "model_version", "id")} | {"predictions": rows}
    elif protocol == "v2":
        told["outputs"].append({"name": "hold_out", "datatype": "BOOL", "shape": [2], "data": [True, False]})
    else:
        sizes = {"score": ("FP64", 16), "hold_out": ("BOOL", 2)}
        told["outputs"] = [
            {"name": name, "datatype": kind, "shape": [2], "parameters": {"binary_data_size": size}}
            for name, (kind, size) in sizes.items()
        ]
        told = json.dumps(told).encode() + np.array([0.25, 0.75], "<f8").tobytes() + b"\1\0"
    kept = LogSettings.model_validate({"features": False, "key": "none"})
    collector.send("response", told, "1", model=MODEL.model_copy(update={"settings": kept}))
    collector.stop()
    assert [(row["score"], row["hold_out"]) for row in read_log(collector.folder)] == [(0.25, True), (0.75, False)]


@pytest.mark.slow
def test_where_only_answers_are_sent_scores_are_logged_and_nothing_else(start: Callable[..., Collector]) -> None:
    kept = LogSettings.model_validate({"features": False, "key": "none"})
    collector = start()
    collector.send("response", answer("r", 0.2, 0.9), "1", model=MODEL.model_copy(update={"settings": kept}))
    collector.stop()
    rows = read_log(collector.folder)
    assert [(row["score"], row["decision"]) for row in rows] == [(0.2, False), (0.9, True)]
    assert "features" not in rows[0]
    assert {(row["entity"], row["latency_ms"]) for row in rows} == {(None, None)}


def test_halves_that_wait_take_no_more_memory_than_they_may(start: Callable[..., Collector]) -> None:
    collector = start(max_waiting_mb=1)
    for number in range(6):
        collector.send("request", b"{" + b" " * 2**18, str(number))
    until(lambda: collector.counts().get("crowded_out", 0) >= 2)


@pytest.mark.slow
def test_a_collector_that_is_stopped_writes_all_pairs_and_counts_the_rest_and_a_killed_one_loses_a_second(
    start: Callable[..., Collector],
) -> None:
    collector, body = start(), v2_request(INPUTS, ROWS[:1])

    def predicted(identifier: str) -> None:
        collector.send("request", body, identifier, after=-0.1)
        collector.send("response", answer(identifier, 0.5), identifier)

    predicted("before")
    collector.send("request", body, "half")
    collector.stop()
    assert "1 events still waited for their other halves" in collector.said
    collector = start()
    predicted("written")
    until(lambda: holds_already(collector, "written"))
    collector.stop(signal.SIGKILL)
    collector = start()
    # Its request came to the one that was killed.
    collector.send("response", answer("half", 0.5), "half")
    predicted("after")
    collector.stop()
    assert requests_in(collector) == ["before", "written", "after"]


def test_a_log_that_no_folder_can_be_made_for_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "kfp_lifecycle.serving.collector.collector"]
    ended = subprocess.run(
        [*command, f"--prediction_log={tmp_path / 'file' / 'log'}"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "The collector cannot start" in ended.stderr
    assert "Traceback" not in ended.stderr
