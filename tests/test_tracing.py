"""Traces: one connected trace over everything a message sets off, with OpenTelemetry's own SDK and without any."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from waiting import wait_until

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher, RPCConsumer
from busctl_lib.errors import Unroutable
from busctl_lib.retry import RetryPolicy
from busctl_lib.rpc import RPCServer

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def broker(vhost: Any, exporter: InMemorySpanExporter) -> Iterator[MessageBroker]:
    exporter.clear()
    with MessageBroker(url=vhost.amqp_url, tracing=True) as broker:
        broker.declare_queue("q", dead_letter=True)
        broker.declare_queue("next")
        broker.declare_queue("service")
        yield broker


def test_one_trace_goes_over_publish_handler_call_reply_retry_and_dead_letter(
    broker: MessageBroker, exporter: InMemorySpanExporter
) -> None:
    rpc, publisher = RPCConsumer(broker), MessagePublisher(broker)
    server = RPCServer(broker, "service")

    @server.method
    def double(number: int) -> int:
        return 2 * number

    def work(message: dict[str, Any], _properties: Any) -> None:
        assert rpc.call("service", {"action": "double", "number": 4}, timeout=30) == 8
        publisher.publish("next", {"action": "told"})
        raise LookupError("no such account")

    consumer = MessageConsumer(broker, retry=RetryPolicy(max_attempts=2, first_delay_s=0.1))
    consumer.register_handler("work", work)
    buried = threading.Event()
    reader = MessageConsumer(broker)
    reader.register_handler("work", lambda _message, _properties: buried.set())
    with server:
        consumer.start_consuming("q", background=True)
        reader.start_consuming("q.dead", background=True)
        publisher.publish("q", {"action": "work"}, correlation_id="c-1")
        assert buried.wait(30)
        consumer.stop()
        reader.stop()
    wanted = [
        "send q", "process q", "call service", "process service", "send (temporary)",
        "send next", "send busctl.delay", "process q", "call service", "process service", "send (temporary)",
        "send next", "send q.dead", "process q.dead",
    ]  # fmt: skip
    wait_until(lambda: len(exporter.get_finished_spans()) >= len(wanted), 30)
    spans = exporter.get_finished_spans()
    assert sorted(span.name for span in spans) == sorted(wanted)
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    ids = {span.context.span_id for span in spans if span.context}
    roots = [span for span in spans if span.parent is None]
    assert [span.name for span in roots] == ["send q"]
    assert all(span.parent.span_id in ids for span in spans if span.parent is not None)
    assert below(spans, "send next") == {"process q"}
    assert below(spans, "call service") == {"process q"}
    assert below(spans, "process service") == {"call service"}
    assert below(spans, "send (temporary)") == {"process service"}
    assert below(spans, "send q.dead") == {"process q"}
    assert below(spans, "process q") == {"send q", "send busctl.delay"}
    check_conventions(spans)


def below(spans: tuple[ReadableSpan, ...], name: str) -> set[str]:
    """The names of the spans right above those of a name."""
    parents = {span.parent.span_id for span in spans if span.name == name and span.parent}
    return {span.name for span in spans if span.context and span.context.span_id in parents}


def check_conventions(spans: tuple[ReadableSpan, ...]) -> None:
    by_name = {span.name: span for span in spans}
    first = dict(by_name["send q"].attributes or {})
    assert first["messaging.system"] == "rabbitmq"
    assert first["messaging.operation.type"] == "send"
    assert first["messaging.destination.name"] == "q"
    assert first["messaging.message.conversation_id"] == "c-1"
    assert by_name["send q"].kind is trace.SpanKind.PRODUCER
    assert by_name["process q"].kind is trace.SpanKind.CONSUMER
    assert by_name["call service"].kind is trace.SpanKind.CLIENT
    failed = dict(by_name["process q"].attributes or {})
    assert failed["error.type"] == "LookupError"
    assert by_name["process q"].links[0].context.trace_id == by_name["process q"].context.trace_id


def test_each_message_of_a_batch_has_its_span_and_its_outcome(
    broker: MessageBroker, exporter: InMemorySpanExporter
) -> None:
    with trace.get_tracer("test").start_as_current_span("batch") as batch:
        report = MessagePublisher(broker).publish_many((queue, {"n": n}) for n, queue in enumerate(["q", "no", "q"]))
    assert report.confirmed == 2
    wait_until(lambda: len(exporter.get_finished_spans()) == 4, 30)
    sends = [span for span in exporter.get_finished_spans() if span.name.startswith("send")]
    assert {span.parent.span_id for span in sends if span.parent} == {batch.get_span_context().span_id}
    assert [dict(span.attributes or {}).get("error.type") for span in sends].count("returned") == 1
    headers: list[Any] = []
    broker.subscribe("q", lambda delivery: headers.append(delivery.headers["traceparent"]), auto_ack=True)
    wait_until(lambda: len(headers) == 2, 30)
    assert len(set(headers)) == 2


def test_a_publish_that_raises_ends_its_span(broker: MessageBroker, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(Unroutable):
        MessagePublisher(broker).publish("absent", {})
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {})["error.type"] == "returned"


def test_a_service_without_tracing_hands_the_trace_on(vhost: Any, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    with MessageBroker(url=vhost.amqp_url) as broker:
        for queue in ("in", "out"):
            broker.declare_queue(queue)
        publisher = MessagePublisher(broker)
        consumer = MessageConsumer(broker)
        consumer.register_handler("work", lambda _message, _properties: publisher.publish("out", {"done": 1}) and None)
        consumer.start_consuming("in", background=True)
        publisher.publish("in", {"action": "work"}, headers={"traceparent": PARENT, "tracestate": "a=1"})
        publisher.publish("in", {"action": "work"})
        got: list[Any] = []
        broker.subscribe("out", lambda delivery: got.append(delivery.headers), auto_ack=True)
        wait_until(lambda: len(got) == 2, 30)
        consumer.stop()
    assert got == [{"traceparent": PARENT, "tracestate": "a=1"}, {}]
    assert not exporter.get_finished_spans()


_WITHOUT_SDK = """
import sys
sys.modules["opentelemetry"] = None  # as if it were not installed
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.tracing import Tracer, inject
def message(**headers):
    return Envelope(exchange="", routing_key="q", properties=Properties(headers=headers), body=b"")
tracer = Tracer("localhost", 5672)
first = message()
tracer.sending(first).end()
parent = first.headers["traceparent"].split("-")
received = Delivery(exchange="", routing_key="q", properties=first.properties, body=b"", queue="q", received_at=0.0)
with tracer.processing(received):
    inside = message(mine=1)
    tracer.sending(inside).end()
child = inside.headers["traceparent"].split("-")
assert child[1] == parent[1] and child[2] != parent[2] and inside.headers["mine"] == 1
assert inject({"a": 1}) == {"a": 1}
"""


def test_without_opentelemetry_the_headers_still_flow() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_SDK], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
