"""The component `decide_promotion`."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from kfp_lifecycle.runtime.component import component

READS = (
    "gate",
    "evaluation.bootstrap_replicates",
    "snapshots.every_days",
    "source.tables",
    "training.costs",
    "training.seed",
    "training.min_class_rows",
    "deployment.model",
    # Words for the page.
    "title",
    "description",
    "entity.name",
    "label",
    "features.sensitive",
)


@component(environment="modelling", reads=READS, locations=("tracking_uri",), cached=False)
def decide_promotion(
    settings: dict,
    validated: Input[Dataset],
    training_set: Input[Artifact],
    model: Input[Model],
    evaluation: Input[Artifact],
    verdict: Output[Artifact],
    approved_model: Output[Model],
    report: Output[HTML],
    asked_by: str = "",
) -> str:
    """Decide whether the candidate may be released: every gate rule, and the champion on the same rows.

    The first model ever is judged by the rules alone. Later ones must also be better than the champion in one metric
    and not worse in others (`gate.champion`), beyond the accident of the sample: on the newest snapshots with known
    labels, and on those that the champion was judged by. A champion that cannot be asked rejects the candidate, or
    leaves the decision to the rules, by `gate.champion.unreachable`; a registry that cannot be reached stops the step.
    The verdict is also recorded in the candidate's MLflow run, and told on one page.

    Args:
        settings: `gate` holds the rules and the comparison, `deployment.model` the name in the registry; the others
            say how both models are compared, how the champion's features are computed, and the page's words.
        validated: The validated tables that the training set was built from: a champion that was trained on other
            feature definitions has its features computed from them.
        training_set: The training set; both models score its test part, and the rows that the champion was judged by.
        model: The candidate.
        evaluation: What was measured of it.
        verdict: JSON file (`docs/schemas/verdict.schema.json`): the decision, and each rule with its sentence.
            metadata: `decision`, `sentence`, `missed` (how many), `summary`.
        approved_model: The model folder with its `verdict.json`; a rejected one has `rejected.json` alone.
        report: The page: the decision, each rule with value, interval, threshold and margin, the champion, the plots of
            each dimension, the model card: one HTML file without scripts. metadata: `decision`, `summary`.
        asked_by: The run of monitoring that asked for this training; it stands in the verdict and in the MLflow run.

    Returns:
        `approved` or `rejected`. Not a named output: kfp's local runner cannot resolve one in a condition.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(verdict, approved_model, report):
        from kfp_lifecycle.components.evaluation.decide_promotion.page import write_verdict_page
        from kfp_lifecycle.components.evaluation.decide_promotion.promotion import decide

        given = decide_promotion.given(settings)
        decided = decide(
            given,
            decide_promotion.located(),
            Path(validated.path),
            Path(training_set.path),
            Path(model.path),
            Path(evaluation.path),
            Path(verdict.path),
            Path(approved_model.path),
            asked_by,
        )
        verdict.metadata.update(decided)
        approved_model.metadata.update(decided)
        page = Path(report.path)
        told = write_verdict_page(
            given, Path(training_set.path), Path(model.path), Path(evaluation.path), Path(verdict.path), page
        )
        report.metadata.update(decision=told.decision, summary=decided["summary"])
    return str(decided["decision"])
