"""Parameters of a pipeline: what a run may be given, judged before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType, PipelineSpec

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.run_parameters import check_meaning
from kfp_lifecycle.config.strict_yaml import load_yaml

# KFP's types in words, and the Python types of their values.
KINDS: Mapping[int, tuple[str, tuple[type, ...]]] = {
    ParameterType.STRING: ("text", (str,)),
    ParameterType.NUMBER_INTEGER: ("a whole number", (int,)),
    ParameterType.NUMBER_DOUBLE: ("a number", (int, float)),
    ParameterType.BOOLEAN: ("true or false", (bool,)),
    ParameterType.LIST: ("a list", (list,)),
    ParameterType.STRUCT: ("a mapping", (dict,)),
}


@dataclass(frozen=True)
class Parameter:
    """A parameter that a compiled pipeline declares."""

    name: str
    kind: int
    """KFP's ParameterType."""
    default: Any = None
    required: bool = False

    def __str__(self) -> str:
        ending = "required" if self.required else f"by default {json.dumps(self.default)}"
        return f"{self.name} ({KINDS[self.kind][0]}, {ending})"

    def holds(self, value: Any) -> bool:
        """Whether a value is of its type; true and false are no numbers."""
        return isinstance(value, KINDS[self.kind][1]) and (
            not isinstance(value, bool) or self.kind == ParameterType.BOOLEAN
        )


def parameters_of(pipeline: PipelineSpec) -> dict[str, Parameter]:
    """The parameters that a compiled pipeline declares, by name."""
    declared = pipeline.root.input_definitions.parameters
    found = {}
    for name in sorted(declared):
        kind, default = declared[name].parameter_type, None
        if declared[name].HasField("default_value"):
            default = json_format.MessageToDict(declared[name].default_value)
        if isinstance(default, float) and kind == ParameterType.NUMBER_INTEGER:
            # A protobuf value knows one kind of number.
            default = int(default)
        found[name] = Parameter(name, kind, default, default is None and not declared[name].is_optional)
    return found


def check_parameters(
    pipeline: str, declared: Mapping[str, Parameter], given: Mapping[str, Any], configuration: Configuration
) -> None:
    """See that a pipeline of a project can be given these parameters.

    Raises:
        ConfigurationError: one is unknown, of another type, or missing, and the message names those that there are; or
            its text means nothing, or nothing that a run of the project could do.
    """
    there = "; ".join(map(str, declared.values()))
    has = f"it has: {there}" if there else "it has none"
    for name, value in given.items():
        if name not in declared:
            raise ConfigurationError(f"the pipeline {pipeline} has no parameter {name}; {has}")
        if not declared[name].holds(value):
            kind = KINDS[declared[name].kind][0]
            raise ConfigurationError(
                f"the parameter {name} of the pipeline {pipeline} is {kind}, and {value!r} is not; {has}"
            )
        try:
            check_meaning(name, value, configuration, datetime.now(UTC))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    missing = [name for name, parameter in declared.items() if parameter.required and name not in given]
    if missing:
        raise ConfigurationError(f"the pipeline {pipeline} needs the parameter {', '.join(missing)}; {has}")


def read_parameters(
    pipeline: str, declared: Mapping[str, Parameter], given: Sequence[str], configuration: Configuration
) -> dict[str, Any]:
    """Parameters as they are typed, each in its type.

    Args:
        pipeline: The pipeline's name, for messages.
        declared: What it declares.
        given: `NAME=VALUE`; the value is YAML, unless the parameter is a text.
        configuration: The project's.

    Raises:
        ConfigurationError: one has no `=`, or as `check_parameters`.
    """
    values: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            raise ConfigurationError(f"--parameter {item!r} must look like NAME=VALUE, such as as_of=2026-11-01")
        name = name.strip()
        parameter = declared.get(name)
        values[name] = text
        if parameter is not None and parameter.kind != ParameterType.STRING:
            try:
                values[name] = load_yaml(text)
            except yaml.YAMLError as error:
                raise ConfigurationError(f"--parameter {name}: {text!r} is not a YAML value: {error}") from error
    check_parameters(pipeline, declared, values, configuration)
    return values
