"""Compile-time refusals: what no step could do on a target, said before anything is sent there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.deployment import Strategy
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.runtime.contract import ContractViolation


def refuse_unbuilt(configuration: Configuration, locations: Locations, target: TargetName) -> None:
    """Refuse a release that nothing does on a cluster.

    Raises:
        ConfigurationError: a release goes to a place that the target's steps do not reach, or by a strategy that the
            place does not know.
    """
    kind = locations.serving.partition(":")[0]
    key = f"targets.{target}.serving"
    if kind == "local":
        raise ConfigurationError(
            f"{key} is {locations.serving}, but a step on a cluster ends with its pod and can keep no server: "
            "name kserve:NAMESPACE or vertex:PROJECT/LOCATION"
        )
    if target == "vertex" and kind == "kserve":
        raise ConfigurationError(
            f"{key} is {locations.serving}, but a step on Vertex AI has no account in a Kubernetes cluster: "
            "name vertex:PROJECT/LOCATION, or compile for kubeflow"
        )
    if configuration.deployment.strategy is Strategy.shadow:
        raise ConfigurationError(
            f"deployment.strategy is shadow, but {locations.serving} cannot mirror requests: "
            "choose canary or blue_green (only servers on one machine mirror)"
        )


def refuse_untranspilable(configuration: Configuration, features: Mapping[str, bytes], offline_store: str) -> None:
    """Refuse feature SQL that the target's warehouse would not understand as DuckDB does.

    Args:
        configuration: The project's configuration.
        features: The feature repository's files by their path in it.
        offline_store: What computes the feature views on the target.

    Raises:
        ConfigurationError: it names the file, the expression and the remedy.
    """
    dialect = {"bigquery": "bigquery", "snowflake": "snowflake", "sc": "spark"}.get(offline_store.partition(":")[0])
    if dialect is None:
        return
    # Reading SQL takes a while to import, and most projects need none of it.
    from kfp_lifecycle.features.offline.transpilation import refuse_untranspilable as refuse_query

    for name, content in features.items():
        if name.endswith(".sql"):
            try:
                file = Path(configuration.features.repository) / name
                refuse_query(file, content.decode("utf-8"), dialect, configuration.source.tables)
            except ContractViolation as violation:
                raise ConfigurationError(str(violation)) from violation
