"""The document of a message: what is in it, what is not, and that it can be taken back."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from busctl_lib.documents import delivery_from, document, headers_from_json, headers_to_json, to_json
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import InvalidMessage


def delivery(body: bytes = b"{}", **changes: Any) -> Delivery:
    given: dict[str, Any] = {
        "exchange": "",
        "routing_key": "obs_responses",
        "properties": Properties(),
        "body": body,
        "queue": "obs_responses",
        "received_at": 1767323045.678901,
        "via": "firehose",
    }
    return Delivery(**(given | changes))


def test_the_document_is_the_one_of_the_contract_key_for_key() -> None:
    message = delivery(
        b'{"symbol": "AAPL"}',
        properties=Properties(
            content_type="application/json",
            delivery_mode=2,
            correlation_id="c-1",
            message_id="m-1",
            headers={"traceparent": "00-aa"},
        ),
    )
    assert to_json(message) == (
        b'{"queue":"obs_responses","exchange":"","routing_key":"obs_responses","via":"firehose",'
        b'"received_at":"2026-01-02T03:04:05.678901Z","size":18,'
        b'"properties":{"content_type":"application/json","delivery_mode":2,"correlation_id":"c-1","message_id":"m-1"},'
        b'"headers":{"traceparent":"00-aa"},"deaths":[],'
        b'"text":"{\\"symbol\\": \\"AAPL\\"}","body":{"symbol": "AAPL"}}'
    )


def test_absent_is_absent() -> None:
    shown = document(delivery(b"plain", queue=None))
    assert list(shown) == [
        "exchange", "routing_key", "via", "received_at", "size", "properties", "headers", "deaths", "text"
    ]  # fmt: skip
    assert shown["properties"] == {}
    assert shown["headers"] == {}


@pytest.mark.parametrize("redelivered", [True, False])
def test_redelivered_is_told_only_when_it_is_known(redelivered: bool) -> None:
    assert document(delivery(redelivered=redelivered))["redelivered"] is redelivered
    assert "redelivered" not in document(delivery(redelivered=None))


def test_a_time_on_the_full_second_keeps_its_microseconds() -> None:
    assert document(delivery(received_at=1767323045.0))["received_at"] == "2026-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    "body",
    [b"NaN", b'{"a": Infinity}', b"", b"{'a': 1}", b'"\x01"', b"[1e999]", b"[" * 100_000, b"1 2"],
)
def test_what_is_not_strict_json_has_text_and_no_body(body: bytes) -> None:
    shown = document(delivery(body))
    assert shown["text"] == body.decode()
    assert "body" not in shown
    assert "body" not in json.loads(to_json(delivery(body)))


def test_a_body_of_json_null_is_a_body() -> None:
    assert document(delivery(b"null"))["body"] is None
    assert json.loads(to_json(delivery(b"null")))["body"] is None


def test_numbers_are_not_rounded() -> None:
    line = to_json(delivery(b'{"id": 123456789012345678901234567890, "price": 150.0, "exact": 0.10}'))
    assert line.endswith(b'"body":{"id": 123456789012345678901234567890, "price": 150.0, "exact": 0.10}}')
    assert document(delivery(b"[9007199254740993]"))["body"] == [9007199254740993]


def test_a_pretty_printed_body_stays_on_one_line() -> None:
    body = b'{\r\n  "id": 12345678901234567890123,\n  "price": 150.0\n}'
    line = to_json(delivery(body))
    assert b"\n" not in line
    assert b"\r" not in line
    assert line.endswith(b'"body":{"id":12345678901234567890123,"price":150.0}}')
    assert json.loads(line)["text"] == body.decode()


def test_a_body_that_is_not_utf8_is_base64() -> None:
    shown = document(delivery(b"\x1f\x8b\x00\xff", properties=Properties(content_encoding="gzip")))
    assert shown["base64"] == "H4sA/w=="
    assert "text" not in shown
    assert shown["properties"] == {"content_encoding": "gzip"}


def test_a_cut_body_says_its_true_size_and_claims_no_json() -> None:
    shown = document(delivery(b"12", wire_size=5))
    assert shown["size"] == 5
    assert shown["text"] == "12"
    assert "body" not in shown


def test_a_body_cut_inside_a_character_is_still_text() -> None:
    assert document(delivery("aé".encode()[:2], wire_size=3))["text"] == "a"


def test_deaths_are_decoded_and_the_header_stays() -> None:
    death = {
        "queue": "tes_requests",
        "exchange": "trading",
        "routing-keys": ["order.new"],
        "reason": "rejected",
        "count": 2,
        "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    shown = document(delivery(properties=Properties(headers={"x-death": [death]})))
    assert shown["deaths"] == [
        {
            "queue": "tes_requests",
            "exchange": "trading",
            "routing_keys": ["order.new"],
            "reason": "rejected",
            "count": 2,
            "time": "2026-01-02T03:04:05Z",
        }
    ]
    assert list(shown["deaths"][0]) == ["queue", "exchange", "routing_keys", "reason", "count", "time"]
    assert shown["headers"]["x-death"][0]["time"] == {"$timestamp": "2026-01-02T03:04:05Z"}


def test_header_types_that_json_lacks_are_named() -> None:
    headers = {
        "blob": b"\x00\xff",
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "price": Decimal("1.23"),
        "nothing": float("nan"),
        "table": {"deep": [b"x", None, True, 1.5]},
    }
    assert headers_to_json(headers) == {
        "blob": {"$bytes": "AP8="},
        "when": {"$timestamp": "2026-01-02T03:04:05Z"},
        "price": {"$decimal": "1.23"},
        "nothing": {"$float": "nan"},
        "table": {"deep": [{"$bytes": "eA=="}, None, True, 1.5]},
    }


@pytest.mark.parametrize("table", [{"$bytes": "AP8="}, {"$timestamp": 1}, {"$": 1, "$$": 2, "$$bytes": 3}])
def test_a_table_that_looks_like_a_marker_is_not_taken_for_one(table: dict[str, Any]) -> None:
    assert headers_from_json(headers_to_json({"h": table})) == {"h": table}
    assert headers_from_json(headers_to_json(table)) == table
    assert not set(headers_to_json({"h": table})["h"]) & {"$bytes", "$timestamp"}


def test_a_timestamp_may_also_be_given_in_seconds() -> None:
    assert headers_from_json({"when": {"$timestamp": 0}}) == {"when": datetime(1970, 1, 1, tzinfo=UTC)}


def test_nothing_that_moves_a_terminal_gets_out_as_it_is() -> None:
    hostile = "\x1b]0;x\x07\x7f\x9b2J\u202e\u2066\u2028\r\nK\u061c\ufeff"
    message = delivery(
        json.dumps({hostile: hostile}, ensure_ascii=False).encode(),
        routing_key=hostile,
        properties=Properties(correlation_id=hostile, headers={hostile: hostile}),
    )
    line = to_json(message).decode()
    assert not set(line) & set(hostile) - {"K", "x", "0", ";", "]", "2", "J"}
    assert json.loads(line) == document(message)
    assert json.loads(line)["body"] == {hostile: hostile}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"routing_key": None}, "routing_key"),
        ({"exchange": 1}, "exchange"),
        ({"received_at": "yesterday"}, "received_at"),
        ({"text": "\ud800"}, "text"),
        ({"properties": {"priority": "high"}}, "properties"),
        ({"headers": {"a": {"$bytes": "?"}}}, "headers 'a'"),
        ({"headers": {"a": {"$unknown": 1}}}, "headers '$unknown'"),
        ({"headers": {"a": {"$timestamp": "soon"}}}, "headers 'a'"),
        ({"headers": []}, "headers"),
        ({"size": True}, "size"),
    ],
)
def test_a_document_that_cannot_be_read_is_refused_by_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        delivery_from(document(delivery()) | change)
    assert caught.value.facts["field"] == field


def test_a_document_without_a_body_is_refused() -> None:
    shown = document(delivery())
    del shown["text"]
    with pytest.raises(InvalidMessage, match="base64"):
        delivery_from(shown)


whole_seconds = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)).map(
    lambda t: t.replace(microsecond=0, tzinfo=UTC)
)
decimals = st.builds(
    lambda number, scale: Decimal(number).scaleb(-scale), st.integers(-(2**31), 2**31 - 1), st.integers(0, 255)
)
names = st.text(max_size=8) | st.sampled_from(["$bytes", "$timestamp", "$decimal", "$float", "$", "$$bytes"])
header_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | whole_seconds
    | decimals,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
maybe_text = st.none() | st.text(max_size=12)
bodies = st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
).map(lambda value: json.dumps(value, ensure_ascii=False, indent=2).encode())  # fmt: skip
deliveries = st.builds(
    Delivery,
    exchange=st.text(max_size=12),
    routing_key=st.text(max_size=12),
    properties=st.builds(
        Properties,
        headers=st.none() | st.dictionaries(names, header_values, min_size=1, max_size=4),
        delivery_mode=st.none() | st.integers(0, 255),
        priority=st.none() | st.integers(0, 255),
        timestamp=st.none() | st.integers(0, 2**64 - 1),
        **dict.fromkeys(
            ("content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id"), maybe_text
        ),
    ),
    body=bodies,
    queue=maybe_text,
    received_at=st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1_000_000),
    via=st.sampled_from(["copy", "firehose"]),
    redelivered=st.none() | st.booleans(),
)


def same(left: Any, right: Any) -> bool:
    """Equal in type as well: 1, 1.0 and True are three things on the wire."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, msgspec.Struct):
        return same(msgspec.structs.asdict(left), msgspec.structs.asdict(right))
    return bool(left == right) or (isinstance(left, float) and abs(left - right) < 1e-6)


@given(deliveries)
def test_every_delivery_comes_back_from_its_document(message: Delivery) -> None:
    assert same(delivery_from(json.loads(to_json(message))), message)
    assert same(delivery_from(document(message)), message)


@given(deliveries)
def test_both_forms_say_the_same_on_one_line(message: Delivery) -> None:
    line = to_json(message)
    assert b"\n" not in line
    assert json.loads(line) == document(message)


@example("0\t")
@example('{\n\t"a": 1\r}')
@given(st.text())
def test_no_control_character_is_in_a_line(text: str) -> None:
    line = to_json(delivery(text.encode(), routing_key=text)).decode()
    assert not [char for char in line if unicodedata.category(char) == "Cc"]
