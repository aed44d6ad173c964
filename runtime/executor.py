"""KFP executor of a step: runs one component's function with what the backend says of its inputs and outputs.

`python -m kfp_lifecycle.runtime.executor COMPONENT_MODULE --executor_input JSON --function_to_execute NAME`

`@FILE` in place of JSON names a file that holds it: Linux takes no argument of more than 128 KiB, and the settings of a
wide table may have more.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp_lifecycle.runtime.contract import STEP_VARIABLE

# How a reference to a secret begins, and what resolves it.
REFERENCE = "secretmanager://"
SECRET_MANAGER = "kfp_lifecycle.runtime.secret_manager"
# The input that a step's code comes by; no function takes it.
CODE_INPUT = "code"


def whole_numbers(value: Any) -> Any:
    """A KFP struct with its whole numbers as int: where it has been a protobuf, each number reads as float."""
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def told(given: str) -> dict[str, Any]:
    """KFP's ExecutorInput, of its JSON or of the file that holds it."""
    content = Path(given[1:]).read_text("utf-8") if given.startswith("@") else given
    read: dict[str, Any] = json.loads(content)
    return read


def execute(module: str, function: str, executor_input: dict[str, Any]) -> None:
    """Run a component's function, and write what it returns and says of its outputs where KFP looks for it.

    Args:
        module: Dotted name of the module that declares the component.
        function: The component's name in it.
        executor_input: KFP's `ExecutorInput`.
    """
    # kfp then imports what runs a step, and not what compiles one, whose libraries no environment but one has.
    os.environ["_KFP_RUNTIME"] = "true"
    from kfp.dsl.executor import Executor

    component = getattr(importlib.import_module(module), function)
    os.environ[STEP_VARIABLE] = function
    if any(value.startswith(REFERENCE) for value in os.environ.values()):
        # Looked for only where it is needed: an exit handler's own archive has it on Vertex AI alone.
        importlib.import_module(SECRET_MANAGER).resolve_or_stop()
    inputs = executor_input.get("inputs", {})
    inputs.get("artifacts", {}).pop(CODE_INPUT, None)
    parameters = inputs.get("parameterValues", {})
    if "settings" in parameters:
        parameters["settings"] = whole_numbers(parameters["settings"])
    Executor(executor_input=executor_input, function_to_execute=component.function).execute()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line, as a compiled pipeline has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="dotted name of the module that declares the component")
    parser.add_argument("--executor_input", type=told, required=True, help="KFP's ExecutorInput, as JSON or @FILE")
    parser.add_argument("--function_to_execute", required=True, help="the component's name")
    options = parser.parse_args(arguments)
    execute(options.module, options.function_to_execute, options.executor_input)


if __name__ == "__main__":
    main()
