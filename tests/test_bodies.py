"""Bodies as their messages say they are: character sets, compressions, formats that are named and never run."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from busctl.tui.widgets.body_text import body_text
from busctl.views import messages
from busctl_lib.codecs import NOT_JSON, Body, Keyring, encode_body, new_key, read_json, steps_of
from busctl_lib.documents import body_of, delivery_from, document, to_json
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import CodecError
from busctl_lib.transfers.targets import difference

TEXT = '{"id": 7, "n": "café"}'
VALUE = {"id": 7, "n": "café"}
CHARSETS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


def delivery(body: bytes, size: int | None = None, **properties: Any) -> Delivery:
    return Delivery(
        exchange="",
        routing_key="q",
        properties=Properties(**properties),
        body=body,
        queue="q",
        received_at=0.0,
        wire_size=size,
    )


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


def in_lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


# --- character sets


@pytest.mark.parametrize(
    ("charset", "properties"),
    [
        ("latin-1", {"content_type": "application/json; charset=ISO-8859-1"}),
        ("latin-1", {"content_type": 'application/json; CHARSET="iso-8859-1"; profile=x'}),
        ("latin-1", {"content_type": "charset='latin1'; application/json"}),
        ("latin-1", {"content_type": "application/json", "content_encoding": "ISO-8859-1"}),
        ("latin-1", {"content_type": "application/json;profile=x;charset=latin1", "content_encoding": "utf-8"}),
        ("cp1252", {"content_type": "text/plain; charset=windows-1252"}),
        ("cp1252", {"content_encoding": "x-cp1252"}),
        ("iso8859-15", {"content_encoding": "iso-8859-15"}),
        ("cp500", {"content_type": "application/json; charset=IBM500"}),
        ("mac-roman", {"content_type": "application/json; charset=macintosh"}),
        ("utf-8", {"content_encoding": "utf_8"}),
        ("utf-8", {"content_type": "application/json; charset=utf8mb4"}),
        ("utf-8", {"content_type": "application/json; charset=US-ASCII"}),
        ("utf-8-sig", {"content_type": "application/json; charset=utf-8"}),
        ("utf-16", {"content_type": "application/json; charset=utf-16"}),
        ("utf-16-le", {"content_type": "application/json; charset=utf-16"}),
        ("utf-16-be", {"content_type": "application/json; charset=UTF-16"}),
        ("utf-16-le", {"content_type": "application/json; charset=UTF-16LE"}),
        ("utf-16-be", {"content_encoding": "utf-16be"}),
        ("utf-32", {"content_encoding": "utf-32"}),
        ("utf-32-be", {"content_encoding": "utf-32"}),
        ("utf-16", {"content_type": "application/json; charset=utf-8"}),
        *((charset, {}) for charset in CHARSETS),
    ],
)
def test_a_body_is_read_in_the_character_set_that_its_message_names(charset: str, properties: dict[str, Any]) -> None:
    made = delivery(TEXT.encode(charset), **properties)
    shown = document(made)
    assert (shown["text"], shown["body"]) == (TEXT, VALUE)
    assert "unread" not in shown
    assert json.loads(to_json(made))["body"] == VALUE
    assert read_json(made) == VALUE
    assert messages.row(made).body == TEXT
    assert "café" in body_text(body_of(made)).plain
    assert document(delivery_from(shown))["body"] == VALUE


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        *(("shift_jis", "日本"), ("euc-jp", "日本"), ("iso-2022-jp", "日本"), ("ms932", "①"), ("gb2312", "中国")),
        *(("gbk", "中国"), ("gb18030", "𠮷"), ("big5", "中文"), ("euc-kr", "한국"), ("koi8-r", "Россия")),
        *(
            ("windows-1251", "Россия"),
            ("shift_jis", "①"),
            ("gb2312", "𠮷"),
            ("iso-8859-7", "Ελλάς"),
            ("tis-620", "ไทย"),
            ("hz", "中国"),
        ),
    ],
)
def test_character_sets_of_the_whole_world(charset: str, text: str) -> None:
    written = {"①": "cp932", "𠮷": "gb18030"}.get(text, charset)  # which Windows calls by the older name
    body = json.dumps({"n": text}, ensure_ascii=False).encode(written)
    made = delivery(body, content_type=f"application/json; charset={charset}")
    assert document(made)["body"] == {"n": text}
    changed = Body(made).rewritten(json.dumps({"n": f"{text}{text}"}, ensure_ascii=False))
    assert json.loads(changed.decode(written)) == {"n": text * 2}


@pytest.mark.parametrize(
    "name",
    [
        *("rot13", "rot_13", "zip", "zlib_codec", "bz2", "hex", "base64", "quopri", "uu", "idna", "punycode"),
        *("unicode_escape", "raw_unicode_escape", "undefined", "charmap", "mbcs", "palmos", "x-user-defined", "foo"),
        *("../../etc/passwd", "a" * 300, "é", "os", "encodings.utf_8"),
    ],
)
def test_what_is_no_character_set_decodes_nothing(name: str) -> None:
    body = body_of(delivery(b'{"id": 7}', content_type=f'application/json; charset="{name}"'))
    assert (body.text, body.value) == (None, NOT_JSON)
    assert "unknown character set" in (body.why or "")
    with pytest.raises(CodecError, match="unknown character set"):
        read_json(delivery(b'{"id": 7}', content_type=f'application/json; charset="{name}"'))


@pytest.mark.parametrize(
    "body",
    [
        *(b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\xfd\xfc", b"\xff\xfe\x41\xfc\x00\xfb", b"\xff\xfe\x00\x00"),
        *(b"\xff\xfe\x00\x01", b"\xfe\xff\x00\x01", b"\x01\x00\x02\x00", b"\x00\x01\x00\x02", b"\x00\x00\x00{"),
    ],
)
def test_bytes_that_only_look_like_wide_text_stay_bytes(body: bytes) -> None:
    made = delivery(body)
    assert delivery_from(document(made)).body == body
    assert "body" not in document(made)


@given(st.binary(max_size=60), st.sampled_from([None, "utf-8", "latin-1", "utf-16", "shift_jis", "foo"]))
def test_whatever_is_in_a_body_its_document_is_written_and_read(body: bytes, charset: str | None) -> None:
    content_type = None if charset is None else f"text/plain; charset={charset}"
    made = delivery(body, content_type=content_type)
    shown = document(made)
    assert json.loads(to_json(made)) == shown
    again = delivery_from(shown)
    assert again.body == body or charset in ("utf-16", "shift_jis")
    assert document(again).get("text") == shown.get("text")


# --- steps

KOMBU: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("application/x-gzip", zlib.compress),
    ("application/x-gzip", gzip.compress),
    ("application/x-bz2", bz2.compress),
    ("application/x-lzma", lzma.compress),
    ("application/zstd", zstandard.compress),
    ("zlib", zlib.compress),
    ("lzma", in_lzma),
    ("zstd", zstandard.compress),
]
STEPS: list[tuple[dict[str, Any], Callable[[bytes], bytes]]] = [
    ({"content_encoding": "gzip"}, gzip.compress),
    ({"content_encoding": "GZIP"}, gzip.compress),
    ({"content_encoding": "x-gzip"}, gzip.compress),
    ({"content_encoding": "gzip:UTF-8"}, gzip.compress),
    ({"content_encoding": "gzip, UTF-8"}, gzip.compress),
    ({"content_encoding": "deflate:UTF-8"}, zlib.compress),
    ({"content_encoding": "deflate"}, zlib.compress),
    ({"content_encoding": "deflate"}, raw_deflate),
    ({"content_encoding": "bzip2"}, bz2.compress),
    ({"content_encoding": "xz"}, lzma.compress),
    ({"content_encoding": "zstd,utf-8"}, zstandard.compress),
    ({"content_encoding": "deflate,gzip"}, lambda data: gzip.compress(zlib.compress(data), mtime=0)),
    ({"content_encoding": "gzip:deflate:UTF-8"}, lambda data: gzip.compress(zlib.compress(data), mtime=0)),
    *(({"content_encoding": "utf-8", "headers": {"compression": name}}, pack) for name, pack in KOMBU),
    ({"content_encoding": "gzip", "headers": {"compression": "gzip"}}, gzip.compress),
]


@pytest.mark.parametrize(("properties", "pack"), STEPS)
def test_a_body_is_unpacked_and_packed_again_as_it_was(
    properties: dict[str, Any], pack: Callable[[bytes], bytes]
) -> None:
    made = delivery(pack(TEXT.encode()), **properties)
    assert document(made)["body"] == VALUE
    assert read_json(made) == VALUE
    changed = delivery(Body(made).rewritten('{"id":8,"n":"à"}'), **properties)
    assert document(changed)["body"] == {"id": 8, "n": "à"}
    assert changed.body[:2] == made.body[:2] or pack is raw_deflate, "in the same form"
    assert any(line == '+  "id": 8,' for line in difference(made, changed))
    again = delivery_from(document(made))
    assert (again.body, again.properties.content_encoding in (None, "utf-8")) == (TEXT.encode(), True)
    assert not again.properties.headers


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "cp1251", "shift_jis", "utf-16-le", "utf-16", "utf-32-be"]),
    st.sampled_from([each for each in STEPS if ":" not in each[0]["content_encoding"]]),
)
def test_any_text_in_any_character_set_and_any_packing_comes_back(
    text: str, charset: str, step: tuple[dict[str, Any], Callable[[bytes], bytes]]
) -> None:
    properties, pack = step
    body = pack(json.dumps({"n": "x"}).encode(charset))
    content_type = f"application/json; charset={charset.removesuffix('-sig')}"
    made = delivery(body, content_type=content_type, **properties)
    assert document(made)["body"] == {"n": "x"}
    changed = Body(made).rewritten(json.dumps({"n": text}, ensure_ascii=False))
    assert document(delivery(changed, content_type=content_type, **properties))["body"] == {"n": text}


@pytest.mark.parametrize("said", ["br", "brotli", "lz4", "snappy", "zip", "compress", "foo", "rot13", "base64"])
def test_a_step_that_is_not_undone_is_named(said: str) -> None:
    shown = document(delivery(b"\x01\x02", content_encoding=said))
    assert repr({"brotli": "br"}.get(said, said)) in shown["undecoded"]
    assert "text" not in shown


@pytest.mark.parametrize(
    "said", ["application/x-brotli", "application/x-lz4", "application/x-snappy", "application/x-y"]
)
def test_a_compression_of_kombu_that_is_not_undone_is_named(said: str) -> None:
    assert "undecoded" in document(delivery(b"\x01\x02", content_encoding="binary", headers={"compression": said}))


@pytest.mark.parametrize("said", ["high", "none", "", True, 5, None, ["gzip"]])
def test_a_header_of_that_name_of_an_application_is_not_kombus(said: Any) -> None:
    assert document(delivery(TEXT.encode(), headers={"compression": said}))["body"] == VALUE


def test_what_names_no_step_is_none() -> None:
    for said in (None, "", "identity", "binary", "utf-8", "UTF_8", "iso-8859-1", "8bit", "none", "shift_jis"):
        assert steps_of(said) == []
    assert steps_of("gzip:UTF-8") == steps_of("utf-8, gzip") == ["gzip"]
    assert steps_of("gzip:deflate:UTF-8") == ["deflate", "gzip"]


@pytest.mark.parametrize(("name", "pack"), [*KOMBU[:6], ("deflate", raw_deflate)])
def test_what_unpacks_to_too_much_is_refused_within_memory(name: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(bytes(96 << 20))
    raw = name == "deflate"
    properties = {"content_encoding": "deflate"} if raw else {"headers": {"compression": name}}
    tracemalloc.start()
    try:
        body = Body(delivery(packed, **properties), limit=1_000_000)  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert "more than 1,000,000 bytes" in (body.undecoded or "")


def test_a_character_set_stays_named_when_a_body_is_compressed() -> None:
    made = delivery(TEXT.encode("latin-1") * 100, content_encoding="ISO-8859-1")
    encode_body(made, compress="gzip")
    assert made.properties.content_encoding == "iso-8859-1,gzip"
    assert Body(made).text == TEXT * 100


def test_an_encrypted_body_is_not_written_anew() -> None:
    keys = Keyring({"k1": new_key()})
    made = delivery(TEXT.encode(), message_id="m-1")
    encode_body(made, compress="gzip", keys=keys)
    assert Body(made, keys=keys).value == VALUE
    with pytest.raises(CodecError, match="encrypted"):
        Body(made, keys=keys).rewritten("{}")
    with pytest.raises(CodecError, match="not held"):
        Body(made).rewritten("{}")


# --- what is neither text nor JSON


@pytest.mark.parametrize(
    ("body", "properties", "named"),
    [
        *((pickle.dumps({"a": 1}, protocol), {}, "a Python pickle") for protocol in (2, 3, 4, 5)),
        (pickle.dumps({"a": 1}, 0), {"content_type": "application/x-python-serialize"}, "a Python pickle"),
        (b"\xac\xed\x00\x05t\x00\x05hello", {}, "a serialized Java object"),
        (b"\xac\xed\x00\x05", {"content_type": "application/x-java-serialized-object"}, "a serialized Java object"),
        (b'a:1:{s:3:"foo";i:1;}', {}, "serialized PHP"),
        (b'O:8:"stdClass":1:{s:1:"a";i:1;}', {}, "serialized PHP"),
        (b'O:36:\\"Symfony\\\\Component\\\\Messenger\\\\Envelope\\":2:{}', {}, "serialized PHP"),
        (msgspec.msgpack.encode({"a": [1, 2.5, "x"]}), {}, "MessagePack"),
        (msgspec.msgpack.encode(7), {"content_type": "application/x-msgpack"}, "MessagePack"),
        (b"\xa1\x61\x61\x01", {"content_type": "application/cbor"}, "CBOR"),
        (b"\xd9\xd9\xf7\xa0", {}, "CBOR"),
        (b"Obj\x01\x04\x16\xff", {}, "an Avro file"),
        (b"\x00\x00\x00\x00\x01\x0e", {"content_type": "application/vnd.apache.avro"}, "Avro"),
        (b"\x08\x96\x01", {"content_type": "application/x-protobuf"}, "Protocol Buffers"),
        (b"\x00Sw\xa1\x05hello", {"type": "amqp-1.0"}, "an AMQP 1.0 value section"),
        (b"\x00Sw@", {"type": "amqp-1.0"}, "an AMQP 1.0 value section"),
        (b"\x00Sv\xc0\x03\x01T\x05", {"type": "amqp-1.0"}, "an AMQP 1.0 sequence section"),
        (gzip.compress(b"{}", mtime=0), {}, "gzip data that the message does not call so"),
        (zlib.compress(b"{}"), {}, "zlib data that the message does not call so"),
        (b"<order id='1'/>", {"content_type": "application/xml"}, "XML"),
        (b"\x83h\x02d", {"content_type": "application/x-erlang-binary"}, "an Erlang term"),
    ],
)
def test_a_format_that_is_not_read_is_named(body: bytes, properties: dict[str, Any], named: str) -> None:
    made = delivery(body, **properties)
    shown = document(made)
    assert shown["unread"] == named
    assert "body" not in shown
    assert delivery_from(shown).body == body
    if "text" not in shown:
        assert messages.row(made).body.startswith(f"<{named}: ")
        assert body_text(body_of(made)).plain.startswith(named)


class Trap:
    """Notices when somebody unpickles it."""

    sprung = False

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("content_type", [None, "application/x-python-serialize", "application/json"])
def test_a_pickle_is_never_run(content_type: str | None) -> None:
    made = delivery(pickle.dumps(Trap()), content_type=content_type)
    document(made), to_json(made), messages.row(made), body_text(body_of(made))
    with pytest.raises(CodecError):
        read_json(made)
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"hello", "not JSON"),
        (b'{"price": NaN}', "not JSON: invalid character (byte 10)"),
        (b'{"cut": ', "not JSON: Input data was truncated"),
        (b"\x80\xff", "no text, and of no format known here"),
    ],
)
def test_it_is_known_why_a_body_is_no_json(body: bytes, why: str) -> None:
    assert body_of(delivery(body)).why == why


def test_plain_text_is_plain_text() -> None:
    assert "unread" not in document(delivery(b"hello", content_type="text/plain"))
    assert document(delivery(b"hello", content_type="application/json"))["unread"] == "not JSON"
    assert messages.row(delivery(b"\x80\xff")).body == "<80 ff>"


def test_of_a_cut_body_the_text_is_known_and_nothing_more() -> None:
    cut = body_of(delivery(TEXT.encode("utf-16")[:-3], size=len(TEXT) * 2 + 2, content_type="x; charset=utf-16"))
    assert (cut.text, cut.value) == (TEXT[:-2], NOT_JSON)
    packed = body_of(delivery(gzip.compress(b"{}", mtime=0)[:5], size=22, content_encoding="gzip:UTF-8"))
    assert "only 5 bytes of it were seen" in (packed.why or "")
