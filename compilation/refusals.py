"""Compile-time refusals: what no step could do on a target, said before anything is sent there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.gate import Approval
from kfp_lifecycle.config.kserve_servers import Mode
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.steps import DEFAULT, StepSettings
from kfp_lifecycle.config.strategy import Strategy
from kfp_lifecycle.config.targets import ClusterTarget, KubeflowTarget, TargetName, VertexTarget
from kfp_lifecycle.runtime.component import LifecycleComponent
from kfp_lifecycle.runtime.contract import ContractViolation

UNKNOWN_TO_VERTEX = {
    "timeout_seconds": "it has no time-out for a task. Leave it out; `lifecycle cancel` ends a run",
    "node_selector": "it chooses machines by what a step asks for. Leave it out, and set cpu_limit, memory_limit or "
    "accelerator",
    "tolerations": "it shows no nodes, and so no taints. Leave them out",
}
"""Settings of steps that Vertex AI does not know, and what to do instead."""


def refuse_unbuilt(configuration: Configuration, locations: Locations, target: TargetName) -> None:
    """Refuse a release that nothing does on a cluster.

    Raises:
        ConfigurationError: a release goes to a place that the target's steps do not reach, or by a strategy or with
            settings of the server that the place does not know.
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
    if configuration.gate.approval is Approval.required and not locations.audit_record:
        raise ConfigurationError(
            f"gate.approval is required, but nobody on {target} would know who approved what: name a folder of an "
            f"object store in targets.{target}.audit_record, such as one below the pipeline root"
        )
    server = configuration.deployment.server
    if kind == "vertex" and (server.api_keys or server.oidc or server.rate_limit):
        raise ConfigurationError(
            f"deployment.server says who may ask, but {locations.serving} hands no header on by which a server would "
            "know: leave out api_keys, oidc and rate_limit; Vertex AI lets in whom its IAM lets in"
        )
    mirrors = kind == "kserve" and isinstance(locations, KubeflowTarget) and locations.servers.mode is Mode.standard
    if configuration.deployment.strategy is Strategy.shadow and not mirrors:
        raise ConfigurationError(
            f"deployment.strategy is shadow, but {locations.serving} cannot mirror requests: choose canary or "
            "blue_green (servers on one machine mirror, and KServe's with targets.kubeflow.servers.mode standard)"
        )


def refuse_unknown_secrets(configuration: Configuration, cluster: ClusterTarget) -> None:
    """Refuse servers that would not start for the want of a secret.

    Raises:
        ConfigurationError: it names the variable and the remedy.
    """
    known: set[str] = set()
    if isinstance(cluster, KubeflowTarget):
        known = {variable for keys in cluster.secrets.values() for variable in keys.values()}
    elif isinstance(cluster, VertexTarget):
        known = set(cluster.secrets)
    for variable in configuration.deployment.prediction_log.variables():
        if variable not in known:
            raise ConfigurationError(
                f"deployment.prediction_log.key is hashed, and no secret of the target becomes the variable {variable} "
                "that keys are hashed with: name one in the target's `secrets`, or log keys plain or not at all"
            )


def refuse_unsettled(
    steps: Mapping[str, StepSettings], components: Mapping[str, LifecycleComponent], target: TargetName
) -> None:
    """Refuse settings of steps that there is no step for, or that nothing on the target can give.

    Args:
        steps: `targets.<target>.steps`.
        components: Every component by its name.
        target: Where the pipeline will run.

    Raises:
        ConfigurationError: it names the key and the remedy.
    """
    for name, settings in steps.items():
        key = f"targets.{target}.steps.{name}"
        if name not in components and name != DEFAULT:
            close = difflib.get_close_matches(name, [*components, DEFAULT], n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"there are {DEFAULT}, {', '.join(sorted(components))}"
            raise ConfigurationError(f"{key}: no step has this name; {hint}")
        if settings.cache and name != DEFAULT and not components[name].cached:
            raise ConfigurationError(
                f"{key}.cache is true, but {name} changes or reads something beside its inputs, so what an earlier run "
                "made of the same inputs cannot stand in for it. Leave cache out: it runs each time."
            )
        if settings.accelerator and (target == "kubeflow") is not ("/" in settings.accelerator.type):
            example = "nvidia.com/gpu" if target == "kubeflow" else "NVIDIA_TESLA_T4"
            raise ConfigurationError(
                f"{key}.accelerator.type is {settings.accelerator.type}, which is no accelerator's name on {target}; "
                f"there it looks like {example}"
            )
        if target == "vertex":
            for setting, remedy in UNKNOWN_TO_VERTEX.items():
                if getattr(settings, setting) is not None:
                    raise ConfigurationError(f"{key}.{setting} cannot be had on Vertex AI: {remedy}")


def refuse_wrong_metrics(configuration: Configuration, expectations: Path) -> None:
    """Refuse business metrics that no window could be measured by.

    Args:
        configuration: The project's configuration.
        expectations: Folder with the tables' schemas, as far as there are any: they say which columns tables have.

    Raises:
        ConfigurationError: it names each expression, what is wrong with it and the columns there are.
    """
    if not configuration.monitoring.business:
        return
    # Reading SQL takes a while to import, and most projects need none of it.
    from kfp_lifecycle.monitoring.business_terms import known_columns, problems

    wrong = problems(configuration, known_columns(expectations))
    if wrong:
        raise ConfigurationError("\n".join(f"{where}: {reason}" for where, reason in wrong))


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
