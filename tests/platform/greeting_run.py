"""`lifecycle` where `lifecycle run` runs the pipeline of greetings: all is real but what is compiled.

GREETING holds the pipeline's parameters as JSON, COMPILING a file that compiling touches before it waits for ever.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from kfp import compiler

from kfp_lifecycle.cli.cli import main
from kfp_lifecycle.compilation.pipeline import CompiledPipeline
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.local import runs


def compile_greeting(
    pipeline: str, target: str, project: Path, output: Path, *, overrides: list[str], state: Path
) -> CompiledPipeline:
    if "COMPILING" in os.environ:
        Path(os.environ["COMPILING"]).touch()
        time.sleep(600)
    # Its components are built when it is imported.
    from test_kfp_runner import greeting_pipeline

    parameters: dict[str, Any] = json.loads(os.environ["GREETING"])
    compiler.Compiler().compile(greeting_pipeline, str(output), pipeline_parameters=parameters)
    return CompiledPipeline(load_configuration(project, overrides))


runs.compile_pipeline = compile_greeting  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(main())
