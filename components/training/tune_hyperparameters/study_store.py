"""Storage of a search while it runs, so that one that was cut off goes on."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.runtime.contract import ContractViolation

FIRST_PARTY = "kfp_lifecycle"
# Settings that change no result.
WITHOUT = {"timeout_seconds", "katib", "vizier"}


def study_name(training_set: TrainingSet, training: Training, tuning: Tuning, horizon: timedelta) -> str:
    """A digest of all that a search's results depend on: data, settings, code and libraries; 16 hexadecimal digits."""
    package = importlib.import_module(training.estimator.partition(".")[0])
    inputs = {
        "data": training_set.digest,
        "training": training.model_dump(mode="json"),
        "tuning": tuning.model_dump(mode="json", exclude=WITHOUT),
        "horizon": horizon.total_seconds(),
        "versions": [optuna.__version__, package.__version__],
    }
    digest = hashlib.sha256(json.dumps(inputs).encode())
    for name in sorted(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if name.partition(".")[0] == FIRST_PARTY and file:
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def kept_study(folder: Path | None, name: str) -> Iterator[optuna.Study]:
    """The search of this name: a new one, or the one that was cut off.

    It is forgotten when the block ends well, and when it ends with a ContractViolation: what was mended would fail
    again by what is remembered.

    Args:
        folder: Where searches are kept; None keeps this one in memory alone.
        name: Of `study_name`.

    Raises:
        ContractViolation: the folder cannot be used.
    """
    if folder is None:
        yield _load(InMemoryStorage(), name)
        return
    file = folder / f"{name}.journal"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owned = _own(file)
    except OSError as error:
        raise ContractViolation(
            f"The folder for studies ({folder}) cannot be used: {error.strerror}. Name another, or none, with the "
            "pipeline's parameter study_store."
        ) from error
    try:
        _mend(file)
        yield _load(JournalStorage(JournalFileBackend(str(file))), name)
        file.unlink()
    except ContractViolation:
        file.unlink()
        raise
    finally:
        os.close(owned)


def _load(storage: BaseStorage, name: str) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _own(file: Path) -> int:
    """Lock a file against other processes, which wait until this one ends however it does; the open descriptor."""
    while True:
        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process searches with the same inputs ({file}); waiting until it ends.", flush=True)
            fcntl.flock(opened, fcntl.LOCK_EX)
        # Who held it before may have removed the file: then the lock is on nothing.
        if file.exists() and os.fstat(opened).st_ino == file.stat().st_ino:
            return opened
        os.close(opened)


def _mend(file: Path) -> None:
    """Take away what a killed process left: a line written in part, and Optuna's own lock."""
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(file, whole)
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
