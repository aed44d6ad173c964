"""The component `tune_with_katib`."""

from kfp.dsl import HTML, Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="katib", reads=("name", "training", "tuning", "label.horizon_days"))
def tune_with_katib(
    settings: dict,
    training_set: Input[Artifact],
    default: Input[Artifact],
    parameters: Output[Artifact],
    study: Output[HTML],
    image: str,
):
    """Search for the estimator's best parameters with Katib, each trial a pod of its own on the cluster.

    Trials judge settings by the code that `tune_hyperparameters` uses, and read the training set where it is. The
    experiment is deleted when the step ends or is cancelled.

    Args:
        settings: `name` names the experiment; `tuning` gives space, trials, time limit and how trials run; `training`
            estimator, defaults and seed; `label.horizon_days` the days until a label is known.
        training_set: The training set; trials open its URI.
        default: What `tune_hyperparameters` found for the default parameters. Nothing worse is chosen.
        parameters: JSON file: the best parameters, the number of trials, the best and the default ROC AUC, means of the
            folds.
        study: Page with the course of the search and every trial.
        image: Image of the environment `modelling`, which holds this library: trials run in it.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(parameters, study):
        from kubeflow.katib import KatibClient

        from kfp_lifecycle.components.training.tune_with_katib import search

        inputs = tune_with_katib.given(settings), training_set.uri, Path(default.path), image
        parameters.metadata.update(search.search(*inputs, Path(parameters.path), Path(study.path), KatibClient()))
