"""Materialization: fill the online store with the newest value of every feature that a model is served with."""

from __future__ import annotations

import tempfile
from datetime import UTC
from pathlib import Path

import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.online_store import MaterializedFeatures
from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.features.definitions import Definitions, load_definitions
from kfp_lifecycle.features.flat_table import definitions_folder
from kfp_lifecycle.features.join_coverage import check_coverage
from kfp_lifecycle.features.offline.point_in_time import validated_file
from kfp_lifecycle.features.online.filling import digest_of, fill
from kfp_lifecycle.features.online.store import Materialization, OnlineStore


def materialize(
    settings: Configuration, locations: Locations, feature_repo: Path, validated: Path
) -> MaterializedFeatures:
    """Compute every stored feature as of the newest row and write it to the project's online store.

    It may be repeated, cut off, and read while it runs: each batch of entities changes at once, views one after the
    other. A store that already holds newer values keeps them, and one that was filled from these very tables is left as
    it is. Otherwise the entities whose values changed are written, and no others.

    Args:
        settings: What the step was given of the configuration.
        locations: The online store, and the registry that says which versions of the definitions models need.
        feature_repo: The feature definitions.
        validated: The validated tables: `<table>.parquet` and `manifest.json`.

    Raises:
        ContractViolation: the definitions, a view's SQL or the data cannot be trusted, a flat table knows too few
            entities, or the store cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="definitions-") as scratch:
        folder = definitions_folder(feature_repo, settings, validated, Path(scratch) / "made")
        definitions = load_definitions(folder, settings)
        if settings.features.tables:
            refuse_uncovered(settings, definitions, validated)
        return _materialize(settings, locations, definitions, validated)


def refuse_uncovered(settings: Configuration, definitions: Definitions, validated: Path) -> None:
    """Refuse flat tables that know too few of the entities which the first one, or that of the label, has.

    Raises:
        ContractViolation: fewer than `features.min_match_share`; what the store holds stays.
    """
    first = settings.features.tables[0] if settings.label.column is None else settings.label.place[0]
    keys = pq.read_table(validated_file(validated, first), columns=[definitions.key])[definitions.key]
    for note in check_coverage(settings, definitions, validated, keys, f"in {first}"):
        print(note, flush=True)


def _materialize(
    settings: Configuration, locations: Locations, definitions: Definitions, validated: Path
) -> MaterializedFeatures:
    # The store keeps times in whole seconds.
    as_of = Manifest.read(validated).as_of.replace(tzinfo=UTC, microsecond=0)
    store = OnlineStore(locations.online_store, settings.name, definitions, create=True)
    written: dict[str, int]
    held, digest = store.materialized(), digest_of(validated, settings.source.tables)
    if held is not None and held.as_of > as_of:
        print(f"The online store keeps its features as of {held.as_of}, since these tables end at {as_of}.")
        now, written = held, {}
    elif held is not None and (held.as_of, held.tables_digest) == (as_of, digest):
        print(f"The online store was filled from these tables already, as of {as_of}.")
        now, written = held, {}
    else:
        filled = fill(store, validated, settings.source.tables, definitions, as_of, digest)
        now, written = filled.materialization, dict(filled.written)
    return MaterializedFeatures(
        online_store=store.location,
        feature_version=definitions.version,
        as_of=now.as_of,
        rows=dict(now.rows),
        written={view: written.get(view, 0) for view in now.rows},
        quality=list(now.quality),
        removed=remove_unused(store, now, settings, locations.tracking_uri),
        example_entity=now.example_entity,
    )


def remove_unused(
    store: OnlineStore, present: Materialization, configuration: Configuration, tracking_uri: str
) -> list[str]:
    """Remove versions of the definitions that no registered model names and that were last filled too long ago.

    Both, since either alone is unsafe: a candidate's features are filled in before it is registered, and a model on
    historical data is served from a store that nobody fills any more.

    Args:
        store: The online store.
        present: What was just filled; it stays.
        configuration: `features.freshness_days` is how long a version stays, `deployment.model` whose versions count.
        tracking_uri: The registry. It is asked only where a version is old enough.

    Returns:
        The versions removed.
    """
    old = [
        other
        for other in store.all_materialized()
        if (present.as_of - other.as_of).days >= configuration.features.freshness_days
        and other.feature_version != present.feature_version
    ]
    if not old:
        return []
    from kfp_lifecycle.registry.versions import feature_versions

    used = feature_versions(tracking_uri, configuration.deployment.model)
    unused = [other for other in old if other.feature_version not in used]
    for other in unused:
        store.remove(other)
    return [other.feature_version for other in unused]
