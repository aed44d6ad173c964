"""KServe predictor: decode, complete from the online store, score, answer, log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kserve
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput, ModelNotReady
from prometheus_client import REGISTRY, Histogram

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.modelling.scoring import Scorer, Scores, columns_of, decided
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.decoding import Decoder, PredictionRequest, Row
from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
from kfp_lifecycle.serving.server.prediction_log import Prediction, PredictionLog

if TYPE_CHECKING:
    from kfp_lifecycle.serving.server.online_features import OnlineFeatures

LOGGER = logging.getLogger(__name__)
# Whoever asks for a score has given up by then.
LOOKUP_SECONDS = 5.0
SCORES = Histogram(
    "prediction_score",
    "Scores the model answered with",
    ["model_name", "model_version", "shadow"],
    buckets=[step / 20 for step in range(1, 21)],
)


class FeaturesUnavailable(ModelNotReady):  # type: ignore[misc]
    """The online store cannot be asked now; requests that bring all features along are still answered."""

    def __init__(self, model: str, detail: str) -> None:
        super().__init__(model, detail)
        self.reason = str(self)


class FeatureLookup:
    """Features from the online store, asked on a thread of their own so that the event loop stays free.

    Feast takes seconds to import, so it is imported there too, while the server already answers requests that bring
    all features along.
    """

    def __init__(self, model: str, feature_repo: Path, settings: Configuration, online_store: str) -> None:
        """Begin to open the store.

        Args:
            model: The model's name, for messages.
            feature_repo: The feature definitions of the model folder.
            settings: What `model.json` keeps of the configuration for them.
            online_store: The store's place.
        """
        self.model = model
        self._place = (feature_repo, settings, online_store)
        self._features: OnlineFeatures | None = None
        self._metrics: FeatureMetrics | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="online-features")
        self._thread.submit(self._open).add_done_callback(self._tell)

    async def lookup(self, entities: Sequence[Any], request_time: datetime | None) -> list[Row]:
        """The features of each entity as of the request.

        Raises:
            InvalidInput: an entity's key cannot be one.
            FeaturesUnavailable: the store cannot be read, is silent, or holds nothing for this model yet.
        """
        answer = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, entities, request_time)
        if self._features is None:
            # Importing Feast takes as long as it takes.
            return await answer
        try:
            return await asyncio.wait_for(answer, LOOKUP_SECONDS)
        except TimeoutError as error:
            # The thread still waits for the store, whose client may know no limit, and others would wait behind it.
            detail = f"the online store did not answer within {LOOKUP_SECONDS:g} s"
            raise FeaturesUnavailable(self.model, detail) from error

    def _open(self) -> OnlineFeatures:
        from kfp_lifecycle.features.online.servers import READERS
        from kfp_lifecycle.serving.server.online_features import OnlineFeatures

        if self._features is None:
            self._features = OnlineFeatures(*self._place, READERS)
            self._metrics = FeatureMetrics(self._features, self._look_for_news)
            REGISTRY.register(self._metrics)
        return self._features

    def _look_for_news(self) -> None:
        self._thread.submit(lambda: self._open().look_for_news()).add_done_callback(self._tell)

    def _tell(self, opened: Future[Any]) -> None:
        error = None if opened.cancelled() else opened.exception()
        if error is not None:
            LOGGER.warning("%s answers only requests that bring all features along, so far: %s", self.model, error)

    def _ask(self, entities: Sequence[Any], request_time: datetime | None) -> list[Row]:
        try:
            return self._open().lookup(list(entities), request_time)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        except (ContractViolation, OSError) as error:
            raise FeaturesUnavailable(self.model, str(error)) from error

    def close(self) -> None:
        """End the thread."""
        if self._metrics is not None:
            REGISTRY.unregister(self._metrics)
        self._thread.shutdown(cancel_futures=True)


class Predictor(kserve.Model):  # type: ignore[misc]
    """One version of one model, answering v1 and v2 over REST and gRPC by the same code."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        scorer: Scorer,
        threshold: float,
        decoder: Decoder,
        log: PredictionLog,
        features: FeatureLookup | None,
    ) -> None:
        """Put the parts together.

        Args:
            name: The model's name in the URL.
            version: Its version, part of every answer.
            scorer: The model.
            threshold: The score from which on to act.
            decoder: What reads requests.
            log: Where predictions go.
            features: Where the features of an entity come from; None where there is no online store.
        """
        super().__init__(name)
        self.version = version
        self.scorer = scorer
        self.threshold = threshold
        self.decoder = decoder
        self.log = log
        self.features = features
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """Metadata of the inputs: the entity key, which may come alone, and the features."""
        datatypes = {"numeric": "FP32", "categorical": "BYTES"}
        features = [
            {"name": feature.name, "datatype": datatypes[feature.type], "shape": [-1]}
            for feature in self.scorer.features
        ]
        return [{"name": self.decoder.entity_key, "datatype": "BYTES", "shape": [-1]}, *features]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Metadata of the outputs."""
        return [
            {"name": "score", "datatype": "FP64", "shape": [-1]},
            {"name": "decision", "datatype": "BOOL", "shape": [-1]},
        ]

    async def predict(
        self, payload: object, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Answer one request.

        Raises:
            InvalidInput: the request cannot be answered; the message says why.
        """
        started = time.perf_counter()
        request = self.decoder.decode(payload, headers or {})
        rows = await self._complete(request)
        scores = self.scorer.score(columns_of(rows, self.scorer.features)).astype(np.float64)
        answer = self._answer(payload, request, scores)
        self._record(request, rows, scores, (time.perf_counter() - started) * 1000)
        return answer

    async def _complete(self, request: PredictionRequest) -> list[Row]:
        """Rows with every feature: what was sent, and for the rest what the online store knows of the entity."""
        names = [feature.name for feature in self.scorer.features]
        key = self.decoder.entity_key
        incomplete = [row for row in request.rows if not row.keys() >= set(names)]
        for row in incomplete:
            missing = [name for name in names if name not in row]
            if key not in row:
                raise InvalidInput(
                    f"row {request.rows.index(row)} lacks {', '.join(f'`{name}`' for name in missing)}: send them "
                    f"(null where unknown), or `{key}` to have them looked up"
                )
            if self.features is None:
                raise InvalidInput(
                    f"`{key}` alone is not enough, since this server has no online store (--online_store): "
                    f"send {', '.join(f'`{name}`' for name in missing)} too"
                )
        found = await self._look_up([row[key] for row in incomplete], request.request_time) if incomplete else {}
        return [
            {name: row[name] if name in row else found[row[key]].get(name) for name in names} for row in request.rows
        ]

    async def _look_up(self, entities: list[Any], request_time: datetime | None) -> dict[Any, Row]:
        assert self.features is not None
        distinct = list(dict.fromkeys(entities))
        found = dict(zip(distinct, await self.features.lookup(distinct, request_time), strict=True))
        unknown = [entity for entity, row in found.items() if all(value is None for value in row.values())]
        if unknown:
            raise InvalidInput(
                f"nothing is known of {self.decoder.entity_key} {', '.join(repr(entity) for entity in unknown[:3])}"
                f"{' …' if len(unknown) > 3 else ''}: send its features, or wait until it is in the online store"
            )
        return found

    def _answer(self, payload: object, request: PredictionRequest, scores: Scores) -> dict[str, Any] | InferResponse:
        decisions = decided(scores, self.threshold)
        if isinstance(payload, InferRequest):
            return InferResponse(
                response_id=request.id,
                model_name=self.name,
                model_version=self.version,
                infer_outputs=[
                    InferOutput("score", list(scores.shape), "FP64", scores),
                    InferOutput("decision", list(scores.shape), "BOOL", decisions),
                ],
                from_grpc=payload.from_grpc,
                use_binary_outputs=payload.use_binary_outputs,
                requested_outputs=payload.request_outputs,
            )
        return {
            "id": request.id,
            "model_name": self.name,
            "model_version": self.version,
            "predictions": [
                {"score": score, "decision": decision}
                for score, decision in zip(scores.tolist(), decisions.tolist(), strict=True)
            ],
        }

    def _record(self, request: PredictionRequest, rows: Sequence[Row], scores: Scores, latency_ms: float) -> None:
        histogram = SCORES.labels(self.name, self.version, str(request.shadow).lower())
        now = datetime.now(UTC)
        decisions = decided(scores, self.threshold)
        predictions = []
        for sent, features, score, decision in zip(
            request.rows, rows, scores.tolist(), decisions.tolist(), strict=True
        ):
            histogram.observe(score)
            predictions.append(
                Prediction(
                    time=now,
                    request_id=request.id,
                    model=self.name,
                    version=self.version,
                    entity=sent.get(self.decoder.entity_key),
                    features=features,
                    score=score,
                    decision=decision,
                    latency_ms=round(latency_ms, 3),
                    shadow=request.shadow,
                )
            )
        self.log.write(predictions)
