"""Component: stop bad data."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from kfp_lifecycle.compilation.component import component


@component(environment="validation")
def validate_data(project: Input[Artifact], snapshot: Input[Dataset], validated: Output[Dataset], report: Output[HTML]):
    """Hand on the snapshot if it can be trusted, and stop the run if it cannot.

    Three layers look at it: `schema` (TFDV: types, presence, domains, ranges of every column), `statistics` (keys,
    times, finite numbers, bounds of rows and freshness; missing values, rows, drift and outliers beside the last
    accepted snapshot) and `rules` (Great Expectations and SQL, from the project's `rules.yaml`). A failed critical
    check stops the run and names table, column, rule, the number of rows, example values and the remedy. Where the
    project says so, rows that break one are put in quarantine instead, up to a share.

    Args:
        project: The project, as `load_project` gives it; `validation` names its expectations and limits.
        snapshot: The tables, as `snapshot_dataset` gives them.
        validated: The tables, `validation.json`, the list of all checks, and, where rows were put in quarantine,
            `quarantine/<table>.parquet`: those rows with their reasons. Metadata: `checks`, `warnings` and
            `quarantined` (numbers), `version`, `rows` by table, `as_of`.
        report: What was found, for people; written also when the run stops.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(validated, report):
        from kfp_lifecycle.components.data.validate_data.validation import validate

        outcome = validate(Path(project.path), Path(snapshot.path), Path(validated.path), Path(report.path))
        validated.metadata.update(outcome.metadata(), version=snapshot.metadata["version"])
