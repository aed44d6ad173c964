"""Version in production that a run keeps the estimator of."""

from __future__ import annotations

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.config.run_parameters import training_remedy
from kfp_lifecycle.runtime.contract import ContractViolation


def version_to_keep(settings: Configuration, locations: Locations, remedy: str) -> str:
    """The version in production, which a remedy keeps; empty where a whole model is trained.

    Args:
        settings: `deployment.model`.
        locations: `tracking_uri` says where the registry is.
        remedy: The run's parameter.

    Raises:
        ContractViolation: there is no such remedy, nothing is in production, or the registry cannot be reached.
    """
    try:
        made_anew = training_remedy(remedy)
    except ValueError as error:
        raise ContractViolation(str(error)) from error
    if made_anew is TrainingRemedy.retrain:
        return ""
    # MLflow takes seconds to import, and most runs need none of it here.
    from kfp_lifecycle.registry.champion import find_champion

    champion = find_champion(locations.tracking_uri, settings.deployment.model)
    if champion is None:
        raise ContractViolation(
            f"There is nothing to {remedy}: no version of {settings.deployment.model} is in production. Start a whole "
            "training: lifecycle run training"
        )
    print(f"Version {champion.version} of {champion.model} is in production, and its estimator stays.", flush=True)
    return champion.version
