"""Point-in-time training set: each row holds what was known at its snapshot, and a label that became known since."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.step_origin import StepOrigin
from kfp_lifecycle.artifacts.tables import Manifest
from kfp_lifecycle.artifacts.training_set import LabelRate, PartName, TrainingSetDescription
from kfp_lifecycle.components.features.build_training_set.clocks import check_clocks
from kfp_lifecycle.components.features.build_training_set.label_rate import breaks, label_rate
from kfp_lifecycle.components.features.build_training_set.label_span import label_span
from kfp_lifecycle.components.features.build_training_set.skew import check_skew
from kfp_lifecycle.components.features.build_training_set.split import (
    PARTS,
    Split,
    snapshots_before,
    split_by_time,
)
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.features.definitions import TIMESTAMP, Definitions, copy_definitions, load_definitions
from kfp_lifecycle.features.offline.history import FeatureHistory
from kfp_lifecycle.features.offline.point_in_time import BATCH_ROWS, run_query, session, show_tables
from kfp_lifecycle.features.offline.store import compute_view_values
from kfp_lifecycle.features.quality import view_quality
from kfp_lifecycle.features.settings import FEATURE_REPOSITORY, LABEL_QUERY
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder

BEST_POSSIBLE = "best_possible"


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

    Raises:
        ContractViolation: the definitions, an SQL file or the data do not allow a training set that can be trusted.
    """
    definitions = load_definitions(feature_repo, settings)
    as_of = Manifest.read(validated).as_of.replace(tzinfo=UTC)
    with tempfile.TemporaryDirectory(prefix="training-set-") as temporary, complete_folder(training_set) as result:
        scratch = Path(temporary)
        span = label_span(settings, definitions, label_query, validated, as_of)
        labels = write_labels(settings, definitions, label_query, validated, span.until, scratch)
        rates = [_rate(snapshot, file, settings.label.name) for snapshot, file in labels.items()]
        notes = [*span.notes, *breaks(rates, settings.label.query)]
        for note in notes:
            print(note, flush=True)
        try:
            split = split_by_time(list(labels), settings)
        except ContractViolation as error:
            raise ContractViolation(" ".join([str(error), *span.notes])) from error
        views = definitions.views_of(definitions.joined)
        compute_view_values(
            locations.offline_store, validated, validated_uri, settings, definitions, views, split.used, scratch
        )
        parts = write_parts(settings, definitions, split, labels, scratch, result)
        newest = split.test[-1]
        check_clocks(feature_repo, settings, definitions, pq.read_table(labels[newest]), scratch)
        test = pq.read_table(result / "test.parquet", filters=[(TIMESTAMP, "=", newest)])
        description = TrainingSetDescription(
            entity=definitions.key,
            label=settings.label.name,
            features=[Feature(feature.name, feature.type) for feature in definitions.features],
            sensitive=[feature.name for feature in definitions.sensitive],
            feature_service=settings.features.service,
            feature_version=definitions.version,
            snapshots={part: [f"{snapshot:%Y-%m-%d}" for snapshot in split.part(part)] for part in PARTS},
            rows=parts.rows,
            positives=parts.positives,
            left_out=[f"{snapshot:%Y-%m-%d}" for snapshot in split.left_out],
            rows_left_out=sum(pq.read_metadata(labels[snapshot]).num_rows for snapshot in split.left_out),
            label_rates=rates,
            labels_until=span.until,
            notes=notes,
            skew=check_skew(settings, definitions, validated, newest, test, scratch, locations.offline_store),
            quality=view_quality(validated, settings.source.tables, definitions, as_of, result / "train.parquet"),
            as_of=as_of,
            offline_store=locations.offline_store.partition(":")[0],
            quarantined=quarantined,
            origin=StepOrigin.told(told or {}),
        )
        shutil.copyfile(label_query, result / LABEL_QUERY)
        copy_definitions(feature_repo, result / FEATURE_REPOSITORY)
        description.write(result)
    return description


def write_labels(
    configuration: Configuration,
    definitions: Definitions,
    label_query: Path,
    validated: Path,
    until: datetime,
    scratch: Path,
) -> dict[datetime, Path]:
    """Write who was there at each snapshot, and their label, as far as labels are known.

    Returns:
        A Parquet file (entity key, label, `best_possible` where the query gives it, `event_timestamp`) for each
        snapshot with anyone in it, oldest first.

    Raises:
        ContractViolation: the query fails, or a label is neither 0 nor 1.
    """
    label = configuration.label.name
    files: dict[datetime, Path] = {}
    with session(validated) as connection:
        show_tables(connection, validated, configuration.source.tables, as_of=None)
        for snapshot in snapshots_before(until, configuration):
            rows = run_query(
                connection,
                definitions,
                label_query,
                {"snapshot": snapshot, "horizon": snapshot + configuration.label.horizon},
                columns={label: "DOUBLE"},
                timestamp=snapshot,
                optional={BEST_POSSIBLE: "DOUBLE"},
                name=configuration.label.query,
            ).read_all()
            if not rows.num_rows:
                continue
            known = pc.is_in(rows[label], pa.array([0.0, 1.0]))
            if not pc.all(known).as_py():
                wrong = rows.filter(pc.invert(known))
                raise ContractViolation(
                    f"{configuration.label.query} must label every {definitions.key} 0 or 1; at "
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
            for part in PARTS:
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
            raise ContractViolation(
                f"All {rows[part]:,} {part} rows have {label} = {1 if positives[part] else 0} (snapshots "
                f"{', '.join(f'{s:%Y-%m-%d}' for s in split.part(part))}). Nothing can be learned or judged from one "
                f"class: look at {configuration.label.query} and at the dates of the data."
            )
    unknown = [feature for feature in wanted if not known[feature.name]]
    if unknown:
        raise ContractViolation(
            f"Never known in the {rows['train']:,} training rows: "
            + ", ".join(f"{feature.view}:{feature.name}" for feature in unknown)
            + f". Look at its SQL in {configuration.features.repository}, or take it out of the feature service."
        )
    return Written({part: rows[part] for part in PARTS}, {part: positives[part] for part in PARTS})


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
