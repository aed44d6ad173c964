"""`lifecycle compile`: pipelines to KFP YAML, and beside it the files that their steps fetch."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kfp_lifecycle.cli.console import Project, Settings, out, project_folder, refuse
from kfp_lifecycle.cli.targets import TargetOption

# How a folder is brought to an object store, by what its URI begins with.
COPIES = {
    "gs": "gcloud storage rsync --recursive {folder} {root}",
    "s3": "aws s3 sync {folder} {root}",
    # The name that `mc alias set` gave to the cluster's store.
    "minio": "mc mirror {folder} ALIAS/{path}",
}


class VehicleOption(StrEnum):
    """How code reaches the steps on a cluster."""

    image = "image"
    artifact = "artifact"


def compile_pipelines(
    target: Annotated[TargetOption, typer.Option("--target", help="Where the pipelines will run.")],
    pipeline: Annotated[
        list[str] | None,
        typer.Option(
            "--pipeline",
            metavar="NAME",
            help="Only this one: training, monitoring, batch_scoring or materialization; may be repeated.",
        ),
    ] = None,
    project: Project = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write to; build/TARGET by default.")
    ] = None,
    vehicle: Annotated[
        VehicleOption | None,
        typer.Option(
            "--vehicle",
            help="How code reaches the steps of a cluster: in the environments' images, or in an archive that is "
            "uploaded and given to each step. By default `image` where a registry is named.",
        ),
    ] = None,
    image_registry: Annotated[
        str,
        typer.Option(
            "--image-registry",
            metavar="PREFIX",
            help="Registry and prefix of images built from environments/Dockerfile.",
        ),
    ] = "",
    settings: Settings = None,
    components: Annotated[
        bool, typer.Option("--components", help="Also each component, to the folder's `components`.")
    ] = False,
) -> None:
    """Compile pipelines to KFP v2 YAML, one file each, and write what has to be uploaded beside them.

    Code does not ride in the YAML. Its steps fetch the project's definitions, and without a registry their code, from
    the target's `upload_root`; the files for it are in the folder `upload`, each named by its content's digest.

    Example: `lifecycle compile --target kubeflow --pipeline training`

    Example: `lifecycle compile --target vertex --image-registry europe-docker.pkg.dev/churn/images`

    Exit codes: 0 compiled, 2 the command or the project is wrong.
    """
    from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_components, compile_pipeline, recurrence

    unknown = sorted(set(pipeline or []) - set(PIPELINES))
    if unknown:
        refuse(f"there is no pipeline {', '.join(unknown)}; there are {', '.join(PIPELINES)}")
    folder = output or Path("build") / target
    upload, root = folder / "upload", ""
    shutil.rmtree(upload, ignore_errors=True)
    for name in pipeline or PIPELINES:
        file = folder / f"{name}.yaml"
        compiled = compile_pipeline(
            name,
            target.value,
            project_folder(project),
            file,
            overrides=settings or [],
            vehicle=vehicle.value if vehicle else None,
            image_registry=image_registry,
        )
        cron = recurrence(compiled.configuration, name, target.value)
        out.print(
            f"{file}  {file.stat().st_size / 1024:.0f} KiB" + (f"  recurs: {cron}" if cron else ""), soft_wrap=True
        )
        root = compiled.upload_root
        for item in compiled.uploads:
            item.write(upload, root)
    if components:
        written = compile_components(folder / "components", image_registry=image_registry)
        out.print(f"{folder / 'components'}  {len(written)} components", soft_wrap=True)
    if root:
        size = sum(file.stat().st_size for file in upload.rglob("*") if file.is_file())
        out.print(f"\nThe steps fetch {size / 1024:,.0f} KiB from {root}. Before the first run:", soft_wrap=True)
        scheme, _, path = root.partition("://")
        out.say(f"  {COPIES[scheme].format(folder=upload, root=root, path=path)}")
