"""Katib trial: fetch the training set, judge one setting, print it as Katib reads it."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from pyarrow import fs

from kfp_lifecycle.config.tuning import active_values, estimators_of
from kfp_lifecycle.modelling.dataset import DESCRIPTION_FILE, TrainingSet
from kfp_lifecycle.runtime.contract import ContractViolation, step
from kfp_lifecycle.tuning.cross_validation import folds_of, score_folds
from kfp_lifecycle.tuning.trial_settings import METRIC, PARAMETERS_VARIABLE, SETTINGS_VARIABLE, TrialSettings

# All of a training set that a trial reads.
FILES = (DESCRIPTION_FILE, "train.parquet")
BLOCK_BYTES = 1 << 20
# Katib's collector reads the first report, and stops the trial where that is bad. A trial that came to its end before
# it was stopped has failed to Katib.
SECONDS_TO_STOP = 2.0


def main() -> None:
    """Do what the pod's environment variables say.

    Raises:
        SystemExit: the setting or the data cannot be used; the pod's termination message says why.
    """
    with step():
        settings = TrialSettings.model_validate_json(os.environ[SETTINGS_VARIABLE])
        run_trial(settings, json.loads(os.environ[PARAMETERS_VARIABLE]))


def run_trial(settings: TrialSettings, assigned: Mapping[str, str]) -> None:
    """Judge one setting and print a line for each fold: the time, and the mean ROC AUC of the folds so far.

    After the first of several a trial that may be stopped waits for that.

    Args:
        settings: The data and how settings are judged.
        assigned: Every parameter's value as Katib writes it; those whose condition does not hold are passed over.

    Raises:
        ContractViolation: as `fetch`, `folds_of` and `score_folds`.
    """
    values = {name: settings.space[name].parse(text) for name, text in assigned.items()}
    with tempfile.TemporaryDirectory() as scratch:
        fetch(settings, Path(scratch))
        horizon, estimators = timedelta(days=settings.horizon_days), estimators_of(settings.space)
        folds = folds_of(TrainingSet(Path(scratch)), settings.training, settings.folds, horizon, estimators)
    scores: list[float] = []
    for score in score_folds(folds, settings.training, active_values(settings.space, values)):
        scores.append(score)
        # Katib takes the latest line by its time, and asks for RFC 3339.
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        print(f"{now} {METRIC}={np.mean(scores):.10f}", flush=True)
        if settings.stopping and len(scores) == 1 < len(folds):
            time.sleep(SECONDS_TO_STOP)


def fetch(settings: TrialSettings, folder: Path) -> None:
    """Copy what a trial reads of the training set from the artifact store.

    Credentials are the store's own: for S3 and MinIO the variables `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` or
    the pod's identity, for Google Cloud Storage the pod's identity.

    Raises:
        ContractViolation: the store cannot be reached, or the training set is not there.
    """
    try:
        store, place = _open_store(settings.training_set, settings.object_store)
        for name in FILES:
            with store.open_input_stream(f"{place}/{name}") as source, (folder / name).open("wb") as copy:
                while block := source.read(BLOCK_BYTES):
                    copy.write(block)
    except (OSError, ValueError) as error:
        raise ContractViolation(
            f"The trial cannot read the training set at {settings.training_set}: {str(error).rstrip('.')}. Check "
            "tuning.katib.object_store, object_store_secret and service_account."
        ) from error


def _open_store(uri: str, address: str) -> tuple[fs.FileSystem, str]:
    scheme, separator, place = uri.partition("://")
    if scheme == "minio":
        protocol, _, host = address.rpartition("://")
        store = fs.S3FileSystem(
            endpoint_override=host, scheme=protocol or "http", region="us-east-1", allow_bucket_creation=False
        )
        return store, place.rstrip("/")
    if not separator:
        return fs.LocalFileSystem(), uri
    store, path = fs.FileSystem.from_uri(uri)
    return store, path.rstrip("/")


if __name__ == "__main__":
    main()
