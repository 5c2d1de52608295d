"""Captures: what is written comes back byte by byte and type by type, also after a crash."""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from busctl_lib.amqp.tables import decode_table, encode_table
from busctl_lib.broker import MessageBroker
from busctl_lib.captures import CaptureReader, CaptureWriter, delivery_of, line_of
from busctl_lib.envelope import Delivery, Envelope, Properties, TypedBytes, TypedFloat, TypedInt
from busctl_lib.errors import BusError, ConfigError, InvalidMessage
from busctl_lib.management import ManagementClient
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import open_tap, plan_tap

_RANGES = {"b": 8, "s": 16, "l": 64}


def _typed_ints() -> st.SearchStrategy[Any]:
    signed = [
        st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(lambda value, kind=kind: TypedInt(value, kind))
        for kind, bits in _RANGES.items()
        if kind != "l"
    ]
    small = st.integers(-(2**31), 2**31 - 1).map(lambda value: TypedInt(value, "l"))
    unsigned = [
        st.integers(0, 2**bits - 1).map(lambda value, kind=kind: TypedInt(value, kind))
        for kind, bits in [("B", 8), ("u", 16), ("i", 32)]
    ]
    return st.one_of(*signed, small, *unsigned)


_floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False).map(TypedFloat)
_not_text = st.binary(min_size=1, max_size=8).map(lambda raw: TypedBytes(b"\xff" + raw))
_times = st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
_far_times = st.integers(10**12, 2**62).map(lambda number: TypedInt(number, "T"))
_decimals = st.builds(
    lambda number, scale: Decimal(number).scaleb(-scale), st.integers(-(2**31), 2**31 - 1), st.integers(0, 20)
)
_text = st.text(st.characters(codec="utf-8"), max_size=12)
_leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), _text, st.binary(max_size=12)),
    *(
        st.floats(allow_nan=False, allow_infinity=False),
        _typed_ints(),
        _floats32,
        _not_text,
        _times,
        _far_times,
        _decimals,
    ),
)
_tables = st.recursive(
    st.dictionaries(_text, _leaves, max_size=4),
    lambda inner: st.dictionaries(
        _text, st.one_of(_leaves, inner, st.lists(st.one_of(_leaves, inner), max_size=3)), max_size=3
    ),
    max_leaves=8,
)
_short = st.none() | _text.filter(lambda text: len(text.encode()) < 256)
_properties = st.builds(
    Properties,
    headers=st.none() | _tables,
    content_type=_short,
    content_encoding=_short,
    correlation_id=_short,
    reply_to=_short,
    message_id=_short,
    type=_short,
    app_id=_short,
    cluster_id=_short,
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    priority=st.none() | st.integers(0, 255),
    timestamp=st.none() | st.integers(0, 2**63 - 1),
    expiration=st.none() | st.just("60000"),
)


def made(**with_: Any) -> Delivery:
    facts = {
        "exchange": "",
        "routing_key": "k",
        "properties": Properties(),
        "body": b"{}",
        "queue": "q",
        "received_at": 1.5,
    }
    return Delivery(**(facts | with_))


@settings(max_examples=200, deadline=None)
@given(properties=_properties, body=st.binary(max_size=64) | _text.map(str.encode))
def test_a_line_keeps_every_byte_and_type(properties: Properties, body: bytes) -> None:
    delivery = made(properties=properties, body=body)
    again = delivery_of(line_of(delivery))
    assert again.body == body
    assert again == delivery
    before, after = properties.headers, again.properties.headers
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert encode_table(after) == encode_table(before)


@settings(max_examples=100, deadline=None)
@given(table=_tables)
def test_a_table_decoded_exactly_is_encoded_to_the_same_bytes(table: dict[str, Any]) -> None:
    wire = encode_table(table)
    assert encode_table(decode_table(wire, 0, exact=True)[0]) == wire


def test_types_that_only_other_clients_write_survive() -> None:
    values = b"\x01bb\x80" + b"\x01BB\xff" + b"\x01ss\x80\x00" + b"\x01uu\xff\xff" + b"\x01ii\xff\xff\xff\xff"
    values += b"\x01ll" + struct.pack(">q", 5) + b"\x01ff" + struct.pack(">f", 0.1) + b"\x01TT" + b"\xff" * 8
    values += b"\x01SS" + struct.pack(">I", 2) + b"\xff\xfe"
    wire = struct.pack(">I", len(values)) + values
    headers, _ = decode_table(wire, 0, exact=True)
    again = delivery_of(line_of(made(properties=Properties(headers=headers))))
    assert encode_table(again.headers) == wire
    assert json.loads(line_of(made(properties=Properties(headers=headers))))["headers"]["b"] == {"$int8": -128}


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.zst"])
def test_a_file_cut_in_the_middle_is_good_up_to_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with CaptureWriter(path) as capture:
        for number in range(4):
            capture.write(made(body=b'{"n":%d}' % number))
            capture.sync()
    whole = path.read_bytes()
    assert [delivery.body for delivery in CaptureReader(path)] == [b'{"n":%d}' % number for number in range(4)]
    path.write_bytes(whole[:-5])
    reader = CaptureReader(path)
    assert [delivery.body for delivery in reader][:3] == [b'{"n":%d}' % number for number in range(3)]
    said = "line 4 was cut in the middle and is skipped" if name == "c.jsonl" else "its last messages may be missing"
    assert len(reader.warnings) == 1
    assert said in reader.warnings[0]
    path.write_bytes(whole + whole)  # as `cat` joins them
    reader = CaptureReader(path)
    assert (len(list(reader)), reader.warnings) == (8, [])
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.zst"])
def test_a_full_disk_is_told_by_the_file_s_name_and_what_is_kept_is_good(tmp_path: Path, name: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    capture = CaptureWriter(tmp_path / name)

    def fill() -> None:
        with capture:
            while True:
                capture.write(made(body=os.urandom(700)))
                capture.flush()

    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(BusError, match=rf"{name} cannot be written: File too large"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 0 < capture.count == len(list(CaptureReader(tmp_path / name)))


def test_what_a_killed_writer_had_flushed_is_there(tmp_path: Path) -> None:
    capture = CaptureWriter(tmp_path / "c.jsonl.zst")
    capture.write(made())
    capture.flush()  # and nothing more: as if it had been killed
    reader = CaptureReader(tmp_path / "c.jsonl.zst")
    assert len(list(reader)) == 1
    assert "its writer killed" in reader.warnings[0]
    capture.close()


def test_a_changed_message_is_not_taken_for_the_captured_one(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    with CaptureWriter(path) as capture:
        capture.write(made(body=b"a"))
        capture.write(made(body=b"b"))
    path.write_bytes(path.read_bytes().replace(b'"text":"a"', b'"text":"x"'))
    with pytest.raises(InvalidMessage, match="line 1: sha256") as caught:
        list(CaptureReader(path))
    assert "edited by hand" in (caught.value.hint or "")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0].pop("sha256")
    path.write_text("\n".join(json.dumps(line) for line in lines))  # another layout, and no end of line
    assert [delivery.body for delivery in CaptureReader(path)] == [b"x", b"b"]


def test_a_capture_is_rotated_by_size_and_never_written_over(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "c.jsonl", rotate_bytes=1000) as capture:
        for number in range(10):
            capture.write(made(body=b"%d" % number))
    assert [path.name for path in capture.paths[:2]] == ["c.jsonl", "c.2.jsonl"]
    assert all(path.stat().st_size <= 1000 for path in capture.paths)
    assert [d.body for path in capture.paths for d in CaptureReader(path)] == [b"%d" % number for number in range(10)]
    with pytest.raises(ConfigError, match="there already"):
        CaptureWriter(tmp_path / "c.jsonl")
    with pytest.raises(ConfigError, match="ends in"):
        CaptureWriter(tmp_path / "c.json")
    with pytest.raises(ConfigError, match="not there"):
        CaptureReader(tmp_path / "other.jsonl")


def test_a_stream_of_lines_can_be_read(tmp_path: Path) -> None:
    data = io.BytesIO(line_of(made()) + b"\n\n" + line_of(made(body=b"2")) + b"\n")
    assert [delivery.body for delivery in CaptureReader(data)] == [b"{}", b"2"]


def test_folders_of_rabtap_are_read(tmp_path: Path) -> None:
    message = {
        "Headers": {"n": 1},
        "ContentType": "text/plain",
        "DeliveryMode": 2,
        "Priority": 0,
        "Timestamp": "0001-01-01T00:00:00Z",
        "MessageID": "",
        "Exchange": "amq.topic",
        "RoutingKey": "key",
        "XRabtapReceivedTimestamp": "2019-12-29T21:51:33.52288901+01:00",
    }
    later = {**message, "Body": base64.b64encode(b"second").decode(), "Timestamp": "2019-12-29T21:51:33Z"}
    later["XRabtapReceivedTimestamp"] = "2019-12-29T21:51:34+01:00"
    (tmp_path / "rabtap-1.json").write_text(json.dumps(later))
    (tmp_path / "rabtap-2.json").write_text(json.dumps(message))
    (tmp_path / "rabtap-2.dat").write_bytes(b"first")
    first, second = CaptureReader(tmp_path)
    assert (first.body, second.body) == (b"first", b"second")
    assert first.properties == Properties(content_type="text/plain", delivery_mode=2, headers={"n": 1})
    assert second.properties.timestamp == 1577656293
    (tmp_path / "rabtap-3.json").write_text("{}")
    with pytest.raises(InvalidMessage, match=r"rabtap-3\.json"):
        list(CaptureReader(tmp_path))


@pytest.mark.parametrize("via", ["copy", "firehose", "hold"])
def test_exact_types_come_through_a_tap(vhost: TestBroker, tmp_path: Path, via: str) -> None:
    headers = {"a": TypedInt(5, "b"), "c": TypedFloat(0.5), "d": [TypedInt(7, "s"), {"e": TypedInt(9, "l")}], "f": 1}
    management = ManagementClient(vhost.api_url)
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        broker.bind_queue("q", "amq.topic", "k")
        wait_until(lambda: management.queue(vhost.name, "q"))
        plan = plan_tap(management, vhost.name, "q", via=via)
        with open_tap(plan, broker, management, lease_folder=tmp_path, exact=True) as tap:
            MessagePublisher(broker).publish_envelope(
                Envelope(exchange="amq.topic", routing_key="k", properties=Properties(headers=headers), body=b"\xff")
            )
            (delivery,) = [event for event in tap.follow(limit=1, for_s=20) if isinstance(event, Delivery)]
    again = delivery_of(line_of(delivery))
    assert encode_table(again.headers) == encode_table(headers)
    assert again.body == b"\xff"


def test_a_file_of_rabtap_that_cannot_be_read_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "rabtap-1.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        list(CaptureReader(tmp_path))
