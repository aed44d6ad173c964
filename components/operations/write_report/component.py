"""Component `write_report`: what the run did and decided, as one page."""

from kfp.dsl import HTML, Artifact, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="platform")
def write_report(
    project: Input[Artifact],
    report: Output[HTML],
    tables: Input[Artifact] = None,
    snapshot: Input[Artifact] = None,
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
    champion: Input[Artifact] = None,
    findings: Input[Artifact] = None,
    pipeline: str = "",
    run_id: str = "",
):
    """Write the run report: one HTML file without scripts that needs no network.

    Each section is there when its artifact is.

    Args:
        project: The project. Its step comes first in the picture of the run.
        report: The page. metadata: `outcome` (`promoted`, `rejected` or `done`), `summary` (the verdict in a sentence).
        tables: What was ingested.
        snapshot: The dataset version, for the lineage.
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
        champion: The deployment after the registry followed it.
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
            project=Path(project.path),
            artifacts=views(
                project=project,
                tables=tables,
                snapshot=snapshot,
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
                champion=champion,
                findings=findings,
            ),
            pipeline=pipeline,
            run_id=run_id,
        )
        report.metadata.update(outcome=written.outcome.value, summary=written.sentence)
