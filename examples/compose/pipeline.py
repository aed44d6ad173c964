"""A pipeline of another team, in which three components of kfp_lifecycle do part of the work.

The team has a table and no project: what a component needs to know, the pipeline says where it calls it.
"""

from pathlib import Path

from kfp import dsl
from kfp.dsl import Dataset, Output

from kfp_lifecycle.components.data.validate_data.component import validate_data
from kfp_lifecycle.components.data.version_dataset.component import version_dataset
from kfp_lifecycle.components.operations.write_report.component import write_report

EXPECTATIONS = str(Path(__file__).resolve().parent / "expectations")
# What the checks are to know of the table.
CHECKED = {
    "title": "Orders of a shop",
    "entity": {"name": "order", "key": "order_id"},
    "source": {"tables": {"orders": {"key": ["order_id"], "event_time": "ordered_at"}}},
    "validation": {"max_rows": 100000},
}
REPORTED = {
    "name": "orders",
    "title": "Orders of a shop",
    "label": {"name": "returned", "title": "is returned", "horizon_days": 30},
    "entity": {"name": "order", "key": "order_id"},
}


@dsl.component(base_image="python:3.11-slim", packages_to_install=["duckdb"])
def make_orders(tables: Output[Dataset], rows: int, refunds: int):
    """The team's own step: a Parquet table of orders, and what it holds."""
    import json
    import pathlib

    import duckdb

    folder = pathlib.Path(tables.path)
    folder.mkdir(parents=True)
    duckdb.sql(f"""
        COPY (
            SELECT i AS order_id, TIMESTAMP '2026-01-01' + to_minutes(i) AS ordered_at,
                   CASE WHEN i < {refunds} THEN -5.0 ELSE 1.5 + i % 50 END::DOUBLE AS amount
            FROM range({rows}) orders(i)
        ) TO '{folder}/orders.parquet' (FORMAT parquet)
    """)
    columns = {"order_id": "BIGINT", "ordered_at": "TIMESTAMP", "amount": "DOUBLE"}
    as_of = "2026-01-02T00:00:00Z"
    manifest = {"format": 1, "as_of": as_of, "tables": {"orders": {"rows": rows, "columns": columns}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    tables.metadata.update(rows={"orders": rows}, as_of=as_of)


@dsl.pipeline(name="orders", description="Another team's pipeline: its own table, versioned, checked, reported on.")
def orders(rows: int = 1000, refunds: int = 0):
    """Make a table, give it a version, stop if it is bad, and say what was found.

    Args:
        rows: How many orders there are.
        refunds: How many of them are booked with a negative amount.
    """
    expectations = dsl.importer(artifact_uri=EXPECTATIONS, artifact_class=dsl.Artifact).output
    tables = make_orders(rows=rows, refunds=refunds).outputs["tables"]
    versioned = version_dataset(tables=tables)
    validated = validate_data(settings=CHECKED, expectations=expectations, dataset=versioned.outputs["dataset"])
    for task in (versioned, validated):
        # Where versions are kept is no part of what they are: it is told beside the parameters.
        task.set_env_variable("LIFECYCLE_DATASET_REMOTE", "/tmp/orders-versions")
    write_report(
        settings=REPORTED,
        pipeline="orders",
        dataset=versioned.outputs["dataset"],
        validated=validated.outputs["validated"],
    )
