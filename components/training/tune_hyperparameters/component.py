"""The component `tune_hyperparameters`."""

from kfp.dsl import HTML, Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="modelling", reads=("training", "tuning", "label.horizon_days"), locations=("study_store",))
def tune_hyperparameters(
    settings: dict,
    training_set: Input[Artifact],
    parameters: Output[Artifact],
    study: Output[HTML],
    remedy: str = "retrain",
    champion: str = "",
    adjustment: str = "",
):
    """Search for the estimator's best parameters, judged in the order of time inside the training snapshots.

    The plain default is always the first trial, so that the search never chooses something worse than it there. A
    search that was cut off goes on where its results are kept (`study_store`). With `tuning.engine: katib` the default
    alone is tried: what `tune_with_katib` finds is compared with it.

    Args:
        settings: `tuning` gives engine, space, trials and time limit; `training` estimator, defaults and seed;
            `label.horizon_days` the days until a label is known, which keep folds apart.
        training_set: The training set. Its train part alone is learned from and judged on.
        parameters: JSON file: the best parameters, the number of trials, the best and the default ROC AUC, means of the
            folds.
        study: Page with the course of the search and every trial.
        remedy: What the run makes anew.
        champion: The version in production whose estimator stays, with its parameters: then nothing is searched.
        adjustment: What monitoring measured of it, as JSON; it is handed on.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(parameters, study):
        from kfp_lifecycle.components.training.tune_hyperparameters.search import search

        given, located = tune_hyperparameters.given(settings), tune_hyperparameters.located()
        places = Path(training_set.path), Path(parameters.path), Path(study.path)
        parameters.metadata.update(search(given, located, *places, remedy, champion, adjustment))
