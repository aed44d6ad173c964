"""Tensors of the Open Inference Protocol: thirteen datatypes, each read strictly, as a whole, out of JSON, raw bytes or
typed contents.

What comes out is a column: float64 for numbers, where NaN is a missing one, or a list of texts. No value is taken for
another: 300 is no UINT8, 7 no BOOL, 1.5 no INT32, and an infinite number is none at all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER
from kfp_lifecycle.serving.server.errors import InvalidRequest

Numbers = NDArray[np.float64]
MOST_TEXT_CHARACTERS = 10_000
FEW_ROWS = 16
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, eq=False)
class Datatype:
    """How the values of one datatype are written."""

    name: str
    json: msgspec.json.Decoder[list[Any]]
    """Of a flat list."""
    json_rows: msgspec.json.Decoder[list[Any]]
    """Of a list of rows with one value each."""
    raw: np.dtype[Any] | None
    """Of raw bytes, little-endian; None for texts, which bring their lengths."""
    contents: str | None
    """The field of gRPC's contents; None where there is none."""
    tensor: type[Any]
    """A tensor in JSON, for a decoder of whole requests: `name`, `shape`, `parameters`, and `data`, a flat list."""
    bounds: tuple[int, int] | None = None
    """Of whole numbers, where gRPC's field holds wider ones."""
    largest: float | None = None
    """The largest number of it, where the decoders of JSON know none."""

    @property
    def is_whole(self) -> bool:
        """Whether it is one of whole numbers."""
        return self.bounds is not None


def _datatype(
    name: str,
    value: Any,
    raw: str | None,
    contents: str | None,
    bounds: tuple[int, int] | None = None,
    largest: float | None = None,
) -> Datatype:
    row = Annotated[list[value | None], msgspec.Meta(min_length=1, max_length=1)]
    fields = [
        ("name", str),
        ("shape", list[int]),
        ("data", list[value | None] | msgspec.UnsetType, msgspec.UNSET),
        ("parameters", dict[str, Any] | None, None),
    ]
    return Datatype(
        name,
        msgspec.json.Decoder(list[value | None]),
        msgspec.json.Decoder(list[row]),
        None if raw is None else np.dtype(raw),
        contents,
        msgspec.defstruct(name, fields, tag_field="datatype", tag=name),
        bounds,
        largest,
    )


def _whole(bits: int, signed: bool) -> Datatype:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    # msgspec takes no bound beyond 64 bits with a sign.
    known = high < 2**63
    value = Annotated[int, msgspec.Meta(ge=low, le=high if known else None)]
    wide = "64" if bits == 64 else ""
    contents = f"int{wide}_contents" if signed else f"uint{wide}_contents"
    kind = "i" if signed else "u"
    return _datatype(
        f"{'' if signed else 'U'}INT{bits}",
        value,
        f"<{kind}{bits // 8}",
        contents,
        (low, high),
        None if known else high,
    )


TEXT = "BYTES"
DATATYPES = {
    datatype.name: datatype
    for datatype in (
        _datatype("FP16", float, "<f2", None, largest=65_504),
        _datatype("FP32", float, "<f4", "fp32_contents"),
        _datatype("FP64", float, "<f8", "fp64_contents"),
        *(_whole(bits, signed=True) for bits in (8, 16, 32, 64)),
        *(_whole(bits, signed=False) for bits in (8, 16, 32, 64)),
        _datatype("BOOL", bool, "|u1", "bool_contents"),
        _datatype(TEXT, str, None, "bytes_contents"),
    )
}
NUMERIC = tuple(name for name in DATATYPES if name != TEXT)
WHOLE = tuple(name for name, datatype in DATATYPES.items() if datatype.is_whole)


def from_json(name: str, datatype: Datatype, data: bytes | msgspec.Raw, nested: bool) -> list[Any]:
    """The values of a tensor in JSON; None is a missing one.

    Args:
        name: The tensor's, for messages.
        datatype: What it says it is.
        data: The JSON text of its `data`.
        nested: Whether its shape allows a list for each row.

    Raises:
        InvalidRequest: a value is no such one.
    """
    try:
        return bounded(name, datatype, datatype.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if nested:
            try:
                return bounded(name, datatype, [value for (value,) in datatype.json_rows.decode(data)])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
        raise InvalidRequest(f"input `{name}` holds what is no {datatype.name}: {in_words(error)}") from error


def bounded(name: str, datatype: Datatype, values: list[Any]) -> list[Any]:
    """The values of a tensor, none of which is larger than its datatype holds.

    Raises:
        InvalidRequest: one is.
    """
    largest = datatype.largest
    if largest is not None and any(value is not None and abs(value) > largest for value in values):
        raise InvalidRequest(f"input `{name}` holds what is no {datatype.name}: its largest number is {largest:,}")
    return values


def from_raw(name: str, datatype: Datatype, rows: int, content: bytes | memoryview) -> NDArray[Any] | list[str]:
    """The values of a tensor in raw bytes.

    Raises:
        InvalidRequest: they are not as many as the shape says, or no such values.
    """
    if datatype.raw is None:
        return _raw_texts(name, rows, memoryview(content))
    expected = rows * datatype.raw.itemsize
    if len(content) != expected:
        raise InvalidRequest(
            f"input `{name}` has {len(content):,} raw bytes; {rows:,} values of {datatype.name} take {expected:,}"
        )
    values = np.frombuffer(content, datatype.raw)
    if datatype.name == "BOOL" and (values > 1).any():
        raise InvalidRequest(f"input `{name}` holds what is no BOOL: a raw byte must be 0 or 1")
    return values


def _raw_texts(name: str, rows: int, content: memoryview) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(content):
        start = at + _LENGTH.size
        end = start + (_LENGTH.unpack_from(content, at)[0] if start <= len(content) else 0)
        if start > len(content) or end > len(content):
            raise InvalidRequest(f"the raw bytes of input `{name}` end within text {len(found)}")
        found.append(_text(name, bytes(content[start:end]), len(found)))
        at = end
    if len(found) != rows:
        raise InvalidRequest(f"input `{name}` has {len(found):,} texts in its raw bytes; its shape says {rows:,}")
    return found


def from_contents(name: str, datatype: Datatype, contents: Any) -> list[Any] | NDArray[Any]:
    """The values of a tensor in gRPC's typed contents.

    Raises:
        InvalidRequest: they stand in the field of another datatype, or are no such values.
    """
    if datatype.contents is None:
        raise InvalidRequest(f"input `{name}` is {datatype.name}, which comes in raw_input_contents alone")
    for field, _ in contents.ListFields():
        if field.name != datatype.contents:
            raise InvalidRequest(
                f"input `{name}` is {datatype.name}, whose values belong in {datatype.contents}, not in {field.name}"
            )
    values = getattr(contents, datatype.contents)
    if datatype.name == TEXT:
        return [_text(name, value, position) for position, value in enumerate(values)]
    if datatype.bounds is not None:
        low, high = datatype.bounds
        if len(values) and not (low <= min(values) and max(values) <= high):
            raise InvalidRequest(f"input `{name}` holds what is no {datatype.name}: it goes from {low:,} to {high:,}")
    return list(values)


def _text(name: str, value: bytes, position: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"`{name}` in row {position} is not UTF-8 text") from error


def numbers(names: Sequence[str], columns: Mapping[str, tuple[Datatype, Any]], rows: int) -> Numbers:
    """Columns as one array [columns, rows]; NaN where a value is missing.

    Args:
        names: Of the columns.
        columns: Datatype and values of each, by name.
        rows: How many values each has.

    Raises:
        InvalidRequest: a number is infinite, or larger than a model's 32-bit input holds.
    """
    if rows <= FEW_ROWS:
        found = np.array([columns[name][1] for name in names], np.float64).reshape(len(names), rows)
    else:
        # One column at a time: numpy lets no other thread, such as the event loop's, go on meanwhile.
        found = np.empty((len(names), rows))
        for position, name in enumerate(names):
            found[position] = np.array(columns[name][1], np.float64)
    # Comparing is false for NaN, which is a missing value.
    too_large = np.abs(found) > LARGEST_NUMBER
    if too_large.any():
        position, row = np.argwhere(too_large)[0]
        raise InvalidRequest(
            f"`{names[position]}` in row {row} is {found[position, row]:g}: a number must be finite and fit 32 bits; "
            "send null (or NaN) where it is missing"
        )
    return found


def texts(name: str, values: Iterable[str | None]) -> list[str]:
    """A column of texts; empty where a value is missing.

    Raises:
        InvalidRequest: one is longer than any may be.
    """
    found = [value or "" for value in values]
    for row, value in enumerate(found):
        if len(value) > MOST_TEXT_CHARACTERS:
            raise InvalidRequest(
                f"`{name}` in row {row} has {len(value):,} characters; {MOST_TEXT_CHARACTERS:,} are the most"
            )
    return found


def in_words(error: Exception) -> str:
    """What a JSON parser found, without its language's words."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start}"
    return str(error).replace("`null`", "null").replace(" | null", " or null")
