"""Recomputation of logged features by the training path, as of what the online store held when each was asked for."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kfp_lifecycle.artifacts.entity_key import entity_key
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.predictions import TABLE_FILE, Predictions
from kfp_lifecycle.artifacts.skew import FeatureSkew, ServingSkew
from kfp_lifecycle.artifacts.tables import TIMELESS
from kfp_lifecycle.artifacts.titles import Titles, title_of
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import Present
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.features.definitions import TIMESTAMP, Definitions, load_definitions
from kfp_lifecycle.features.flat_table import definitions_folder
from kfp_lifecycle.features.offline.history import FeatureHistory
from kfp_lifecycle.features.offline.store import compute_view_values
from kfp_lifecycle.features.online.store import Filling, OnlineStore
from kfp_lifecycle.registry.champion import registered_version
from kfp_lifecycle.runtime.outputs import complete_folder

# Each filling costs as much as a materialization; a wrong join shows in the newest ones as well.
LATEST_FILLINGS = 3
# A server learns of a new filling within this time.
SERVERS_LEARN = timedelta(minutes=10)
# A feature is skewed where it differs in more than this share of the requests, and in so many.
LARGEST_SHARE = 0.1
FEWEST_DIFFERENT = 10
# A request is logged when it is answered, a moment after the time that its features were computed for.
TIME_TOLERANCE = 1e-4

Rows = Sequence[Mapping[str, Any]]


def recompute(
    settings: Configuration,
    locations: Locations,
    predictions: Path,
    feature_repo: Path,
    validated: Path,
    skew: Path,
    validated_uri: str = "",
) -> ServingSkew:
    """Compare what was served with what the training path computes.

    Args:
        settings: What the step was given of the configuration.
        locations: The registry, the online store, and the `offline_store` that computes.
        predictions: What `collect_predictions` wrote.
        feature_repo: The feature definitions.
        validated: The validated tables.
        skew: Folder to write; it appears whole or not at all.
        validated_uri: Where the run keeps the validated tables, for a Spark to read them there.

    Raises:
        ContractViolation: the definitions, a view's SQL or the tables are at fault, or a store cannot be reached.
    """
    window = Predictions.read(predictions)
    with complete_folder(skew) as folder, tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        definitions = load_definitions(
            definitions_folder(feature_repo, settings, validated, scratch / "definitions"), settings
        )
        found = _compare(settings, locations, window, predictions, definitions, validated, validated_uri, scratch)
        found.write(folder)
    print(found.sentence)
    return found


def _compare(
    settings: Configuration,
    locations: Locations,
    window: Predictions,
    predictions: Path,
    definitions: Definitions,
    validated: Path,
    validated_uri: str,
    scratch: Path,
) -> ServingSkew:
    champion = registered_version(locations.tracking_uri, window.model, window.version)
    if champion is None:
        return nothing(window, "the registry does not know the version that served")
    description = champion.description(scratch / "model")
    if description.feature_version != definitions.version:
        return nothing(window, "the project's feature definitions are others than the model was trained on")
    table = pd.read_parquet(predictions / TABLE_FILE)
    return compare(
        settings, locations, window, table, description.inputs, definitions, validated, validated_uri, scratch
    )


def compare(
    settings: Configuration,
    locations: Locations,
    window: Predictions,
    table: pd.DataFrame,
    inputs: Sequence[Feature],
    definitions: Definitions,
    validated: Path,
    validated_uri: str,
    scratch: Path,
) -> ServingSkew:
    """Compare the requests of a window with what the training path computes for them.

    Args:
        settings: What the step was given of the configuration.
        locations: The online store, and the `offline_store` that computes.
        window: Which requests, and of which version.
        table: The predictions.
        inputs: Of the model.
        definitions: The project's feature definitions, which the model was trained on.
        validated: The validated tables.
        validated_uri: Where the run keeps them.
        scratch: Folder for values.
    """
    asked = requests_of(table, window.version, definitions)
    if asked.empty:
        return nothing(window, "no request names an entity that a table may know")
    fillings = OnlineStore(locations.online_store, settings.name, definitions).fillings()
    asked = answered_by(asked, fillings, settings.features.skew_sample)
    if asked.empty:
        return nothing(window, "the online store has not noted as of when it answered then")
    now = settings.features.present is Present.now
    by_the_clock = {item.name for item in definitions.features if now and item.view in definitions.on_demand}
    tolerances = {item.name: TIME_TOLERANCE if item.name in by_the_clock else 0.0 for item in inputs}
    same = np.zeros((len(asked), len(inputs)), dtype=bool)
    computed: list[dict[str, Any]] = [{} for _ in range(len(asked))]
    for as_of in sorted({moment for candidates in asked["candidates"] for moment in candidates}):
        rows = [number for number, candidates in enumerate(asked["candidates"]) if as_of in candidates]
        place = scratch / f"{as_of:%Y%m%dT%H%M%S}"
        views = definitions.views_of(definitions.features)
        compute_view_values(
            locations.offline_store, validated, validated_uri, settings, definitions, views, [as_of], place
        )
        # What has no time is no older on the day of a request than when it was stored.
        moments = asked["time"].iloc[rows] if now and as_of != TIMELESS else [as_of] * len(rows)
        answers = answers_at(definitions, place, asked["entity"].iloc[rows].tolist(), list(moments))
        for number, answer in zip(rows, answers, strict=True):
            logged = asked["features"].iloc[number]
            agreed = [agree(item, logged.get(item.name), answer[item.name], tolerances[item.name]) for item in inputs]
            # Two fillings may have answered; the one that agrees more did.
            if not computed[number] or sum(agreed) > same[number].sum():
                same[number], computed[number] = agreed, answer
    share, titles = settings.monitoring.max_caller_share, settings.features.titles
    return described(window, inputs, asked, same, computed, share, titles)


def requests_of(table: pd.DataFrame, version: str, definitions: Definitions) -> pd.DataFrame:
    """The requests of a version that name an entity and were logged with their features, oldest first.

    A key that is logged hashed is none of the project's: where it is a number, it is left out.
    """
    own = table[(table["version"] == version) & table["entity"].notna() & table["features"].notna()]
    keys: list[int | str | None] = []
    for entity in own["entity"]:
        try:
            keys.append(entity_key(definitions.key, definitions.key_type, entity))
        except ValueError:
            keys.append(None)
    known = own.assign(entity=pd.Series(keys, index=own.index, dtype=object))
    return known[known["entity"].notna()].sort_values("time", ignore_index=True)


def answered_by(asked: pd.DataFrame, fillings: Sequence[Filling], most: int) -> pd.DataFrame:
    """At most so many requests of the newest fillings, with the moments as of which they may have been answered."""
    candidates = []
    for time in asked["time"]:
        before = [filling for filling in fillings if filling.at <= time + SERVERS_LEARN]
        current = [before[-1]] if before else []
        if len(before) > 1 and abs(time - before[-1].at) <= SERVERS_LEARN:
            current.append(before[-2])
        candidates.append([filling.as_of for filling in current])
    asked = asked.assign(candidates=candidates)
    newest = sorted({moment for moments in candidates for moment in moments})[-LATEST_FILLINGS:]
    asked = asked[[bool(moments) and set(moments) <= set(newest) for moments in candidates]].reset_index(drop=True)
    places = np.unique(np.linspace(0, max(len(asked) - 1, 0), min(most, len(asked))).round().astype(np.int64))
    return asked.iloc[places].reset_index(drop=True)


def answers_at(
    definitions: Definitions, folder: Path, entities: Sequence[Any], moments: Sequence[datetime]
) -> list[dict[str, Any]]:
    """What the training path gives for entities, each at its moment, in the order asked."""
    rows = pd.DataFrame({"entity": entities, "time": pd.to_datetime(pd.Series(list(moments)), utc=True)})
    order = rows.drop_duplicates().sort_values(["time", "entity"])
    kind = {"INTEGER": pa.int32(), "BIGINT": pa.int64()}.get(definitions.key_type, pa.string())
    table = pa.table(
        {
            definitions.key: pa.array(order["entity"].tolist(), kind),
            TIMESTAMP: pa.array(order["time"], pa.timestamp("us", "UTC")),
        }
    )
    found = FeatureHistory(definitions, folder).features_of(table, definitions.features).to_pylist()
    by_row = dict(zip(zip(order["entity"], order["time"], strict=True), found, strict=True))
    return [by_row[pair] for pair in zip(rows["entity"], rows["time"], strict=True)]


def agree(feature: Feature, logged: Any, computed: Any, tolerance: float = 0.0) -> bool:
    """Whether what the model was given is what the training path computes: numbers as the model takes them.

    Args:
        feature: Which.
        logged: What was served.
        computed: What the training path gives.
        tolerance: How far a number may be off that depends on the time of the request.
    """
    if is_missing(logged) or is_missing(computed):
        return is_missing(logged) and is_missing(computed)
    if feature.type == "categorical":
        return str(logged) == str(computed)
    one, other = np.float32(logged), np.float32(computed)
    return bool(one == other or abs(float(one) - float(other)) <= tolerance)


def described(
    window: Predictions,
    inputs: Sequence[Feature],
    asked: pd.DataFrame,
    same: np.ndarray[Any, np.dtype[np.bool_]],
    computed: Rows,
    max_caller_share: float,
    titles: Titles,
) -> ServingSkew:
    """What was found, in words: nothing is skewed that is in one caller's requests alone, unless it asks for many."""
    differences, skewed, callers = [], set[str](), asked["caller"]
    small = callers.isin(callers.value_counts(normalize=True).loc[lambda share: share <= max_caller_share].index)
    for place, item in enumerate(inputs):
        different = ~same[:, place]
        rows = np.flatnonzero(different)
        if len(rows):
            first = int(rows[0])
            most = callers[different & small].mode()
            others = ~callers.isin(most[:1])
            enough = len(rows) >= FEWEST_DIFFERENT
            if enough and all(some.mean() >= LARGEST_SHARE for some in (different, different[others])):
                skewed.add(item.name)
            differences.append(
                FeatureSkew(
                    feature=item.name,
                    differing=len(rows),
                    logged=_shown(asked["features"].iloc[first].get(item.name)),
                    computed=_shown(computed[first][item.name]),
                    since=asked["time"].iloc[first].to_pydatetime(),
                )
            )
    differences.sort(key=lambda item: -item.differing)
    compared = len(asked)
    found = [item for item in differences if item.feature in skewed]
    sentence = (
        f"What was served is what the training path computes: {compared:,} requests, {len(inputs)} features each."
    )
    if found:
        worst, more = found[0], len(found) - 1
        title = title_of(worst.feature, titles)
        named = f"{title}, with {more} more," if more else title
        sentence = (
            f"{named} was served otherwise than the training path computes it in {worst.differing:,} of {compared:,} "
            f"requests since {worst.since:%Y-%m-%d %H:%M} UTC, such as {worst.logged} where it computes "
            f"{worst.computed}."
        )
    return ServingSkew(
        model=window.model,
        version=window.version,
        compared=compared,
        features=len(inputs),
        differences=differences,
        skewed=[item.feature for item in found],
        sentence=sentence,
    )


def nothing(window: Predictions, why: str) -> ServingSkew:
    """That nothing could be compared, and why."""
    return ServingSkew(
        model=window.model, version=window.version, compared=0, features=0,
        sentence=f"Features were not recomputed: {why}.",
    )  # fmt: skip


def is_missing(value: Any) -> bool:
    """Whether a feature has no value; not-a-number is none."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> str:
    if is_missing(value):
        return "nothing"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
