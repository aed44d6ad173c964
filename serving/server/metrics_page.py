"""Prometheus's text format (0.0.4), written several times as fast as by its client library.

The page is made on the event loop: while it is made, nobody is answered. With fifty features it has 800 lines
(`benchmarks/metrics_page.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_ESCAPED_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


def metrics_page(registry: Collector) -> bytes:
    """All metrics as of now. Times of a counter's beginning (`_created`) are left out: Prometheus asks for none."""
    return "".join(line for family in registry.collect() for line in _lines(family)).encode()


def _lines(family: Metric) -> Iterator[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    kind = "untyped" if family.type == "unknown" else family.type
    yield f"# HELP {name} {family.documentation.translate(_ESCAPED_IN_HELP)}\n# TYPE {name} {kind}\n"
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
        if sample.labels:
            labels = ",".join([f'{label}="{_escaped(text)}"' for label, text in sample.labels.items()])
            yield f"{sample.name}{{{labels}}} {value}\n"
        else:
            yield f"{sample.name} {value}\n"


def _escaped(text: str) -> str:
    return text.translate(_ESCAPED) if '"' in text or "\\" in text or "\n" in text else text
