"""TFDV's statistics by Apache Beam, on whatever runner the project names.

All tables are one pipeline. It holds nothing but transforms of Beam, Arrow and TFDV, so that workers need none of our
code: DuckDB writes every cell as the list that TFDV wants before it starts.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from kfp_lifecycle.config.beam import Beam
from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.data.sql import literal
from kfp_lifecycle.data.table_statistics import Selection, Statistics, in_order, tfdv_rows
from kfp_lifecycle.data.tables import tables_database
from kfp_lifecycle.data.tfdv import (
    GenerateStatistics,
    StatsOptions,
    WriteStatisticsToBinaryFile,
)
from kfp_lifecycle.runtime.contract import ContractViolation

AS_LIST = "CASE WHEN {value} IS NOT NULL THEN [{value}] END"


@contextlib.contextmanager
def _temporary_files_removed() -> Iterator[None]:
    """Beam leaves what it made where temporary files go."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="beam-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


@_temporary_files_removed()
def beam_statistics(folder: Path, selections: Sequence[Selection], beam: Beam) -> list[Statistics]:
    """Compute TFDV's statistics of all rows that are selected, by one pipeline.

    Args:
        folder: The folder of tables.
        selections: What of which table to look at.
        beam: The runner, and Beam's options for it.

    Returns:
        The statistics of each selection.

    Raises:
        ContractViolation: Beam refuses an option, the shared folder cannot be used, or the pipeline fails.
    """
    pipeline = new_pipeline(beam)
    with _shared_folder(beam, pipeline.options) as shared:
        places = [FileSystems.join(shared, f"{number}") for number in range(len(selections))]
        for number, (selection, place) in enumerate(zip(selections, places, strict=True)):
            _write_rows(folder, selection, f"{place}.parquet")
            _ = (
                pipeline
                | f"read {number}" >> apache_beam.io.ReadFromParquetBatched(f"{place}.parquet")
                | f"batches {number}" >> apache_beam.FlatMap(pa.Table.to_batches)
                | f"statistics {number}" >> GenerateStatistics(StatsOptions())
                | f"write {number}" >> WriteStatisticsToBinaryFile(f"{place}.pb")
            )
        try:
            with _quoted_interpreter():
                pipeline.run().wait_until_finish()
        # Each runner has errors of its own, of no common kind.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ContractViolation(
                f"the statistics could not be computed by {beam.runner}: {reason}. Look for the job's own log; correct "
                "validation.beam, or leave it out to compute them in the step."
            ) from error
        return [
            in_order(_read(f"{place}.pb"), selection.columns)
            for selection, place in zip(selections, places, strict=True)
        ]


@contextlib.contextmanager
def _quoted_interpreter() -> Iterator[None]:
    """Beam gives a shell its workers' interpreter as it is, and waits for ever for one whose path has a space."""
    interpreter = sys.executable
    sys.executable = shlex.quote(interpreter)
    try:
        yield
    finally:
        sys.executable = interpreter


def new_pipeline(beam: Beam) -> apache_beam.Pipeline:
    """A pipeline without steps, whose options Beam has looked through.

    Raises:
        ContractViolation: a value is of the wrong type, or Beam has another objection.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = PipelineOptions.from_dictionary({"runner": beam.runner.value, **beam.options})
            return apache_beam.Pipeline(options=options)
    except SystemExit as error:
        # Beam reads options as a command line is read, and answers as one does.
        reason = complaint.getvalue().strip().splitlines()[-1].partition("error: ")[2] or str(error)
    except ValueError as error:
        reason = " ".join(str(error).split())
    raise ContractViolation(f"Beam refuses validation.beam.options: {reason}. Correct it there.")


@contextlib.contextmanager
def _shared_folder(beam: Beam, options: PipelineOptions) -> Iterator[str]:
    """A new folder that the workers reach, removed again."""
    if beam.workers_are_here:
        with tempfile.TemporaryDirectory(prefix="beam-") as here:
            yield here
        return
    FileSystems.set_options(options)
    shared = FileSystems.join(str(beam.options["temp_location"]), f"statistics-{uuid.uuid4().hex}")
    try:
        FileSystems.mkdirs(shared)
    except (ValueError, OSError) as error:
        raise ContractViolation(
            f"temp_location of validation.beam.options cannot be written: {error}. Name a folder that the step and "
            "the workers reach: a mounted one, or gs://BUCKET/FOLDER."
        ) from error
    try:
        yield shared
    finally:
        if FileSystems.get_scheme(shared):
            FileSystems.delete([FileSystems.join(shared, "")])
        else:
            shutil.rmtree(shared)


def _write_rows(folder: Path, selection: Selection, place: str) -> None:
    with tempfile.TemporaryDirectory(prefix="beam-rows-") as scratch:
        file = Path(scratch).resolve() / "rows.parquet"
        with tables_database(folder, [selection.table], writable=file.parent) as connection:
            connection.execute(f"COPY ({tfdv_rows(selection, AS_LIST)}) TO {literal(str(file))} (FORMAT parquet)")
        with file.open("rb") as rows, FileSystems.create(place) as shared:
            shutil.copyfileobj(rows, shared)


def _read(place: str) -> Statistics:
    with FileSystems.open(place) as file:
        return Statistics.FromString(file.read())
