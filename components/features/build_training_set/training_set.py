"""Point-in-time training set: each row holds what was known at its snapshot, and a label that became known since."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.artifacts.tables import TIMELESS, Manifest
from kfp_lifecycle.artifacts.training_set import GROUP, LabelRate, PartName, TrainingSetDescription
from kfp_lifecycle.components.features.build_training_set.clocks import check_clocks
from kfp_lifecycle.components.features.build_training_set.label_rate import breaks, label_rate
from kfp_lifecycle.components.features.build_training_set.label_span import LabelSpan, label_span
from kfp_lifecycle.components.features.build_training_set.shares import (
    PART,
    divide_by_entity,
    grouped_parts,
    stratified_parts,
)
from kfp_lifecycle.components.features.build_training_set.skew import check_skew, evenly_spaced
from kfp_lifecycle.components.features.build_training_set.split import (
    PARTS,
    Split,
    changed_on,
    newest_moment,
    refuse_few_labels,
    remedy_of,
    snapshots_before,
    split_by_time,
    told_of_change,
)
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import SplitBy
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.retraining import TrainingRemedy
from kfp_lifecycle.data.sql import literal, quoted
from kfp_lifecycle.features.definitions import (
    FEATURES_FILE,
    REQUEST_TIME,
    TIMESTAMP,
    Definitions,
    copy_definitions,
    load_definitions,
)
from kfp_lifecycle.features.flat_table import check_label_column, definitions_folder
from kfp_lifecycle.features.join_coverage import check_coverage
from kfp_lifecycle.features.offline.history import FeatureHistory
from kfp_lifecycle.features.offline.point_in_time import (
    BATCH_ROWS,
    checked_query,
    run_query,
    session,
    show_tables,
    validated_file,
)
from kfp_lifecycle.features.offline.store import compute_view_values
from kfp_lifecycle.features.quality import view_quality
from kfp_lifecycle.features.settings import FEATURE_REPOSITORY, LABEL_QUERY
from kfp_lifecycle.modelling.dataset import PRESENT_FILE
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder

BEST_POSSIBLE = "best_possible"
PRESENT_ROWS = 20_000


@dataclass(frozen=True)
class Written:
    """What was written of each part."""

    rows: dict[PartName, int]
    positives: dict[PartName, int]
    """Rows with the event."""


def build(
    settings: Configuration,
    locations: Locations,
    feature_repo: Path,
    label_query: Path,
    validated: Path,
    training_set: Path,
    validated_uri: str = "",
    told: Mapping[str, Any] | None = None,
    quarantined: int = 0,
    since: str = "",
    remedy: str = TrainingRemedy.retrain,
) -> TrainingSetDescription:
    """Build a project's training set.

    Args:
        settings: What the step was given of the configuration.
        locations: Its `offline_store`.
        feature_repo: The feature definitions; the training set gets a copy, in `feature_repo/`.
        label_query: The SQL file that labels entities.
        validated: The validated tables: `<table>.parquet` and `manifest.json`.
        training_set: Folder to write; it appears whole or not at all.
        validated_uri: Where the run keeps the validated tables, for a Spark to read them there.
        told: The step's parameter `settings`, to be recorded.
        quarantined: Rows that validation has put aside.
        since: The run's parameter: the day of a change; empty: `split.since`.
        remedy: The run's parameter: what is made anew.

    Raises:
        ContractViolation: the definitions, an SQL file or the data do not allow a training set that can be trusted.
    """
    as_of = Manifest.read(validated).as_of.replace(tzinfo=UTC)
    by_time = settings.split.by is SplitBy.time
    changed, made_anew = changed_on(since, settings), remedy_of(remedy)
    with tempfile.TemporaryDirectory(prefix="training-set-") as temporary, complete_folder(training_set) as result:
        scratch = Path(temporary)
        check_label(settings, validated)
        feature_repo = definitions_folder(feature_repo, settings, validated, scratch / "definitions")
        definitions = load_definitions(feature_repo, settings)
        check_without_time(settings, definitions, validated, as_of)
        if by_time:
            span = label_span(settings, definitions, label_query, validated, as_of)
            snapshots = snapshots_before(span.until, settings)
        else:
            span, snapshots = LabelSpan(as_of, []), [newest_moment(as_of)]
        labels = write_labels(settings, definitions, label_query, validated, snapshots, scratch)
        rates = [_rate(snapshot, file, settings.label.name) for snapshot, file in labels.items()] if by_time else []
        notes = [*span.notes, *breaks(rates, settings.label.query)]
        if settings.features.tables and labels:
            [labelled] = labels.values()
            keys = pq.read_table(labelled, columns=[definitions.key])[definitions.key]
            notes += check_coverage(settings, definitions, validated, keys, "with a label")
        for note in notes:
            print(note, flush=True)
        if changed is not None and made_anew is not TrainingRemedy.retrain:
            refuse_few_labels(rates, changed, made_anew, settings)
        try:
            if by_time:
                split = split_by_time(list(labels), settings, changed, made_anew)
            else:
                split = split_by_share(labels, settings, definitions)
        except ContractViolation as error:
            raise ContractViolation(" ".join([str(error), *span.notes])) from error
        if changed is not None:
            notes.append(told_of_change(split, changed, settings))
            print(notes[-1], flush=True)
        if split.divided_since is not None:
            divide_by_entity(split, labels, settings)
        # Only who is there after all that is labelled says something new.
        present = newest_moment(as_of) if by_time and newest_moment(as_of) > split.used[-1] else None
        compute_view_values(
            locations.offline_store,
            validated,
            validated_uri,
            settings,
            definitions,
            definitions.views_of(definitions.joined),
            split.used if present is None else [*split.used, present],
            scratch,
        )
        parts = write_parts(settings, definitions, split, labels, scratch, result)
        if present is not None:
            write_present(settings, definitions, label_query, validated, present, scratch, result / PRESENT_FILE)
        newest = split.test[-1]
        check_clocks(feature_repo, settings, definitions, pq.read_table(labels[newest]), scratch)
        test = pq.read_table(result / "test.parquet", filters=[(TIMESTAMP, "=", newest)])
        description = TrainingSetDescription(
            entity=definitions.key,
            key_type=definitions.key_type,
            label=settings.label.name,
            features=[Feature(feature.name, feature.type) for feature in definitions.features],
            sensitive=[feature.name for feature in definitions.sensitive],
            titles=settings.features.titles,
            feature_service=settings.features.service,
            feature_version=definitions.version,
            split=settings.split.by.value,
            snapshots={
                part: [f"{moment:%Y-%m-%d}" for moment in split.part(part)] if by_time else [] for part in PARTS
            },
            rows=parts.rows,
            positives=parts.positives,
            left_out=[f"{snapshot:%Y-%m-%d}" for snapshot in split.left_out],
            rows_left_out=sum(pq.read_metadata(file).num_rows for file in labels.values()) - sum(parts.rows.values()),
            divided_since=f"{split.divided_since:%Y-%m-%d}" if split.divided_since else None,
            label_rates=rates,
            labels_until=span.until if by_time else None,
            notes=notes,
            skew=check_skew(settings, definitions, validated, newest, test, scratch, locations.offline_store),
            quality=view_quality(validated, settings.source.tables, definitions, as_of, result / "train.parquet"),
            as_of=None if as_of == TIMELESS else as_of,
            offline_store=locations.offline_store.partition(":")[0],
            quarantined=quarantined,
            origin=StepOrigin.told(told or {}, since=since),
        )
        shutil.copyfile(label_query, result / LABEL_QUERY)
        copy_definitions(feature_repo, result / FEATURE_REPOSITORY)
        description.write(result)
    return description


def check_label(settings: Configuration, validated: Path) -> None:
    """Refuse a label that is a column, and none that can be one.

    Raises:
        ContractViolation: as `check_label_column`.
    """
    if settings.label.column is not None:
        with session(validated) as connection:
            show_tables(connection, validated, settings.source.tables, as_of=None)
            check_label_column(connection, settings)


def write_labels(
    configuration: Configuration,
    definitions: Definitions,
    label_query: Path,
    validated: Path,
    snapshots: Sequence[datetime],
    scratch: Path,
) -> dict[datetime, Path]:
    """Write who was there at each snapshot, and their label.

    Returns:
        A Parquet file (entity key, label, the group of a split by group, `best_possible` where the query gives it,
        `event_timestamp`) for each snapshot with anyone in it, oldest first.

    Raises:
        ContractViolation: the query fails, or a label is neither 0 nor 1.
    """
    label, group = configuration.label.name, configuration.split.group
    source = configuration.label.source
    files: dict[datetime, Path] = {}
    with session(validated) as connection:
        show_tables(connection, validated, configuration.source.tables, as_of=None)
        for snapshot in snapshots:
            moments = {"snapshot": snapshot}
            if configuration.split.by is SplitBy.time:
                moments["horizon"] = snapshot + configuration.label.horizon
            rows = run_query(
                connection,
                definitions,
                label_query,
                moments,
                columns={label: "DOUBLE", **({group: "VARCHAR"} if group else {})},
                timestamp=snapshot,
                optional={BEST_POSSIBLE: "DOUBLE"},
                name=source,
            ).read_all()
            if not rows.num_rows:
                continue
            known = pc.is_in(rows[label], pa.array([0.0, 1.0]))
            if not pc.all(known).as_py():
                wrong = rows.filter(pc.invert(known))
                raise ContractViolation(
                    f"{source} must label every {definitions.key} 0 or 1; at "
                    f"{snapshot:%Y-%m-%d %H:%M:%S} it gave {wrong[label][0].as_py()} for "
                    f"{definitions.key} {wrong[definitions.key][0].as_py()} "
                    f"({wrong.num_rows:,} such rows). Leave out whoever was not there at $snapshot."
                )
            files[snapshot] = scratch / f"label-{len(files)}.parquet"
            position = rows.column_names.index(label)
            pq.write_table(rows.set_column(position, label, rows[label].cast(pa.int64())), files[snapshot])
    return files


def write_parts(
    configuration: Configuration,
    definitions: Definitions,
    split: Split,
    labels: dict[datetime, Path],
    scratch: Path,
    result: Path,
) -> Written:
    """Join features to labels and write `train.parquet`, `validation.parquet` and `test.parquet`.

    Raises:
        ContractViolation: a row was lost, a part has one class only, or a feature is never known in the training part.
    """
    label = configuration.label.name
    wanted = definitions.joined
    history = FeatureHistory(definitions, scratch)
    rows, positives, known = Counter[str](), Counter[str](), Counter[str]()
    with ExitStack() as files:
        writers: dict[PartName, pq.ParquetWriter] = {}
        for labelled in _batches(labels[snapshot] for snapshot in split.used):
            features = history.features_of(labelled.select([definitions.key, TIMESTAMP]), wanted)
            table = labelled.select([definitions.key, TIMESTAMP, label, *({BEST_POSSIBLE} & {*labelled.column_names})])
            for name in features.column_names:
                table = table.append_column(name, features[name])
            if GROUP in labelled.column_names:
                table = table.append_column(GROUP, labelled[GROUP])
            for part in PARTS:
                if PART in labelled.column_names:
                    chosen = table.filter(pc.equal(labelled[PART], part))
                else:
                    moments = pa.array(split.part(part), table.schema.field(TIMESTAMP).type)
                    chosen = table.filter(pc.is_in(table[TIMESTAMP], moments))
                if not len(chosen):
                    continue
                rows[part] += len(chosen)
                positives[part] += pc.sum(chosen[label]).as_py()
                if part == "train":
                    known.update({name: len(chosen) - chosen[name].null_count for name in features.column_names})
                if part not in writers:
                    file = pq.ParquetWriter(result / f"{part}.parquet", chosen.schema, compression="zstd")
                    writers[part] = files.enter_context(file)
                writers[part].write_table(chosen)
    for part in PARTS:
        if not 0 < positives[part] < rows[part]:
            by_time = configuration.split.by is SplitBy.time
            dates = f" (snapshots {', '.join(f'{s:%Y-%m-%d}' for s in split.part(part))})" if by_time else ""
            raise ContractViolation(
                f"All {rows[part]:,} {part} rows have {label} = {1 if positives[part] else 0}{dates}. Nothing can be "
                f"learned or judged from one class: look at {configuration.label.source} and at "
                f"{'the dates of the data' if by_time else 'how many rows either class has'}."
            )
    unknown = [feature for feature in wanted if not known[feature.name]]
    if unknown:
        raise ContractViolation(
            f"Never known in the {rows['train']:,} training rows: "
            + ", ".join(f"{feature.view}:{feature.name}" for feature in unknown)
            + (
                ". Name it in features.leave_out."
                if configuration.features.tables
                else f". Look at its SQL in {configuration.features.repository}, or take it out of the feature service."
            )
        )
    return Written({part: rows[part] for part in PARTS}, {part: positives[part] for part in PARTS})


def write_present(
    configuration: Configuration,
    definitions: Definitions,
    label_query: Path,
    validated: Path,
    moment: datetime,
    scratch: Path,
    file: Path,
) -> None:
    """Write the features of who is there at the newest moment, of 20,000 of them at most. Nobody knows their label yet:
    production follows upon these rows, and not upon the newest that have one.

    Raises:
        ContractViolation: the label query fails.
    """
    moments = {"snapshot": moment, "horizon": moment + configuration.label.horizon}
    with session(validated) as connection:
        show_tables(connection, validated, configuration.source.tables, as_of=None)
        # It says who is there; of what becomes of them it says nothing yet.
        asked, title = {configuration.label.name: "DOUBLE"}, configuration.label.source
        there = run_query(connection, definitions, label_query, moments, asked, moment, name=title).read_all()
    table = evenly_spaced(there.select([definitions.key, TIMESTAMP]), PRESENT_ROWS)
    if not len(table):
        return
    features = FeatureHistory(definitions, scratch).features_of(table, definitions.joined)
    for name in features.column_names:
        table = table.append_column(name, features[name])
    pq.write_table(table, file, compression="zstd")


def split_by_share(labels: dict[datetime, Path], configuration: Configuration, definitions: Definitions) -> Split:
    """Write into the labels' one file which part each row is of, by `split.by: random` or `group`.

    Raises:
        ContractViolation: there are no rows, a group is missing, or groups are too few or too large.
    """
    if not labels:
        raise ContractViolation(
            f"{configuration.label.source} labels nobody. See that the tables are complete, or correct it."
        )
    [(snapshot, file)] = labels.items()
    rows, group = pq.read_table(file), configuration.split.group
    if group is None:
        label = rows[configuration.label.name].to_pylist()
        parts = stratified_parts(rows[definitions.key].to_pylist(), label, configuration.split)
    else:
        if rows[group].null_count:
            raise ContractViolation(
                f"split.group: {group} is missing in {rows[group].null_count:,} of {len(rows):,} rows, so that nobody "
                "can say with which others they belong. Fill it in the source, with the row's own key where it belongs "
                "to none."
            )
        parts = grouped_parts(rows[group].to_pylist(), configuration.split)
        rows = rows.append_column(GROUP, rows[group]).drop_columns([group])
    pq.write_table(rows.append_column(PART, pa.array(parts)), file)
    return Split((snapshot,), (snapshot,), (snapshot,), ())


def check_without_time(
    configuration: Configuration, definitions: Definitions, validated: Path, as_of: datetime
) -> None:
    """Refuse definitions that need a time where there is none, or that read the label's column.

    Raises:
        ContractViolation: naming the view.
    """
    asking = [name for name, inputs in definitions.on_demand_inputs.items() if REQUEST_TIME in inputs]
    if configuration.source.timeless and asking:
        raise ContractViolation(
            f"{FEATURES_FILE}: the on-demand view {', '.join(asking)} asks for {REQUEST_TIME}, and no table has an "
            "event_time: rows without a time have no moment that a request could be compared with. Compute it from "
            "columns, or name the event_time of a table."
        )
    if configuration.label.column is None:
        return
    table, column = configuration.label.place
    with session(validated) as connection:
        show_tables(connection, validated, configuration.source.tables, newest_moment(as_of))
        hidden = (
            f"SELECT * EXCLUDE ({quoted(column)}) FROM read_parquet({literal(str(validated_file(validated, table)))})"
        )
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(table)} AS {hidden}")
        for view in definitions.views_of(definitions.joined):
            query, asked = checked_query(definitions.sql_file(view), ["as_of"])
            try:
                connection.execute(f"EXPLAIN {query}", dict.fromkeys(asked, as_of.replace(tzinfo=None)))
            except duckdb.BinderException as error:
                if column.lower() in str(error).lower():
                    raise ContractViolation(
                        f"{definitions.sql_file(view).name} reads {configuration.label.column}, which is the label "
                        "(label.column): a feature that is computed from it is not known when a prediction is asked "
                        "for. Take it out."
                    ) from error


def _rate(snapshot: datetime, file: Path, label: str) -> LabelRate:
    known = pq.read_table(file, columns=[label])[label]
    return label_rate(snapshot, len(known), pc.sum(known).as_py() or 0)


def _batches(files: Iterable[Path]) -> Iterator[pa.Table]:
    """The rows of several files, in tables large enough to be worth a query and small enough to hold."""
    pending: list[pa.RecordBatch] = []
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
            pending.append(batch)
            if sum(len(waiting) for waiting in pending) >= BATCH_ROWS:
                yield pa.Table.from_batches(pending)
                pending = []
    if pending:
        yield pa.Table.from_batches(pending)
