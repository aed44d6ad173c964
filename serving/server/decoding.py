"""Decoding of inference requests: v1 and v2 in JSON, v2 with binary data, v2 over gRPC; all become columns.

Whatever is wrong with a request is found here, before anything is looked up or scored, and said in words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Union

import msgspec
import numpy as np

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER, Feature
from kfp_lifecycle.serving.server.batch import CONTRIBUTIONS, HOLD_OUT, OUTPUTS, Batch, PredictionRequest
from kfp_lifecycle.serving.server.errors import InvalidRequest, shown
from kfp_lifecycle.serving.server.hold_out import HoldOut
from kfp_lifecycle.serving.server.identifiers import Key, entity_key, plain_id, request_id
from kfp_lifecycle.serving.server.inference_pb2 import ModelInferRequest
from kfp_lifecycle.serving.server.repeated_members import refuse_repeated
from kfp_lifecycle.serving.server.tensors import (
    DATATYPES,
    NUMERIC,
    TEXT,
    WHOLE,
    Datatype,
    bounded,
    from_contents,
    from_json,
    from_raw,
    in_words,
    numbers,
    texts,
)


class _Tensor(msgspec.Struct):  # type: ignore[misc]
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct):  # type: ignore[misc]
    name: str
    parameters: dict[str, Any] | None = None


class _V2Request(msgspec.Struct):  # type: ignore[misc]
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _V1Request(msgspec.Struct):  # type: ignore[misc]
    instances: list[dict[str, float | int | bool | str | None]]
    parameters: dict[str, Any] | None = None


_V1, _V2 = msgspec.json.Decoder(_V1Request), msgspec.json.Decoder(_V2Request)
_FLAT_TENSOR: Any = Union[tuple(datatype.tensor for datatype in DATATYPES.values())]  # noqa: UP007
# The same as `_V2Request`, values included: one call for all tensors, where they are flat and of their datatypes.
_FLAT_V2 = msgspec.json.Decoder(
    msgspec.defstruct(
        "_FlatV2Request",
        [
            ("inputs", list[_FLAT_TENSOR]),
            ("id", str | None, None),
            ("parameters", dict[str, Any] | None, None),
            ("outputs", list[_Output] | None, None),
        ],
    )
)
_DATATYPE_OF = {datatype.tensor: datatype for datatype in DATATYPES.values()}


class Decoder:
    """Reads requests for one model."""

    def __init__(
        self,
        features: Sequence[Feature],
        entity_key: str,
        max_rows: int,
        most_explained: int = 0,
        hold_out: HoldOut | None = None,
        key_type: str = "",
    ) -> None:
        """Set up for a model.

        Args:
            features: The model's inputs.
            entity_key: Name under which a request may name an entity instead of, or beside, features.
            max_rows: Most rows one request may hold.
            most_explained: Most rows that contributions of features may be asked for; 0: none.
            hold_out: Who is held out; None: nobody is.
            key_type: DuckDB's type of the entity's key; empty where it is not known.
        """
        self.entity_key, self._key_type = entity_key, key_type
        self.max_rows = max_rows
        self.most_explained = most_explained
        self._hold_out = hold_out
        # What is answered where nobody says what is wanted, and what may be asked for.
        self.usual: tuple[str, ...] = (*OUTPUTS, HOLD_OUT) if hold_out else tuple(OUTPUTS)
        self.outputs = (*self.usual, CONTRIBUTIONS) if most_explained else self.usual
        self._unchosen = _Chosen(self.outputs)
        self.numeric = [feature.name for feature in features if feature.type == "numeric"]
        self.categorical = [feature.name for feature in features if feature.type == "categorical"]
        self._allowed = dict.fromkeys(self.numeric, NUMERIC) | dict.fromkeys(self.categorical, (TEXT,))
        self._allowed[entity_key] = (TEXT, *WHOLE)
        # The datatypes whose decoders of JSON know all of their bounds.
        self._flat = {
            name: {DATATYPES[kind] for kind in allowed if DATATYPES[kind].largest is None}
            for name, allowed in self._allowed.items()
        }

    def v2(self, body: bytes, json_length: int | None = None, id_header: str = "") -> PredictionRequest:
        """Read a v2 request.

        Args:
            body: JSON, which raw bytes of tensors may follow.
            json_length: Where the JSON ends, if they do.
            id_header: The request's id where the body has none.

        Raises:
            InvalidRequest: it cannot be answered; the message says which part of it and why.
        """
        if json_length is not None and not 0 < json_length <= len(body):
            raise InvalidRequest(
                f"inference-header-content-length is {json_length}, and the body has {len(body):,} bytes"
            )
        content = body if json_length is None else body[:json_length]
        try:
            request = _FLAT_V2.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # A list for each row, or a mistake: tensor by tensor, so that it can be said where.
            request = _parsed(_V2, content)
        try:
            refuse_repeated(content, _members_of(request))
            return self._v2(request, memoryview(body)[len(body) if json_length is None else json_length :], id_header)
        except InvalidRequest as refused:
            refused.request_id = plain_id(request.id)
            raise

    def _v2(self, request: Any, rest: memoryview, id_header: str) -> PredictionRequest:
        """A v2 request out of its JSON, flat or tensor by tensor, and the raw bytes that follow."""
        columns: dict[str, tuple[Datatype, Any]] = {}
        rows: int | None = None
        for tensor in request.inputs:
            name, shape, values, datatype = tensor.name, tensor.shape, tensor.data, _DATATYPE_OF.get(type(tensor))
            if (
                datatype is not None
                and datatype in self._flat.get(name, ())
                and len(shape) == 1
                and shape[0] == rows
                and values is not msgspec.UNSET
                and len(values) == rows
                and not tensor.parameters
                and name not in columns
            ):
                # Nearly every tensor, so nothing else is done for it.
                columns[name] = datatype, values
                continue
            columns[name], rest = self._column(tensor, datatype, rows, columns, rest)
            rows = shape[0]
        if len(rest):
            raise InvalidRequest(f"{len(rest):,} bytes follow the last tensor; no input's binary_data_size claims them")
        binary = _parameter(request.parameters, "binary_data_output", bool) is True
        chosen = self._unchosen
        if request.outputs or binary:
            chosen = _Chosen(self.outputs)
            for output in request.outputs or [_Output(name) for name in self.usual]:
                own = _parameter(output.parameters, "binary_data", bool)
                chosen.add(output.name, binary if own is None else own)
        return self._request(request.id, id_header, columns, rows or 0, request.parameters, chosen)

    def _column(
        self,
        tensor: Any,
        datatype: Datatype | None,
        before: int | None,
        columns: Mapping[str, tuple[Datatype, Any]],
        rest: memoryview,
    ) -> tuple[tuple[Datatype, Any], memoryview]:
        """Datatype and values of a tensor, and the raw bytes after it.

        Args:
            tensor: As it was decoded.
            datatype: Its datatype, whose values its data are; None where they have yet to be decoded.
            before: How many rows the tensor before it has; None for the first one.
            columns: The tensors before it.
            rest: The raw bytes that no tensor before it claims.
        """
        name, said = tensor.name, tensor.datatype if datatype is None else datatype.name
        checked, nested = self._checked(name, said, tensor.shape, columns)
        rows = self._same_rows(name, tensor.shape[0], before)
        size = _binary_size(tensor)
        if size is not None:
            if size > len(rest):
                raise InvalidRequest(f"input `{name}` says {size:,} raw bytes; {len(rest):,} are left")
            return (checked, from_raw(name, checked, rows, rest[:size])), rest[size:]
        if datatype is None:
            values = from_json(name, checked, tensor.data, nested)
        else:
            values = bounded(name, checked, tensor.data)
        if len(values) != rows:
            raise InvalidRequest(f"input `{name}` has the shape {tensor.shape} but {len(values)} values")
        return (checked, values), rest

    def grpc(self, message: ModelInferRequest, id_metadata: str = "") -> PredictionRequest:
        """Read a v2 request over gRPC.

        Args:
            message: The request.
            id_metadata: Its id where the message has none.

        Raises:
            InvalidRequest: as `v2`.
        """
        raw = message.raw_input_contents
        if raw and len(raw) != len(message.inputs):
            raise InvalidRequest(f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs")
        columns: dict[str, tuple[Datatype, Any]] = {}
        rows: int | None = None
        for position, tensor in enumerate(message.inputs):
            name = tensor.name
            datatype, _ = self._checked(name, tensor.datatype, list(tensor.shape), columns)
            rows = self._same_rows(name, tensor.shape[0], rows)
            if raw:
                if tensor.HasField("contents") and tensor.contents.ListFields():
                    raise InvalidRequest(f"input `{name}` has contents, and raw_input_contents beside them")
                columns[name] = datatype, from_raw(name, datatype, rows, raw[position])
                continue
            values = from_contents(name, datatype, tensor.contents)
            if len(values) != rows:
                raise InvalidRequest(f"input `{name}` has the shape {list(tensor.shape)} but {len(values)} values")
            columns[name] = datatype, values
        chosen = _Chosen(self.outputs)
        for output in message.outputs or ():
            chosen.add(output.name, binary=True)
        parameters = {
            name: getattr(parameter, kind) if (kind := parameter.WhichOneof("parameter_choice")) else None
            for name, parameter in message.parameters.items()
        }
        return self._request(message.id, id_metadata, columns, rows or 0, parameters, chosen)

    def v1(self, body: bytes, id_header: str = "", explain: bool = False) -> PredictionRequest:
        """Read a v1 request: rows of named values, of which each may lack others.

        Args:
            body: JSON.
            id_header: The request's id.
            explain: Whether the scores' reasons are asked for, too.

        Raises:
            InvalidRequest: as `v2`.
        """
        request = _parsed(_V1, body)
        refuse_repeated(body, 1 + sum(map(len, request.instances)) + _members(request.parameters))
        rows = self._count(len(request.instances), "`instances`")
        given: dict[str, list[Any]] = {}
        holders: dict[str, list[int]] = {}
        for position, instance in enumerate(request.instances):
            for name, value in instance.items():
                if name not in given:
                    self._known(name)
                    given[name], holders[name] = [None] * rows, []
                given[name][position] = value
                holders[name].append(position)
        columns = {name: self._v1_column(name, values) for name, values in given.items()}
        batch = self._batch(columns, rows)
        for name, positions in holders.items():
            if name != self.entity_key and len(positions) < rows:
                lacking = tuple(sorted(set(range(rows)) - set(positions)))
                batch.absent.setdefault(lacking, []).append(name)
        chosen = _Chosen(self.outputs)
        for name in (*self.usual, CONTRIBUTIONS) if explain else self.usual:
            chosen.add(name, binary=False)
        moment = _time(_parameter(request.parameters, "request_time", str))
        found = PredictionRequest(request_id(None, id_header), batch, moment, tuple(chosen.names))
        said = (request.parameters or {}).get("shadow")
        found.shadow = said if isinstance(said, str) else ""
        return self._bounded(found)

    def _v1_column(self, name: str, values: list[Any]) -> tuple[Datatype, list[Any]]:
        """A column of values that say no datatype."""
        if name == self.entity_key:
            return DATATYPES[TEXT], values
        wanted: tuple[type, ...] = (str,) if name in self.categorical else (int, float, bool)
        for row, value in enumerate(values):
            if value is not None and not isinstance(value, wanted):
                words = "text" if wanted == (str,) else "a number"
                raise InvalidRequest(f"`{name}` in row {row} must be {words} or null, not {shown(value)}")
            if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
                raise InvalidRequest(f"`{name}` in row {row} is {shown(value)}: a number must fit 32 bits")
        return DATATYPES[TEXT if wanted == (str,) else "FP64"], values

    def _checked(
        self, name: str, datatype: str, shape: Sequence[int], columns: Mapping[str, object]
    ) -> tuple[Datatype, bool]:
        """The datatype of a tensor that may be sent, and whether it has two dimensions."""
        allowed = self._allowed.get(name, ())
        if datatype not in allowed:
            self._known(name)
            raise InvalidRequest(
                f"input `{name}` has the datatype {shown(datatype)}; it must be one of {', '.join(allowed)}"
            )
        if name in columns:
            raise InvalidRequest(f"input `{name}` is there twice")
        nested = len(shape) == 2
        if not shape or (nested and shape[1] != 1) or len(shape) > 2:
            raise InvalidRequest(f"input `{name}` has the shape {shown(list(shape))}; it must be [N] or [N, 1]")
        return DATATYPES[datatype], nested

    def _same_rows(self, name: str, rows: int, before: int | None) -> int:
        """How many rows a tensor has: as many as the one before it, or, of the first (None), as many as may be sent."""
        if before is None:
            return self._count(rows, f"input `{name}`")
        if rows != before:
            raise InvalidRequest(f"input `{name}` has {rows} rows, the one before it {before}")
        return rows

    def _known(self, name: str) -> None:
        if name not in self._allowed:
            close = difflib.get_close_matches(name[:200], self._allowed, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(self._allowed)}"
            raise InvalidRequest(f"{shown(name)} is no input of this model; {hint}")

    def _count(self, rows: int, what: str) -> int:
        if rows < 1:
            raise InvalidRequest(f"{what} holds no rows; send at least one")
        if rows > self.max_rows:
            raise InvalidRequest(f"{what} holds {rows:,} rows; one request may hold {self.max_rows:,}: send several")
        return rows

    def _request(
        self,
        identifier: str | None,
        id_header: str,
        columns: Mapping[str, tuple[Datatype, Any]],
        rows: int,
        parameters: Mapping[str, Any] | None,
        chosen: _Chosen,
    ) -> PredictionRequest:
        if not columns:
            raise InvalidRequest("`inputs` is empty: send one tensor for each feature, or the entity key")
        return self._bounded(
            PredictionRequest(
                request_id(identifier, id_header),
                self._batch(columns, rows),
                _time(_parameter(parameters, "request_time", str)),
                tuple(chosen.names) or self.usual,
                frozenset(chosen.binary),
            )
        )

    def _bounded(self, request: PredictionRequest) -> PredictionRequest:
        if request.explained and request.batch.rows > self.most_explained:
            raise InvalidRequest(
                f"contributions are computed for {self.most_explained} rows at the most, not {request.batch.rows:,}: "
                "send several requests"
            )
        return request

    def _batch(self, columns: Mapping[str, tuple[Datatype, Any]], rows: int) -> Batch:
        sent = [name for name in self.numeric if name in columns]
        if len(sent) == len(self.numeric):
            found = numbers(sent, columns, rows)
        else:
            found = np.full((len(self.numeric), rows), np.nan)
            if sent:
                found[[self.numeric.index(name) for name in sent]] = numbers(sent, columns, rows)
        words = [texts(name, columns[name][1]) if name in columns else [""] * rows for name in self.categorical]
        keys = self._keys(*columns[self.entity_key]) if self.entity_key in columns else None
        batch = Batch(rows, found, words, keys)
        if self._hold_out is not None:
            batch.held_out = self._hold_out.of(keys, rows)
        if len(columns) - (keys is not None) < len(self.numeric) + len(self.categorical):
            lacked = [name for name in (*self.numeric, *self.categorical) if name not in columns]
            batch.absent = {tuple(range(rows)): lacked}
        return batch

    def _keys(self, datatype: Datatype, values: Iterable[Any]) -> list[Key | None]:
        given = values.tolist() if isinstance(values, np.ndarray) else values
        return [
            None if value is None else entity_key(value, self.entity_key, row, self._key_type)
            for row, value in enumerate(given)
        ]


class _Chosen:
    """The outputs that a request wants."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known
        self.names: list[str] = []
        self.binary: list[str] = []

    def add(self, name: str, binary: bool) -> None:
        if name == CONTRIBUTIONS and name not in self._known:
            raise InvalidRequest("this model brings nothing that explains its scores: its estimator has no such form")
        if name not in self._known:
            raise InvalidRequest(f"{shown(name)} is no output of this model; there are {', '.join(self._known)}")
        if name in self.names:
            raise InvalidRequest(f"output `{name}` is asked for twice")
        self.names.append(name)
        if binary:
            self.binary.append(name)


def _parsed(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the request is not as it must be: {in_words(error)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {in_words(error)}") from error


def _members_of(request: Any) -> int:
    """How many members the objects of a v2 request have, where its tensors have data and no parameters."""
    found: int = 1 + 4 * len(request.inputs) + (request.id is not None) + _members(request.parameters)
    if request.outputs is not None:
        found += 1 + sum(1 + _members(output.parameters) for output in request.outputs)
    return found


def _members(parameters: Mapping[str, Any] | None) -> int:
    """How many members parameters are, themselves included."""
    return 0 if parameters is None else 1 + len(parameters)


def _binary_size(tensor: _Tensor) -> int | None:
    size: int | None = _parameter(tensor.parameters, "binary_data_size", int)
    if size is None and tensor.data is msgspec.UNSET:
        raise InvalidRequest(f"input `{tensor.name}` has no `data`")
    if size is not None and tensor.data is not msgspec.UNSET:
        raise InvalidRequest(f"input `{tensor.name}` has `data`, and binary_data_size beside it")
    if size is not None and size < 0:
        raise InvalidRequest(f"input `{tensor.name}` has the binary_data_size {size}")
    return size


def _parameter(parameters: Mapping[str, Any] | None, name: str, kind: type) -> Any:
    """A parameter that means something here; others are for other servers."""
    value = parameters.get(name) if parameters else None
    if value is not None and type(value) is not kind:
        words = {bool: "true or false", int: "a whole number", str: "a text"}[kind]
        raise InvalidRequest(f"the parameter `{name}` must be {words}, not {shown(value)}")
    return value


def _time(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"`request_time` must be an ISO 8601 time such as 2026-01-31T12:00:00Z, not {shown(value)}"
        ) from error
