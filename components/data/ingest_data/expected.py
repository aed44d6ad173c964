"""What the project's committed schema of a table says, as far as reading it needs to know."""

from __future__ import annotations

from pathlib import Path

from kfp_lifecycle.components.data.ingest_data.delimited import Expected
from kfp_lifecycle.components.data.ingest_data.kinds import ANY, BOOLEAN, DATE, INTEGER, NUMBER, TIME, ZONED_TIME
from kfp_lifecycle.runtime.contract import ContractViolation


def expected_table(schema: Path) -> Expected | None:
    """Read a TFDV schema (`<table>.pbtxt`); None where the project has none.

    Raises:
        ContractViolation: it is there and cannot be read.
    """
    if not schema.is_file():
        return None
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        content = text_format.Parse(schema.read_text(encoding="utf-8"), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ContractViolation(
            f"{schema.name} cannot be read as a TFDV schema: {error}. Correct it, or infer it again."
        ) from error
    bounds = content.dataset_constraints
    return Expected(
        kinds={feature.name: _kinds(feature) for feature in content.feature},
        required=frozenset(
            feature.name for feature in content.feature if feature.presence.min_count or feature.presence.min_fraction
        ),
        fewest_rows=bounds.min_examples_count if bounds.HasField("min_examples_count") else None,
        most_rows=bounds.max_examples_count if bounds.HasField("max_examples_count") else None,
    )


def _kinds(feature: object) -> int:
    from tensorflow_metadata.proto.v0 import schema_pb2

    assert isinstance(feature, schema_pb2.Feature)
    if feature.HasField("time_domain"):
        return DATE | TIME | ZONED_TIME
    if feature.HasField("bool_domain"):
        return BOOLEAN | INTEGER
    return {schema_pb2.INT: INTEGER, schema_pb2.FLOAT: NUMBER}.get(feature.type, ANY)
