"""The component `score_batch`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="modelling", cached=False)
def score_batch(project: Input[Artifact], validated: Input[Dataset], scores: Output[Dataset]):
    """Score every current entity with the champion's ONNX model, and name the features that move each score most.

    Who is current, the label's query says, asked at the time of the newest row. Features are computed as for training
    and scored as by the server, so that both give the same score. A reason is the difference that one feature makes:
    the score, less what it would be with that feature at the training data's median or most frequent value (occlusion;
    the differences need not add up).

    Args:
        project: The project; its stores say where the registry is.
        validated: The tables, as `validate_data` gives them.
        scores: `scores.parquet`: the entity key, `as_of`, `score` (0 to 1), `decision` (the score reaches the model's
            threshold), `reason_1` to `reason_3` in words, strongest first, and `model_version`. metadata: `rows`,
            `above_threshold` (share, 0 to 1), `threshold`, `version`, `as_of`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(scores):
        from kfp_lifecycle.components.scoring.score_batch import batch

        places = (Path(project.path), Path(validated.path), Path(scores.path))
        scores.metadata.update(batch.score_batch(*places, validated_uri=validated.uri))
