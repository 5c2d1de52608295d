"""W3C trace context in message headers, and OpenTelemetry spans where it is installed (extra `otel`).

What other modules call::

    headers = inject(headers)                 # of a message about to be made: the trace under way goes with it
    with continued(headers): ...              # of a message being handled: its trace is the one under way inside
    sending = tracer.sending(envelope)        # a publish: begins a span, puts it into the headers ...
    sending.end()                             # ... and ends it at the confirm; end(error_type) when it failed
    with tracer.processing(delivery) as span: # a handler at work; span.failed(error) when it fails
    with tracer.calling(envelope) as span:    # a call until its reply: as sending, for who waits

The trace under way is one of the thread, or of the asyncio task, by `contextvars`. A `Tracer` is made by
`MessageBroker(tracing=True)` (`broker.tracer`, else None); `inject` and `continued` work without one, so that a trace
goes through services that know nothing of it. Attributes and names follow
https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from busctl_lib.envelope import Delivery, Envelope

TRACEPARENT = "traceparent"
"""The header of the W3C trace context: trace, span and flags."""
TRACESTATE = "tracestate"
"""The header of what its vendors add."""
_FORM = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_carried: ContextVar[dict[str, str] | None] = ContextVar("busctl-trace", default=None)
"""The trace headers of the message being handled, where no OpenTelemetry span stands for them."""


def trace_of(headers: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The trace headers among these, when there is a well-formed trace."""
    parent = headers.get(TRACEPARENT) if headers else None
    if not isinstance(parent, str) or not _FORM.fullmatch(parent) or parent.startswith("ff"):
        return None
    assert headers is not None
    state = headers.get(TRACESTATE)
    return {TRACEPARENT: parent, TRACESTATE: state} if isinstance(state, str) else {TRACEPARENT: parent}


def inject(headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """The headers with the trace under way, if any; a trace that is among them already stays."""
    carried = _carried.get()
    if carried is None or (headers and TRACEPARENT in headers):
        return headers
    return {**headers, **carried} if headers else dict(carried)


@contextlib.contextmanager
def continued(headers: Mapping[str, Any] | None) -> Iterator[None]:
    """Let the trace of these headers, or none, be the one under way."""
    token = _carried.set(trace_of(headers))
    try:
        yield
    finally:
        _carried.reset(token)


class Span:
    """One step of a trace. Without OpenTelemetry it has ids, and nobody is told of it."""

    def __init__(self, otel: Any = None) -> None:
        self._otel = otel
        self._ended = False

    def failed(self, error: BaseException) -> None:
        """Note what went wrong; the span goes on."""
        if self._otel is not None:
            from opentelemetry.trace import StatusCode

            self._otel.set_attribute("error.type", type(error).__name__)
            with contextlib.suppress(Exception):  # an error whose text cannot be had
                self._otel.record_exception(error)
                self._otel.set_status(StatusCode.ERROR, str(error)[:200])

    def event(self, name: str, **attributes: Any) -> None:
        """Note that something happened now."""
        if self._otel is not None:
            self._otel.add_event(name, {f"busctl.{key}": value for key, value in attributes.items()})

    def end(self, error_type: str | None = None) -> None:
        """End it, once; `error_type` says in a word what failed. Thread: any."""
        if self._ended:
            return
        self._ended = True
        if self._otel is None:
            return
        if error_type is not None:
            from opentelemetry.trace import StatusCode

            self._otel.set_status(StatusCode.ERROR)
            self._otel.set_attribute("error.type", error_type)
        self._otel.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self.failed(error)
        self.end()


class Tracer:
    """Makes the spans of one broker object.

    Args:
        host, port: of the broker, for the spans' attributes.
    """

    def __init__(self, host: str, port: int) -> None:
        self._place = {"messaging.system": "rabbitmq", "server.address": host, "server.port": port}
        try:
            from opentelemetry import context, propagate, trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            self._tracer: Any = None
            return
        self._context, self._propagate, self._trace = context, propagate, trace
        self._tracer = trace.get_tracer("busctl_lib")
        self._propagator: Any = TraceContextTextMapPropagator()

    def sending(self, envelope: Envelope) -> Span:
        """Begin the span of a publish and put it into the envelope's headers; who gets the confirm ends it."""
        return self._outgoing(envelope, "send")

    def calling(self, envelope: Envelope) -> Span:
        """Begin the span of a call, from request to reply, and put it into the envelope's headers."""
        return self._outgoing(envelope, "call")

    @contextlib.contextmanager
    def processing(self, delivery: Delivery) -> Iterator[Span]:
        """Have the handling of a message as the span under way; it goes on with the message's trace."""
        if self._tracer is None:
            with continued(_child(trace_of(delivery.properties.headers))):
                yield Span()
            return
        parent = self._propagator.extract(trace_of(delivery.properties.headers) or {}, context=self._context.Context())
        origin = self._trace.get_current_span(parent).get_span_context()
        span = self._tracer.start_span(
            f"process {_destination(delivery, delivery.queue)}",
            context=parent,
            kind=self._trace.SpanKind.CONSUMER,
            links=[self._trace.Link(origin)] if origin.is_valid else [],
            attributes={
                **self._attributes(delivery, "process", delivery.queue),
                "messaging.rabbitmq.message.delivery_tag": delivery.delivery_tag,
            },
        )
        token = self._context.attach(self._trace.set_span_in_context(span, parent))
        try:
            with Span(span) as found:
                yield found
        finally:
            self._context.detach(token)

    def _outgoing(self, envelope: Envelope, name: str) -> Span:
        headers = {n: v for n, v in envelope.headers.items() if n not in (TRACEPARENT, TRACESTATE)}
        if self._tracer is None:
            headers |= _child(_carried.get() or trace_of(envelope.headers))
            envelope.properties.headers = headers
            return Span()
        context = self._context.get_current()
        if not self._trace.get_current_span(context).get_span_context().is_valid:
            # No span of ours is under way: what the message, or the one being handled, brought along goes on.
            context = self._propagator.extract(trace_of(envelope.headers) or _carried.get() or {}, context=context)
        kind = self._trace.SpanKind.CLIENT if name == "call" else self._trace.SpanKind.PRODUCER
        span = self._tracer.start_span(
            f"{name} {_destination(envelope)}",
            context=context,
            kind=kind,
            attributes=self._attributes(envelope, name),
        )
        if span.get_span_context().is_valid:
            self._propagator.inject(headers, context=self._trace.set_span_in_context(span, context))
        else:  # only OpenTelemetry's API is here, and nobody set up where spans go: the headers flow all the same
            headers |= _child(None)
        envelope.properties.headers = headers
        return Span(span)

    def _attributes(self, envelope: Envelope, name: str, queue: str | None = None) -> dict[str, Any]:
        properties = envelope.properties
        found = {
            **self._place,
            "messaging.operation.name": name,
            "messaging.operation.type": "process" if name == "process" else "send",
            "messaging.destination.name": _destination(envelope, queue),
            "messaging.rabbitmq.destination.routing_key": envelope.routing_key,
            "messaging.message.id": properties.message_id,
            "messaging.message.conversation_id": properties.correlation_id,
            "messaging.message.body.size": len(envelope.body),
            "busctl.attempt": envelope.headers.get("busctl-attempt"),
        }
        return {key: value for key, value in found.items() if value is not None}


def _destination(envelope: Envelope, queue: str | None = None) -> str:
    """The destination's name, without what makes each message's another: spans are grouped by it."""
    exchange, key = envelope.exchange, envelope.routing_key
    if exchange.startswith("busctl.delay."):
        return queue or "busctl.delay"
    if key.startswith("amq.rabbitmq.reply-to"):
        return "(temporary)"
    parts = [exchange, key, queue if queue != key else None]
    return ":".join(part for part in parts if part) or "amq.default"


def _child(parent: Mapping[str, str] | None) -> dict[str, str]:
    """A span below a trace, or of a new one, as headers."""
    if parent is None:
        return {TRACEPARENT: f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}
    version, trace, _, flags = parent[TRACEPARENT].split("-")
    return {**parent, TRACEPARENT: f"{version}-{trace}-{secrets.token_hex(8)}-{flags}"}
