"""Component: one verdict of all that monitoring found, and its remedy."""

from kfp.dsl import Artifact, Dataset, Input, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=("label", "monitoring.outcome_ratio", "training.costs", "training.seed"),
    locations=("tracking_uri", "prediction_log"),
    cached=False,
)
def decide_remedy(
    settings: dict,
    drift: Input[Artifact],
    outcomes: Input[Dataset],
    remedy: Output[Artifact],
) -> str:
    """Decide what has happened to the model in production, and what to do about it.

    Broken data is repaired and never learned from. Where outcomes are not what was foretold the world moved, unless the
    version before did better on the same days or the decline began with the release: then the model is worse. What
    would pay is told by scoring each remedy on the predictions whose outcome is known, by the project's costs.

    Args:
        settings: `label` names what is foretold, `monitoring.outcome_ratio` says how far outcomes may be off,
            `training.costs` what decisions are worth; `training.seed` is that of what is learned to say so.
        drift: What `detect_drift` found.
        outcomes: What `join_outcomes` found.
        remedy: `remedy.json`: the verdict, the remedy, both in a sentence, since when, why, and what each remedy would
            have been worth. metadata: `verdict`, `remedy`, `sentence`, `since`.

    Returns:
        The remedy: `nothing`, `repair`, `recalibrate`, `set the threshold`, `retrain` or `roll back`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(remedy):
        from kfp_lifecycle.components.monitoring.decide_remedy import judging

        found = judging.decide_remedy(
            decide_remedy.given(settings),
            decide_remedy.located(),
            Path(drift.path),
            Path(outcomes.path),
            Path(remedy.path),
        )
        remedy.metadata.update(found.metadata())
    return str(found.remedy)
