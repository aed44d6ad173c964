"""ONNX export: one graph from named features to calibrated probabilities, which computes what the model computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.modelling.calibration import Calibration
from kfp_lifecycle.modelling.calibration_graph import RAW, add_calibration
from kfp_lifecycle.modelling.estimator import Widening
from kfp_lifecycle.runtime.contract import ContractViolation

# The oldest operator sets that have all the graph needs, so that many runtimes can serve it.
OPERATOR_SETS = {"": 17, "ai.onnx.ml": 3}


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
        raise _no_onnx_form(estimator, str(error).splitlines()[0]) from error
    foreign = [operators.domain for operators in model.opset_import if operators.domain not in OPERATOR_SETS]
    if foreign:
        raise _no_onnx_form(estimator, f"its converter uses operators of {', '.join(foreign)}")
    uncalibrated = model.graph.output[1].name
    model = select_model_inputs_outputs(model, outputs=[uncalibrated])
    for node in model.graph.node:
        node.output[:] = [RAW if name == uncalibrated else name for name in node.output]
    add_calibration(model, calibration, in_64_bits(model, pipeline[-1]))
    _name_inputs(model, features)
    # The converter names a graph by chance, and lists the operator sets in the order of a set.
    model.graph.name = estimator
    model.opset_import.sort(key=lambda operators: operators.domain)
    onnx.checker.check_model(model)
    return model


def _name_inputs(model: onnx.ModelProto, features: Sequence[Feature]) -> None:
    """Call inputs what features are called: the converter turns what is no identifier into one."""
    names = {each.name: item.name for each, item in zip(model.graph.input, features, strict=True)}
    for each in model.graph.input:
        each.name = names[each.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _widening_shape(operator: Any) -> None:
    operator.outputs[0].type = DoubleTensorType(operator.inputs[0].type.shape)


def _convert_widening(scope: Any, operator: Any, container: Any) -> None:
    container.add_node("Cast", [operator.inputs[0].full_name], [operator.outputs[0].full_name], to=TensorProto.DOUBLE)


def _register_converter(estimator: Any) -> None:
    """Tell skl2onnx of the converters for what is not scikit-learn's own."""
    update_registered_converter(Widening, "LifecycleWidening", _widening_shape, _convert_widening, overwrite=True)
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


def _no_onnx_form(estimator: str, reason: str) -> ContractViolation:
    return ContractViolation(
        f"training.estimator: {estimator} with these parameters has no ONNX form, and nothing else is served "
        f"({reason:.200}). Choose another estimator or other training.parameters."
    )


def in_64_bits(model: onnx.ModelProto, estimator: Any) -> bool:
    """Let trees and lines add up in 64 bits, and boosted trees and logistic regressions give log-odds, which keep near
    0 and 1 what probabilities lose.

    Args:
        model: The exported pipeline; it is changed.
        estimator: Its last step.

    Returns:
        Whether its output is now log-odds.
    """
    log_odds = False
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "LinearClassifier" and isinstance(estimator, LogisticRegression):
            nodes += _linear_nodes(model, node, estimator)
            log_odds = True
            continue
        if node.op_type != "TreeEnsembleClassifier":
            nodes.append(node)
            continue
        values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        for name in ("nodes_values", "class_weights", "base_values"):
            if name in values:
                numbers = np.array(values.pop(name), dtype=np.float64)
                values[f"{name}_as_tensor"] = numpy_helper.from_array(numbers, name)
        # They only say how often a branch is taken.
        values.pop("nodes_hitrates", None)
        if values["post_transform"] == b"LOGISTIC":
            values["post_transform"], log_odds = b"NONE", True
        wide = f"{node.output[0]}/inputs"
        nodes.append(helper.make_node("Cast", [node.input[0]], [wide], to=TensorProto.DOUBLE))
        nodes.append(
            helper.make_node(node.op_type, [wide], list(node.output), name=node.name, domain=node.domain, **values)
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for operators in model.opset_import:
        operators.version = max(operators.version, OPERATOR_SETS[operators.domain])
    return log_odds


def _linear_nodes(model: onnx.ModelProto, node: onnx.NodeProto, estimator: LogisticRegression) -> list[onnx.NodeProto]:
    """Log-odds of no event and of the event, [N, 2]: `LinearClassifier` keeps coefficients and sums in 32 bits."""
    names = [f"linear/{name}" for name in ("inputs", "products", "coefficients", "intercepts")]
    wide, products, coefficients, intercepts = names
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.concatenate([-estimator.coef_, estimator.coef_]).T, coefficients),
            numpy_helper.from_array(np.concatenate([-estimator.intercept_, estimator.intercept_]), intercepts),
        ]
    )
    return [
        helper.make_node("Cast", [node.input[0]], [wide], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", [wide, coefficients], [products]),
        helper.make_node("Add", [products, intercepts], [node.output[1]]),
    ]
