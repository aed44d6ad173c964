"""Arrow batches of predictions: many requests' columns as one batch, without an object for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from kfp_lifecycle.serving.server.served import Served


def log_schema(numeric: Sequence[str], categorical: Sequence[str]) -> pa.Schema:
    """The columns of the prediction log of a model.

    Args:
        numeric: Names of its numeric features.
        categorical: Names of its categorical features. Where there are none of either, no features are logged.
    """
    features = [(name, pa.float64()) for name in numeric] + [(name, pa.string()) for name in categorical]
    columns = [
        ("time", pa.timestamp("us", "UTC")),
        ("request_id", pa.string()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("entity", pa.string()),
        *([("features", pa.struct(features))] if features else []),
        ("score", pa.float64()),
        ("decision", pa.bool_()),
        ("hold_out", pa.bool_()),
        ("latency_ms", pa.float64()),
        ("shadow", pa.bool_()),
        ("caller", pa.string()),
    ]
    return pa.schema(columns)


class BatchMaker:
    """Makes the batches of one version of a model."""

    def __init__(self, model: str, version: str, numeric: Sequence[str], categorical: Sequence[str]) -> None:
        """Set up the columns, see `log_schema`."""
        self.schema = log_schema(numeric, categorical)
        self._model, self._version = pa.scalar(model), pa.scalar(version)
        self._names = [*numeric, *categorical]
        self._numeric, self._categorical = len(numeric), len(categorical)

    def message(
        self,
        found: Sequence[Served],
        named: Callable[[int | str | None], str | None],
        called: Callable[[str], str | None],
    ) -> pa.Buffer:
        """Requests as one message of an Arrow stream.

        Args:
            found: The requests.
            named: How the log names an entity.
            called: How it names who asked.
        """
        lengths = [len(served.scores) for served in found]
        rows = sum(lengths)
        of_request = pa.array(np.repeat(np.arange(len(found)), lengths))

        def repeated(values: list[object], kind: pa.DataType) -> pa.Array:
            return pa.array(values, kind, from_pandas=True).take(of_request)

        keys = chain.from_iterable(
            [None] * length if served.keys is None else served.keys
            for served, length in zip(found, lengths, strict=True)
        )
        columns = {
            "time": repeated([int(served.time * 1e6) for served in found], pa.timestamp("us", "UTC")),
            "request_id": repeated([served.request_id for served in found], pa.string()),
            "model": pa.repeat(self._model, rows),
            "version": pa.repeat(self._version, rows),
            "entity": pa.array([named(key) for key in keys], pa.string()),
            "score": pa.array(np.concatenate([served.scores for served in found])),
            "decision": pa.array(np.concatenate([served.decisions for served in found])),
            "hold_out": _held_out(found, rows),
            "latency_ms": repeated([round(served.latency_ms, 3) for served in found], pa.float64()),
            "shadow": repeated([served.shadow for served in found], pa.bool_()),
            "caller": repeated([called(served.caller) for served in found], pa.string()),
        }
        if self._names:
            columns["features"] = self._features(found)
        arrays = [columns[name] for name in self.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema).serialize()

    def _features(self, found: Sequence[Served]) -> pa.StructArray:
        numbers = np.concatenate([served.numbers for served in found], axis=1)
        # NaN and the empty text are missing values.
        arrays = [pa.array(numbers[position], pa.float64(), from_pandas=True) for position in range(self._numeric)]
        for position in range(self._categorical):
            values = chain.from_iterable(served.texts[position] for served in found)
            arrays.append(pa.array([value or None for value in values], pa.string()))
        return pa.StructArray.from_arrays(arrays, names=self._names)


def _held_out(found: Sequence[Served], rows: int) -> pa.Array:
    """Whose entity is held out; null where nobody is, or is known to be."""
    if all(served.held_out is None for served in found):
        return pa.nulls(rows, pa.bool_())
    known = [served.held_out is not None for served in found]
    values = [np.zeros(len(s.scores), np.bool_) if s.held_out is None else s.held_out for s in found]
    unknown = np.repeat(np.logical_not(known), [len(served.scores) for served in found])
    return pa.array(np.concatenate(values), mask=unknown)
