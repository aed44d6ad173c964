"""The component `train_model`."""

from kfp.dsl import Artifact, Input, Model, Output

from kfp_lifecycle.runtime.component import component

READS = ("name", "title", "description", "entity", "features", "label", "source.url", "training", "deployment.model")


@component(environment="modelling", reads=READS, locations=("tracking_uri", "dataset_remote"), records_origin=True)
def train_model(
    settings: dict,
    training_set: Input[Artifact],
    parameters: Input[Artifact],
    model: Output[Model],
):
    """Train the model, calibrate it, choose its decision threshold, export it to ONNX and record it in MLflow.

    Trained on the train part; the newer half of the validation snapshots calibrates; the threshold is that of
    `training.costs`, or the best of the older half, by `training.threshold`. A dummy and a logistic regression are
    trained beside it. The step fails when the exported model gives any validation or test row a probability more than
    1e-5 from the trained one's.

    Args:
        settings: `training` says what to train; `deployment.model` is the model's name; `entity`, `features` and
            `label` travel with the model, which computes its features by them; `title`, `description` and
            `source.url` are told in its card and its record.
        training_set: The training set with the definitions of its features.
        parameters: JSON file with the estimator's `parameters`.
        model: The model folder: `model.onnx`, `model.json` (with `origin`: all that `lifecycle reproduce` needs, and
            `settings`: all that its features need), `model.joblib`, `MLmodel`, `input_example.json`,
            `requirements.txt`, `model_card.md`, `.html` and `.json`, `plots/`, `baseline/`, `feature_repo/`, and
            `explainer.npz`, by which the server explains scores, unless the estimator is neither trees nor linear.
    """
    from pathlib import Path

    from kfp_lifecycle.components.training.train_model.describing import prepare
    from kfp_lifecycle.runtime.contract import step
    from kfp_lifecycle.runtime.side_process import side_process

    with step(model), side_process(prepare) as beside:
        from kfp_lifecycle.components.training.train_model import training

        model.metadata.update(
            training.train_model(
                train_model.given(settings),
                train_model.located(),
                Path(training_set.path),
                Path(parameters.path),
                Path(model.path),
                beside,
                data_version=training_set.metadata.get("data_version", ""),
                artifact_uri=model.uri,
                told=settings,
            )
        )
