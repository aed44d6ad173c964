"""Model versions and aliases in MLflow's registry."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from kfp_lifecycle.registry.champion import ALIAS as CHAMPION
from kfp_lifecycle.registry.tracking import MODEL_PATH, connect, mlflow_errors
from kfp_lifecycle.runtime.contract import ContractViolation

CANDIDATE = "candidate"
# Moving an alias takes a few requests; whoever holds the lock longer is gone.
LOCK_SECONDS, LOCK_POLL_SECONDS = 30.0, 0.2
# What a registry says of a name that somebody else has: the second where it was given back before MLflow looked at it.
TAKEN = ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
LOCK_DESCRIPTION = "A promotion is under way. Whoever left this here is gone when it is older than a minute: delete it."


def create_version(tracking_uri: str, model: str, run_id: str, tags: Mapping[str, str]) -> str:
    """Register the model of a run; a second call for the same run gives the same version.

    Args:
        tracking_uri: MLflow tracking server and registry.
        model: Name in the registry; made when there is none.
        run_id: The run that trained it.
        tags: Of the version.

    Raises:
        ContractViolation: the registry cannot be reached or does not know the run.
    """
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = client.search_model_versions(f"name='{model}' and run_id='{run_id}'")
        if known:
            version = str(known[0].version)
            for name, value in tags.items():
                client.set_model_version_tag(model, version, name, value)
            return version
        source = f"{client.get_run(run_id).info.artifact_uri}/{MODEL_PATH}"
        return str(client.create_model_version(model, source, run_id, tags=dict(tags)).version)


def feature_versions(tracking_uri: str, model: str) -> set[str]:
    """The versions of feature definitions that any registered version of a model was trained with.

    Raises:
        ContractViolation: the registry cannot be reached.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        versions = client.search_model_versions(f"name='{model}'")
        return {version.tags["feature_version"] for version in versions if "feature_version" in version.tags}


def store_files(tracking_uri: str, run_id: str, place: Path) -> None:
    """Put a model folder, or one file of it, where the run's versions point to.

    Raises:
        ContractViolation: the server cannot be reached or refuses.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        store = client.log_artifacts if place.is_dir() else client.log_artifact
        store(run_id, str(place), MODEL_PATH)


def set_alias(tracking_uri: str, model: str, version: str, alias: str) -> str | None:
    """Let an alias name a version.

    Returns:
        The version it named before; None where there was none.

    Raises:
        ContractViolation: the registry cannot be reached or has no such version.
    """
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        before = client.get_registered_model(model).aliases.get(alias)
        client.set_registered_model_alias(model, alias, version)
    return str(before) if before else None


def set_champion(tracking_uri: str, model: str, version: str, expected: str | None) -> str | None:
    """Compare-and-set of the alias `champion`: record that a version is in production, if nothing else became so since.

    MLflow knows no such operation, so that promotions of a model take turns (`_alone`) and each reads before it writes.

    Args:
        tracking_uri: MLflow tracking server and registry.
        model: The model's name.
        version: What is in production now.
        expected: What was when this version was judged; None where nothing was.

    Returns:
        The version that was before; None where there was none.

    Raises:
        ContractViolation: another version became the champion meanwhile, or the registry cannot be reached or has no
            such version.
    """
    with _alone(tracking_uri, model):
        current = champion_version(tracking_uri, model)
        # A step that is done again finds its own version; where somebody took the alias away, nobody is overtaken.
        if current not in (expected, version, None):
            raise ContractViolation(_overtaken(model, version, current, expected))
        set_alias(tracking_uri, model, version, CHAMPION)
    return current if current != version else expected


@contextlib.contextmanager
def _alone(tracking_uri: str, model: str) -> Iterator[None]:
    """Mutual exclusion of promotions of one model, on whatever machines they run.

    A name is created in a registry only once, whoever asks: the one who creates `<model>.promotion` goes on and deletes
    it again. One that stays the same for `LOCK_SECONDS` was left by a step that was killed, and is deleted.

    Raises:
        ContractViolation: the registry cannot be reached or refuses.
    """
    from mlflow.exceptions import MlflowException

    client, lock = connect(tracking_uri), f"{model}.promotion"
    seen, since = None, time.monotonic()
    while True:
        try:
            with mlflow_errors(tracking_uri):
                client.create_registered_model(lock, description=LOCK_DESCRIPTION)
            break
        except ContractViolation as violation:
            cause = violation.__cause__
            if not isinstance(cause, MlflowException) or cause.error_code not in TAKEN:
                raise
        with contextlib.suppress(ContractViolation), mlflow_errors(tracking_uri):
            found = client.get_registered_model(lock).creation_timestamp
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > LOCK_SECONDS:
                client.delete_registered_model(lock)
        time.sleep(LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        with mlflow_errors(tracking_uri):
            client.delete_registered_model(lock)


def champion_version(tracking_uri: str, model: str) -> str | None:
    """The version in production; None where there is none.

    Raises:
        ContractViolation: the registry cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        try:
            found = client.get_registered_model(model).aliases.get(CHAMPION)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
    return str(found) if found else None


def refuse_overtaken(tracking_uri: str, model: str, run_id: str, expected: str | None) -> None:
    """See whether the champion is still the one that a candidate was judged against, before anybody is served by it.

    Args:
        tracking_uri: MLflow tracking server and registry.
        model: The model's name.
        run_id: The candidate's run: its own version may be the champion already.
        expected: The champion's version when it was judged; None where nothing was in production.

    Raises:
        ContractViolation: another version became the champion meanwhile, or the registry cannot be reached.
    """
    current = champion_version(tracking_uri, model)
    if current in (expected, None):
        return
    client = connect(tracking_uri)
    with mlflow_errors(tracking_uri):
        own = client.get_model_version(model, current).run_id == run_id
    if not own:
        judged = f"version {expected}" if expected else "no model in production"
        raise ContractViolation(
            f"Version {current} of {model} became the champion while this run went. The candidate of run {run_id} was "
            f"judged against {judged}, so nobody knows which of the two is better. Run the training again: the "
            "candidate is then compared with the new champion."
        )


def _overtaken(model: str, version: str, current: str | None, expected: str | None) -> str:
    judged = f"version {expected}" if expected else "no model in production"
    now = f"version {current}" if current else "none"
    return (
        f"Version {version} of {model} answers all requests but is not the champion: it was judged against {judged}, "
        f"and the alias `{CHAMPION}` now names {now}, which another run promoted meanwhile. Nobody compared the two. "
        f"Give the traffic back with `lifecycle rollback`, and run the training again."
    )
