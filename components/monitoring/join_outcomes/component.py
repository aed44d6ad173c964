"""Component: join of predictions and the outcomes that came later."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="modelling",
    reads=(
        "name",
        "entity",
        "source.tables",
        "features",
        "label",
        "training.weight",
        "training.costs",
        "training.seed",
        "deployment.model",
        "monitoring",
    ),
    locations=("prediction_log",),
    cached=False,
)
def join_outcomes(
    settings: dict,
    predictions: Input[Dataset],
    feature_repo: Input[Artifact],
    label_query: Input[Artifact],
    validated: Input[Dataset],
    outcomes: Output[Dataset],
    report: Output[HTML],
    metrics: Output[Metrics],
):
    """Join predictions to what became of those they were about, and see whether it is what was foretold.

    Labels come from the project's own label query, asked as of each week's end: what has happened counts from the first
    week of the horizon on. An observed-minus-expected CUSUM of weekly events (Lucas 1985; Biswas and Kalbfleisch 2008)
    for each version alarms where there are `monitoring.outcome_ratio` times as many events as its scores foretell, or
    as few, and by mistake once in `monitoring.outcome_run_length` weeks at the most. Where the horizon has passed, ROC
    AUC, log loss and calibration are measured, for all and by sensitive group; where it has not, they are estimated
    from the scores (CBPE). Business metrics are expressions over what became of each prediction. Where a share of
    entities is held out (`deployment.server.hold_out`), the model is judged by whom nobody acted upon, and what acting
    changed is estimated. An entity is followed by one prediction for each horizon and version.

    Args:
        settings: `source.tables`, `label`, `entity`, `features`, `training.weight` and `name` say what the definitions
            have to fit, `deployment.model` whose predictions count, `monitoring` holds the rule and the business
            metrics, `training.costs` what decisions are worth, and `training.seed` chooses replicates.
        predictions: What `collect_predictions` wrote: its end is the moment that is looked from.
        feature_repo: Folder with the feature definitions, for the sensitive columns.
        label_query: The SQL file that labels entities.
        validated: The tables, as `validate_data` gives them.
        outcomes: `outcomes.parquet`: `version`, `entity`, `time`, `day`, `score`, `decision`, `hold_out`,
            `horizon_end`, `known` (the label query knows the entity), `complete` (its horizon has passed), `label` (0
            or 1 where it is settled), `event_by` (end of the week of the event); and `outcomes.json`. metadata:
            `until`, `sentence`, `alarms`, `notes`, `versions` (complete horizons by version).
        report: Of each version the weeks, performance and its estimate, business metrics with plots, and the effect of
            acting. One HTML file without scripts, that needs no network.
        metrics: `events_observed`, `events_expected` of the last week, `alarms`, and of the newest version `roc_auc`,
            `estimated_roc_auc` and the business metrics by name.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(outcomes, report, metrics):
        from kfp_lifecycle.components.monitoring.join_outcomes import joining, page

        found = joining.join_outcomes(
            join_outcomes.given(settings),
            join_outcomes.located(),
            Path(predictions.path),
            Path(feature_repo.path),
            Path(label_query.path),
            Path(validated.path),
            Path(outcomes.path),
        )
        outcomes.metadata.update(found.metadata())
        page.write(found, Path(report.path))
        for name, value in page.key_figures(found).items():
            metrics.log_metric(name, value)
