"""Batch scoring: every current entity by the champion's model, with the reasons of each score."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.scores import Scores
from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.components.scoring.score_batch.logged import BatchLog
from kfp_lifecycle.components.scoring.score_batch.reasons import contributions, top_reasons, usual_values
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.features.definitions import TIMESTAMP, Definitions, load_definitions
from kfp_lifecycle.features.flat_table import definitions_folder
from kfp_lifecycle.features.join_coverage import check_coverage
from kfp_lifecycle.features.offline.history import FeatureHistory
from kfp_lifecycle.features.offline.point_in_time import BATCH_ROWS, run_query, session, show_tables
from kfp_lifecycle.features.offline.store import compute_view_values
from kfp_lifecycle.modelling.dataset import model_inputs
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.modelling.scoring import Scorer, decided
from kfp_lifecycle.registry.champion import Champion, require_champion
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder

BASELINE_FILE = "baseline/reference.parquet"


def score_batch(
    settings: Configuration,
    locations: Locations,
    feature_repo: Path,
    label_query: Path,
    validated: Path,
    scores: Path,
    validated_uri: str = "",
) -> Scores:
    """Score everyone who is there as of the newest row.

    Args:
        settings: What the step was given of the configuration.
        locations: The registry, the `offline_store`, and the prediction log.
        feature_repo: The feature definitions.
        label_query: The SQL file whose entities are scored.
        validated: The validated tables.
        scores: Folder to write; it appears whole or not at all.
        validated_uri: Where the run keeps the validated tables, for a Spark to read them there.

    Raises:
        ContractViolation: no model is in production or cannot be had, it was trained on other feature definitions,
            nobody is there to be scored, a table knows too few of them (`features.min_match_share`), or the prediction
            log cannot be written.
    """
    champion = require_champion(locations.tracking_uri, settings.deployment.model)
    # The online store keeps times in whole seconds; a batch is to give the same scores.
    as_of = Manifest.read(validated).as_of.replace(tzinfo=UTC, microsecond=0)
    with complete_folder(scores) as folder, tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        scratch = Path(temporary)
        folder_of_definitions = definitions_folder(feature_repo, settings, validated, scratch / "definitions")
        definitions = load_definitions(folder_of_definitions, settings)
        check_definitions(champion, champion.description(scratch / "description"), definitions, settings)
        model = ModelFolder(champion.fetch(scratch / "champion"))
        reference = pd.read_parquet(model.folder / BASELINE_FILE)
        views = definitions.views_of(definitions.features)
        compute_view_values(
            locations.offline_store, validated, validated_uri, settings, definitions, views, [as_of], scratch
        )
        entities = current_entities(settings, definitions, label_query, validated, as_of)
        history = FeatureHistory(definitions, scratch)
        # One thread, as in the server: with several, sums differ in their last digit.
        scorer = model.scorer(threads=1)
        logging = settings.deployment.prediction_log
        log = (
            BatchLog(logging, champion.model, champion.version, as_of, list(model.features), scratch / "log")
            if logging.enabled
            else None
        )
        rows = above = 0
        with pq.ParquetWriter(folder / Scores.TABLE, schema(entities, definitions.key), compression="zstd") as writer:
            for start in range(0, len(entities), BATCH_ROWS):
                batch = entities.slice(start, BATCH_ROWS)
                features = history.features_of(batch, definitions.features).to_pandas()
                scored = score_rows(batch, features, scorer, reference, champion.version, model.description)
                writer.write_table(scored.cast(writer.schema))
                if log is not None:
                    log.write(scored, features)
                rows, above = rows + len(scored), above + sum(scored["decision"].to_pylist())
        if log is not None:
            log.finish(locations.prediction_log)
        description = Scores(
            model=champion.model,
            version=champion.version,
            threshold=model.threshold,
            as_of=as_of,
            rows=rows,
            above_threshold=above / rows,
        )
        description.write(folder)
    return description


def check_definitions(
    champion: Champion, description: Model, definitions: Definitions, configuration: Configuration
) -> None:
    """Refuse a champion whose features are defined otherwise than the project defines them now.

    Raises:
        ContractViolation: the feature service or its version is another.
    """
    trained = description.feature_service, description.feature_version
    now = configuration.features.service, definitions.version
    if trained != now:
        raise ContractViolation(
            f"{champion.model} version {champion.version}, the champion, was trained on the feature service "
            f"{trained[0]} of version {trained[1]}; the project now defines {now[0]} of version {now[1]}, so that the "
            "same names may mean other values. Train and promote a model on the present definitions (lifecycle run "
            "training), or score with the project as it was."
        )


def current_entities(
    configuration: Configuration, definitions: Definitions, label_query: Path, validated: Path, as_of: datetime
) -> pa.Table:
    """Who is there at `as_of`: those whom the label's query would label at that moment.

    Returns:
        The entity key and `event_timestamp`, sorted by key.

    Raises:
        ContractViolation: the query fails, nobody is there, or one of `features.tables` knows too few of them.
    """
    name = configuration.label.query
    with session(validated) as connection:
        show_tables(connection, validated, configuration.source.tables, as_of=None)
        horizon = as_of + configuration.label.horizon
        moments = {"snapshot": as_of, "horizon": horizon}
        found = run_query(
            connection, definitions, label_query, moments, columns={}, timestamp=as_of, name=name
        ).read_all()
    if not len(found):
        raise ContractViolation(
            f"{name} finds nobody at {as_of:%Y-%m-%d %H:%M:%S}, the time of the newest row, so that there is "
            "nothing to score. See that the tables are complete, or correct label.query."
        )
    if configuration.features.tables:
        for note in check_coverage(configuration, definitions, validated, found[definitions.key], "to be scored"):
            print(note, flush=True)
    return found


def score_rows(
    entities: pa.Table,
    features: pd.DataFrame,
    scorer: Scorer,
    reference: pd.DataFrame,
    version: str,
    description: Model,
) -> pa.Table:
    """Scores, decisions and reasons of some entities.

    Args:
        entities: The entity key and `event_timestamp`, n rows.
        features: A column for each of the model's inputs, n rows.
        scorer: The model.
        reference: A sample of the training data.
        version: The model's version.
        description: Its description, for the threshold and the features' titles.

    Returns:
        The entity key, `as_of`, `score`, `decision`, `reason_1` to `reason_3`, `model_version`.
    """
    inputs = model_inputs(features, scorer.features, "the batch")
    usual = usual_values(reference, scorer.features)
    score = scorer.score(inputs)
    differences = contributions(scorer, inputs, score, usual)
    key = next(name for name in entities.column_names if name != TIMESTAMP)
    return pa.table(
        {
            key: entities[key],
            "as_of": entities[TIMESTAMP],
            "score": pa.array(score.astype("float64")),
            "decision": pa.array(decided(score, description.threshold)),
            **top_reasons(inputs, differences, scorer.features, usual, description.titles),
            "model_version": pa.array([version] * len(inputs), pa.string()),
        }
    )


def schema(entities: pa.Table, key: str) -> pa.Schema:
    """The columns of `scores.parquet`."""
    return pa.schema(
        [
            (key, entities.schema.field(key).type),
            ("as_of", entities.schema.field(TIMESTAMP).type),
            ("score", pa.float64()),
            ("decision", pa.bool_()),
            ("reason_1", pa.string()),
            ("reason_2", pa.string()),
            ("reason_3", pa.string()),
            ("model_version", pa.string()),
        ]
    )
