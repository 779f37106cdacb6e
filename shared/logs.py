"""Structured logs: one event a line, names not sentences, with the request and trace ids of whatever caused it.

Logs carry ids, counts and times, never texts, queries or keys: they are read by more people than the data is.
"""

import logging
import sys
from typing import Any, Literal

import msgspec
import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger


def configure_logs(*, service: str, level: str, style: Literal["auto", "json", "console"]) -> None:
    """Once a process, from `__main__`. Logs go to standard error, so that standard output stays a program's result."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(serializer=_encode)
    )
    # Tracebacks without local variables: among those are the texts and keys that must not be here.
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *([] if console else [tracebacks]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if console
        else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries that use the standard module: their warnings matter, their progress does not.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def _encode(event: EventDict, **_: Any) -> bytes:
    """A line for each request is worth a fast encoder."""
    return msgspec.json.encode(event, enc_hook=repr)


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event
