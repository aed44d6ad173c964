"""Component: run report, what the run did and decided, as one page."""

from kfp.dsl import HTML, Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(environment="platform", reads=("name", "title", "description", "label", "entity", "training.seed"))
def write_report(
    settings: dict,
    report: Output[HTML],
    tables: Input[Artifact] = None,
    dataset: Input[Artifact] = None,
    validated: Input[Artifact] = None,
    training_set: Input[Artifact] = None,
    parameters: Input[Artifact] = None,
    model: Input[Artifact] = None,
    evaluation: Input[Artifact] = None,
    verdict: Input[Artifact] = None,
    registered_model: Input[Artifact] = None,
    servable_model: Input[Artifact] = None,
    store: Input[Artifact] = None,
    deployment: Input[Artifact] = None,
    promotion: Input[Artifact] = None,
    remedy: Input[Artifact] = None,
    findings: Input[Artifact] = None,
    pipeline: str = "",
    run_id: str = "",
):
    """Write the run report: one HTML file without scripts that needs no network.

    Each section is there when its artifact is.

    Args:
        settings: `name`, `title`, `description`, `label` and `entity` are what the page calls things by;
            `training.seed` is part of the lineage.
        report: The page. metadata: `outcome` (`promoted`, `approved`, `rejected` or `done`), `summary` (the verdict in
            a sentence).
        tables: What was ingested.
        dataset: The dataset version, for the lineage.
        validated: The tables and the checks they passed.
        training_set: Features, labels and how time divides them.
        parameters: What tuning found.
        model: The trained model.
        evaluation: The six dimensions of quality, with plots.
        verdict: What the gate decided, rule by rule.
        registered_model: The model as registered, with its version.
        servable_model: The model after it was tried in the real server.
        store: What was written to the online store.
        deployment: Where the model answers requests.
        promotion: The registry's alias after it followed the deployment.
        remedy: What is to be done about the model in production, and why.
        findings: Any artifact of another pipeline; what it recorded about itself is shown.
        pipeline: The pipeline's name, for the heading.
        run_id: The run's name on its platform, for the lineage.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(report):
        from kfp_lifecycle.reports.report import views, write_run_report

        written = write_run_report(
            Path(report.path),
            settings=write_report.given(settings),
            artifacts=views(
                tables=tables,
                dataset=dataset,
                validated=validated,
                training_set=training_set,
                parameters=parameters,
                model=model,
                evaluation=evaluation,
                verdict=verdict,
                registered_model=registered_model,
                servable_model=servable_model,
                store=store,
                deployment=deployment,
                promotion=promotion,
                remedy=remedy,
                findings=findings,
            ),
            pipeline=pipeline,
            run_id=run_id,
        )
        report.metadata.update(outcome=written.outcome.value, summary=written.sentence)
