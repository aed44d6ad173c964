"""Made-up requests in every datatype and encoding: a value is taken exactly where its datatype holds it, all else is a
sender's error in words, and whatever is taken can be scored, answered and logged."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kfp_lifecycle.artifacts.feature import LARGEST_NUMBER, Feature
from kfp_lifecycle.serving.server import inference_pb2 as messages
from kfp_lifecycle.serving.server.batch import PredictionRequest
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.encoding import Encoder
from kfp_lifecycle.serving.server.errors import InvalidRequest
from kfp_lifecycle.serving.server.log_batch import BatchMaker
from kfp_lifecycle.serving.server.predictor import Prediction
from kfp_lifecycle.serving.server.served import Served
from tests.devices import tensor

KEY = "device_id"
FEATURES = [Feature("temperature", "numeric"), Feature("site", "categorical")]
DECODER = Decoder(FEATURES, KEY, max_rows=100)
LOG = BatchMaker("devices", "1", ["temperature"], ["site"])
ENCODER = Encoder("devices", "1")

BITS = {f"{sign}INT{bits}": (bits, sign == "") for bits in (8, 16, 32, 64) for sign in ("", "U")}
WHOLE = {
    name: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    for name, (bits, signed) in BITS.items()
}
LARGEST = {"FP16": 65_504.0, "FP32": LARGEST_NUMBER, "FP64": LARGEST_NUMBER}
# As Python's own `struct` reads them.
RAW = {"BOOL": "?", "FP16": "e", "FP32": "f", "FP64": "d"} | {
    name: code if signed else code.upper()
    for name, (bits, signed) in BITS.items()
    for code in [{8: "b", 16: "h", 32: "i", 64: "q"}[bits]]
}
FIELD = {"BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"} | {
    name: f"{'int' if signed else 'uint'}{64 if bits == 64 else ''}_contents" for name, (bits, signed) in BITS.items()
}

EDGES = [
    sign * 2**bits + beside
    for bits in (7, 8, 15, 16, 31, 32, 53, 63, 64, 127, 128)
    for sign in (1, -1)
    for beside in (-1, 0, 1)
]
INTEGERS = st.one_of(st.sampled_from(EDGES), st.integers(), st.integers(-300, 300))
# Half characters too, which JSON can write and UTF-8 cannot.
TEXTS = st.one_of(
    st.text(max_size=40), st.text(st.characters(), max_size=40), st.text("0123456789_+- ３٣\n\u202e\x00", max_size=8)
)
MEMBERS = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)

many = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def taken(ask: Callable[[], PredictionRequest]) -> PredictionRequest | None:
    """What a request becomes; None where it is refused, in words of no programming language. Anything else fails."""
    try:
        asked = ask()
    except InvalidRequest as refused:
        words = str(refused)
        words.encode()
        assert words
        assert not any(python in words for python in ("Traceback", "NoneType", "object is not", "msgspec", "<class"))
        return None
    answered_and_logged(asked)
    return asked


def answered_and_logged(asked: PredictionRequest) -> None:
    """Whatever is taken is fit for the model, the answer in each encoding, and the log."""
    batch = asked.batch
    assert batch.numbers.dtype == np.float64
    # No number that the model's 32 bits do not hold.
    with np.errstate(over="raise", invalid="raise"):
        batch.numbers.astype(np.float32)
    scores = np.full(batch.rows, 0.5)
    prediction = Prediction(asked, scores, scores > 0.3)
    body, length = ENCODER.v2(prediction)
    assert json.loads(body[:length])["id"] == asked.id
    json.loads(ENCODER.v1(prediction))
    ENCODER.grpc(prediction, raw=True).SerializeToString()
    served = Served(0.0, asked.id, batch.keys, batch.numbers, batch.texts, scores, scores > 0.3, 1.0, False)
    assert LOG.message([served], lambda key: None if key is None else str(key), str).size > 0


def v2(*inputs: dict[str, Any], **more: Any) -> PredictionRequest | None:
    """A v2 request in JSON; Python writes NaN and infinities as no JSON has them."""
    return taken(lambda: DECODER.v2(json.dumps({"inputs": list(inputs), **more}).encode()))


def number_of(asked: PredictionRequest | None) -> float | None:
    return None if asked is None else float(asked.batch.numbers[0, 0])


@pytest.mark.parametrize("datatype", WHOLE)
@many
@given(value=INTEGERS)
def test_a_whole_number_is_taken_where_its_datatype_holds_it(datatype: str, value: int) -> None:
    low, high = WHOLE[datatype]
    expected = float(value) if low <= value <= high else None
    assert number_of(v2(tensor("temperature", datatype, [value]))) == expected
    sent = messages.InferTensorContents()
    try:
        getattr(sent, FIELD[datatype]).append(value)
    except ValueError:
        # Beyond the message's own field: it cannot be sent.
        assert expected is None or BITS[datatype][0] > 32
        return
    assert number_of(over_grpc(datatype, contents=sent)) == expected


@pytest.mark.parametrize("datatype", [*WHOLE, "BOOL", "FP16", "FP32", "FP64"])
@many
@given(value=st.one_of(st.booleans(), st.none(), st.floats(), TEXTS, st.lists(INTEGERS, max_size=2)))
@example(value=1.0)
@example(value=True)
def test_nothing_is_taken_for_another_datatype(datatype: str, value: Any) -> None:
    found = number_of(v2(tensor("temperature", datatype, [value])))
    if value is None:
        assert found is not None
        assert math.isnan(found)
    elif isinstance(value, bool):
        assert found == (float(value) if datatype == "BOOL" else None)
    elif isinstance(value, float) and datatype in LARGEST:
        fits = math.isfinite(value) and abs(value) <= LARGEST[datatype]
        assert found == (value if fits else None)
    elif isinstance(value, float) and datatype in WHOLE and found is not None:
        # `3.0` is a way to write the whole number 3.
        low, high = WHOLE[datatype]
        assert found == value
        assert low <= value <= high
        assert value.is_integer()
    else:
        assert found is None


@pytest.mark.parametrize("datatype", [*WHOLE, "BOOL", "FP16", "FP32", "FP64"])
@many
@given(values=st.lists(st.one_of(st.booleans(), st.none(), st.floats(), INTEGERS), min_size=1, max_size=3))
def test_a_tensor_is_the_same_beside_any_other(datatype: str, values: list[Any]) -> None:
    """All tensors are decoded at once where all are flat, one by one where a single one has a list for each row."""
    rows, sites = len(values), ["north"] * len(values)
    at_once = v2(tensor("temperature", datatype, values), tensor("site", "BYTES", sites))
    nested = tensor("site", "BYTES", [[site] for site in sites], [rows, 1])
    one_by_one = v2(tensor("temperature", datatype, values), nested)
    assert (at_once is None) == (one_by_one is None)
    if at_once is not None and one_by_one is not None:
        np.testing.assert_array_equal(at_once.batch.numbers, one_by_one.batch.numbers)


@pytest.mark.parametrize("datatype", RAW)
@many
@given(content=st.binary(max_size=40), rows=st.integers(-1, 6))
def test_raw_bytes_are_what_their_datatype_says_or_nothing(datatype: str, content: bytes, rows: int) -> None:
    size = struct.calcsize(f"<{RAW[datatype]}")
    expected: list[float] | None = None
    if rows > 0 and len(content) == rows * size:
        values = struct.unpack(f"<{rows}{RAW[datatype]}", content)
        largest = LARGEST.get(datatype, math.inf)
        if all(math.isnan(value) or abs(value) <= largest for value in values):
            expected = [float(value) for value in values]
        if datatype == "BOOL" and max(content) > 1:
            expected = None
    described = {"name": "temperature", "datatype": datatype, "shape": [rows]}
    head = json.dumps({"inputs": [{**described, "parameters": {"binary_data_size": len(content)}}]}).encode()
    for asked in (
        taken(lambda: DECODER.v2(head + content, len(head))),
        over_grpc(datatype, rows, raw=content),
    ):
        found = None if asked is None else asked.batch.numbers[0].tolist()
        assert repr(found) == repr(expected)


@many
@given(content=st.binary(max_size=60), rows=st.integers(0, 4))
@example(content=struct.pack("<I", 2) + "ü".encode(), rows=1)
@example(content=struct.pack("<I", 3) + b"\xed\xa0\x80", rows=1)
def test_raw_texts_never_reach_beyond_their_bytes(content: bytes, rows: int) -> None:
    asked = over_grpc("BYTES", rows, name="site", raw=content)
    if asked is not None:
        assert (
            b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in asked.batch.texts[0]) == content
        )


@pytest.mark.parametrize("key_type", ["INTEGER", "BIGINT"])
@many
@given(key=st.one_of(TEXTS, INTEGERS, INTEGERS.map(str), INTEGERS.map(lambda number: f"00{number}")))
@example(key="007")
def test_a_whole_number_is_one_key_however_it_is_written(key_type: str, key: str | int) -> None:
    """Never two people of whom the log tells under two names."""
    decoder = Decoder(FEATURES, KEY, max_rows=1, key_type=key_type)
    bits = {"INTEGER": 32, "BIGINT": 64}[key_type]
    sent = tensor(KEY, "BYTES" if isinstance(key, str) else "INT64", [key])
    inputs = [tensor("temperature", "FP64", [1.0]), tensor("site", "BYTES", ["north"]), sent]
    asked = taken(lambda: decoder.v2(json.dumps({"inputs": inputs}).encode()))
    plain = isinstance(key, int) or re.fullmatch("0|-?[1-9][0-9]*", key) is not None
    holds = plain and -(2 ** (bits - 1)) <= int(key) < 2 ** (bits - 1)
    assert (None if asked is None else asked.batch.keys) == ([int(key)] if holds else None)


@many
@given(text=TEXTS, key=TEXTS | INTEGERS, identifier=TEXTS)
def test_texts_of_any_script_come_through_whole_or_are_refused(text: str, key: str | int, identifier: str) -> None:
    whole = not any("\ud800" <= character <= "\udfff" for character in text)
    asked = v2(tensor("site", "BYTES", [text]))
    assert (asked is not None) == whole
    if asked is not None:
        assert asked.batch.texts[0] == [text]
    named = v2(tensor(KEY, "BYTES" if isinstance(key, str) else "INT64", [key]))
    if named is not None:
        assert named.batch.keys == [key]
    called = v2(tensor("temperature", "FP64", [1.0]), id=identifier)
    if called is not None and identifier:
        assert called.id == identifier
        assert "\n" not in called.id
    by_header = taken(
        lambda: DECODER.v2(b'{"inputs": [%b]}' % json.dumps(tensor(KEY, "INT64", [3])).encode(), None, identifier)
    )
    assert by_header is None or by_header.id


MOMENTS = st.datetimes(timezones=st.none() | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))))


@many
@given(text=TEXTS | MOMENTS.map(datetime.isoformat) | st.text("0123456789-:TZ+. W", max_size=30))
@example(text="0001-01-01T00:00:00+23:59")
@example(text="9999-12-31T23:59:59.999999-23:59")
@example(text="2026-02-30T00:00:00Z")
@example(text="２０２６-01-31")
def test_a_moment_is_one_of_the_calendar_in_its_time_zone_or_refused(text: str) -> None:
    asked = v2(tensor("temperature", "FP64", [1.0]), parameters={"request_time": text})
    if asked is not None:
        assert asked.request_time is not None
        assert asked.request_time.tzinfo is UTC
        told = datetime.fromisoformat(text)
        assert asked.request_time == (told if told.tzinfo else told.replace(tzinfo=UTC))


@pytest.mark.parametrize("member", ["name", "datatype", "shape", "data", "parameters"])
@many
@given(value=MEMBERS)
def test_whatever_stands_in_a_tensor_is_read_or_refused(member: str, value: Any) -> None:
    v2({**tensor("temperature", "FP64", [1.0]), member: value})


@pytest.mark.parametrize("member", ["id", "inputs", "outputs", "parameters", "instances"])
@many
@given(value=MEMBERS)
def test_whatever_stands_in_a_request_is_read_or_refused(member: str, value: Any) -> None:
    v2(tensor("temperature", "FP64", [1.0]), **{member: value})
    row = {"temperature": value, "site": value, KEY: value}
    for body in ({member: value}, {"instances": [row]}, {"instances": [{"temperature": 1}], member: value}):
        taken(lambda body=body: DECODER.v1(json.dumps(body).encode()))  # type: ignore[misc]


@many
@given(body=st.binary(max_size=60), length=st.none() | st.integers(-3, 70))
def test_no_bytes_are_more_than_the_sender_s_error(body: bytes, length: int | None) -> None:
    taken(lambda: DECODER.v2(body, length))
    taken(lambda: DECODER.v1(body))


def over_grpc(
    datatype: str,
    rows: int = 1,
    name: str = "temperature",
    contents: messages.InferTensorContents | None = None,
    raw: bytes | None = None,
) -> PredictionRequest | None:
    """A request over gRPC, as it is after its way through the wire."""
    request = messages.ModelInferRequest(model_name="devices")
    request.inputs.add(name=name, datatype=datatype, shape=[rows], contents=contents)
    if raw is not None:
        request.raw_input_contents.append(raw)
    received = messages.ModelInferRequest.FromString(request.SerializeToString())
    return taken(lambda: DECODER.grpc(received))
