"""Decoding of v1 and v2 inference requests: rows of named values, or the words that say what is wrong with one."""

from __future__ import annotations

import difflib
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kserve import InferInput, InferRequest
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.infer_type import to_http_parameters

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER, Feature
from kfp_lifecycle.serving.client import SHADOW_HEADER

NUMBERS = ("FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
WHOLE_NUMBERS = tuple(name for name in NUMBERS if "INT" in name)

Row = dict[str, Any]


@dataclass(frozen=True)
class PredictionRequest:
    """What was asked, whatever the protocol."""

    id: str
    rows: list[Row]
    """For each row the values that were sent, by feature name or entity key; None is a missing value."""
    request_time: datetime | None
    """The moment that looked up features are for; None: the present."""
    shadow: bool


class Decoder:
    """Reads requests for one model."""

    def __init__(self, features: Sequence[Feature], entity_key: str, max_rows: int) -> None:
        """Set up for a model.

        Args:
            features: The model's inputs.
            entity_key: Name under which a request may name an entity instead of, or beside, features.
            max_rows: Most rows one request may hold.
        """
        self.types: dict[str, str] = {feature.name: feature.type for feature in features}
        self.entity_key = entity_key
        self.max_rows = max_rows

    def decode(self, payload: object, headers: Mapping[str, str]) -> PredictionRequest:
        """Read a request of either protocol.

        Raises:
            InvalidInput: the request cannot be answered; the message says which part of it and why.
        """
        if isinstance(payload, InferRequest):
            parameters = to_http_parameters(payload.parameters or {})
            rows, identifier = self._tensors(payload.inputs), payload.id
        else:
            body = self._body(payload)
            parameters, rows, identifier = body.get("parameters") or {}, self._instances(body["instances"]), None
        if not isinstance(parameters, Mapping):
            raise InvalidInput(f"`parameters` must hold names and values, not {_shown(parameters)}")
        return PredictionRequest(
            id=identifier or headers.get("x-request-id") or str(uuid.uuid4()),
            rows=rows,
            request_time=_time(parameters.get("request_time")),
            shadow=headers.get(SHADOW_HEADER) == "true" or parameters.get("shadow") is True,
        )

    def _body(self, payload: object) -> Mapping[str, Any]:
        if not isinstance(payload, Mapping) or not isinstance(payload.get("instances"), list):
            raise InvalidInput(
                'a v1 request must be JSON (content-type: application/json) such as {"instances": [{"'
                f'{self.entity_key}": …}}]}}: a list of objects with a value for each feature, or the entity key'
            )
        return payload

    def _instances(self, instances: list[object]) -> list[Row]:
        self._check_count(len(instances), "`instances`")
        rows: list[Row] = []
        for position, instance in enumerate(instances):
            if not isinstance(instance, dict):
                raise InvalidInput(f"instance {position} must be an object with named values, not {_shown(instance)}")
            rows.append({name: self._value(name, value, position) for name, value in instance.items()})
        return rows

    def _tensors(self, tensors: Sequence[InferInput]) -> list[Row]:
        if not tensors:
            raise InvalidInput("`inputs` is empty: send one tensor for each feature, or the entity key")
        columns: dict[str, list[Any]] = {}
        for tensor in tensors:
            if tensor.name in columns:
                raise InvalidInput(f"input `{tensor.name}` is there twice")
            columns[tensor.name] = self._column(tensor)
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidInput(f"all inputs must have the same number of rows, not {lengths}")
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _column(self, tensor: InferInput) -> list[Any]:
        allowed = self._datatypes(tensor.name)
        if tensor.datatype not in allowed:
            raise InvalidInput(
                f"input `{tensor.name}` has the datatype {tensor.datatype}; it must be one of {', '.join(allowed)}"
            )
        shape = [int(size) for size in tensor.shape]
        if not shape or any(size != 1 for size in shape[1:]):
            raise InvalidInput(f"input `{tensor.name}` has the shape {shape}; it must be [N] or [N, 1]")
        self._check_count(shape[0], f"input `{tensor.name}`")
        values = _flat(tensor)
        if len(values) != shape[0]:
            raise InvalidInput(f"input `{tensor.name}` has the shape {shape} but {len(values)} values")
        return [self._value(tensor.name, value, position) for position, value in enumerate(values)]

    def _datatypes(self, name: str) -> tuple[str, ...]:
        if name == self.entity_key:
            return ("BYTES", *WHOLE_NUMBERS)
        return NUMBERS if self._type(name) == "numeric" else ("BYTES",)

    def _type(self, name: str) -> str:
        known = self.types.get(name)
        if known is None:
            names = [*self.types, self.entity_key]
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(names)}"
            raise InvalidInput(f"`{name}` is no input of this model; {hint}")
        return known

    def _value(self, name: str, value: object, position: int) -> Any:
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise InvalidInput(f"`{name}` in row {position} is not UTF-8 text") from error
        if name == self.entity_key:
            if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
                raise InvalidInput(f"`{name}` in row {position} must name an entity, not {_shown(value)}")
            return value
        kind = self._type(name)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if kind == "categorical":
            if not isinstance(value, str):
                raise InvalidInput(f"`{name}` in row {position} must be text or null, not {_shown(value)}")
            return value
        if not isinstance(value, int | float):
            raise InvalidInput(f"`{name}` in row {position} must be a number or null, not {_shown(value)}")
        if abs(value) > LARGEST_NUMBER:
            raise InvalidInput(
                f"`{name}` in row {position} is {_shown(value)}: a number must be finite and fit 32 bits; "
                "send null where it is missing"
            )
        return value

    def _check_count(self, rows: int, what: str) -> None:
        if rows < 1:
            raise InvalidInput(f"{what} holds no rows; send at least one")
        if rows > self.max_rows:
            raise InvalidInput(f"{what} holds {rows:,} rows; one request may hold {self.max_rows:,}: send several")


def _flat(tensor: InferInput) -> list[Any]:
    """The values of a tensor in row order, however they came: raw bytes, a flat list, or one list for each row."""
    if tensor._raw_data is None and isinstance(tensor.data, list):
        nested = [item if isinstance(item, list) else [item] for item in tensor.data]
        return [value for items in nested for value in items]
    try:
        values: list[Any] = tensor.as_numpy().reshape(-1).tolist()
    except (ValueError, TypeError, InferenceError, ArithmeticError, IndexError) as error:
        raise InvalidInput(f"the data of input `{tensor.name}` does not fit its datatype and shape: {error}") from error
    return values


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidInput(
            f"`request_time` must be an ISO 8601 time such as 2026-01-31T12:00:00Z, not {_shown(value)}"
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _shown(value: object) -> str:
    """A value as a message shows it: never more of a request than helps."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
