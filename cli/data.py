"""`lifecycle data`: the versions of the data that runs learned from, and a way back to each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfp_lifecycle.cli.console import AsJson, out, refuse, write_json
from kfp_lifecycle.local.environment_module import run_module

if TYPE_CHECKING:
    from kfp_lifecycle.local.run_records import RunRecord

data = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The versions of the data that runs learned from: list them, and bring one back.",
)

VERSION_CHARACTERS = 8


@dataclass(frozen=True)
class DatasetVersion:
    """A version of a project's tables, as the runs of this checkout stored it."""

    version: str
    project: str
    as_of: str
    rows: dict[str, int]
    remote: str
    runs: list[str]
    """Those that worked on it, the newest first."""


def dataset_versions() -> list[DatasetVersion]:
    """The versions that the runs of this checkout stored, the one used last first."""
    from kfp_lifecycle.local.run_records import all_runs

    found: dict[str, tuple[RunRecord, dict[str, Any], list[str]]] = {}
    for run in all_runs():
        dataset = run.progress().artifact("dataset")
        if dataset is not None:
            _, metadata = dataset
            found.setdefault(metadata["version"], (run, metadata, []))[2].append(run.id)
    return [
        DatasetVersion(
            version=version,
            project=run.project,
            as_of=metadata["as_of"],
            # kfp hands numbers within a mapping on as floats.
            rows={table: int(rows) for table, rows in sorted(metadata["rows"].items())},
            remote=metadata["remote"],
            runs=runs,
        )
        for version, (run, metadata, runs) in found.items()
    ]


@data.command()
def log(as_json: AsJson = False) -> None:
    """List the versions of the data that runs on this machine stored, the one used last first.

    The same content has the same version, whichever run stored it.

    Example: `lifecycle data log`
    """
    versions = dataset_versions()
    if as_json:
        write_json([asdict(version) for version in versions])
        return
    if not versions:
        out.print("no run has stored data yet; start one with `lifecycle run training`", markup=False)
        return
    for version in versions:
        out.say(
            f"{version.version[:VERSION_CHARACTERS]}  {version.project}, {sum(version.rows.values()):,} rows"
            f"{f' up to {version.as_of[:16]}'.replace('T', ' ') if version.as_of else ''}, in {version.remote}"
        )
        more = f" and {len(version.runs) - 1} before it" if len(version.runs) > 1 else ""
        out.say(f"          run {version.runs[0]}{more}")


@data.command()
def checkout(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As `lifecycle data log` lists it, or in full.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder to write; it must not exist.")],
    remote: Annotated[
        str | None,
        typer.Option("--remote", metavar="URL", help="Where it is stored, for a version that no run here stored."),
    ] = None,
) -> None:
    """Bring the tables of a version back, byte by byte: a Parquet file for each, and their manifest.

    Example: `lifecycle data checkout a7e77a59 --output tables`

    Exit codes: 0 done, 1 the remote does not have it or cannot be reached, 2 the command is wrong.
    """
    from kfp_lifecycle.artifacts.tables import Manifest

    known = [each for each in dataset_versions() if each.version.startswith(version)]
    if remote is None and len(known) != 1:
        refuse(
            f"{version} may be any of {', '.join(each.version for each in known)}: give more of it"
            if known
            else f"no run on this machine stored a version {version}: name one of `lifecycle data log`, or add "
            "--remote URL and the whole version"
        )
    if output.exists():
        refuse(f"--output {output}: there is something already; name a new folder")
    chosen = known[0].version if len(known) == 1 else version
    module = "kfp_lifecycle.components.data.version_dataset.versioning"
    run_module("validation", module, chosen, remote or known[0].remote, str(output.resolve()))
    told = ", ".join(f"{table} {summary.rows:,}" for table, summary in Manifest.read(output).tables.items())
    out.say(f"{output}: version {chosen}, rows: {told}")
