"""Calibration in ONNX: the nodes from what an estimator gives to probabilities, put behind a graph or exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.modelling.calibration import SCORE_MARGIN, Calibration
from kfp_lifecycle.modelling.scoring import OUTPUT, tensors
from kfp_lifecycle.runtime.contract import ContractViolation

# No feature has a `/` in its name; all of the calibration has.
PREFIX = "calibration/"
RAW, SCORE = f"{PREFIX}raw", f"{PREFIX}score"
ATTRIBUTES: dict[str, dict[str, Any]] = {"Gather": {"axis": 1}, "Cast": {"to": TensorProto.DOUBLE}}
Node = tuple[str, list[str], str]
Constants = Mapping[str, np.ndarray[Any, Any]]


def add_calibration(model: onnx.ModelProto, calibration: Calibration, log_odds: bool) -> None:
    """Put a calibration behind a graph, whose one output is then `probabilities`, float32 [N, 2].

    Args:
        model: A graph that gives `RAW`, [N, 2]; it is changed.
        calibration: What follows.
        log_odds: Whether `RAW` is log-odds instead of probabilities.
    """
    nodes, constants = _calibration_nodes(calibration, log_odds)
    _end_with(model, nodes, constants, helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2]))


def with_calibration(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """An exported model with another calibration behind it: all before it is the same, and what it ranks, too.

    Raises:
        ContractViolation: the graph does not say where its calibration begins.
    """
    changed, log_odds = _without_calibration(model)
    add_calibration(changed, calibration, log_odds)
    onnx.checker.check_model(changed)
    return changed


class RawScorer:
    """What an exported model gives before calibration, in 64 bits."""

    def __init__(self, model: onnx.ModelProto, features: Sequence[Feature]) -> None:
        """Take the calibration off.

        Args:
            model: As `export_onnx` made it.
            features: Its inputs.

        Raises:
            ContractViolation: as `with_calibration`.
        """
        graph, log_odds = _without_calibration(model)
        nodes, constants = _made(_score_nodes(log_odds), _constants(), ["score"])
        _end_with(graph, nodes, constants, helper.make_tensor_value_info(SCORE, TensorProto.DOUBLE, [None, 1]))
        self._features = list(features)
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, inputs: pd.DataFrame) -> NDArray[np.float64]:
        """The event's probability before calibration for each row of `model_inputs`, shape (n,)."""
        (score,) = self._session.run([SCORE], tensors(inputs, self._features))
        found: NDArray[np.float64] = np.asarray(score)[:, 0]
        return found


def _without_calibration(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """A copy that ends with `RAW`, and whether that is log-odds."""
    outputs = {name for node in model.graph.node for name in node.output}
    if RAW not in outputs:
        raise ContractViolation(
            "model.onnx does not say where its calibration begins: it was not exported by train_model. Start a whole "
            "training."
        )
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    kept = [node for node in model.graph.node if RAW in node.output or not _is_of_calibration(node.output[0])]
    constants = [item for item in model.graph.initializer if not _is_of_calibration(item.name)]
    del bare.graph.node[:], bare.graph.initializer[:]
    bare.graph.node.extend(kept)
    bare.graph.initializer.extend(constants)
    # Of probabilities these two keep log-odds finite and sums of shares inside [0, 1].
    return bare, outputs.isdisjoint({f"{PREFIX}bounded", f"{PREFIX}not_below"})


def _is_of_calibration(name: str) -> bool:
    return name.startswith(PREFIX) or name == OUTPUT


def _end_with(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    output: onnx.ValueInfoProto,
) -> None:
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    del model.graph.output[:]
    model.graph.output.append(output)


def _constants() -> dict[str, np.ndarray[Any, Any]]:
    """What the nodes of every method read."""
    logit_margin = np.log1p(-SCORE_MARGIN) - np.log(SCORE_MARGIN)
    return {
        "event": np.array([1], dtype=np.int64),
        "none": np.array([0], dtype=np.int64),
        "zero": np.zeros(1),
        "one": np.ones(1),
        "lowest": np.array(SCORE_MARGIN),
        "highest": np.array(1 - SCORE_MARGIN),
        "lowest_logit": np.array(-logit_margin),
        "highest_logit": np.array(logit_margin),
    }


def _score_nodes(log_odds: bool) -> list[Node]:
    """From what the estimator gives, [N, 2], to the event's score and its log-odds, in 64 bits."""
    nodes: list[Node] = [("Cast", ["raw"], "raw_64"), ("Gather", ["raw_64", "event"], "of_event")]
    if log_odds:
        return [
            *nodes,
            ("Sigmoid", ["of_event"], "score"),
            ("Clip", ["of_event", "lowest_logit", "highest_logit"], "logit"),
        ]
    return [
        *nodes,
        # Sums of many trees' shares can end a little outside.
        ("Max", ["of_event", "zero"], "not_below"),
        ("Min", ["not_below", "one"], "score"),
        ("Gather", ["raw_64", "none"], "of_none"),
        ("Clip", ["of_event", "lowest", "highest"], "bounded"),
        ("Clip", ["of_none", "lowest", "highest"], "other"),
        ("Log", ["bounded"], "log_bounded"),
        ("Log", ["other"], "log_other"),
        ("Sub", ["log_bounded", "log_other"], "logit"),
    ]


def _calibration_nodes(calibration: Calibration, log_odds: bool) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from what the estimator gives to the calibrated probabilities, in 64 bits but for their result."""
    constants = _constants() | {
        "slope": np.array([calibration.slope]),
        "intercept": np.array([calibration.intercept]),
        "hazard_ratio": np.array([calibration.hazard_ratio]),
    }
    nodes = _score_nodes(log_odds)
    changed = calibration.hazard_ratio != 1
    probability = "before_ratio" if changed else "probability"
    if calibration.method is Method.none:
        nodes += [("Identity", ["score"], probability)]
    elif calibration.method is Method.sigmoid:
        nodes += [
            ("Mul", ["logit", "slope"], "scaled"),
            ("Add", ["scaled", "intercept"], "calibrated_logit"),
            ("Sigmoid", ["calibrated_logit"], probability),
        ]
    else:
        # Linear interpolation without a search: each interval adds its slope times the way that the score went into it.
        x, y = np.array(calibration.knots).T
        width = np.diff(x) if len(x) > 1 else np.ones(1)
        rise = np.diff(y) if len(y) > 1 else np.zeros(1)
        constants |= {"starts": x[: len(width)], "widths": width, "slopes": (rise / width)[:, None], "first": y[:1]}
        nodes += [
            ("Sub", ["score", "starts"], "way"),
            ("Max", ["way", "zero"], "way_from_start"),
            ("Min", ["way_from_start", "widths"], "way_inside"),
            ("MatMul", ["way_inside", "slopes"], "rise"),
            ("Add", ["rise", "first"], "sum"),
            ("Min", ["sum", "one"], probability),
        ]
    if changed and calibration.absence:
        nodes += [("Pow", ["before_ratio", "hazard_ratio"], "probability")]
    elif changed:
        nodes += [
            ("Sub", ["one", "before_ratio"], "none_before_ratio"),
            ("Pow", ["none_before_ratio", "hazard_ratio"], "none_after_ratio"),
            ("Sub", ["one", "none_after_ratio"], "probability"),
        ]
    nodes += [("Sub", ["one", "probability"], "complement")]
    made, used = _made(nodes, constants, ["complement", "probability"])
    both = [f"{PREFIX}complement", f"{PREFIX}probability"]
    made.append(helper.make_node("Concat", both, [f"{PREFIX}both"], axis=1))
    made.append(helper.make_node("Cast", [f"{PREFIX}both"], [OUTPUT], to=TensorProto.FLOAT))
    return made, used


def _made(
    nodes: Sequence[Node], constants: Constants, outputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes that these outputs depend on, in their order, and the constants that they read."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if node[2] in wanted:
            wanted.update(node[1])
            kept.append(node)
    made = [
        helper.make_node(
            operator, [f"{PREFIX}{name}" for name in inputs], [f"{PREFIX}{output}"], **ATTRIBUTES.get(operator, {})
        )
        for operator, inputs, output in kept[::-1]
    ]
    used = {name for _, inputs, _ in kept for name in inputs}
    return made, [
        numpy_helper.from_array(value, f"{PREFIX}{name}") for name, value in constants.items() if name in used
    ]
