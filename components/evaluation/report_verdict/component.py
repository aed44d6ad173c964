"""The component `report_verdict`."""

from kfp.dsl import HTML, Artifact, Input, Model, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="platform",
    reads=("title", "description", "entity.name", "label", "features.sensitive", "training.costs"),
)
def report_verdict(
    settings: dict,
    training_set: Input[Artifact],
    model: Input[Model],
    evaluation: Input[Artifact],
    verdict: Input[Artifact],
    report: Output[HTML],
):
    """Tell the verdict on one page for whoever answers for it: the decision first, then what it rests on.

    Each rule with value, interval, threshold and margin; the champion on the same rows; the dimensions of quality with
    their plots; the model card. One HTML file without scripts that needs no network and can be printed.

    Args:
        settings: Words for the page: `title`, `description`, `entity.name`, `label`, `features.sensitive` and
            `training.costs`.
        training_set: What the model learned from.
        model: The candidate.
        evaluation: What was measured of it, with plots.
        verdict: What `decide_promotion` decided.
        report: The page. metadata: `decision`, `summary`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(report):
        from kfp_lifecycle.components.evaluation.report_verdict.page import write_verdict_page

        told = write_verdict_page(
            report_verdict.given(settings),
            Path(training_set.path),
            Path(model.path),
            Path(evaluation.path),
            Path(verdict.path),
            Path(report.path),
        )
        report.metadata.update(decision=told.decision, summary=told.sentences[0])
