"""W3C trace context: continued from the caller, carried to the next service, recorded only where somebody exports it.

A recorded span was a tenth of the processor time of a small request, so without a tracer a request has its ids and nothing
else. docs/OPERATIONS.md shows how to run a service with one.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_IDS: Final = RandomIdGenerator()
_CARRIED: Final = ("traceparent", "tracestate")


@contextmanager
def server_span(tracer: Tracer | None, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
    """The span of one request: a child of the caller's when `traceparent` came along, else a new trace. `headers` ignore case."""
    carrier = {name: headers[name] for name in _CARRIED if name in headers}
    parent = _PROPAGATOR.extract(carrier, context=Context()) if carrier else Context()
    if tracer is not None:
        with tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER) as recorded:
            yield recorded
        return
    span = NonRecordingSpan(_child_of(get_current_span(parent).get_span_context()))
    token = attach(set_span_in_context(span))
    try:
        yield span
    finally:
        detach(token)


def _child_of(parent: SpanContext) -> SpanContext:
    """Sampled where its parent is; a trace that begins here is, as a service with an exporter behind this one may record it."""
    return SpanContext(
        trace_id=parent.trace_id if parent.is_valid else _IDS.generate_trace_id(),
        span_id=_IDS.generate_span_id(),
        is_remote=False,
        trace_flags=parent.trace_flags if parent.is_valid else TraceFlags(TraceFlags.SAMPLED),
        trace_state=parent.trace_state,
    )


def inject_trace(headers: MutableMapping[str, str]) -> None:
    """Adds `traceparent` of the current span, if there is one."""
    _PROPAGATOR.inject(headers)
