"""Comparison of two models: what their descriptions say, and where the exported graphs differ."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.registry.tracking import MODEL_PATH, connect, mlflow_errors, without_password
from kfp_lifecycle.runtime.contract import ContractViolation

# What a model's record says that may explain a difference, by how a person calls it.
RECORDED = {
    "data version": ("origin", "data", "version"),
    "training set": ("origin", "data", "training_set"),
    "feature version": ("feature_version",),
    "code": ("origin", "code", "digest"),
    "environment": ("origin", "environment", "name"),
    "machine": ("origin", "hardware", "cpu"),
    "cores": ("origin", "hardware", "cores"),
    "Python": ("origin", "hardware", "python"),
    "estimator": ("estimator",),
    "seed": ("seed",),
    "threshold": ("threshold",),
    "inputs": ("inputs",),
}
Difference = dict[str, str]
USAGE = """\
python -m kfp_lifecycle.modelling.comparison fetch TRACKING_URI REFERENCE FOLDER
    brings a recorded model (NAME/VERSION, or a run's id) to FOLDER and prints where it is
python -m kfp_lifecycle.modelling.comparison compare FOLDER FOLDER
    prints JSON: identical, differences, digest"""


def compare_models(first: Path, second: Path) -> dict[str, Any]:
    """Compare two model folders.

    Returns:
        `identical`: whether `model.onnx` has the same bytes; `differences`: `what`, `was` and `now` of all that
        differs, also where the bytes are the same; `digest`: SHA-256 of the second's `model.onnx`.
    """
    files = [(folder / "model.onnx").read_bytes() for folder in (first, second)]
    records = [Model.read(folder).model_dump(mode="json") for folder in (first, second)]
    differences = [*record_differences(*records), *package_differences(first, second)]
    if files[0] != files[1]:
        graphs = [*graph_differences(*(onnx.load_model_from_string(content) for content in files))]
        differences += graphs or [first_other_byte(*files)]
    return {
        "identical": files[0] == files[1],
        "differences": differences,
        "digest": hashlib.sha256(files[1]).hexdigest(),
    }


def record_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Where two `model.json` differ in what may explain another model."""
    for what, keys in RECORDED.items():
        yield from _difference(what, _at(first, keys), _at(second, keys))
    for section in ("parameters", "calibration"):
        for key in sorted({*first[section], *second[section]}):
            yield from _difference(f"{section}.{key}", first[section].get(key), second[section].get(key))


def package_differences(first: Path, second: Path) -> Iterator[Difference]:
    """Where the installed packages differ, as each folder's `requirements.txt` says."""
    installed = []
    for folder in (first, second):
        lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
        installed.append({name: version for name, _, version in (line.partition("==") for line in lines)})
    for name in sorted({*installed[0], *installed[1]}):
        yield from _difference(f"package {name}", installed[0].get(name), installed[1].get(name))


def graph_differences(first: onnx.ModelProto, second: onnx.ModelProto) -> Iterator[Difference]:
    """Where two ONNX graphs differ: operators, then the numbers inside them, tree by tree and tensor by tensor."""
    for what in ("ir_version", "producer_name", "producer_version"):
        yield from _difference(what, getattr(first, what), getattr(second, what))
    yield from _difference("operator sets", *(_operator_sets(model) for model in (first, second)))
    nodes = [{node.name or node.output[0]: node for node in model.graph.node} for model in (first, second)]
    for name in sorted({*nodes[0], *nodes[1]}):
        pair = [graph[name] for graph in nodes if name in graph]
        if len(pair) == 1:
            yield from _difference(
                f"operator {name}", *(graph[name].op_type if name in graph else None for graph in nodes)
            )
            continue
        attributes = [{item.name: _attribute(item) for item in node.attribute} for node in pair]
        for key in sorted({*attributes[0], *attributes[1]}):
            what = TREE_ATTRIBUTES.get(key, f"{name} {key}")
            yield from _numbers(what, attributes[0].get(key), attributes[1].get(key))
    tensors = [
        {item.name: numpy_helper.to_array(item) for item in model.graph.initializer} for model in (first, second)
    ]
    for name in sorted({*tensors[0], *tensors[1]}):
        yield from _numbers(f"tensor {name}", tensors[0].get(name), tensors[1].get(name))


def _attribute(item: onnx.AttributeProto) -> Any:
    """An attribute's value; of a tensor its numbers."""
    value = onnx.helper.get_attribute_value(item)
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def first_other_byte(first: bytes, second: bytes) -> Difference:
    """Where two files that say the same begin to differ."""
    place = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(first), len(second)) if place is None else place
    return _said(f"bytes of model.onnx, from the one at {at:,} on", f"{len(first):,} bytes", f"{len(second):,} bytes")


def _operator_sets(model: onnx.ModelProto) -> str:
    return ", ".join(f"{operators.domain or 'ai.onnx'} {operators.version}" for operators in model.opset_import)


TREE_ATTRIBUTES = {
    "nodes_treeids": "nodes of the trees",
    "nodes_featureids": "features that the trees split on",
    "nodes_values_as_tensor": "thresholds of the trees",
    "class_weights_as_tensor": "leaves of the trees",
}


def _numbers(what: str, first: Any, second: Any) -> Iterator[Difference]:
    """The difference of two lists of numbers: their lengths, or how many differ and the first that do."""
    if first is None or second is None:
        yield _said(what, *("none" if values is None else f"{np.size(values):,} numbers" for values in (first, second)))
        return
    if not isinstance(first, Sequence | np.ndarray) or isinstance(first, str | bytes):
        yield from _difference(what, first, second)
        return
    pair: list[NDArray[Any]] = [np.asarray(values).ravel() for values in (first, second)]
    if len(pair[0]) != len(pair[1]):
        yield _said(what, f"{len(pair[0]):,} numbers", f"{len(pair[1]):,} numbers")
        return
    differing = np.flatnonzero(pair[0] != pair[1])
    if len(differing):
        place = differing[0]
        count = f"{len(differing):,} of {len(pair[0]):,} differ"
        yield _said(what, f"{pair[0][place]} at {place}", f"{pair[1][place]}; {count}")


def _difference(what: str, first: Any, second: Any) -> Iterator[Difference]:
    # NaN is what it was.
    if first != second and repr(first) != repr(second):
        yield _said(what, _shown(first), _shown(second))


def _said(what: str, was: str, now: str) -> Difference:
    return {"what": what, "was": was, "now": now}


def _shown(value: Any) -> str:
    return "none" if value in (None, "") else f"{value}"[:200]


def _at(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def fetch(tracking_uri: str, reference: str, destination: Path) -> Path:
    """Bring a model from MLflow.

    Args:
        tracking_uri: MLflow tracking server.
        reference: `NAME/VERSION`, or the id of an MLflow run.
        destination: Folder to write to.

    Returns:
        The model folder.

    Raises:
        ContractViolation: the server cannot be reached, or knows no such version or run.
    """
    client = connect(tracking_uri)
    name, _, version = reference.rpartition("/")
    import mlflow
    from mlflow.exceptions import MlflowException

    destination.mkdir(parents=True)
    with mlflow_errors(tracking_uri):
        try:
            uri = client.get_model_version_download_uri(name, version) if name else f"runs:/{reference}/{MODEL_PATH}"
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(destination), tracking_uri=tracking_uri))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise ContractViolation(
                f"{without_password(tracking_uri)} has no model {reference}. Name a run, or a version that the "
                "registry shows, such as churn/3."
            ) from error


def main(arguments: Sequence[str]) -> int:
    """Command line of the module. Returns the exit code."""
    match arguments:
        case ["compare", first, second]:
            print(json.dumps(compare_models(Path(first), Path(second))))
        case ["fetch", tracking_uri, reference, destination]:
            try:
                print(fetch(tracking_uri, reference, Path(destination)))
            except ContractViolation as violation:
                print(violation, file=sys.stderr)
                return 1
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
