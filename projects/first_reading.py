"""A project's first reading: its own ingestion of its source, and TFDV's proposal of a schema from what came.

`lifecycle init` runs it under the environment that has TFDV; `python -m … PROJECT` writes the schemas and prints the
rows of each table as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from kfp_lifecycle.components.data.ingest_data.ingestion import ingest
from kfp_lifecycle.components.data.validate_data.schema_review import as_text, propose_schemas
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import local_locations
from kfp_lifecycle.data.source_version import local_source
from kfp_lifecycle.runtime.contract import ContractViolation

REMARK = "# Proposed by `lifecycle init` from the data as they were: review what else may come, and what never may.\n"


def read_first(project: Path) -> dict[str, int]:
    """Read a project's tables as its runs will, and write a schema of each.

    Returns:
        Rows by table.

    Raises:
        ContractViolation: the source cannot be read as the configuration says.
    """
    configuration = load_configuration(project)
    settings = configuration.model_copy(update={"source": local_source(configuration.source, project)})
    expectations = project / configuration.validation.expectations
    with tempfile.TemporaryDirectory(prefix="first-reading-") as work:
        tables = Path(work) / "tables"
        locations = local_locations(Path(work) / "state", configuration.name)
        manifest = ingest(settings, locations, expectations, tables)
        for name, schema in propose_schemas(tables).items():
            (expectations / f"{name}.pbtxt").write_text(REMARK + as_text(schema), "utf-8")
    return {name: summary.rows for name, summary in manifest.tables.items()}


if __name__ == "__main__":
    try:
        print(json.dumps(read_first(Path(sys.argv[1]))))
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))
