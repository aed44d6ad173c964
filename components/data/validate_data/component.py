"""Component: data validation by schema, statistics and rules, which stops bad data."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="validation",
    reads=("title", "entity", "source.tables", "validation"),
    locations=("dataset_remote",),
)
def validate_data(
    settings: dict,
    expectations: Input[Artifact],
    dataset: Input[Dataset],
    validated: Output[Dataset],
    report: Output[HTML],
    source_version: str = "",
    reference: str = "",
):
    """Hand on the dataset if it can be trusted, and stop the run if it cannot.

    Three layers look at it: `schema` (TFDV: types, presence, domains, ranges of every column), `statistics` (keys,
    times, finite numbers, bounds of rows and freshness; missing values, rows, drift and outliers beside the last
    accepted dataset) and `rules` (Great Expectations and SQL). A failed critical check stops the run and names table,
    column, rule, the number of rows, example values and the remedy. Where `validation.on_bad_rows` says so, rows that
    break one are put in quarantine instead, up to a share.

    Args:
        settings: `validation` holds the limits, `source.tables` and `entity` name keys and times, `title` heads the
            report.
        expectations: Folder with a TFDV schema for each table (`<table>.pbtxt`) and the rules (`rules.yaml`).
        dataset: The tables, as `version_dataset` gives them.
        validated: The tables, `validation.json`, the list of all checks, and, where rows were put in quarantine,
            `quarantine/<table>.parquet`: those rows with their reasons. Metadata: `checks`, `warnings` and
            `quarantined` (numbers), `version`, `rows` by table, `as_of`.
        report: What was found, for people; written also when the run stops.
        source_version: The source's, as `fingerprint_source` finds it; it is kept with what is accepted.
        reference: The accepted dataset to compare with, and the day where freshness counts, as `fingerprint_source`
            finds them. It is what the check reads that is no input: where it is another, the check is made anew. By
            default what was accepted last.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(validated, report):
        from kfp_lifecycle.components.data.validate_data.validation import validate

        given, located = validate_data.given(settings), validate_data.located()
        places = Path(expectations.path), Path(dataset.path), Path(validated.path), Path(report.path)
        outcome = validate(given, located, *places, source_version, reference)
        validated.metadata.update(outcome.metadata(), version=dataset.metadata["version"])
