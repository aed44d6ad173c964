"""Online features off the event loop: opened and asked on a thread of their own, and never more than may wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.errors import InvalidRequest, TooManyRequests, Unavailable

if TYPE_CHECKING:
    from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
    from kfp_lifecycle.serving.server.online_features import OnlineFeatures

LOGGER = logging.getLogger(__name__)
# Whoever asks for a score has given up by then.
LOOKUP_SECONDS = 5.0
MOST_WAITING = 256

Row = dict[str, Any]


class FeatureLookup:
    """Features from the online store.

    Feast takes seconds to import, so it is imported on the thread too, while the server already answers requests that
    bring all features along.
    """

    def __init__(self, model: str, feature_repo: Path, settings: dict[str, Any], online_store: str) -> None:
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
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="online-features")
        self._thread.submit(self._open).add_done_callback(self._tell)

    async def lookup(self, keys: Sequence[Any], request_time: datetime | None) -> list[Row]:
        """The features of each entity as of the request.

        Raises:
            InvalidRequest: an entity's key cannot be one.
            TooManyRequests: as many requests as may are waiting for the store.
            Unavailable: the store cannot be read, is silent, or holds nothing for this model yet.
        """
        if self._waiting >= MOST_WAITING:
            raise TooManyRequests(f"{self._waiting} requests are waiting for the online store; ask again later")
        self._waiting += 1
        answer = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, list(keys), request_time)
        answer.add_done_callback(self._done)
        try:
            # Importing Feast takes as long as it takes; a store that does not answer is not waited for.
            done, _ = await asyncio.wait([answer], timeout=None if self._features is None else LOOKUP_SECONDS)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if not done:
            answer.cancel()
            raise self._unavailable(f"the online store did not answer within {LOOKUP_SECONDS:g} s")
        return answer.result()

    def _done(self, answer: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not answer.cancelled():
            # Whoever asked may be gone; an exception that nobody takes would be told at the end.
            answer.exception()

    def _unavailable(self, detail: object) -> Unavailable:
        return Unavailable(f"the features of {self.model} cannot be looked up now: {detail}")

    def _open(self) -> OnlineFeatures:
        from kfp_lifecycle.features.online.servers import READERS
        from kfp_lifecycle.features.settings import definition_settings
        from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
        from kfp_lifecycle.serving.server.online_features import OnlineFeatures

        if self._features is None:
            feature_repo, settings, online_store = self._place
            features = OnlineFeatures(feature_repo, definition_settings(settings), online_store, READERS)
            self._metrics = FeatureMetrics(features, self._look_for_news)
            REGISTRY.register(self._metrics)
            self._features = features
        return self._features

    def _look_for_news(self) -> None:
        self._thread.submit(lambda: self._open().look_for_news()).add_done_callback(self._tell)

    def _tell(self, opened: Future[Any]) -> None:
        error = None if opened.cancelled() else opened.exception()
        if error is not None:
            LOGGER.warning("%s answers only requests that bring all features along, so far: %s", self.model, error)

    def _ask(self, keys: list[Any], request_time: datetime | None) -> list[Row]:
        try:
            return self._open().lookup(keys, request_time)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        except (ContractViolation, OSError) as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """End the thread; a store that hangs is not waited for."""
        if self._metrics is not None:
            REGISTRY.unregister(self._metrics)
        self._thread.shutdown(wait=False, cancel_futures=True)
