"""Headers and properties: what AMQP can carry comes back equal, what it cannot is refused before sending."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from busctl_lib import Envelope, MessageBroker, MessagePublisher, Properties
from busctl_lib.amqp import tables, wire
from busctl_lib.envelope import TypedFloat
from busctl_lib.errors import PublishRefused
from busctl_lib.journal import steady_header

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
short = text.filter(lambda value: len(value.encode()) <= 255)
decimals = st.builds(
    lambda number, scale: Decimal(number).scaleb(-scale), st.integers(-(2**31), 2**31 - 1), st.integers(0, 20)
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.binary(max_size=40)
    | st.datetimes(datetime(1970, 1, 1), datetime(2500, 1, 1), timezones=st.just(UTC)).map(
        lambda t: t.replace(microsecond=0)
    )
    | decimals
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(short, inner, max_size=4), max_leaves=12
)
header_tables = st.dictionaries(short, values, max_size=6)
properties = st.builds(
    Properties,
    content_type=st.none() | short,
    content_encoding=st.none() | short,
    headers=st.none() | header_tables,
    delivery_mode=st.none() | st.integers(0, 255),
    priority=st.none() | st.integers(0, 255),
    correlation_id=st.none() | short,
    reply_to=st.none() | short,
    expiration=st.none() | st.integers(0, 2**40).map(str),
    message_id=st.none() | short,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=st.none() | short,
    user_id=st.none(),
    app_id=st.none() | short,
    cluster_id=st.none() | short,
)


@given(header_tables)
def test_a_table_comes_back_equal(table: dict[str, Any]) -> None:
    data = tables.encode_table(table)
    decoded, end = tables.decode_table(data, 0)
    assert decoded == table
    assert end == len(data)


@given(properties)
def test_properties_come_back_equal(given_properties: Properties) -> None:
    data = bytes(12) + wire.encode_properties(given_properties)
    assert wire.decode_properties(data) == given_properties


@given(header_tables)
def test_a_table_of_shared_values_is_the_same(table: dict[str, Any]) -> None:
    encoded = tables.encode_table(table)
    for _ in range(2):  # the second time from what was decoded before
        assert tables.decode_shared_table(encoded, 0) == tables.decode_table(encoded, 0, exact=True)


@given(properties, st.integers(0, 6), st.integers(0, 2**40))
def test_what_the_broker_counts_is_cut_out_and_nothing_else(
    given_properties: Properties, place: int, count: int
) -> None:
    headers = list((given_properties.headers or {}).items())
    counted = [*headers[:place], ("x-delivery-count", count), *headers[place:]]
    handed_out = wire.encode_properties(msgspec.structs.replace(given_properties, headers=dict(counted)))
    given_properties.headers = dict(headers) or None
    assert steady_header(handed_out) == wire.encode_properties(given_properties)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(properties, st.binary(max_size=200)), min_size=1, max_size=3))
def test_the_broker_carries_them_unchanged(
    bus: tuple[MessagePublisher, list[Any]], messages: list[tuple[Properties, bytes]]
) -> None:
    publisher, received = bus
    received.clear()
    sent = []
    for number, (one, body) in enumerate(messages):
        one.expiration = None
        one.reply_to = None
        one.delivery_mode = 2 if one.delivery_mode is not None else None
        one.headers = {**one.headers, "n": number} if one.headers is not None else None
        publisher.publish_envelope(Envelope(exchange="", routing_key="carried", properties=one, body=body))
        sent.append((one, body))
    wait_until(lambda: len(received) == len(sent), every_s=0.002)
    for (sent_properties, body), delivery in zip(sent, received, strict=True):
        assert delivery.body == body
        assert delivery.properties == sent_properties


@pytest.fixture(scope="module")
def bus(node: Any) -> Any:
    received: list[Any] = []
    with MessageBroker(url=node.amqp_url) as broker:
        broker.declare_queue("carried", exclusive=True)
        broker.subscribe("carried", received.append, auto_ack=True)
        yield MessagePublisher(broker), received


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"big": 2**63}, "'big'"),
        ({"odd": object()}, "'odd'"),
        ({"deep": {"er": [1, {2, 3}]}}, "'er'"),
        ({"k" * 256: 1}, "256 bytes"),
        ({"half": "\ud800"}, "'half'"),
        ({"dec": Decimal("NaN")}, "'dec'"),
        ({"dec": Decimal(2**40)}, "'dec'"),
        ({5: "number"}, "name 5"),
        ({"a": [math.inf]}, "inf"),
        ({"a": math.nan}, "nan"),
        ({"a": TypedFloat(math.nan)}, "nan"),
        ({"a": TypedFloat(1e300)}, "does not fit 32 bits"),
    ],
)
def test_a_header_amqp_cannot_carry_is_refused_by_name(header: dict[Any, Any], says: str) -> None:
    envelope = Envelope(exchange="", routing_key="q", properties=Properties(headers=header), body=b"")
    with pytest.raises(PublishRefused, match=says):
        wire.encode_publish(1, envelope, True, 131072)


@pytest.mark.parametrize(
    ("values_", "says"),
    [
        ({"priority": 256}, "priority"),
        ({"priority": -1}, "priority"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"expiration": "soon"}, "expiration"),
        ({"correlation_id": "x" * 256}, "correlation_id"),
        ({"message_id": 7}, "message_id"),
    ],
)
def test_a_property_amqp_cannot_carry_is_refused_by_name(values_: dict[str, Any], says: str) -> None:
    envelope = Envelope(exchange="", routing_key="q", properties=Properties(**values_), body=b"")
    with pytest.raises(PublishRefused, match=says):
        wire.encode_publish(1, envelope, True, 131072)


def nested(levels: int, kind: bytes) -> bytes:
    """A header table around so many tables or arrays, each in the one before, as a hostile client may send it."""
    inner = b""
    for _ in range(levels):
        inner = (b"\x01a" if kind == b"F" else b"") + kind + len(inner).to_bytes(4, "big") + inner
    inner = inner if kind == b"F" else b"\x01a" + inner
    return len(inner).to_bytes(4, "big") + inner


@pytest.mark.parametrize("kind", [b"F", b"A"], ids=["tables", "arrays"])
@pytest.mark.parametrize("exact", [False, True])
def test_what_is_nested_too_deeply_is_kept_as_bytes_and_refused_when_written_anew(kind: bytes, exact: bool) -> None:
    table, end = tables.decode_table(nested(15_000, kind), 0, exact=exact)
    assert end == len(nested(15_000, kind))
    with pytest.raises(tables.Unencodable, match="nested deeper than 100 levels"):
        tables.encode_table(table)
    assert tables.encode_table(tables.decode_table(nested(100, kind), 0, exact=exact)[0]) == nested(100, kind)
    assert tables.decode_shared_table(nested(15_000, kind), 0)[0] == table


def test_a_hostile_nesting_does_not_end_the_connection_of_its_consumer(vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        MessagePublisher(broker).publish("q", {})
        channel = broker.links.publish_channel
        envelope = Envelope(exchange="", routing_key="q", properties=Properties(), body=b"hostile")
        header = (1 << 13).to_bytes(2, "big") + nested(5_000, b"F")
        frames = wire.encode_publish(channel.number, envelope, False, 131_072, header)
        channel.link.submit(lambda: channel.link.connection.emit(frames))  # type: ignore[union-attr]
        got: list[Any] = []
        broker.subscribe("q", got.append, auto_ack=True)
        wait_until(lambda: len(got) == 2)
        assert got[-1].body == b"hostile"
        assert broker.stats().reconnects == 0


def test_headers_larger_than_a_frame_are_refused_before_they_close_the_link() -> None:
    envelope = Envelope(exchange="", routing_key="q", properties=Properties(headers={"a": "x" * 200_000}), body=b"")
    with pytest.raises(PublishRefused, match="headers take"):
        wire.encode_publish(1, envelope, True, 131072)


def test_declarations_carry_any_argument(node: Any) -> None:
    with MessageBroker(url=node.amqp_url) as broker:
        queue = broker.declare_queue("", exclusive=True).queue
        broker.bind_queue(
            queue, "amq.headers", "", {"x-match": "all", "f": 1.5, "n": 2**40, "none": None, "l": [1, {}]}
        )
        received: list[Any] = []
        broker.subscribe(queue, received.append, auto_ack=True)
        headers = {"f": 1.5, "n": 2**40, "none": None, "l": [1, {}]}
        MessagePublisher(broker).publish(None, {}, exchange="amq.headers", headers=headers)
        wait_until(lambda: received)
        with pytest.raises(PublishRefused, match="argument 'f': is inf"):
            broker.bind_queue(queue, "amq.headers", "", {"x-match": "all", "f": math.inf})
        broker.unbind_queue(
            queue, "amq.headers", "", {"x-match": "all", "f": 1.5, "n": 2**40, "none": None, "l": [1, {}]}
        )
