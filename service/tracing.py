"""Traces for OpenTelemetry, an extra: requests, the jobs in slots, retrieval, generation, uploads.

Off by default; on where OpenTelemetry's own variables name a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`). Off,
`span` costs one comparison and nothing of OpenTelemetry is imported.

Attributes are counts, kinds and declared names: routes, models, collections, token counts. Never a path, a
query, a question, an answer or a document's text, and of an exception its kind alone. For the same reason the
provider is ours and not the global one, by which the web framework would add spans with paths and queries.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, Protocol

from service.errors import InvalidRequest

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)

Value = str | int | float | bool
Kind = Literal["internal", "server"]
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

_tracer: Tracer | None = None
_provider: TracerProvider | None = None
#: The span within which this thread or task works; None outside of one. Slots and jobs take it along.
_within: ContextVar[Context | None] = ContextVar("span", default=None)


class Span(Protocol):
    """A step that is being traced."""

    def set(self, **attributes: Value | None) -> None:
        """Say more about it; None is left out. `__` in a name stands for a dot."""
        ...

    def rename(self, name: str, *, failed: bool = False) -> None:
        """Call it by what is known now, and say whether it failed."""
        ...


class _Off:
    def set(self, **attributes: Value | None) -> None:
        pass

    def rename(self, name: str, *, failed: bool = False) -> None:
        pass


_OFF = _Off()


class _On:
    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, **attributes: Value | None) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name.replace("__", "."), value)

    def rename(self, name: str, *, failed: bool = False) -> None:
        from opentelemetry.trace import StatusCode

        self._span.update_name(name)
        if failed:
            self._span.set_status(StatusCode.ERROR)


@contextmanager
def span(
    name: str,
    *,
    kind: Kind = "internal",
    within: Context | None = None,
    carrier: Mapping[str, str] | None = None,
    **attributes: Value | None,
) -> Iterator[Span]:
    """Trace a step.

    Args:
        name: of few different ones: the route as it is declared, or what the step is.
        kind: `server` for a request of somebody else.
        within: the step that this one belongs to, where it is not the one of this thread or task.
        carrier: headers that may say (`traceparent`, W3C Trace Context) to whose trace a request belongs.
        attributes: see `Span.set`.
    """
    tracer = _tracer
    if tracer is None:
        yield _OFF
        return
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    before = _within.get()
    parent = within if within is not None else before
    if carrier is not None:
        parent = TraceContextTextMapPropagator().extract(carrier)
    kinds = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}
    started = tracer.start_span(name, context=parent, kind=kinds[kind])
    traced = _On(started)
    traced.set(**attributes)
    _within.set(set_span_in_context(started, parent))
    try:
        yield traced
    except Exception as error:
        traced.set(error__type=type(error).__qualname__)
        started.set_status(StatusCode.ERROR)
        raise
    finally:
        # Not by a token: a generator may be closed in another context than the one it began in.
        _within.set(before)
        started.end()


def here() -> Context | None:
    """The step that this thread or task is in, to be handed to another thread as `within`."""
    return _within.get()


def use(tracer: Tracer | None, provider: TracerProvider | None = None) -> None:
    """Trace with this tracer, and end its provider with `flush`; None: trace no more."""
    global _tracer, _provider
    _tracer, _provider = tracer, provider


def configure(environ: Mapping[str, str] = os.environ) -> None:
    """Trace to the collector that OpenTelemetry's variables name, if they name one.

    Raises:
        InvalidRequest: they ask for an exporter or a protocol that is not installed.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or exporter == "none" or not any(environ.get(name, "").strip() for name in _ENDPOINTS):
        return
    if exporter != "otlp":
        raise InvalidRequest(f"OTEL_TRACES_EXPORTER={exporter} is not known here; use otlp, or none")
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        processor = BatchSpanProcessor(_exporter(protocol))
    except ImportError as error:
        raise InvalidRequest(
            "a collector is named (OTEL_EXPORTER_OTLP_ENDPOINT), but what sends traces is not installed: "
            "pip install 'lorebase[otel]', or set OTEL_SDK_DISABLED=true"
        ) from error
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: "lorebase"}))
    provider.add_span_processor(processor)
    use(provider.get_tracer("lorebase", version("lorebase")), provider)


def flush() -> None:
    """Send what has not been sent yet; the end of tracing."""
    if _provider is not None:
        _provider.shutdown()
    use(None)


def _exporter(protocol: str) -> Any:
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    raise InvalidRequest(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} is not known here; use http/protobuf")
