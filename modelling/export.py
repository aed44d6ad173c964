"""The served form of a model: one ONNX graph from named features to calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.config.training import Calibration as Method
from kfp_lifecycle.modelling.calibration import SCORE_MARGIN, Calibration
from kfp_lifecycle.modelling.scoring import OUTPUT
from kfp_lifecycle.runtime.contract import ContractViolation

# The oldest operator sets that have all the graph needs, so that many runtimes can serve it.
OPERATOR_SETS = {"": 17, "ai.onnx.ml": 3}
RAW = "calibration/raw"


def export_onnx(pipeline: Pipeline, calibration: Calibration, features: Sequence[Feature]) -> onnx.ModelProto:
    """A trained pipeline and its calibration as ONNX; the same pipeline gives the same bytes.

    Args:
        pipeline: Encoder and estimator, trained.
        calibration: What follows them.
        features: The model's inputs; each becomes a tensor [N, 1], float32 or string.

    Returns:
        A model with the one output `probabilities`, float32 [N, 2]: of no event and of the event.

    Raises:
        ContractViolation: the estimator has no ONNX form.
    """
    estimator = type(pipeline[-1]).__name__
    _register_converter(pipeline[-1])
    types: dict[str, Any] = {"numeric": FloatTensorType, "categorical": StringTensorType}
    inputs = [(feature.name, types[feature.type]([None, 1])) for feature in features]
    try:
        model = to_onnx(pipeline, initial_types=inputs, options={"zipmap": False}, target_opset=OPERATOR_SETS)
    except (MissingConverter, MissingShapeCalculator, NotImplementedError, RuntimeError, KeyError) as error:
        # KeyError: XGBoost's converter misses the trees of a booster that has none, or weighs them.
        raise ContractViolation(
            f"training.estimator: {estimator} with these parameters has no ONNX form, and nothing else is served "
            f"({str(error).splitlines()[0]:.200}). Choose another estimator or other training.parameters."
        ) from error
    uncalibrated = model.graph.output[1].name
    model = select_model_inputs_outputs(model, outputs=[uncalibrated])
    for node in model.graph.node:
        node.output[:] = [RAW if name == uncalibrated else name for name in node.output]
    nodes, constants = _calibration_nodes(calibration)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2]))
    # The converter names a graph by chance, and lists the operator sets in the order of a set.
    model.graph.name = estimator
    model.opset_import.sort(key=lambda operators: operators.domain)
    onnx.checker.check_model(model)
    return model


def _register_converter(estimator: Any) -> None:
    """Tell skl2onnx of the converters for estimators that are not scikit-learn's own."""
    package = type(estimator).__module__.partition(".")[0]
    if package == "lightgbm":
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as convert
    elif package == "xgboost":
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as convert
    else:
        return
    update_registered_converter(
        type(estimator),
        type(estimator).__name__,
        calculate_linear_classifier_output_shapes,
        convert,
        overwrite=True,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )


def _calibration_nodes(calibration: Calibration) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from the raw probabilities [N, 2] to the calibrated ones; no feature has a `/` in its name, theirs do."""
    if calibration.method is Method.none:
        # Sums of many trees' shares in 32 bits can end a little outside.
        bounds = {"calibration/lowest": 0, "calibration/highest": 1}
        values = [numpy_helper.from_array(np.array(value, dtype=np.float32), name) for name, value in bounds.items()]
        return [helper.make_node("Clip", [RAW, *bounds], [OUTPUT])], values
    constants: dict[str, np.ndarray[Any, Any]] = {
        "event": np.array([1], dtype=np.int64),
        "one": np.ones(1, dtype=np.float32),
    }
    nodes = [("Gather", ["raw", "event"], "score")]
    if calibration.method is Method.sigmoid:
        constants["lowest"] = np.array(SCORE_MARGIN, dtype=np.float32)
        constants["highest"] = np.array(1 - SCORE_MARGIN, dtype=np.float32)
        constants["slope"] = np.array([calibration.slope], dtype=np.float32)
        constants["intercept"] = np.array([calibration.intercept], dtype=np.float32)
        nodes += [
            ("Clip", ["score", "lowest", "highest"], "bounded"),
            ("Sub", ["one", "bounded"], "other"),
            ("Log", ["bounded"], "log_bounded"),
            ("Log", ["other"], "log_other"),
            ("Sub", ["log_bounded", "log_other"], "logit"),
            ("Mul", ["logit", "slope"], "scaled"),
            ("Add", ["scaled", "intercept"], "calibrated_logit"),
            ("Sigmoid", ["calibrated_logit"], "probability"),
        ]
    else:
        # Linear interpolation without a search: each interval adds its slope times the way that the score went into it.
        x, y = np.array(calibration.knots).T
        width = np.diff(x) if len(x) > 1 else np.ones(1)
        rise = np.diff(y) if len(y) > 1 else np.zeros(1)
        constants["starts"] = x[: len(width)].astype(np.float32)
        constants["widths"] = width.astype(np.float32)
        constants["slopes"] = (rise / width).astype(np.float32)[:, None]
        constants["first"] = y[:1].astype(np.float32)
        constants["zero"] = np.zeros(1, dtype=np.float32)
        nodes += [
            ("Sub", ["score", "starts"], "way"),
            ("Max", ["way", "zero"], "way_from_start"),
            ("Min", ["way_from_start", "widths"], "way_inside"),
            ("MatMul", ["way_inside", "slopes"], "rise"),
            ("Add", ["rise", "first"], "sum"),
            ("Min", ["sum", "one"], "probability"),
        ]
    nodes += [("Sub", ["one", "probability"], "complement")]
    made = []
    for operator, inputs, output in nodes:
        names = [f"calibration/{name}" for name in inputs]
        attributes = {"axis": 1} if operator == "Gather" else {}
        made.append(helper.make_node(operator, names, [f"calibration/{output}"], **attributes))
    both = ["calibration/complement", "calibration/probability"]
    made.append(helper.make_node("Concat", both, [OUTPUT], axis=1))
    return made, [numpy_helper.from_array(value, f"calibration/{name}") for name, value in constants.items()]
