"""Compile pipelines to KFP v2 YAML: `python compile.py --target kubeflow` writes build/kubeflow/<pipeline>.yaml.

It is `lifecycle compile`; `python compile.py --help` shows its options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# A checkout that is not installed is imported from where it stands.
sys.path.append(str(Path(__file__).resolve().parent / "src"))

from kfp_lifecycle.cli.cli import main


def compile_command(arguments: Sequence[str]) -> int:
    """Run `lifecycle compile`; returns its exit code: 0 compiled, 2 the command or the project is wrong."""
    return main(["compile", *arguments])


if __name__ == "__main__":
    sys.exit(compile_command(sys.argv[1:]))
