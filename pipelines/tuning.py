"""How the training pipeline searches for hyperparameters: chosen by the project while the pipeline is defined."""

from kfp_lifecycle.compilation.target import current_target
from kfp_lifecycle.components.training.tune_hyperparameters.component import tune_hyperparameters
from kfp_lifecycle.components.training.tune_with_katib.component import tune_with_katib
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.tuning import Engine


def components_for(configuration):
    """The components that `tuning.engine` asks for."""
    katib = configuration is not None and configuration.tuning.engine is Engine.katib
    return [tune_hyperparameters, tune_with_katib] if katib else [tune_hyperparameters]


def tune(training_set, remedy, champion, adjustment):
    """Add the steps that `tuning.engine` asks for.

    Args:
        training_set: The training set.
        remedy: What the run makes anew.
        champion: The version whose parameters stay; empty where they are searched.
        adjustment: What monitoring measured of it.

    Returns:
        The `parameters` artifact.

    Raises:
        ConfigurationError: the engine does not run on the target.
    """
    target = current_target()
    found = tune_hyperparameters(
        training_set=training_set, remedy=remedy, champion=champion, adjustment=adjustment
    ).outputs["parameters"]
    if tune_with_katib not in components_for(target.configuration):
        return found
    if target.name != "kubeflow":
        raise ConfigurationError(
            f"tuning.engine is katib, which runs trials as pods of a Kubernetes cluster; the target {target.name} has "
            "none. Set tuning.engine to optuna (--set tuning.engine=optuna), or compile for kubeflow."
        )
    if target.vehicle != "image":
        raise ConfigurationError(
            "tuning.engine is katib, whose trials run in the image of the environment modelling: build it from "
            "environments/Dockerfile and name its registry with --image-registry, or set tuning.engine to optuna."
        )
    return tune_with_katib(training_set=training_set, default=found, image=target.image("modelling")).outputs[
        "parameters"
    ]
