"""Batch scores in the prediction log, as servers write it: monitoring sees who was scored by whom, and what came of it.

Their time is the moment that the features are as of: what is foretold begins then, and a batch that is scored again
takes its own place.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.prediction_log import BATCH, FINISHED, day_folder, hashed_key
from kfp_lifecycle.config.deployment import LogSettings
from kfp_lifecycle.config.log_policy import LOG_SECRET_VARIABLE, LoggedKey
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server.log_batch import log_schema
from kfp_lifecycle.serving.server.log_storage import storage_of


class BatchLog:
    """The file of one batch, which appears in the log whole or not at all."""

    def __init__(
        self, settings: LogSettings, model: str, version: str, as_of: datetime, inputs: list[Feature], scratch: Path
    ) -> None:
        """Begin it.

        Args:
            settings: What is logged.
            model: Its name in the registry.
            version: Which scores.
            as_of: The moment that the features are as of.
            inputs: The model's.
            scratch: A folder for it until it is whole.

        Raises:
            ContractViolation: keys are to be hashed, and there is no secret to do it with.
        """
        self._settings, self._model, self._version, self._as_of = settings, model, version, as_of
        self._secret = os.environ.get(LOG_SECRET_VARIABLE, "").encode()
        if settings.key is LoggedKey.hashed and not self._secret:
            raise ContractViolation(
                f"deployment.prediction_log.key is hashed, and this step has no secret to hash keys with: give it the "
                f"servers' variable {LOG_SECRET_VARIABLE} (on a cluster, by a secret of the target), or log them "
                "otherwise."
            )
        self._inputs = inputs if settings.features else []
        names = {kind: [item.name for item in self._inputs if item.type == kind] for kind in ("numeric", "categorical")}
        self._schema = log_schema(names["numeric"], names["categorical"])
        self._file = scratch / day_folder(as_of) / f"{as_of:%H}-{version}-batch-{as_of:%Y%m%dT%H%M%S}{FINISHED}"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")

    def write(self, scored: pa.Table, features: pd.DataFrame) -> None:
        """Add some entities.

        Args:
            scored: What `score_rows` gave; the key comes first.
            features: What they were scored by, a column for each input.
        """
        rows = len(scored)
        columns: dict[str, pa.Array] = {
            "time": pa.array([self._as_of] * rows, pa.timestamp("us", "UTC")),
            "request_id": pa.array([f"batch-{self._as_of:%Y%m%dT%H%M%S}"] * rows),
            "model": pa.array([self._model] * rows),
            "version": pa.array([self._version] * rows),
            "entity": pa.array([self._named(key) for key in scored.column(0).to_pylist()], pa.string()),
            "score": scored["score"].combine_chunks(),
            "decision": scored["decision"].combine_chunks(),
            "shadow": pa.array([False] * rows),
            "caller": pa.array([BATCH] * rows),
        }
        if self._inputs:
            kinds = {field.name: field.type for field in self._schema.field("features").type}
            values = {
                name: pa.array(features[name], pa.float64(), from_pandas=True)
                if kind == pa.float64()
                else pa.array([value or None for value in features[name].astype(object)], pa.string(), from_pandas=True)
                for name, kind in kinds.items()
            }
            columns["features"] = pa.StructArray.from_arrays(list(values.values()), names=list(values))
        arrays = [columns.get(field.name, pa.nulls(rows, field.type)) for field in self._schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def finish(self, prediction_log: str) -> None:
        """Bring it to the log of all models.

        Raises:
            ContractViolation: the log cannot be written.
        """
        self._writer.close()
        try:
            storage_of(prediction_log, self._model).bring(self._file)
        except OSError as error:
            raise ContractViolation(
                f"The prediction log {prediction_log} cannot be written ({error}). Let this step write it, or log "
                "nothing (deployment.prediction_log.enabled: false)."
            ) from error

    def _named(self, key: int | str) -> str | None:
        if self._settings.key is LoggedKey.none:
            return None
        return hashed_key(self._secret, str(key)) if self._settings.key is LoggedKey.hashed else str(key)
