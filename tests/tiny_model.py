"""Makes a small servable model for the serving tests: `python tests/tiny_model.py FOLDER [VERSION] [SLOPE]`.

Runs in the modelling environment. The model is a logistic function written by hand, so that its scores are known
without it: sigmoid(slope * (0.04 * temperature + site)), a missing temperature counting as 20.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.serving import Example, Latency, ServerStart, ServingTrial
from kfp_lifecycle.runtime.closure import copy_modules

SITES = {"north": -1.0, "south": -2.0, "": -1.5}
SETTINGS = {
    "name": "devices",
    "entity": {"name": "device", "key": "device_id"},
    "label": {"name": "failed", "title": "fails within a week", "horizon_days": 7},
    "features": {"service": "devices"},
}


def onnx_model(slope: float) -> onnx.ModelProto:
    """The formula as ONNX."""
    nodes = [
        helper.make_node("IsNaN", ["temperature"], ["absent"]),
        helper.make_node("Where", ["absent", "usual", "temperature"], ["known"]),
        helper.make_node("Mul", ["known", "weight"], ["heat"]),
        helper.make_node(
            "LabelEncoder",
            ["site"],
            ["place"],
            domain="ai.onnx.ml",
            keys_strings=list(SITES),
            values_floats=list(SITES.values()),
            default_float=-1.5,
        ),
        helper.make_node("Add", ["heat", "place"], ["sum"]),
        helper.make_node("Mul", ["sum", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
    ]
    constants = {"usual": 20.0, "weight": 0.04, "slope": slope, "one": 1.0}
    graph = helper.make_graph(
        nodes,
        "devices",
        [
            helper.make_tensor_value_info("temperature", TensorProto.FLOAT, [None, 1]),
            helper.make_tensor_value_info("site", TensorProto.STRING, [None, 1]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def make(folder: Path, version: str = "1", slope: float = 1.0) -> None:
    """Write the whole model folder as a servable model, its code included."""
    (folder / "baseline").mkdir(parents=True)
    (folder / "feature_repo").mkdir()
    onnx.save(onnx_model(slope), folder / "model.onnx")
    Model(
        model="devices",
        version=version,
        inputs=[Feature("temperature", "numeric"), Feature("site", "categorical")],
        feature_service="devices",
        threshold=0.3,
        settings=SETTINGS,
        learned_until="2026-10-01",
    ).write(folder)
    random = np.random.default_rng(7)
    temperature = random.uniform(0, 60, 50)
    temperature[::10] = np.nan
    site = random.choice(["north", "south"], 50)
    logit = slope * (0.04 * np.nan_to_num(temperature, nan=20.0) + np.array([SITES[name] for name in site]))
    reference = pd.DataFrame({"temperature": temperature, "site": site, "score": 1 / (1 + np.exp(-logit))})
    reference.to_parquet(folder / "baseline" / "reference.parquet", index=False)
    rows = json.loads(reference.to_json(orient="records"))
    # The formula once more, as what explains it: a usual device has 20 degrees and either site.
    np.savez_compressed(
        folder / "explainer.npz",
        imputed=np.array([20.0]),
        mean=np.zeros(1),
        scale=np.ones(1),
        categories=np.array(json.dumps([list(SITES)])),
        coefficient=slope * np.array([0.04, *SITES.values()]),
        typical=np.array([20.0, 0.5, 0.5, 0.0]),
        base=np.array(slope * (0.04 * 20 - 1.5)),
        unit=np.array("log-odds"),
    )
    latency = Latency(p50_ms=1, p95_ms=1, p99_ms=1, requests=1, clients=1)
    ServingTrial(
        latency=latency,
        concurrent_latency=latency,
        server=ServerStart(ready_seconds=1, peak_memory_mb=None),
        examples=[Example(score=row.pop("score"), features=row) for row in rows],
    ).write(folder)
    copy_modules(["kfp_lifecycle.serving.server.server"], folder / "code")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    make(Path(arguments[0]), *arguments[1:2], *map(float, arguments[2:3]))
