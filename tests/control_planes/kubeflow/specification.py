"""Submitted pipelines: what the API server refuses of a pipeline specification and of a run's parameters."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.control_planes.kubeflow.errors import ApiError, Code, invalid

SCHEMA_VERSION = "2.1.0"
PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
MAX_FILE_BYTES = 32 << 20
# Bytes of the names of things, as the database holds them.
LENGTHS = {
    "Experiment.Name": 128,
    "Experiment.Namespace": 63,
    "Pipeline.Name": 128,
    "Pipeline.Namespace": 63,
    "PipelineVersion.Name": 127,
    "Run.Namespace": 63,
    "Run.ExperimentId": 64,
}
ParameterType = pipeline_spec_pb2.ParameterType
# What a parameter of each type has to be, as a value of JSON, and as the message calls it.
KINDS = {
    ParameterType.NUMBER_DOUBLE: ("number_value", "double or integer", "number"),
    ParameterType.NUMBER_INTEGER: ("number_value", "double or integer", "number"),
    ParameterType.STRING: ("string_value", "string", "string"),
    ParameterType.BOOLEAN: ("bool_value", "bool", "bool"),
    ParameterType.LIST: ("list_value", "list", "list"),
    ParameterType.STRUCT: ("struct_value", "struct", "struct"),
}


def check_length(field: str, value: str) -> None:
    """Refuse a value that the database has no room for."""
    if len(value.encode()) > LENGTHS[field]:
        raise invalid(f"{field} length cannot exceed {LENGTHS[field]}")


@dataclass(frozen=True)
class Template:
    """A pipeline specification that was found to be one, with what it says of Kubernetes."""

    pipeline: dict[str, Any]
    platform: dict[str, Any]
    message: Any
    """The same pipeline, as the protocol buffer."""

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a specification, YAML or JSON, with or without a second document for the platform.

        Raises:
            ApiError: it is none.
        """
        try:
            documents = [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]
        except yaml.YAMLError as error:
            raise _malformed("unknown template format") from error
        pipelines = [found for document in documents if (found := _as_pipeline(document))]
        if not pipelines:
            raise _malformed("unknown template format")
        if len(pipelines) > 1:
            raise _malformed("multiple pipeline specs provided")
        platforms = [document for document in documents if isinstance(document, dict) and _is_platform(document)]
        if len(platforms) > 1:
            raise _malformed("multiple platform specs provided", "platform spec is invalid")
        ((document, message),) = pipelines
        if message.schema_version != SCHEMA_VERSION:
            raise _malformed(
                f"KFP only supports schema version {SCHEMA_VERSION}, but the pipeline spec has version "
                f"{message.schema_version}"
            )
        return cls(document, platforms[0] if platforms else {}, message)

    @classmethod
    def submitted(cls, specification: Mapping[str, Any]) -> Template:
        """The template of a request, which wraps the pipeline where it says something of the platform."""
        if "pipeline_spec" in specification:
            documents = [specification["pipeline_spec"], specification.get("platform_spec")]
            return cls.parse("\n---\n".join(json.dumps(document) for document in documents if document))
        return cls.parse(json.dumps(specification))

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.message.pipeline_info.name)

    def text(self) -> str:
        """It as a file that kfp reads."""
        return "\n---\n".join(json.dumps(document) for document in (self.pipeline, self.platform) if document)

    def as_struct(self) -> dict[str, Any]:
        """It as answers hold it."""
        if self.platform:
            return {"pipeline_spec": self.pipeline, "platform_spec": self.platform}
        return self.pipeline

    def check_name(self) -> None:
        """Refuse a name that the metadata store does not take."""
        if len(self.name) > 128:
            raise invalid("pipeline's name must contain no more than 128 characters")
        if not PIPELINE_NAME.fullmatch(self.name):
            raise invalid(
                "pipeline's name must contain only lowercase alphanumeric characters or '-' and must start with "
                "alphanumeric characters"
            )

    def check_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments that are missing, of another type, of none of the values allowed, or too many."""
        parameters = self.message.root.input_definitions.parameters
        for name, parameter in parameters.items():
            if name not in arguments:
                if not parameter.is_optional and not parameter.HasField("default_value"):
                    raise invalid(
                        f"parameter {name} is not optional, yet has neither default value nor user provided value"
                    )
                continue
            _check_value(name, parameter, json_format.ParseDict(arguments[name], struct_pb2.Value()))
        if extra := sorted(set(arguments) - set(parameters)):
            raise invalid(f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")


def _check_value(name: str, parameter: Any, value: Any) -> None:
    if parameter.parameter_type == ParameterType.TASK_FINAL_STATUS:
        raise invalid(f"input parameter {name} requires type TASK_FINAL_STATUS, which is invalid for root component")
    if parameter.parameter_type not in KINDS:
        raise invalid(f"input parameter {name} has unspecified type")
    kind, wanted, what = KINDS[parameter.parameter_type]
    if value.WhichOneof("kind") != kind:
        subject = "parameter value" if what == "number" else "input parameter"
        raise invalid(f"input parameter {name} requires type {wanted}, but the {subject} is not of {what} value type")
    if parameter.literals and value not in parameter.literals:
        allowed = ", ".join(json_format.MessageToJson(literal) for literal in parameter.literals)
        given = json_format.MessageToJson(value)
        raise invalid(
            f'input parameter "{name}" value {given} does not match any of the allowed literal values: [{allowed}]'
        )


def _as_pipeline(document: Any) -> tuple[dict[str, Any], Any] | None:
    if not isinstance(document, dict):
        return None
    message = pipeline_spec_pb2.PipelineSpec()
    try:
        # A round trip by JSON, as dates of YAML are no values of a specification.
        json_format.ParseDict(json.loads(json.dumps(document, default=str)), message)
    except json_format.ParseError:
        return None
    return (document, message) if message.pipeline_info.name and message.HasField("root") else None


def _is_platform(document: Mapping[str, Any]) -> bool:
    return "kubernetes" in (document.get("platforms") or {})


def _malformed(message: str, kind: str = "pipeline spec is invalid") -> ApiError:
    return ApiError(Code.invalid_argument, message, cause=kind)


def read_package(name: str, content: bytes) -> str:
    """The specification in an uploaded file: YAML, JSON, or the `pipeline.yaml` of a zip or a tarball.

    Raises:
        ValueError: it is none of these, or too large.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"the file is larger than {MAX_FILE_BYTES} bytes")
    if name.endswith((".yaml", ".yml", ".json")):
        return content.decode("utf-8")
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as package:
                return package.read(_pipeline_in(package.namelist())).decode("utf-8")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tarball:
            member = tarball.extractfile(_pipeline_in(tarball.getnames()))
            if member is None:
                raise ValueError("the tarball's pipeline.yaml is no file")
            return member.read().decode("utf-8")
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise ValueError("neither YAML, JSON, zip nor tar.gz") from error


def _pipeline_in(names: list[str]) -> str:
    if "pipeline.yaml" in names:
        return "pipeline.yaml"
    if len(names) == 1:
        return names[0]
    raise ValueError("more than one file, and none is pipeline.yaml")
