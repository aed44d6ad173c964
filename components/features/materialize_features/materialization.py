"""Fill the online store with the newest value of every feature that a model is served with."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

from components.data.tables import read_manifest
from components.features.definitions import load_definitions
from components.features.online_store import OnlineStore
from components.features.point_in_time import session, show_tables, view_values
from project.loading import load_configuration
from project.stores import load_stores


def materialize(project: Path, validated: Path) -> dict[str, Any]:
    """Compute every stored feature as of the newest row and write it to the project's online store.

    It may be repeated, and read while it runs: each batch of entities changes at once, views one after the other. A
    store that already holds newer values keeps them.

    Args:
        project: The project artifact; its stores name the online store.
        validated: The validated tables: `<table>.parquet` and `manifest.json`.

    Returns:
        `online_store`, `feature_version`, `as_of` (of what the store now holds, ISO time), `rows` written by view and
        `example_entity`, one that was written (absent where the store held newer values).

    Raises:
        ContractViolation: the definitions, a view's SQL or the data cannot be trusted, or the store cannot be reached.
    """
    configuration = load_configuration(project)
    definitions = load_definitions(project, configuration)
    # The store keeps times in whole seconds.
    as_of = read_manifest(validated).as_of.replace(tzinfo=UTC, microsecond=0)
    views = dict.fromkeys(reference.partition(":")[0] for reference in definitions.sources(definitions.features))
    rows = dict.fromkeys(views, 0)
    example: dict[str, Any] = {}
    store = OnlineStore(load_stores(project).online_store, configuration.name, definitions, create=True)
    last = store.materialized()
    if last is not None and last.as_of > as_of:
        print(f"The online store keeps its features as of {last.as_of}, since these tables end at {as_of}.")
        as_of = last.as_of
    else:
        with session(validated) as connection:
            show_tables(connection, validated, configuration.source.tables, as_of)
            for view in views:
                for batch in view_values(connection, definitions, view, as_of):
                    store.write(view, batch)
                    rows[view] += batch.num_rows
                    example = example or {"example_entity": batch.column(configuration.entity.key)[0].as_py()}
        store.note(as_of)
    return {
        "online_store": store.location,
        "feature_version": definitions.version,
        "as_of": as_of.isoformat(),
        "rows": rows,
        **example,
    }
