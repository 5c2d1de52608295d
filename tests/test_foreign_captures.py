"""Files of other tools are read, or refused by what they are: none is taken for a capture without messages."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
import zstandard
from trying import Busctl, Ended
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.captures import CaptureReader, line_of, reader
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.errors import BusError, ConfigError, InvalidMessage
from busctl_lib.pytest_plugin import TestBroker

EXPORTED = {
    "payload_bytes": 9,
    "redelivered": True,
    "exchange": "",
    "routing_key": "q",
    "message_count": 0,
    "properties": {"delivery_mode": 2, "headers": {"n": 1, "b": "Not UTF-8, base64 is: /w=="}},
    "payload": '{"id": 1}',
    "payload_encoding": "string",
}
BYTES = {"payload": "//4=", "payload_encoding": "base64", "payload_bytes": 2, "properties": []}
TAPPED = {
    "Headers": {"n": 1},
    "ContentType": "text/plain",
    "DeliveryMode": 2,
    "Timestamp": "0001-01-01T00:00:00Z",
    "Exchange": "amq.topic",
    "RoutingKey": "key",
    "XRabtapReceivedTimestamp": "2019-12-29T21:51:33.52288901+01:00",
    "Body": base64.b64encode(b"hello").decode(),
}


def made(body: bytes = b"{}") -> Delivery:
    return Delivery(exchange="", routing_key="k", properties=Properties(), body=body, queue="q", received_at=1.5)


OWN = [json.loads(line_of(made(b"%d" % number))) for number in range(3)]
READ: dict[str, tuple[bytes, list[bytes]]] = {
    "an export of the management API": (json.dumps([EXPORTED, EXPORTED]).encode(), [b'{"id": 1}'] * 2),
    "an export laid out": (json.dumps([EXPORTED], indent=4).encode() + b"\n", [b'{"id": 1}']),
    "an export a line a message": (
        b"".join(json.dumps(EXPORTED).encode() + b"\n" for _ in range(3)),
        [b'{"id": 1}'] * 3,
    ),
    "one message of an export": (json.dumps(EXPORTED).encode(), [b'{"id": 1}']),
    "bytes in an export": (
        json.dumps(
            [EXPORTED | {"payload": "//4=", "payload_encoding": "base64", "payload_bytes": 2, "properties": []}]
        ).encode(),
        [b"\xff\xfe"],
    ),
    "a stream of rabtap": (b"".join(json.dumps(TAPPED).encode() + b"\n" for _ in range(2)), [b"hello"] * 2),
    "a stream of rabtap laid out": (
        b"\n".join(json.dumps(TAPPED, indent=2).encode() for _ in range(3)),
        [b"hello"] * 3,
    ),
    "one message of rabtap": (json.dumps(TAPPED, indent=2).encode(), [b"hello"]),
    "a message of rabtap without a body": (json.dumps(TAPPED | {"Body": None}).encode(), [b""]),
    "our lines laid out": (b"\n".join(json.dumps(each, indent=2).encode() for each in OWN), [b"0", b"1", b"2"]),
    "our lines as an array": (json.dumps(OWN, indent=2).encode(), [b"0", b"1", b"2"]),
    "our lines without the last end": (b"\n".join(json.dumps(each).encode() for each in OWN), [b"0", b"1", b"2"]),
    "our lines as PowerShell writes them": (
        "\r\n".join(json.dumps(each) for each in OWN).encode("utf-16"),
        [b"0", b"1", b"2"],
    ),
    "our lines behind a byte-order mark": (
        "\n".join(json.dumps(each) for each in OWN).encode("utf-8-sig"),
        [b"0", b"1", b"2"],
    ),
    "our lines and blank ones": (b"\n\n" + json.dumps(OWN[0]).encode() + b"\n\n", [b"0"]),
}


@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("name", READ)
def test_what_others_write_is_read(tmp_path: Path, name: str, packed: Callable[[bytes], bytes]) -> None:
    data, bodies = READ[name]
    path = tmp_path / "export"
    path.write_bytes(packed(data))
    capture = CaptureReader(path)
    assert [each.body for each in capture] == bodies
    capture.require_messages()
    assert capture.count == len(bodies)
    assert [each.body for each in CaptureReader(io.BytesIO(packed(data)))] == bodies


def test_an_export_keeps_what_it_has_and_says_what_it_lost(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([EXPORTED]))
    capture = CaptureReader(path)
    (message,) = capture
    assert message.properties == Properties(delivery_mode=2, headers={"n": 1, "b": b"\xff"})
    assert (message.exchange, message.routing_key) == ("", "q")
    assert "does not keep AMQP's types" in capture.warnings[0]


def tar(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"{}"))
    return out.getvalue()


NONE_OF_THE_API = "no message of the management API"
REFUSED: dict[str, tuple[bytes, str]] = {
    "some JSON": (b'{"id": 1, "symbol": "AAPL"}', "a JSON object with the keys 'id', 'symbol'"),
    "some JSON laid out": (b'{\n "id": 1\n}\n', "a JSON object with the keys 'id'"),
    "an array of something": (b'[{"id": 1}, {"id": 2}]', "a JSON object with the keys 'id'"),
    "an empty array": (b"[]\n", "an empty JSON array"),
    "an empty object": (b"{}", "a JSON object with no keys"),
    "a number": (b"42\n", "JSON: 42"),
    "definitions": (b'{"rabbit_version":"4.0","queues":[],"exchanges":[],"bindings":[]}', "busctl definitions import"),
    "a plan": (b'{"operation":"1","request":{},"signature":"x"}', "a plan of `busctl replay`"),
    "a CloudEvent": (b'{"specversion":"1.0","type":"t","source":"s","data":{}}', "a CloudEvent"),
    "properties": (b'{\n"headers": {}, "properties": {}\n}', "properties of a message without the message"),
    "text": (b"id,symbol\n1,AAPL\n", "text that is no JSON, beginning with 'id,symbol"),
    "a log": (b"2026-01-01 00:00:00 [info] started\n", "text that is no JSON"),
    "bytes": (b"\x00\x01\x80\xff" * 100, "bytes"),
    "a packet dump": (b"\xd4\xc3\xb2\xa1" + bytes(20), "recorded network packets"),
    "a ZIP archive": (b"PK\x03\x04" + bytes(20), "a ZIP archive"),
    "xz": (b"\xfd7zXZ\x00" + bytes(20), "packed by xz"),
    "rabbitio's": (tar("a", "b"), "a tar archive, as rabbitio writes them"),
    "rabbitio's, packed": (gzip.compress(tar("a"), mtime=0), "a tar archive, as rabbitio writes them"),
    "blank lines": (b"\n\n  \n", "only blank lines"),
    "a cut capture": (line_of(made())[:40], "line 1 was cut in the middle"),
    "an export that cut a body": (json.dumps([EXPORTED | {"payload_bytes": 90}]).encode(), "only 9 of the 90 bytes"),
    "an export that is broken": (
        json.dumps([EXPORTED | {"properties": {"delivery_mode": "x"}}]).encode(),
        "no message of the management API",
    ),
    "an export without a body": (
        json.dumps([EXPORTED | {"payload": None}]).encode(),
        "no message of the management API",
    ),
    "a notification": (json.dumps(TAPPED | {"Exchange": "amq.rabbitmq.trace"}).encode(), "taken from the firehose"),
    "a broken message of rabtap": (json.dumps(TAPPED | {"Body": "%%"}).encode(), "none of rabtap's messages"),
    "a document without a body": (b'{"exchange":"","routing_key":"k","via":"x","received_at":"2026-01-01"}', "base64"),
    "brackets": (b"[" * 200_000, "text that is no JSON"),
    "a broken zstd": (b"\x28\xb5\x2f\xfd" + b"\xff" * 50, "cannot be unpacked"),
    "a broken gzip": (b"\x1f\x8b\x08\x00" + b"\xff" * 50, "cannot be unpacked"),
    "a broken UTF-8": (b'{"a": "\xff"}', "bytes of no form"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_capture_is_refused_by_what_it_is(tmp_path: Path, name: str) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    capture = CaptureReader(path)

    def read() -> None:
        list(capture)
        capture.require_messages()

    with pytest.raises((ConfigError, InvalidMessage)) as caught:
        read()
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"", zstandard.compress(b""), gzip.compress(b"", mtime=0)])
def test_what_has_nothing_in_it_has_no_messages(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    capture = CaptureReader(path)
    assert list(capture) == []
    capture.require_messages()


def test_behind_good_messages_a_broken_line_is_told_and_a_cut_one_skipped(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    good = b"".join(json.dumps(each).encode() + b"\n" for each in OWN)
    path.write_bytes(good + b"rubbish\n")
    with pytest.raises(InvalidMessage, match="line 4: no message in JSON"):
        list(CaptureReader(path))
    path.write_bytes(good + b'{"queue": "q", "exch')
    capture = CaptureReader(path)
    assert len(list(capture)) == 3
    assert "line 4 was cut in the middle and is skipped" in capture.warnings[0]
    path.write_bytes(good + b'{"id": 1}')
    with pytest.raises(InvalidMessage, match="line 4: there is no message in it"):
        list(CaptureReader(path))


@pytest.mark.parametrize("name", ["end.jsonl", "end.jsonl.zst", "end.jsonl.gz", "lines.json"])
def test_reading_stops_where_no_message_is_so_long(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LINE_BYTES", 1 << 20)
    piece = (b"a" if name.startswith("end") else b"a\n") * (1 << 20)
    data = b'{\n"a":"' * (name == "lines.json") + b'{"a":"' * (name != "lines.json") + piece * 64
    pack = {".zst": zstandard.compress, ".gz": gzip.compress}.get(Path(name).suffix, bytes)
    path = tmp_path / name
    path.write_bytes(pack(data))
    del data
    tracemalloc.start()
    try:
        with pytest.raises(BusError, match="not read on"):
            list(CaptureReader(path))
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_packed_file_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = tmp_path / "c.jsonl.zst"
    path.write_bytes(packer.compress((line_of(made()) + b"\n") * 9999) + packer.flush())
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        list(CaptureReader(path))


# --- folders


def test_folders_of_rabbitmq_dump_queue_are_read_where_they_say_enough(tmp_path: Path) -> None:
    (tmp_path / "msg-0000").write_bytes(b"first")
    (tmp_path / "msg-0001").write_bytes(b"\xff")
    beside = {
        "exchange": "trading",
        "routing_key": "k",
        "delivery_mode": 2,
        "priority": 0,
        "content_type": "text/plain",
    }
    beside["timestamp"] = "2026-01-02 03:04:05 +0000 UTC"
    for number in (0, 1):
        said = {"properties": beside, "headers": {"n": number} if number else None}
        (tmp_path / f"msg-000{number}-headers+properties.json").write_text(json.dumps(said))
    first, second = CaptureReader(tmp_path)
    assert (first.body, first.exchange, first.routing_key) == (b"first", "trading", "k")
    assert first.properties == Properties(content_type="text/plain", delivery_mode=2, timestamp=1767323045)
    assert (second.body, second.headers) == (b"\xff", {"n": 1})
    (tmp_path / "msg-0001-headers+properties.json").unlink()
    with pytest.raises(InvalidMessage, match=r"msg-0001 is a message of .* that does not say"):
        list(CaptureReader(tmp_path))


@pytest.mark.parametrize(
    ("file", "said"),
    [("1_messages_9.tgz", "tar archives of rabbitio"), ("other.txt", "a folder without rabtap's files")],
)
def test_other_folders_are_refused_by_name(tmp_path: Path, file: str, said: str) -> None:
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(ConfigError, match=said):
        list(CaptureReader(tmp_path))


# --- play, on a real broker


@pytest.fixture
def shell(vhost: TestBroker, busctl: Busctl, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    return busctl


def exported(vhost: TestBroker, queue: str) -> bytes:
    """What the management API gives of a queue, as somebody saved it."""
    at = urlsplit(vhost.api_url)
    login = base64.b64encode(f"{unquote(at.username or '')}:{unquote(at.password or '')}".encode()).decode()
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    asked = {"count": 99, "ackmode": "ack_requeue_true", "encoding": "auto"}
    path = f"/api/queues/{quote(vhost.name, safe='')}/{queue}/get"
    connection.request("POST", path, json.dumps(asked), {"Authorization": "Basic " + login})
    answer = connection.getresponse().read()
    connection.close()
    return answer


def test_what_the_management_api_gave_is_played(vhost: TestBroker, shell: Callable[..., Ended], tmp_path: Path) -> None:
    bodies = [b'{"id": 1}', b"\xff\xfe", b"", "é".encode()]
    with MessageBroker(url=vhost.amqp_url) as broker:
        for queue in ("q", "again"):
            broker.declare_queue(queue)
        publisher = MessagePublisher(broker)
        headers: dict[str, Any] = {"n": 1, "raw": b"\xff"}
        for body in bodies:
            properties = Properties(delivery_mode=2, headers=headers, message_id="m")
            publisher.publish_envelope(Envelope(exchange="", routing_key="q", properties=properties, body=body))
        wait_until(lambda: broker.declare_queue("q", passive=True).message_count == len(bodies))
        file = tmp_path / "export.json"
        file.write_bytes(exported(vhost, "q"))
        assert f"{len(bodies)} messages would be sent" in shell("play", str(file), "--dry-run").stderr
        assert shell("play", str(file), "--to", "again", "--yes").returncode == 0
        wait_until(lambda: broker.declare_queue("again", passive=True).message_count == len(bodies))
        lines = [json.loads(line) for line in shell("peek", "again", "-o", "jsonl").stdout.splitlines()]
    again = [each["text"].encode() if "text" in each else base64.b64decode(each["base64"]) for each in lines]
    assert again == bodies
    assert lines[0]["headers"] == {"n": 1, "raw": {"$bytes": "/w=="}}


@pytest.mark.parametrize("name", ["some JSON", "an empty array", "text", "rabbitio's", "blank lines", "a cut capture"])
def test_no_message_in_a_file_is_never_success(name: str, shell: Callable[..., Ended], tmp_path: Path) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    for dry in (["--dry-run"], ["--yes"]):
        done = shell("play", str(path), *dry)
        assert done.returncode == 2
        assert said in done.stderr
    done = shell("play", "-", "--dry-run", stdin=data)
    assert done.returncode == 2
