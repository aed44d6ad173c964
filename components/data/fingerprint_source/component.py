"""Component: source fingerprint (data version check), found out by each run."""

from kfp.dsl import OutputPath

from kfp_lifecycle.runtime.component import component


@component(
    environment="validation",
    reads=("source", "validation.bounds"),
    locations=("dataset_remote",),
    cached=False,
)
def fingerprint_source(
    settings: dict,
    source_version: OutputPath(str),  # type: ignore[valid-type]
    reference: OutputPath(str),  # type: ignore[valid-type]
):
    """Find out whether the source has changed, and what validation is to be compared with.

    It runs in every run, and what it gives are parameters: where they are as in an earlier run, the steps that take
    them are taken from the cache, and where they are not, they run.

    Args:
        settings: `source` says where the data is; `validation.bounds`, whether a table must be fresh by the clock.
        source_version: Fingerprint of the source's files, with their write-ahead logs. Of a database, or of another
            machine's files, it is new in each run: nothing short of reading would tell.
        reference: The accepted dataset that the next one is compared with, and the day where a table has
            `max_age_days`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step():
        from kfp_lifecycle.components.data.fingerprint_source.fingerprint import fingerprint

        version, compared_with = fingerprint(fingerprint_source.given(settings), fingerprint_source.located())
        for place, text in ((source_version, version), (reference, compared_with)):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            Path(place).write_text(text, encoding="utf-8")
