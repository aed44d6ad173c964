"""Online features: opened on a thread of their own, and asked there where the event loop cannot ask itself.

A change of threads costs twice what the answer does. So the event loop reads what a file of this machine answers
promptly, and asks a server that it has a socket for.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import math
import resource
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.errors import InvalidRequest, Refusal, TooManyRequests, Unavailable
from kfp_lifecycle.serving.server.worker import Worker

if TYPE_CHECKING:
    from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
    from kfp_lifecycle.serving.server.online_features import OnlineFeatures

LOGGER = logging.getLogger(__name__)
# Whoever asks for a score has given up by then.
LOOKUP_SECONDS = 5.0
MOST_WAITING = 256
# A thread that has been at one question for so long is left, and another one opens the store anew: a server that is
# gone without a word never answers it. So many may be left at a time.
STUCK_SECONDS = 15.0
MOST_LEFT = 20
# What the event loop looks up itself: a tenth of a millisecond for each entity, of a store, and a project's functions,
# that have kept nobody for longer than this in so many lookups. After one that did, the thread has to find them prompt
# again.
ENTITIES_AT_ONCE = 8
PROMPT_SECONDS = 0.01
PROMPT_IN_A_ROW = 100

# Where threads are not told apart, the process stands for this one.
_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

Row = dict[str, Any]
REFUSED = (ValueError, ContractViolation, OSError)
"""What a lookup ends with that a client is told of."""


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
        self._prompt_in_a_row = 0
        self._thread = Worker("online-features")
        self._left: list[Worker] = []
        self._imported_at = math.inf

    def start(self) -> None:
        """Begin to open the store, which imports Feast; whoever asks before waits for it."""
        self._thread.submit(self._open).add_done_callback(self._tell)

    def at_once(self, keys: Sequence[Any], request_time: datetime | None) -> list[Row] | None:
        """The features of a few entities, without waiting.

        Returns:
            None where they cannot be had so: `lookup` finds them.

        Raises:
            InvalidRequest: as `lookup`.
            Unavailable: what the store holds cannot be used.
        """
        features = self._features
        if features is None or not features.is_prompt or not self._is_little(keys):
            return None
        before, began = _used(), time.perf_counter()
        try:
            return features.lookup_at_once(keys, request_time)
        except REFUSED as error:
            raise self._refusal(error) from error
        finally:
            self._note(before, began)

    def _is_little(self, keys: Sequence[Any]) -> bool:
        """Whether the event loop can do without a thread what there is to do."""
        return len(keys) <= ENTITIES_AT_ONCE and self._prompt_in_a_row >= PROMPT_IN_A_ROW

    def _note(self, before: resource.struct_rusage, began: float) -> None:
        """Remember whether the lookup has worked or waited for long; that others had the processor is not its fault."""
        if time.perf_counter() - began > PROMPT_SECONDS:
            used = _used()
            worked = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
            if worked > PROMPT_SECONDS or used.ru_nvcsw > before.ru_nvcsw:
                self._prompt_in_a_row = 0
                return
        self._prompt_in_a_row += 1

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
        try:
            features = self._features
            if features is not None and self._is_little(keys):
                rows = await self._ask_later(features, keys, request_time)
                if rows is not None:
                    return rows
            return await self._ask_thread(keys, request_time)
        finally:
            self._waiting -= 1

    async def _ask_later(
        self, features: OnlineFeatures, keys: Sequence[Any], request_time: datetime | None
    ) -> list[Row] | None:
        try:
            found = await features.stored_later(keys, LOOKUP_SECONDS)
            if found is None:
                return None
            before, began = _used(), time.perf_counter()
            rows = features.features_of(keys, found, request_time)
            self._note(before, began)
            return rows
        except REFUSED as error:
            raise self._refusal(error) from error

    async def _ask_thread(self, keys: Sequence[Any], request_time: datetime | None) -> list[Row]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Row]] = loop.create_future()
        self._thread.tell(functools.partial(self._answer, list(keys), request_time, loop, answer))
        patience = loop.call_later(LOOKUP_SECONDS, self._give_up, answer)
        try:
            return await answer
        finally:
            patience.cancel()

    def _give_up(self, answer: asyncio.Future[list[Row]]) -> None:
        """Tell who has waited for long enough; importing Feast takes as long as it takes."""
        if answer.done():
            return
        waited = time.monotonic() - self._imported_at
        if waited < LOOKUP_SECONDS:
            asyncio.get_running_loop().call_later(min(LOOKUP_SECONDS, LOOKUP_SECONDS - waited), self._give_up, answer)
            return
        _end(answer, error=self._unavailable(f"the online store did not answer within {LOOKUP_SECONDS:g} s"))
        self._leave_if_stuck()

    def _leave_if_stuck(self) -> None:
        """Let another thread open the store anew where this one has hung for long."""
        since = self._thread.busy_since
        if since is None or time.monotonic() - max(since, self._imported_at) < STUCK_SECONDS:
            return
        self._left = [thread for thread in self._left if thread.is_alive]
        if len(self._left) >= MOST_LEFT:
            return
        LOGGER.error("the online store of %s has been silent for long; it is opened anew", self.model)
        self._left.append(self._thread)
        self._thread.close()
        self._forget()
        self._thread, self._prompt_in_a_row = Worker("online-features"), 0

    def _answer(
        self,
        keys: list[Any],
        request_time: datetime | None,
        loop: asyncio.AbstractEventLoop,
        answer: asyncio.Future[list[Row]],
    ) -> None:
        """Ask the store, on the thread, and let the event loop know by one call: a future of the thread's own that is
        waited for, chained to one of the loop's, costs half as much as the question."""
        if answer.done():
            # Whoever asked is gone, or was told to ask again.
            return
        rows: list[Row] | None = None
        error: BaseException | None = None
        try:
            rows = self._ask(keys, request_time)
        except BaseException as raised:  # whoever asked is to know of it, whatever it is
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(_end, answer, rows, error)

    def _unavailable(self, detail: object) -> Unavailable:
        return Unavailable(f"the features of {self.model} cannot be looked up now: {detail}")

    def _open(self) -> OnlineFeatures:
        from kfp_lifecycle.features.online.servers import READERS
        from kfp_lifecycle.features.settings import definition_settings
        from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
        from kfp_lifecycle.serving.server.online_features import OnlineFeatures

        self._imported_at = min(self._imported_at, time.monotonic())
        features = self._features
        if features is None:
            feature_repo, settings, online_store = self._place
            features = OnlineFeatures(feature_repo, definition_settings(settings), online_store, READERS)
            if not self._thread.is_current:
                raise TimeoutError("the store answered after it had been given up")
            metrics = FeatureMetrics(features, self._look_for_news)
            REGISTRY.register(metrics)
            self._metrics, self._features = metrics, features
            # Feast's many objects stay: the collector would look at all of them, and nobody be answered meanwhile.
            gc.freeze()
        return features

    def _look_for_news(self) -> None:
        self._thread.submit(lambda: self._open().look_for_news()).add_done_callback(self._tell)

    def _tell(self, opened: Future[Any]) -> None:
        error = None if opened.cancelled() else opened.exception()
        if error is not None:
            LOGGER.warning("%s answers only requests that bring all features along, so far: %s", self.model, error)

    def _ask(self, keys: list[Any], request_time: datetime | None) -> list[Row]:
        before, began = _used(), time.perf_counter()
        try:
            features = self._open()
            found = features.stored(keys)
            if features.is_asynchronous:
                # The event loop would not wait for the store, but for what comes after.
                before, began = _used(), time.perf_counter()
            rows = features.features_of(keys, found, request_time)
        except REFUSED as error:
            raise self._refusal(error) from error
        self._note(before, began)
        return rows

    def _refusal(self, error: Exception) -> Refusal:
        """What goes wrong, as a client is told."""
        return InvalidRequest(str(error)) if isinstance(error, ValueError) else self._unavailable(error)

    def close(self) -> None:
        """End the thread; a store that hangs is not waited for."""
        self._thread.close()
        self._forget()

    def _forget(self) -> None:
        """Let go what was opened."""
        if self._metrics is not None:
            REGISTRY.unregister(self._metrics)
        if self._features is not None:
            self._features.close()
        self._metrics = self._features = None


def _used() -> resource.struct_rusage:
    """The processor time of this thread, and how often it has given its processor up to wait for something."""
    return resource.getrusage(_THREAD)


def _end(answer: asyncio.Future[list[Row]], rows: list[Row] | None = None, error: BaseException | None = None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(rows or [])
