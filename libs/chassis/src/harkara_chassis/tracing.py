"""Traces across the bus by the W3C traceparent in each record.

Sampling is decided at the edge, once. An event that is not sampled carries no traceparent and costs nothing. The context
is injected for each event where it is published, so that a step's span is the child of the step before, not its sibling.
"""

import random
import secrets
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans where an endpoint to send them to is set; else only hands contexts on."""

    def __init__(self, service: str, instance: str, endpoint: str | None, ratio: float) -> None:
        self._ratio = ratio if endpoint else 0.0
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        if endpoint:
            resource = Resource.create({"service.name": f"harkara-{service}", "service.instance.id": instance})
            self._provider = TracerProvider(resource=resource)
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
            self._tracer = self._provider.get_tracer("harkara")

    def start(self) -> str | None:
        """Decide at the edge whether a new call is traced; returns its traceparent if so."""
        if not self._ratio or random.random() >= self._ratio:  # noqa: S311  # sampling is no secret
            return None
        return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"

    def step(self, name: str, traces: Mapping[str, str], start_ns: int, end_ns: int) -> dict[str, str]:
        """Record what one handler call did for its traced events; returns the contexts for what it publishes.

        Args:
            name: of the span, the consumer's.
            traces: traceparent by correlation key, as received.
            start_ns: unix nanoseconds.
            end_ns: unix nanoseconds.
        """
        if self._tracer is None:
            return dict(traces)
        onward: dict[str, str] = {}
        for key, traceparent in traces.items():
            parent = _PROPAGATOR.extract({"traceparent": traceparent})
            span = self._tracer.start_span(name, parent, kind=SpanKind.CONSUMER, start_time=start_ns)
            context = span.get_span_context()
            onward[key] = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
            span.end(end_ns)
        return onward

    def close(self) -> None:
        if self._provider is not None:
            self._provider.shutdown()
