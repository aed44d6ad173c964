"""Requests to the tiny model, in words of the Open Inference Protocol."""

from __future__ import annotations

import math
from typing import Any

MODEL = "/v2/models/devices"
INFER, PREDICT = f"{MODEL}/infer", "/v1/models/devices:predict"


def formula(temperature: float, site: str = "north") -> float:
    """The tiny model, written down again."""
    heat = 0.04 * (20 if math.isnan(temperature) else temperature)
    return 1 / (1 + math.exp(-(heat + {"north": -1.0, "south": -2.0}.get(site, -1.5))))


def tensor(name: str, datatype: str, data: list[Any], shape: list[Any] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def temperature(data: list[Any], datatype: str = "FP64", shape: list[Any] | None = None) -> dict[str, Any]:
    return tensor("temperature", datatype, data, shape)


def site(*names: Any) -> dict[str, Any]:
    return tensor("site", "BYTES", list(names))


GOOD = {"inputs": [temperature([30.0]), site("north")]}
