"""Compile pipelines to KFP v2 YAML: `python compile.py --target kubeflow` writes build/kubeflow/<pipeline>.yaml.

The project (configuration, feature definitions, expectations) is inside, so one file is the whole thing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_components, compile_pipeline, recurrence
from kfp_lifecycle.config.errors import ConfigurationError

ROOT = Path(__file__).resolve().parent
TARGETS = ("local", "kubeflow", "vertex")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 compiled, 2 the command or the project is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  python compile.py --target local\n"
        "  python compile.py --target vertex --pipeline training --image-registry europe-docker.example/churn\n"
        "  python compile.py --target kubeflow --project examples/cdnow --components",
    )
    parser.add_argument("--target", choices=TARGETS, required=True, help="where the pipelines will run")
    parser.add_argument("--pipeline", choices=PIPELINES, action="append", help="only this one; may be repeated")
    parser.add_argument("--project", type=Path, default=ROOT, help="the project's folder (this one by default)")
    parser.add_argument("--output", type=Path, help="folder to write to (build/TARGET by default)")
    parser.add_argument("--components", action="store_true", help="also each component, to the folder's `components`")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a configuration key"
    )
    parser.add_argument(
        "--image-registry",
        default="",
        metavar="PREFIX",
        help="registry and repository of images built from environments/Dockerfile; without it each step installs "
        "the same pinned packages on a stock Python image",
    )
    options = parser.parse_args(arguments)
    output = options.output or ROOT / "build" / options.target
    try:
        for name in options.pipeline or PIPELINES:
            file = output / f"{name}.yaml"
            configuration = compile_pipeline(
                name,
                options.target,
                options.project,
                file,
                overrides=options.overrides,
                image_registry=options.image_registry,
            )
            cron = recurrence(configuration, name, options.target)
            print(f"{file}  {file.stat().st_size / 1024:.0f} KiB" + (f"  recurs: {cron}" if cron else ""))
        if options.components:
            folder = options.output / "components" if options.output else ROOT / "build" / "components"
            written = compile_components(options.target, options.project, folder, image_registry=options.image_registry)
            print(f"{folder}  {len(written)} components")
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
