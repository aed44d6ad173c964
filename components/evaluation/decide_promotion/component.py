"""The component `decide_promotion`."""

from kfp.dsl import Artifact, Input, Model, Output

from components.environment import component


@component(environment="modelling", cached=False)
def decide_promotion(
    project: Input[Artifact],
    training_set: Input[Artifact],
    model: Input[Model],
    evaluation: Input[Artifact],
    verdict: Output[Artifact],
    approved_model: Output[Model],
) -> str:
    """Decide whether the candidate goes to production: every gate rule, and the champion on the same rows.

    The first model ever is judged by the rules alone. A champion that cannot be asked rejects the candidate.

    Args:
        project: The project; `gate` holds the rules and the comparison, the stores say where the registry is.
        training_set: The training set; both models score its test part.
        model: The candidate.
        evaluation: What was measured of it.
        verdict: JSON file: the decision, each rule and the comparison with their sentences.
        approved_model: The model folder when it is promoted; else a folder with `rejected.json` alone.

    Returns:
        `promoted` or `rejected`. Not a named output: kfp's local runner cannot resolve one in a condition.
    """
    from pathlib import Path

    from components.contract import step
    from components.evaluation.decide_promotion.promotion import decide

    with step(verdict, approved_model):
        decided = decide(
            Path(project.path),
            Path(training_set.path),
            Path(model.path),
            Path(evaluation.path),
            Path(verdict.path),
            Path(approved_model.path),
        )
        verdict.metadata.update(decided)
        approved_model.metadata.update(decided)
    return str(decided["decision"])
