"""Images of the environments: built from one Dockerfile, with the library's wheel as their last layer, and named as
pipelines that are compiled with `--image-registry` ask for them.

`python -m kfp_lifecycle.compilation.images --registry PREFIX [--base IMAGE] [--builder docker] [--push] [ENVIRONMENT…]`
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kfp_lifecycle.compilation.code import library_digest
from kfp_lifecycle.compilation.pipeline import components
from kfp_lifecycle.compilation.target import Target
from kfp_lifecycle.environments.locks import HERE as LOCKS
from kfp_lifecycle.environments.locks import lock_digest
from kfp_lifecycle.runtime.closure import ROOT

BUILDERS = ("docker", "podman", "buildah")


def environments() -> list[str]:
    """The environments that steps and servers run in."""
    return sorted({component.environment for component in components().values()})


def build_wheel(folder: Path) -> Path:
    """Build the library's wheel from a checkout.

    Raises:
        SystemExit: this is no checkout, or the wheel could not be built.
    """
    if not (ROOT / "pyproject.toml").is_file():
        sys.exit("error: images are built from a checkout of the library, and this is an installed one")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    if subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit("error: the wheel could not be built: the lines above say why")
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_image(environment: str, name: str, wheel: Path, builder: Sequence[str], base: str = "") -> None:
    """Build one image, out of nothing but the Dockerfile, the environment's locks and the wheel.

    Raises:
        SystemExit: it could not be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in (
            LOCKS / "Dockerfile",
            *(LOCKS / f"{lock}.txt" for lock in ("bootstrap", "kfp", environment)),
            wheel,
        ):
            shutil.copy(file, folder)
        given = {"ENVIRONMENT": environment, "LOCK_DIGEST": lock_digest(environment), "WHEEL": wheel.name}
        given |= {"BASE": base} if base else {}
        arguments = [part for key, value in given.items() for part in ("--build-arg", f"{key}={value}")]
        if subprocess.run([*builder, "build", *arguments, "--tag", name, folder], check=False).returncode:
            sys.exit(f"error: {name} could not be built: the lines above say why")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of `make images`."""
    known = environments()
    parser = argparse.ArgumentParser(description="Build the images of the environments.")
    parser.add_argument("environment", nargs="*", help=f"only these of {', '.join(known)}")
    parser.add_argument("--registry", required=True, help="registry and prefix, as for compile's --image-registry")
    parser.add_argument("--base", default="", help="what they are built on; by default what the Dockerfile names")
    parser.add_argument("--builder", help="docker, podman or buildah, with its own options; by default the first here")
    parser.add_argument("--push", action="store_true", help="push each image when it is built")
    options = parser.parse_args(arguments)
    if unknown := set(options.environment) - set(known):
        parser.error(f"no step runs in {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    builder = (options.builder or next(filter(shutil.which, BUILDERS), "")).split()
    if not builder:
        sys.exit(f"error: nothing here builds images: install {', '.join(BUILDERS[:-1])} or {BUILDERS[-1]}")
    target = Target("kubeflow", "image", image_registry=options.registry, library_digest=library_digest())
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        for environment in options.environment or known:
            name = target.image(environment)
            build_image(environment, name, wheel, builder, options.base)
            if options.push and subprocess.run([*builder, "push", name], check=False).returncode:
                sys.exit(f"error: {name} could not be pushed: the lines above say why")
            print(name)


if __name__ == "__main__":
    main()
