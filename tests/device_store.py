"""An online store for the small model: `python tests/device_store.py MODEL STORE TEMPERATURES`.

Runs in the modelling environment. Gives the model its feature definitions and fills the store with devices, whose
temperatures are a list in JSON; their keys count from 0. Then each line that it reads, a share of
`features.freshness_days`, is how old the store is from now on; it answers by the same line.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from kfp_lifecycle.features.definitions import load_definitions
from kfp_lifecycle.features.online.store import Materialization, OnlineStore
from kfp_lifecycle.features.settings import definition_settings
from tests.tiny_model import SETTINGS

VIEW = "readings"
FEATURES = f"""
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

device = Entity(name="device", join_keys=["device_id"], value_type=ValueType.INT64)
readings = FeatureView(
    name="{VIEW}",
    entities=[device],
    schema=[
        Field(name="device_id", dtype=Int64),
        Field(name="temperature", dtype=Float64),
        Field(name="site", dtype=String),
    ],
    source=FileSource(path="{VIEW}.parquet", timestamp_field="event_timestamp"),
)
devices = FeatureService(name="devices", features=[readings])
"""


def define(feature_repo: Path) -> None:
    """Write the definitions of the small model's two features."""
    feature_repo.mkdir(exist_ok=True)
    (feature_repo / "features.py").write_text(FEATURES)
    (feature_repo / f"{VIEW}.sql").write_text(f"SELECT device_id, temperature, site FROM {VIEW}")


def main(model: Path, location: str, temperatures: list[float | None]) -> None:
    """Fill the store, and make it as old as is asked for."""
    define(model / "feature_repo")
    settings = definition_settings(SETTINGS)
    definitions = load_definitions(model / "feature_repo", settings)
    store = OnlineStore(location, settings.name, definitions, create=True)
    devices = len(temperatures)
    columns = {
        "device_id": pa.array(range(devices), pa.int64()),
        "temperature": pa.array(temperatures, pa.float64()),
        "site": pa.array(["north"] * devices, pa.string()),
        "event_timestamp": pa.array([datetime.now(UTC)] * devices, pa.timestamp("us", "UTC")),
    }
    store.write(VIEW, pa.RecordBatch.from_pydict(columns))
    for line in sys.stdin:
        as_of = datetime.now(UTC) - float(line) * definitions.freshness
        store.note(Materialization(definitions.version, as_of, "", {VIEW: devices}, 0))
        print(line, end="", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
