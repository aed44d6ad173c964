"""Clock check: on-demand features have to be the same whatever the clock says when they are computed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.features.definitions import FEATURES_FILE, REQUEST_TIME, TIMESTAMP, Definitions, load_definitions
from kfp_lifecycle.features.frozen_clock import frozen_clock
from kfp_lifecycle.features.offline.history import FeatureHistory
from kfp_lifecycle.runtime.contract import ContractViolation

# Years, months, weekdays, days, hours and minutes all differ.
MOMENTS = (datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2034, 10, 23, 17, 48, 39, tzinfo=UTC))
# Rows that are computed twice.
ROWS = 200


def check_clocks(
    feature_repo: Path, settings: Configuration, definitions: Definitions, labelled: pa.Table, values: Path
) -> None:
    """Load the definitions and compute the on-demand features of some rows, each at two moments, and compare.

    So it does not matter in which way a function, what it calls, or a line at the top of the file learns the present,
    or leaves something to chance.

    Args:
        feature_repo: The feature definitions.
        settings: What the step was given of the configuration.
        definitions: The definitions, as they were loaded.
        labelled: Labelled rows of one snapshot: entity key and `event_timestamp`.
        values: What `compute_view_values` wrote.

    Raises:
        ContractViolation: a value differs; the message names feature, entity and both values.
    """
    features = [feature for feature in definitions.joined if feature.view in definitions.on_demand]
    if not features:
        return
    entities = labelled.select([definitions.key, TIMESTAMP]).slice(0, ROWS)
    stored = FeatureHistory(definitions, values).inputs_of(entities, features)
    answers = []
    for moment in MOMENTS:
        with frozen_clock(moment):
            answers.append(load_definitions(feature_repo, settings).on_demand_values(features, stored))
    for feature in features:
        pairs = zip(entities[definitions.key].to_pylist(), *(answer[feature.name] for answer in answers), strict=True)
        for key, first, second in pairs:
            if repr(first) != repr(second):
                raise ContractViolation(
                    f"{FEATURES_FILE}: {feature.view}:{feature.name} depends on when it is computed: for "
                    f"{definitions.key} {key} it is {first!r} where the clock says {MOMENTS[0]:%Y-%m-%d} and "
                    f"{second!r} where it says {MOMENTS[1]:%Y-%m-%d}, so that a training row would get other values "
                    f"than a request for the same moment. The moment of asking is an input: {REQUEST_TIME}."
                )
