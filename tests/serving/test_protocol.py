"""The Open Inference Protocol over REST, point by point, each fault a kind: whoever asks wrongly is told so,
in one shape, before anything is scored, and never by a server's error.

https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kfp_lifecycle.serving.client import Answer, Client, scores_in
from tests.devices import GOOD, INFER, MODEL, PREDICT, formula, site, temperature, tensor


def refusal(answer: Answer, status: int = 400) -> str:
    """The words of an error, which has one shape."""
    assert answer.status == status, answer
    body = answer.json()
    assert list(body) == ["error"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-model-version"] == "1"
    assert answer.headers["x-request-id"]
    # In a client's words, not in Python's.
    assert not re.search(r"object is not|Traceback|NoneType|msgspec|<class", body["error"])
    return str(body["error"])


# Health and metadata.


@pytest.mark.parametrize(
    "path",
    ["/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready", MODEL, f"{MODEL}/versions/1",
     "/v2", "/v2/models", "/v1/models", "/v1/models/devices", "/", "/metrics", "/openapi.json", "/v2/models/devi%63es"],
)  # fmt: skip
def test_what_may_be_asked_is_answered(client: Client, path: str) -> None:
    assert client.get(path).status == 200


def test_the_server_and_the_model_say_what_they_are(client: Client) -> None:
    assert client.get("/v2").json() == {
        "name": "kfp-lifecycle",
        "version": "2",
        "extensions": ["binary_tensor_data", "model_repository"],
    }
    assert client.get(MODEL).json() == {
        "name": "devices",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "device_id", "datatype": "BYTES", "shape": [-1]},
            {"name": "temperature", "datatype": "FP32", "shape": [-1]},
            {"name": "site", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "score", "datatype": "FP64", "shape": [-1]},
            {"name": "decision", "datatype": "BOOL", "shape": [-1]},
            {"name": "contributions", "datatype": "FP64", "shape": [-1, 2]},
        ],
        "parameters": {
            "entity_key": "device_id",
            "features": ["temperature", "site"],
            "threshold": 0.3,
            "contributions": {"scale": "log-odds", "base": -0.7},
        },
    }


@pytest.mark.parametrize(
    "path",
    ["/v2/models/nobody", "/v2/models/nobody/ready", f"{MODEL}/versions/99", f"{MODEL}/versions/99/ready",
     "/v1/models/nobody", "/v3", "/v2//models/devices", "/v2/models/devices/", f"{MODEL}/../devices",
     "/v2/models/..%2fdevices", "/v2/models/devices%0a", "/v2/models/%ff", f"{MODEL}/explain", "/v2/models/devices%00"],
)  # fmt: skip
def test_another_model_version_or_path_is_not_found(client: Client, path: str) -> None:
    refusal(client.get(path), 404)


def test_a_request_for_another_version_is_not_answered_by_this_one(client: Client) -> None:
    assert "version 1, no other" in refusal(client.post(f"{MODEL}/versions/99/infer", GOOD), 404)
    assert client.post(f"{MODEL}/versions/1/infer", GOOD).status == 200


@pytest.mark.parametrize(("method", "path", "allow"), [("GET", INFER, "POST"), ("POST", "/v2", "GET, HEAD")])
def test_another_method_is_told_which_may_be_used(client: Client, method: str, path: str, allow: str) -> None:
    answer = client.get(path) if method == "GET" else client.post(path, {})
    refusal(answer, 405)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path",
    ["/v2/repository/models/devices/unload", "/v2/%72epository/models/devices/unload",
     "/v2/repository/models/devices/load", "/v2/repositor%79/models/devices/unload"],
)  # fmt: skip
def test_nobody_unloads_the_model_however_the_path_is_written(client: Client, path: str) -> None:
    refusal(client.post(path, {}), 403)
    assert client.get(f"{MODEL}/ready").status == 200
    assert client.post(INFER, GOOD).status == 200


def test_the_repository_lists_the_model(client: Client) -> None:
    assert client.post("/v2/repository/index", {}).json() == [
        {"name": "devices", "version": "1", "state": "READY", "reason": ""}
    ]


# A good request.


def test_every_answer_names_the_request_and_the_version(client: Client) -> None:
    named = client.post(INFER, {"id": "größer ✓", **GOOD})
    assert named.json()["id"] == "größer ✓"
    assert named.headers["x-request-id"] == "gr%C3%B6%C3%9Fer%20%E2%9C%93"
    by_header = client.post(INFER, GOOD, {"x-request-id": "mine"})
    assert (by_header.json()["id"], by_header.headers["x-request-id"]) == ("mine", "mine")
    first, second = (client.post(INFER, GOOD).json() for _ in range(2))
    assert first["id"] != second["id"]
    assert first["model_version"] == "1"
    assert set(first) == {"model_name", "model_version", "id", "outputs"}


def test_a_refusal_names_the_request_as_its_answer_would_have(client: Client) -> None:
    nobody = {"inputs": [tensor("device_id", "BYTES", ["d1"])]}
    for body in ({"inputs": []}, nobody):
        assert client.post(INFER, {"id": "größer ✓", **body}).headers["x-request-id"] == "gr%C3%B6%C3%9Fer%20%E2%9C%93"
        by_header = client.post(INFER, body, {"x-request-id": "gr\u00c3\u00b6\u00c3\u009fer"})
        assert by_header.headers["x-request-id"] == "gr%C3%B6%C3%9Fer"
    # What may be no id, and would begin another line of the log.
    for odd in ("a\u00c2\u0085b", "x" * 300):
        assert len(client.post(INFER, nobody, {"x-request-id": odd}).headers["x-request-id"]) == 32


DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")


@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_number_may_come_in_every_datatype_of_numbers(client: Client, datatype: str) -> None:
    value: Any = True if datatype == "BOOL" else 30
    asked = {"inputs": [temperature([value, value], datatype, [2, 1]), site("north", "south")]}
    assert scores_in(client.post(INFER, asked)) == pytest.approx([formula(value), formula(value, "south")], abs=1e-6)


def test_columns_may_be_nested_as_their_shape_says(client: Client) -> None:
    nested = {
        "inputs": [temperature([[30], [20]], shape=[2, 1]), tensor("site", "BYTES", [["north"], ["south"]], [2, 1])]
    }
    assert scores_in(client.post(INFER, nested)) == pytest.approx([formula(30), formula(20, "south")], abs=1e-6)


def test_only_the_outputs_that_are_asked_for_are_answered_in_their_order(client: Client) -> None:
    def outputs(*names: str) -> list[str]:
        asked = {**GOOD, "outputs": [{"name": name} for name in names]}
        return [output["name"] for output in client.post(INFER, asked).json()["outputs"]]

    assert outputs() == ["score", "decision"]
    assert outputs("decision") == ["decision"]
    assert outputs("decision", "score") == ["decision", "score"]


def binary_request(*tensors: tuple[dict[str, Any], bytes], **more: Any) -> tuple[bytes, dict[str, str]]:
    """A v2 request with binary data, and its headers."""
    inputs = []
    for described, content in tensors:
        item = {name: value for name, value in described.items() if name != "data"}
        inputs.append({**item, "parameters": {"binary_data_size": len(content)}})
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(content for _, content in tensors), {"inference-header-content-length": str(len(head))}


@pytest.mark.parametrize(
    "datatype",
    ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"],
)
def test_raw_bytes_may_come_in_every_datatype_and_go_back(client: Client, datatype: str) -> None:
    kinds = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
    kind = kinds.get(datatype) or datatype.lower()
    values = np.array([1, 0, 1], kind)
    names = b"".join(struct.pack("<I", len(name)) + name for name in (b"north", b"south", b""))
    body, headers = binary_request(
        (temperature([0, 0, 0], datatype), values.tobytes()),
        (site("", "", ""), names),
        outputs=[{"name": "score", "parameters": {"binary_data": True}}, {"name": "decision"}],
    )
    answer = client.post(INFER, body, headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.body[:length])["outputs"]
    assert described[0]["parameters"] == {"binary_data_size": 24}
    assert described[1]["data"] == [True, False, False] or described[1]["data"][0] in (True, False)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_may_be_packed(client: Client, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(json.dumps(GOOD).encode())
    assert scores_in(client.post(INFER, packed, {"content-encoding": encoding})) == pytest.approx(
        [formula(30)], abs=1e-6
    )


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/json; charset=utf-8"}]
)
def test_no_content_type_is_needed(client: Client, headers: dict[str, str]) -> None:
    assert client.post(INFER, json.dumps(GOOD).encode(), headers).status == 200


# A wrong request over REST, kind by kind.

KEY = "device_id"
BOTH = [temperature([30.0]), site("north")]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "`inputs` is empty"),
        ([tensor("temprature", "FP32", [1.0])], "did you mean `temperature`"),
        ([temperature(["x"], "BYTES")], "datatype \"BYTES\"; it must be one of"),
        ([temperature([1.0], "FP99")], "datatype \"FP99\""),
        ([temperature([1.0], "fp32")], "datatype \"fp32\""),
        ([tensor("site", "FP32", [1.0])], "must be one of BYTES"),
        ([temperature(["warm"]), site("north")], "holds what is no FP64"),
        ([temperature([True]), site("north")], "holds what is no FP64"),
        ([temperature([{}]), site("north")], "holds what is no FP64"),
        ([temperature([30.0]), site(3)], "holds what is no BYTES"),
        ([temperature([300], "UINT8"), site("north")], "holds what is no UINT8"),
        ([temperature([-1], "UINT64"), site("north")], "holds what is no UINT64"),
        ([temperature([2**64], "UINT64"), site("north")], "holds what is no UINT64"),
        ([temperature([128], "INT8"), site("north")], "holds what is no INT8"),
        ([temperature([2**63], "INT64"), site("north")], "holds what is no INT64"),
        ([temperature([1.5], "INT32"), site("north")], "holds what is no INT32"),
        ([temperature([7], "BOOL"), site("north")], "holds what is no BOOL"),
        ([temperature([70_000.0], "FP16"), site("north")], "no FP16"),
        ([temperature([1e300]), site("north")], "must be finite and fit 32 bits"),
        ([temperature([1.0], shape=[2])], r"shape \[2\] but 1 values"),
        ([temperature([1.0, 2.0], shape=[1])], r"shape \[1\] but 2 values"),
        ([temperature([1.0, 2.0], shape=[1, 2])], r"\[N\] or \[N, 1\]"),
        ([temperature([1.0], shape=[1, 1, 1])], r"\[N\] or \[N, 1\]"),
        ([{**temperature([1.0]), "shape": []}], r"\[N\] or \[N, 1\]"),
        ([temperature([1.0], shape=[-1])], "no rows"),
        ([temperature([1.0], shape=[2**62])], "one request may hold 10,000"),
        ([temperature([1.0], shape=[1.0])], "Expected `int`, got `float`"),
        ([temperature([1.0], shape=[True])], "Expected `int`, got `bool`"),
        ([temperature([[1.0]], shape=[1])], "holds what is no FP64"),
        ([temperature([[1.0, 2.0]], shape=[1, 1])], "holds what is no FP64"),
        ([temperature([1.0] * 10_001)], "10,001 rows; one request may hold 10,000"),
        ([temperature([1.0]), site("north", "south")], "has 2 rows, the one before it 1"),
        ([temperature([1.0])] * 2, "twice"),
        ([temperature([1.0])], f"lacks `site`.*`{KEY}`"),
        ([{"name": "temperature", "datatype": "FP32", "shape": [1]}], "has no `data`"),
        ([{"datatype": "FP32", "shape": [1], "data": [1.0]}], "`name`"),
        ([{**temperature([1.0]), "name": None}], "Expected `str`"),
        ([tensor(KEY, "BYTES", ["d1"])], "no online store"),
        ([tensor(KEY, "FP32", [1.0])], "datatype \"FP32\""),
        ([tensor(KEY, "BYTES", [""]), *BOTH], "must name an entity"),
        ([tensor(KEY, "UINT64", [2**63]), *BOTH], "must fit 64 bits"),
        ([tensor(KEY, "BYTES", [" 3 "]), *BOTH], "without spaces around it"),
        ([tensor(KEY, "BYTES", ["3\n4"]), *BOTH], "without control characters"),
        ([tensor(KEY, "BYTES", ["0_3"]), *BOTH], "plain digits, 3"),
        ([tensor(KEY, "BYTES", ["+3"]), *BOTH], "plain digits, 3"),
        ([tensor(KEY, "BYTES", ["３"]), *BOTH], "plain digits, 3"),
        ([tensor(KEY, "BYTES", ["x" * 300]), *BOTH], "at most 256 characters"),
        ([temperature([1.0]), site("x" * 20_000)], "20,000 characters"),
        ([{**temperature([1.0]), "parameters": {"binary_data_size": 4}}, site("north")], "beside it"),
        ([{**temperature([1.0]), "parameters": {"binary_data_size": "4"}}, site("north")], "must be a whole number"),
    ],
)  # fmt: skip
def test_a_tensor_that_cannot_be_is_refused_in_words(client: Client, inputs: list[Any], words: str) -> None:
    assert re.search(words, refusal(client.post(INFER, {"inputs": inputs})))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (INFER, '{"inputs": [], "inputs": [{"name": "temperature", "shape": [1], "datatype": "FP64", "data": [1]}]}'),
        (INFER, '{"inputs": [{"name": "temperature", "shape": [1], "datatype": "FP64", "data": [1], "data": [2]}]}'),
        (INFER, '{"id": "a:b", "inputs": [], "parameters": {"request_time": "2026-01-01", "request_time": "2026"}}'),
        (PREDICT, '{"instances": [{"temperature": 30, "site": "north"}, {"temperature": 30, "temperature": 40}]}'),
        (PREDICT, '{"instances": [{"temperature": 30, "site": "a:b", "temp\\u0065rature": 40}]}'),
        (PREDICT, '{"instances": [{"temperature": 30, "site": "north"}], "instances": []}'),
    ],
)
def test_a_member_that_is_there_twice_is_refused_never_one_of_the_two_taken(
    client: Client, path: str, body: str
) -> None:
    assert "is there twice in one object" in refusal(client.post(path, body.encode()))


def test_a_colon_in_a_text_is_no_member(client: Client) -> None:
    row = {"temperature": 30.0, "site": "north:south"}
    assert client.post(PREDICT, {"instances": [row]}).status == 200
    inputs = {"inputs": [temperature([30.0]), site("north:south")], "id": "urn:a:b", "more": {"a": {"b": 1}}}
    assert client.post(INFER, inputs).status == 200


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"outputs": [{"name": "mood"}]}, "no output of this model; there are score, decision"),
        ({"outputs": [{"name": "score"}, {"name": "score"}]}, "twice"),
        ({"outputs": ["score"]}, "Expected `object`"),
        ({"outputs": [{"name": "score", "parameters": {"binary_data": 1}}]}, "must be true or false"),
        ({"parameters": 3}, "Expected `object"),
        ({"parameters": {"request_time": "soon"}}, "ISO 8601"),
        ({"parameters": {"request_time": 3}}, "must be a text"),
        ({"parameters": {"request_time": "9999-12-31T23:59:59-23:59"}}, "ISO 8601"),
        ({"parameters": {"binary_data_output": "yes"}}, "must be true or false"),
        ({"id": 3}, "Expected `str"),
        ({"id": "two\nlines"}, "without control characters"),
        ({"id": "x" * 1000}, "at most 256 characters"),
    ],
)
def test_a_request_around_good_tensors_is_as_strict(client: Client, more: dict[str, Any], words: str) -> None:
    assert words in refusal(client.post(INFER, {**GOOD, **more}))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b'{"inputs": [', "no JSON"),
        (b"null", "Expected `object`"),
        (b"[]", "Expected `object`"),
        (b"{}", "`inputs`"),
        (b'{"inputs": 3}', "Expected `array`"),
        (b'{"inputs": [3]}', "Expected `object`"),
        (b'{"inputs": []} x', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"inputs": [{"name": "\xff"}]}', "no"),
        (b'{"id": "\\ud800", "inputs": []}', "no JSON"),
        (b"[" * 100_000, ""),
        (b'{"inputs": ' + b'{"a":' * 100_000, ""),
        (b'{"parameters": ' + b"[" * 5_000 + b"]" * 5_000 + b', "inputs": []}', ""),
        (b'{"inputs": [{"name": "temperature", "datatype": "FP64", "shape": [1], "data": [NaN]}]}', "no JSON"),
        (b'{"inputs": [{"name": "temperature", "datatype": "FP64", "shape": [1], "data": [Infinity]}]}', "no JSON"),
        (b'{"inputs": [{"name": "temperature", "datatype": "FP64", "shape": [1], "data": [1e999]}]}', "out of range"),
        (b'{"inputs": [{"name": "temperature", "datatype": "FP64", "shape": [1e99], "data": [1]}]}', "no"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_request_is_the_sender_s_error(client: Client, body: bytes, words: str) -> None:
    assert words in refusal(client.post(INFER, body)).replace("is not as it must be", "no")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{1", "no JSON"),
        ([], "Expected `object`"),
        ({"instances": [3]}, "Expected `object`"),
        ({"instances": 3}, "Expected `array`"),
        ({"instances": []}, "no rows"),
        ({"instances": [{"temperature": [1], "site": "north"}]}, "got `array`"),
        ({"instances": [{"temperature": 1, "site": 3}]}, "`site` in row 0 must be text or null"),
        ({"instances": [{"temperature": "1", "site": "north"}]}, "`temperature` in row 0 must be a number or null"),
        ({"instances": [{"temperature": 10**400, "site": "north"}]}, ""),
        ({"instances": [{"temperature": 1, "site": "north", "colour": 3}]}, "no input of this model"),
        ({"instances": [{"temperature": 1}]}, "row 0 lacks `site`"),
        ({"instances": [{"temperature": 1, "site": "north"}, {}]}, "row 1 lacks"),
        ({"instances": [{"temperature": 1, "site": "north", KEY: True}]}, "must name an entity"),
        ({"instances": [{"temperature": 1, "site": "north"}], "parameters": 3}, "Expected `object"),
    ],
)  # fmt: skip
def test_a_v1_request_is_as_strict(client: Client, body: object, words: str) -> None:
    assert words in refusal(client.post(PREDICT, body))


@pytest.mark.parametrize(
    ("content", "headers", "words"),
    [
        (struct.pack("<f", 1.0)[:3], {}, "has 3 raw bytes; 1 values of FP32 take 4"),
        (struct.pack("<ff", 1.0, 2.0), {}, "has 8 raw bytes"),
        (struct.pack("<f", math.inf), {}, "must be finite"),
        (struct.pack("<f", 1.0), {"inference-header-content-length": "5000000"}, "and the body has"),
        (struct.pack("<f", 1.0), {"inference-header-content-length": "-1"}, "must be a number of bytes"),
        (struct.pack("<f", 1.0), {"inference-header-content-length": "0"}, "is 0"),
        (struct.pack("<f", 1.0), {"inference-header-content-length": "many"}, "must be a number of bytes"),
    ],
)  # fmt: skip
def test_raw_bytes_that_lie_are_refused(client: Client, content: bytes, headers: dict[str, str], words: str) -> None:
    body, own = binary_request((temperature([1.0], "FP32"), content), (site(""), struct.pack("<I", 5) + b"north"))
    assert words in refusal(client.post(INFER, body, {**own, **headers}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<I", 5) + b"nor", "end within text 0"),
        (b"\x05\x00", "end within text 0"),
        (struct.pack("<I", 2**32 - 1), "end within text 0"),
        (struct.pack("<I", 1) + b"\xff", "is not UTF-8 text"),
        (b"", "has 0 texts"),
        (struct.pack("<I", 0) * 2, "has 2 texts"),
    ],
)
def test_raw_texts_that_lie_are_refused(client: Client, content: bytes, words: str) -> None:
    body, headers = binary_request((temperature([1.0], "FP32"), struct.pack("<f", 1.0)), (site(""), content))
    assert words in refusal(client.post(INFER, body, headers))


def test_surplus_and_missing_raw_bytes_are_refused(client: Client) -> None:
    body, headers = binary_request((temperature([1.0], "FP32"), struct.pack("<f", 1.0)))
    assert "4 bytes follow the last tensor" in refusal(client.post(INFER, body + b"more", headers))
    assert "says 4 raw bytes; 2 are left" in refusal(client.post(INFER, body[:-2], headers))


@pytest.mark.parametrize(
    ("body", "encoding", "status", "words"),
    [
        (b"no gzip", "gzip", 400, "not what content-encoding says"),
        (gzip.compress(json.dumps(GOOD).encode())[:-4], "gzip", 400, "cut off"),
        (gzip.compress(json.dumps(GOOD).encode()) + b"x", "gzip", 400, "something follows"),
        (gzip.compress(b" " * 20_000_000), "gzip", 413, "when it is unpacked"),
        (b"x", "br", 415, "gzip or deflate"),
    ],
)
def test_a_packed_body_that_is_none_is_refused(
    client: Client, body: bytes, encoding: str, status: int, words: str
) -> None:
    assert words in refusal(client.post(INFER, body, {"content-encoding": encoding}), status)
