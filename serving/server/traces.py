"""OpenTelemetry traces: a span for each request, a child of the client's (W3C Trace Context), sent by OTLP over HTTP.

Imported only where a setting asks for traces.
"""

from __future__ import annotations

import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kfp_lifecycle.serving.server.request_watch import Answered

PATH = "/v1/traces"
FLUSH_MILLISECONDS = 5_000


class Traces:
    """The spans of one server. The variables OTEL_* say the rest: sampler, headers, attributes of the resource."""

    def __init__(self, collector: str, model: str, version: str) -> None:
        """Begin to send.

        Args:
            collector: Address of an OpenTelemetry collector, without the path of traces.
            model: The model's name.
            version: Its version.
        """
        self._model, self._version = model, version
        resource = Resource.create({"service.name": model, "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector.rstrip("/") + PATH)))
        self._tracer = self._provider.get_tracer("kfp_lifecycle.serving")
        self._propagator = TraceContextTextMapPropagator()

    def answered(self, request: Answered) -> None:
        """Make its span, and note the trace."""
        now = time.time_ns()
        parent = self._propagator.extract({"traceparent": request.traceparent}) if request.traceparent else None
        is_grpc = request.protocol == "grpc"
        span = self._tracer.start_span(
            f"{request.protocol} infer",
            context=parent,
            kind=SpanKind.SERVER,
            start_time=now - int(request.seconds * 1e9),
            attributes={
                "rpc.grpc.status_code" if is_grpc else "http.response.status_code": request.code
                if is_grpc
                else int(request.code),
                "model.name": self._model,
                "model.version": self._version,
                "request.id": request.id,
                "request.rows": request.rows,
            },
        )
        if request.failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(now)
        context = span.get_span_context()
        request.trace = f"{context.trace_id:032x}" if context.trace_flags.sampled else ""

    def close(self) -> None:
        """Send what is left, if the collector takes it."""
        self._provider.force_flush(FLUSH_MILLISECONDS)
        self._provider.shutdown()
