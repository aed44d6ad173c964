"""Mondays: the online store is filled, and monitoring looks back on a week.

A whole run of the pipeline takes half a minute. So a quiet Monday is looked at by the pipeline's own steps, called as
they are, over one folder of tables that each step cuts to the night before; whatever they find that asks for something
is looked at again by a whole run, which decides and acts.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb

from demo.story import morning, night_before
from demo.world import World
from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.artifacts.tables import Manifest, TableSummary, parquet_file
from kfp_lifecycle.components.features.materialize_features.materialization import materialize
from kfp_lifecycle.components.monitoring.collect_predictions.collection import collect_predictions
from kfp_lifecycle.components.monitoring.decide_remedy.judging import decide_remedy
from kfp_lifecycle.components.monitoring.detect_drift.detection import detect_drift
from kfp_lifecycle.components.monitoring.join_outcomes.joining import join_outcomes
from kfp_lifecycle.components.monitoring.recompute_features.recomputing import recompute
from kfp_lifecycle.data.sql import literal
from kfp_lifecycle.runtime.closure import ROOT

REPOSITORY = ROOT / "feature_repo"
LABEL = REPOSITORY / "label.sql"


class Mondays:
    """What is done on the morning of each Monday."""

    def __init__(self, world: World, whole: Path) -> None:
        """Write the tables of the whole story.

        Args:
            world: Where the model is served.
            whole: The business's database as it is at the story's end. No step looks behind the day that it is at.
        """
        self._world = world
        self._tables = world.state / "demo" / "tables"
        self._scratch = world.state / "demo" / "look"
        self._tables.mkdir(parents=True, exist_ok=True)
        self._rows: dict[str, TableSummary] = {}
        with duckdb.connect(str(whole), read_only=True) as connection:
            for table in world.configuration.source.tables:
                file = literal(str(parquet_file(self._tables, table)))
                copied = connection.execute(f"COPY {table} TO {file} (FORMAT parquet)").fetchall()
                self._rows[table] = TableSummary(rows=int(copied[0][0]), columns={})

    def fill(self, monday: date) -> None:
        """Fill the online store as of the night before."""
        self._known_by(monday)
        with quiet():
            materialize(self._world.configuration, self._world.locations, REPOSITORY, self._tables)

    def look(self, monday: date) -> Remedy:
        """Look back on the week, as the steps of the pipeline do, and write it to the history."""
        self._known_by(monday)
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        settings, locations, place = self._world.configuration, self._world.locations, self._scratch
        predictions, drift, skew, outcomes = (place / name for name in ("predictions", "drift", "skew", "outcomes"))
        with quiet():
            collect_predictions(settings, locations, predictions, as_of=morning(monday).isoformat())
            detect_drift(settings, locations, predictions, drift)
            recompute(settings, locations, predictions, REPOSITORY, self._tables, skew)
            join_outcomes(settings, locations, predictions, REPOSITORY, LABEL, self._tables, outcomes)
            return decide_remedy(
                settings, locations, predictions, drift, skew, outcomes, place / "remedy", place / "page.html"
            )

    def _known_by(self, monday: date) -> None:
        Manifest(as_of=night_before(monday), tables=self._rows).write(self._tables)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What steps say goes nowhere, nor do warnings of libraries that they import."""
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
        yield
