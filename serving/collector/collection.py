"""Collection: pairs of events become the rows of the prediction log, by the code with which a server reads requests and
writes its log.

What cannot be logged is counted, by its reason, and told once a minute.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter as Tally
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hmac import compare_digest
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from kfp_lifecycle.modelling.scoring import decided
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SHADOW_HEADER, digest
from kfp_lifecycle.serving.collector.cloud_event import Half
from kfp_lifecycle.serving.collector.pairing import Pairs
from kfp_lifecycle.serving.payload_logger import ANNOTATION, LoggedModel
from kfp_lifecycle.serving.server.access import FORWARDED, forwarded_for
from kfp_lifecycle.serving.server.batch import HOLD_OUT, PredictionRequest
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.errors import Refusal
from kfp_lifecycle.serving.server.hold_out import HoldOut
from kfp_lifecycle.serving.server.packing import unpacked
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.served import Served

LOGGER = logging.getLogger(__name__)
COLLECTED = Counter("collected_events", "Events of KServe's payload logger that came", ["kind"])
NOT_LOGGED = Counter("collected_events_not_logged", "Events of which nothing was logged, by the reason", ["reason"])

# Logs that are open at once, each with a thread: of versions that serve, and a few that did.
MOST_OPEN = 32
MOST_ROWS = 100_000
# What is farther from the present was not sent by a logger that works.
MOST_OFF = timedelta(hours=1)
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_SHADOW = SHADOW_HEADER.lower()


# Model, version, and what the annotation says of it.
Writer = tuple[str, str, str]


class NotLogged(Exception):
    """Of this nothing can be logged; a word says why, for the count, and the message for people."""

    def __init__(self, reason: str, message: str = "") -> None:
        """Name the reason."""
        super().__init__(message or reason)
        self.reason = reason


class Collection:
    """Takes halves, and writes what they make together."""

    def __init__(self, prediction_log: str, pairs: Pairs, most_body_bytes: int) -> None:
        """Begin.

        Args:
            prediction_log: The log of all models, as a server knows it.
            pairs: Where halves wait for each other.
            most_body_bytes: What a body may hold when it is unpacked.
        """
        self._place, self._pairs, self._most = prediction_log, pairs, most_body_bytes
        self._logs: OrderedDict[Writer, PredictionLog] = OrderedDict()
        self._untold: Tally[str] = Tally()
        self._example: dict[str, str] = {}

    def take(self, half: Half) -> tuple[Half | None, Half] | None:
        """Keep a half until the other comes.

        Returns:
            What can be logged now: the request, where one is awaited, and the answer.

        Raises:
            NotLogged: it came before, or is of no prediction.
        """
        COLLECTED.labels("answer" if half.is_answer else "request").inc()
        model = self._model(half)
        if abs(datetime.now(UTC) - half.time) > MOST_OFF:
            raise NotLogged("wrong_time", f"its time is {half.time.isoformat()}: the clocks of two nodes differ")
        if not self._pairs.is_new(half):
            raise NotLogged("duplicate", f"the event {half.id!r} of {half.source} came twice")
        if not half.body:
            # The logger sends what is asked of any path, such as of metadata, and does not say of which.
            raise NotLogged("no_prediction")
        if half.is_answer and model.mode == "response":
            return None, half
        return self._pairs.add(half)

    def read(self, request: Half | None, answer: Half) -> tuple[Writer, Served]:
        """Read a prediction, on any thread.

        Returns:
            Whose log it belongs to, and its rows.

        Raises:
            NotLogged: they cannot be known.
        """
        model = self._model(answer)
        found = _Answer.read(answer)
        is_shadow = _is_shadow(model, answer.headers.get(_SHADOW, ""))
        if request is None:
            numbers, texts, keys, latency = np.empty((0, len(found.scores))), [], None, np.nan
        else:
            asked = self._asked(answer.annotations[ANNOTATION], request, found.is_v1)
            batch = asked.batch
            if batch.rows != len(found.scores):
                raise NotLogged("mismatch", f"{batch.rows} rows were asked and {len(found.scores)} answered")
            if batch.absent and model.settings.features:
                raise NotLogged("looked_up", "features that the server looked up are in no event")
            is_shadow = is_shadow or _is_shadow(model, asked.shadow)
            numbers, texts, keys = batch.numbers, batch.texts, batch.keys
            latency = (answer.time - request.time).total_seconds() * 1000
        held_out = found.held_out
        if held_out is None and model.hold_out and request is not None:
            # It depends on key and model alone.
            held_out = HoldOut(model.hold_out, found.model).of(keys, len(found.scores))
        forwarded = answer.headers.get(FORWARDED.decode(), "").encode()
        served = Served(
            answer.time.timestamp(),
            found.id,
            keys,
            numbers,
            texts,
            found.scores,
            decided(found.scores, model.threshold),
            latency,
            is_shadow,
            held_out,
            forwarded_for(forwarded, model.trusted_proxies),
        )
        return (found.model, found.version, answer.annotations[ANNOTATION]), served

    def write(self, writer: Writer, served: Served) -> None:
        """Hand rows over to their log, always on one thread.

        Raises:
            NotLogged: it cannot be opened.
        """
        self._log(writer).write(served)

    def give_up(self) -> None:
        """Count those that wait in vain, and start threads again that have died."""
        for alone in self._pairs.left_alone():
            if alone.crowded_out:
                self.count(NotLogged("crowded_out", "more events wait for their other halves than may"))
            elif alone.half.is_answer:
                self.count(_why_alone(alone.half))
            else:
                # One that the server refused has none either.
                self.count(NotLogged("no_answer"))
        for log in self._logs.values():
            log.revive()

    def count(self, why: NotLogged) -> None:
        """Count what is not logged."""
        NOT_LOGGED.labels(why.reason).inc()
        self._untold[why.reason] += 1
        self._example[why.reason] = str(why)

    def tell(self) -> None:
        """Say what was not logged since this was last said."""
        for reason, number in self._untold.items():
            example = self._example[reason]
            level = logging.INFO if example == reason else logging.WARNING
            LOGGER.log(level, "events that were not logged: %d, the last since %s", number, example)
        self._untold.clear()
        self._example.clear()

    @property
    def is_alive(self) -> bool:
        """Whether every log is being written."""
        return all(log.is_alive for log in self._logs.values())

    def close(self) -> None:
        """Write what is waiting, and count the halves that never met."""
        for log in self._logs.values():
            log.close()
        if len(self._pairs):
            LOGGER.warning("%d events still waited for their other halves: they are in no log", len(self._pairs))
            NOT_LOGGED.labels("stopped").inc(len(self._pairs))
        self.tell()

    def _model(self, half: Half) -> LoggedModel:
        annotation = half.annotations.get(ANNOTATION)
        if annotation is None:
            raise NotLogged("foreign", f"{half.source} names no {ANNOTATION}: no release of this project made it")
        try:
            return _model_of(annotation)
        except ValueError as error:
            raise NotLogged("foreign", str(error)) from error

    def _asked(self, annotation: str, request: Half, is_v1: bool) -> PredictionRequest:
        decoder = _decoder_of(annotation)
        try:
            body = unpacked(request.body, request.headers.get("content-encoding", "").encode(), self._most)
            if is_v1:
                return decoder.v1(body)
            length = request.headers.get("inference-header-content-length")
            return decoder.v2(body, None if length is None else int(length))
        except (Refusal, ValueError) as error:
            raise NotLogged("unreadable", f"a request that was answered cannot be read: {error}") from error

    def _log(self, writer: Writer) -> PredictionLog:
        if writer not in self._logs:
            model, version, annotation = writer
            decoder, told = _decoder_of(annotation), _model_of(annotation)
            try:
                self._logs[writer] = PredictionLog(
                    self._place,
                    model,
                    version,
                    decoder.numeric,
                    decoder.categorical,
                    told.settings.policy,
                    caller_secret=told.shadow,
                )
            except (ContractViolation, OSError) as error:
                raise NotLogged("no_log", f"the prediction log of {model} cannot be opened: {error}") from error
            self._logs[writer].start()
        self._logs.move_to_end(writer)
        if len(self._logs) > MOST_OPEN:
            self._logs.popitem(last=False)[1].close()
        return self._logs[writer]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a server answered."""

    id: str
    model: str
    version: str
    is_v1: bool
    scores: NDArray[np.float64]
    held_out: NDArray[np.bool_] | None
    """Whose entity is held out; None where the server holds nobody out, or the client did not ask."""

    @classmethod
    def read(cls, half: Half) -> _Answer:
        content, rest = _json_and_rest(half.body)
        if not isinstance(content, dict) or not {"predictions", "explanations", "outputs"} & content.keys():
            raise NotLogged("no_prediction")
        name, version = content.get("model_name"), content.get("model_version")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name != half.service:
            raise NotLogged("foreign", f"{half.source} of {half.service} answered for another model")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise NotLogged("foreign", f"{half.source} answered for no version")
        try:
            scores, held_out = _output(content, rest, "score", "<f8"), _output(content, rest, HOLD_OUT, "|u1")
        except (KeyError, TypeError, ValueError) as error:
            raise NotLogged("unreadable", f"an answer of {name} cannot be read: {error!r}") from error
        if scores is None:
            raise NotLogged("no_score", "a client asked for other outputs than the score")
        held = None if held_out is None else held_out.astype(np.bool_)
        return cls(str(content.get("id", "")), name, version, "outputs" not in content, scores.astype(np.float64), held)


def _why_alone(answer: Half) -> NotLogged:
    """Why the request of an answer never came: it may have had no body, since nothing was predicted."""
    try:
        _Answer.read(answer)
    except NotLogged as why:
        return why
    return NotLogged("no_request", f"the answer {answer.id!r} of {answer.source} came without its request")


def _output(content: dict[str, Any], rest: bytes, name: str, kind: str) -> NDArray[Any] | None:
    """The values of one output in an answer of v1 or v2; None where the answer has none of it."""
    if "outputs" not in content:
        rows = content["predictions"] if "predictions" in content else content["explanations"]
        return np.array([row[name] for row in rows], kind) if name == "score" or (rows and name in rows[0]) else None
    offset = 0
    for output in content["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size")
        if output["name"] == name:
            if size is None:
                return np.array(output["data"], kind)
            return np.frombuffer(rest[offset : offset + size], kind)
        offset += size or 0
    return None


def _json_and_rest(body: bytes) -> tuple[Any, bytes]:
    """An answer's JSON, and the raw bytes of tensors that follow it: the header that says where they begin is in no
    event."""
    try:
        return msgspec.json.decode(body), b""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # A byte a character, so that the end is found whatever follows.
        _, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
        return msgspec.json.decode(body[:end]), body[end:]
    except (ValueError, RecursionError) as error:
        # It is none of a prediction: such as metrics, which are no JSON.
        raise NotLogged("no_prediction") from error


def _is_shadow(model: LoggedModel, token: str) -> bool:
    return bool(model.shadow) and compare_digest(digest(token), model.shadow)


_model_of = lru_cache(256)(LoggedModel.read)


@lru_cache(64)
def _decoder_of(annotation: str) -> Decoder:
    model = _model_of(annotation)
    # Whatever a server answered was no more than it takes.
    return Decoder(model.features, model.entity_key, MOST_ROWS, most_explained=MOST_ROWS, key_type=model.key_type)
