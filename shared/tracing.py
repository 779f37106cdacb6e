"""W3C trace context: continued from the caller, carried to the next service, exported nowhere by default.

Spans are OpenTelemetry's, made by a provider without exporters. docs/OPERATIONS.md shows how to run a service with one.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


def make_tracer(service: str) -> Tracer:
    provider = TracerProvider(resource=Resource({"service.name": f"diptych-{service}"}), shutdown_on_exit=False)
    return provider.get_tracer("diptych")


@contextmanager
def server_span(tracer: Tracer, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
    """The span of one request: a child of the caller's when `traceparent` came along, else a new trace."""
    carrier = {key.lower(): value for key, value in headers.items() if key.lower() in {"traceparent", "tracestate"}}
    parent = _PROPAGATOR.extract(carrier, context=Context())
    with tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER) as span:
        yield span


def inject_trace(headers: MutableMapping[str, str]) -> None:
    """Adds `traceparent` of the current span, if there is one."""
    _PROPAGATOR.inject(headers)
