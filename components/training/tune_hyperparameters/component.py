"""The component `tune_hyperparameters`."""

from kfp.dsl import HTML, Artifact, Input, Output

from components.environment import component


@component(environment="modelling")
def tune_hyperparameters(
    project: Input[Artifact],
    training_set: Input[Artifact],
    parameters: Output[Artifact],
    study: Output[HTML],
):
    """Search for the estimator's best parameters: trained on the train part, judged on the later validation part.

    The plain default is always the first trial, so that the search never chooses something worse than it there.

    Args:
        project: The project; `tuning` gives engine, space, trials and time limit, `training` estimator and seed.
        training_set: The training set. Its test part is not read.
        parameters: JSON file: the best parameters, the number of trials, the best and the default ROC AUC.
        study: Page with the course of the search and every trial.
    """
    from pathlib import Path

    from components.contract import step
    from components.training.tune_hyperparameters import tuning

    with step(parameters, study):
        parameters.metadata.update(
            tuning.search(Path(project.path), Path(training_set.path), Path(parameters.path), Path(study.path))
        )
