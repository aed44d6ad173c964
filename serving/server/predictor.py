"""Prediction: complete a batch from the online store, score it at once, count it, hand it to the log."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.modelling.attribution import Explainer
from kfp_lifecycle.modelling.scoring import Feed, decided
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.batch import Batch, PredictionRequest
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.errors import InvalidRequest, TooManyRequests, Unavailable
from kfp_lifecycle.serving.server.feature_lookup import FeatureLookup, Row
from kfp_lifecycle.serving.server.identifiers import Key
from kfp_lifecycle.serving.server.metrics import ModelMetrics
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.served import Served

LOGGER = logging.getLogger(__name__)
# What takes longer than about a millisecond goes to a thread, so that the event loop waits for nothing.
ROWS_AT_ONCE = 250
BYTES_AT_ONCE = 64 * 1024
MOST_BATCHES_WAITING = 32
BATCH_SECONDS = 60.0
MOST_LACKED = 256

Result = TypeVar("Result")


class Model(Protocol):
    """What scores: `modelling.scoring.Scorer`."""

    @property
    def features(self) -> Sequence[Feature]:
        """Its inputs."""

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """The event's probability for tensors [n, 1], shape (n,)."""


@dataclass(slots=True)
class Prediction:
    """What a request is answered with."""

    request: PredictionRequest
    scores: NDArray[np.float64]
    decisions: NDArray[np.bool_]
    contributions: NDArray[np.float64] | None = None
    """Of each feature to each score, [rows, features], in the model's order; None where nobody asked."""


class Predictor:
    """One version of one model."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        model: Model,
        threshold: float,
        decoder: Decoder,
        log: PredictionLog,
        features: FeatureLookup | None,
        explainer: Explainer | None = None,
        expected_score: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            name: The model's name in the URL.
            version: Its version, part of every answer.
            model: What scores.
            threshold: The score from which on to act.
            decoder: What reads requests.
            log: Where predictions go.
            features: Where the features of an entity come from; None where there is no online store.
            explainer: What explains scores; None where the model brings nothing that does.
            expected_score: Mean of its scores on the validation part, where it is known.
        """
        self.name, self.version, self.threshold = name, version, threshold
        self.model, self.decoder, self.log, self.features = model, decoder, log, features
        self.explainer = explainer
        self.metrics = ModelMetrics(name, version, expected_score)
        self._numeric = list(enumerate(decoder.numeric))
        self._categorical = list(enumerate(decoder.categorical))
        self._number_places = {name: position for position, name in self._numeric}
        self._text_places = {name: position for position, name in self._categorical}
        # Nearly all requests lack the same features.
        self._by_kind = functools.lru_cache(MOST_LACKED)(self._split_by_kind)
        self._batches = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-batches")
        self._explanations = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explanations")
        self._batches_waiting = 0

    def warm_up(self) -> None:
        """Score once, so that the first request finds everything in place.

        A model may refuse this row, which is nobody's.

        Raises:
            ContractViolation: what it gives are no scores.
        """
        numbers = np.zeros((len(self._numeric), 1))
        try:
            scores = self._scored(Batch(1, numbers, [[""] for _ in self._categorical], None))
        except (IndexError, ValueError) as error:
            raise ContractViolation(
                f"model.onnx gives no probabilities [N, 2] ({error}). Train and register the model again."
            ) from error
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            LOGGER.warning(
                "the model refuses a row of zeros and empty texts, so the first request warms it up: %s", error
            )
            return
        if scores.shape != (1,):
            raise ContractViolation(
                f"model.onnx gives {len(scores)} scores for one row. Train and register the model again."
            )

    def predict_at_once(self, request: PredictionRequest, began: float, shadow: bool) -> Prediction | None:
        """Answer a quick request.

        Returns:
            None where that takes a while, or something has to be waited for: `predict_later` does.

        Raises:
            Refusal: as `predict_later`.
        """
        if request.batch.rows > ROWS_AT_ONCE or request.explained:
            return None
        if request.batch.absent and not self._complete_at_once(request):
            return None
        return self._record(request, self._scored(request.batch), began, shadow)

    async def predict_later(self, request: PredictionRequest, began: float, shadow: bool) -> Prediction:
        """Answer any request.

        Raises:
            InvalidRequest: a row lacks features, and they cannot be looked up.
            TooManyRequests: as many large batches, or lookups, as may are waiting.
            Unavailable: the online store does not answer.
        """
        if request.batch.absent:
            features, entities = self._lacking(request.batch)
            self._complete(request, entities, await features.lookup(entities, request.request_time))
        if request.batch.rows <= ROWS_AT_ONCE:
            scores = self._scored(request.batch)
        else:
            scores = await self.elsewhere(lambda: self._scored(request.batch))
        contributions = None
        if request.explained:
            contributions = await self.elsewhere(lambda: self._explained(request.batch), self._explanations)
        prediction = self._record(request, scores, began, shadow)
        prediction.contributions = contributions
        return prediction

    async def elsewhere(self, work: Callable[[], Result], thread: ThreadPoolExecutor | None = None) -> Result:
        """Do what takes a while on a thread.

        Args:
            work: What to do.
            thread: Where; that of large batches if not said.

        Raises:
            TooManyRequests: as many as may are waiting for it.
            Unavailable: it took too long.
        """
        if self._batches_waiting >= MOST_BATCHES_WAITING:
            raise TooManyRequests(f"{self._batches_waiting} large requests are waiting; ask again later, or send less")
        self._batches_waiting += 1
        try:
            async with asyncio.timeout(BATCH_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(thread or self._batches, work)
        except TimeoutError as error:
            raise Unavailable(f"the request was not answered within {BATCH_SECONDS:g} s; send fewer rows") from error
        finally:
            self._batches_waiting -= 1

    def close(self) -> None:
        """End the threads."""
        for thread in (self._batches, self._explanations):
            thread.shutdown(wait=False, cancel_futures=True)

    def _scored(self, batch: Batch) -> NDArray[np.float64]:
        inputs = batch.numbers.astype(np.float32)[:, :, np.newaxis]
        feed: Feed = {name: inputs[position] for position, name in self._numeric}
        for position, name in self._categorical:
            feed[name] = np.array(batch.texts[position], object)[:, np.newaxis]
        return self.model.run(feed).astype(np.float64)

    def _explained(self, batch: Batch) -> NDArray[np.float64]:
        assert self.explainer is not None
        found = self.explainer.contributions(batch.numbers, batch.texts)
        # Numbers come first there.
        names = [*self.decoder.numeric, *self.decoder.categorical]
        return found[:, [names.index(feature.name) for feature in self.model.features]]

    def _complete_at_once(self, request: PredictionRequest) -> bool:
        """Fill in what was not sent, if that is found without waiting."""
        features, entities = self._lacking(request.batch)
        rows = features.at_once(entities, request.request_time)
        if rows is None:
            return False
        self._complete(request, entities, rows)
        return True

    def _lacking(self, batch: Batch) -> tuple[FeatureLookup, list[Key]]:
        """Whom to ask for what was not sent, and of which entities."""
        key = self.decoder.entity_key
        lacking = sorted(set().union(*batch.absent))
        nameless = next((row for row in lacking if batch.keys is None or batch.keys[row] is None), None)
        if nameless is not None:
            raise InvalidRequest(
                f"row {nameless} lacks {_missing(batch, nameless)}: send them (null where unknown), or `{key}` to have "
                "them looked up"
            )
        if self.features is None:
            raise InvalidRequest(
                f"`{key}` alone is not enough, since this server has no online store (--online_store): "
                f"send {_missing(batch, lacking[0])} too"
            )
        assert batch.keys is not None
        entities = (batch.keys[row] for row in lacking)
        return self.features, list(dict.fromkeys(entity for entity in entities if entity is not None))

    def _complete(self, request: PredictionRequest, entities: Sequence[Key], rows: Sequence[Row]) -> None:
        """Fill in what was not sent by what the online store knows of the entities."""
        batch, key = request.batch, self.decoder.entity_key
        assert batch.keys is not None
        found: dict[Key | None, Row] = dict(zip(entities, rows, strict=True))
        unknown = [entity for entity, row in found.items() if all(value is None for value in row.values())]
        if unknown:
            raise InvalidRequest(
                f"nothing is known of {key} {', '.join(repr(entity) for entity in unknown[:3])}"
                f"{' …' if len(unknown) > 3 else ''}: send its features, or wait until it is in the online store"
            )
        missing: list[str] = []
        for lacking, names in batch.absent.items():
            known = [found[batch.keys[row]] for row in lacking]
            numeric, categorical = self._by_kind(tuple(names))
            if numeric:
                rows_of_numbers = [[row.get(name) for name in numeric] for row in known]
                # Of all numbers together: numpy takes as long for one as for all. None becomes not-a-number.
                values = np.array(rows_of_numbers, float).T
                if values.shape == batch.numbers.shape:
                    # All of all rows.
                    batch.numbers = values
                else:
                    places = np.array([self._number_places[name] for name in numeric])
                    batch.numbers[places[:, np.newaxis], lacking] = values
                if any(None in numbers for numbers in rows_of_numbers):
                    missing += [
                        name for name, lacks in zip(numeric, np.isnan(values).any(axis=1), strict=True) if lacks
                    ]
            for name in categorical:
                texts = [row.get(name) for row in known]
                column = batch.texts[self._text_places[name]]
                for position, text in zip(lacking, texts, strict=True):
                    column[position] = text or ""
                if None in texts:
                    missing.append(name)
        request.missing = missing

    def _split_by_kind(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those of some features that are numbers, and those that are texts, in the model's order."""
        return [name for _, name in self._numeric if name in names], [n for _, n in self._categorical if n in names]

    def _record(
        self, request: PredictionRequest, scores: NDArray[np.float64], began: float, shadow: bool
    ) -> Prediction:
        decisions = decided(scores, self.threshold)
        self.metrics.observe_scores(scores, shadow)
        batch = request.batch
        self.log.write(
            Served(
                time.time(),
                request.id,
                batch.keys,
                batch.numbers,
                batch.texts,
                scores,
                decisions,
                (time.perf_counter() - began) * 1000,
                shadow,
                batch.held_out,
                request.caller,
            )
        )
        return Prediction(request, scores, decisions)


def _missing(batch: Batch, row: int) -> str:
    return ", ".join(f"`{name}`" for rows, names in batch.absent.items() if row in rows for name in names)
