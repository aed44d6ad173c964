"""Version in production that a run keeps the estimator of, and what monitoring measured of it."""

from __future__ import annotations

from dataclasses import dataclass

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.run_parameters import training_remedy
from kfp_lifecycle.runtime.contract import ContractViolation


@dataclass(frozen=True)
class ToKeep:
    """What a run keeps.

    Attributes:
        version: The version in production; empty where a whole model is trained.
        adjustment: An `Adjustment` as JSON; empty where the remedy is fitted on labelled rows.
    """

    version: str = ""
    adjustment: str = ""


def version_to_keep(settings: Configuration, locations: Locations, remedy: str, asked_by: str = "") -> ToKeep:
    """The version in production, which a remedy keeps, and what the run of monitoring measured that asks for it.

    Args:
        settings: `deployment.model`, and `name`, the project whose windows are looked through.
        locations: `tracking_uri` says where the registry is.
        remedy: The run's parameter.
        asked_by: The run of monitoring.

    Raises:
        ContractViolation: there is no such remedy, nothing is in production, another version is in production than was
            measured, or the registry cannot be reached.
    """
    try:
        made_anew = training_remedy(remedy)
    except ValueError as error:
        raise ContractViolation(str(error)) from error
    if made_anew is TrainingRemedy.retrain:
        return ToKeep()
    # MLflow takes seconds to import, and most runs need none of it here.
    from kfp_lifecycle.registry.champion import find_champion

    champion = find_champion(locations.tracking_uri, settings.deployment.model)
    if champion is None:
        raise ContractViolation(
            f"There is nothing to {remedy}: no version of {settings.deployment.model} is in production. Start a whole "
            "training: lifecycle run training"
        )
    print(f"Version {champion.version} of {champion.model} is in production, and its estimator stays.", flush=True)
    measured = None
    if asked_by:
        from kfp_lifecycle.monitoring.history import adjustment_of

        measured = adjustment_of(locations.tracking_uri, settings.name, champion.model, asked_by)
    if measured is None or measured.remedy != made_anew:
        return ToKeep(champion.version)
    if measured.version != champion.version:
        raise ContractViolation(
            f"Run {asked_by} measured how to {remedy} version {measured.version}, and version {champion.version} is in "
            "production by now: nothing of it is to be changed by that. The next run of monitoring measures it."
        )
    print(f"It is adjusted by what {asked_by} measured: {measured.counted}.", flush=True)
    return ToKeep(champion.version, measured.model_dump_json())
