"""Compressed and encrypted bodies: what goes in comes out, and everything else is told apart and gives nothing away."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.codecs import KEY_ID_HEADER, Keyring, decode_body, encode_body, new_key
from busctl_lib.documents import delivery_from, document, to_json
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.errors import (
    BodyTooLarge,
    CodecError,
    ConfigError,
    Tampered,
    Truncated,
    UnknownEncoding,
    UnknownKey,
    WrongKey,
    WrongMessage,
)

K1, K2 = new_key(), new_key()
KEYS = Keyring({"k1": K1, "k2": K2})
TEXT = b'{"account": "DE02 1203 0000 0000 2020 51"}' * 50


def envelope(body: bytes = TEXT, **properties: Any) -> Envelope:
    known = {"message_id": "m-1", "type": "account", "content_type": "application/json", **properties}
    return Envelope(exchange="", routing_key="q", properties=Properties(**known), body=body)


def sealed(**properties: Any) -> Envelope:
    made = envelope(**properties)
    encode_body(made, compress="zstd", keys=KEYS)
    return made


@given(
    body=st.binary(max_size=5000) | st.binary(min_size=1, max_size=20).map(lambda piece: piece * 300),
    compress=st.sampled_from([None, "zstd", "gzip"]),
    keys=st.sampled_from([None, KEYS]),
)
def test_every_body_comes_back(body: bytes, compress: str | None, keys: Keyring | None) -> None:
    made = envelope(body)
    encode_body(made, compress=compress, keys=keys, above_bytes=0)
    assert decode_body(made, keys=KEYS) == body
    assert keys is None or len(body) < 8 or body not in made.body


def test_content_encoding_lists_the_steps_as_they_were_done() -> None:
    made = sealed()
    assert made.properties.content_encoding == "zstd,aes256gcm"
    assert made.headers == {KEY_ID_HEADER: "k2"}


@pytest.mark.parametrize("body", [b"short" * 10, os.urandom(5000)], ids=["short", "random"])
def test_what_compression_does_not_help_is_left(body: bytes) -> None:
    made = envelope(body)
    encode_body(made, compress="zstd")
    assert (made.body, made.properties.content_encoding) == (body, None)


@pytest.mark.parametrize("name", ["utf-8", "identity", "", "binary", "UTF-8"])
def test_a_content_encoding_that_says_nothing_was_done_is_none(name: str) -> None:
    assert decode_body(envelope(b"{}", content_encoding=name)) == b"{}"


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(UnknownEncoding, match="'br'"):
        decode_body(envelope(content_encoding="br"))


@pytest.mark.parametrize(
    ("step", "body"),
    [
        ("gzip", gzip.compress(b"one") + gzip.compress(b"two")),
        ("zstd", zstandard.compress(b"one") + zstandard.compress(b"two")),
    ],
    ids=["gzip", "zstd"],
)
def test_members_behind_each_other_are_read_as_one(step: str, body: bytes) -> None:
    assert decode_body(envelope(body, content_encoding=step)) == b"onetwo"


def test_a_publisher_refuses_a_compression_there_is_not_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match="compress must be one of zstd, gzip, found 'rar'"):
        MessagePublisher(MessageBroker(url="amqp://localhost"), compress="rar")  # type: ignore[arg-type]


@pytest.mark.parametrize("step", ["gzip", "zstd"])
def test_compressed_data_that_is_cut_or_broken_is_told(step: str) -> None:
    made = envelope()
    encode_body(made, compress=step)
    for cut in (0, 3, len(made.body) // 2, len(made.body) - 1):
        with pytest.raises(CodecError) as failure:
            decode_body(msgspec.structs.replace(made, body=made.body[:cut]))
        assert isinstance(failure.value, Truncated)
    with pytest.raises(CodecError, match=f"not {step}"):
        decode_body(envelope(content_encoding=step))


def bomb(step: str) -> bytes:
    """A little over 10 kB that would make 10 GB, or as much as the format can."""
    if step == "zstd":
        packer = zstandard.ZstdCompressor(level=19).compressobj()
        piece = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
        return piece * 160
    twice = zlib.compressobj(9, wbits=31)
    return b"".join(twice.compress(bytes(1 << 20)) for _ in range(64)) + twice.flush()


@pytest.mark.parametrize("step", ["gzip", "zstd"])
def test_a_bomb_is_refused_at_the_limit_and_within_memory(step: str) -> None:
    body = bomb(step)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge, match="more than 1,000,000 bytes"):
            decode_body(envelope(body, content_encoding=step), limit=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_each_way_an_encrypted_body_is_wrong_has_its_own_error() -> None:
    made = sealed()
    flipped = made.body[:40] + bytes([made.body[40] ^ 1]) + made.body[41:]
    cases: list[tuple[type[CodecError], Envelope, Keyring | None]] = [
        (Tampered, msgspec.structs.replace(made, body=flipped), KEYS),
        (Tampered, msgspec.structs.replace(made, body=made.body + b"x"), KEYS),
        (Truncated, msgspec.structs.replace(made, body=made.body[:-1]), KEYS),
        (Truncated, msgspec.structs.replace(made, body=made.body[:10]), KEYS),
        (Truncated, msgspec.structs.replace(made, body=b""), KEYS),
        (WrongKey, made, Keyring({"k2": K1})),
        (UnknownKey, made, Keyring({"k1": K1})),
        (UnknownKey, made, None),
    ]
    for change in ({"message_id": "m-2"}, {"type": "order"}, {"content_type": None}, {"message_id": None}):
        moved = msgspec.structs.replace(made, properties=msgspec.structs.replace(made.properties, **change))
        cases.append((WrongMessage, moved, KEYS))
    for kind, wrong, keys in cases:
        with pytest.raises(CodecError) as failure:
            decode_body(wrong, keys=keys)
        assert type(failure.value) is kind
        assert b"account" not in str(failure.value).encode()
    # the check, binding and length of the preamble only tell apart: what they claim is authenticated as well
    for at in range(1, 17):
        changed = made.body[:at] + bytes([made.body[at] ^ 0xEE]) + made.body[at + 1 :]
        with pytest.raises(CodecError):
            decode_body(msgspec.structs.replace(made, body=changed), keys=KEYS)


def test_rotation_writes_with_the_new_key_and_reads_the_old_ones() -> None:
    old = Keyring({"k1": K1})
    made = envelope()
    encode_body(made, keys=old)
    rotated = old.with_key("k2", K2)
    assert decode_body(made, keys=rotated) == TEXT
    again = envelope()
    encode_body(again, keys=rotated)
    assert again.headers == {KEY_ID_HEADER: "k2"}
    with pytest.raises(ConfigError, match="there is a key k1"):
        old.with_key("k1", K2)


def test_a_message_without_an_id_cannot_be_encrypted() -> None:
    with pytest.raises(CodecError, match="message_id"):
        encode_body(envelope(message_id=None), keys=KEYS)


def test_a_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(KEYS.to_text())
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        Keyring.from_file(file)
    file.chmod(0o600)
    assert Keyring.from_file(file).key("k1") == K1
    assert Keyring.from_command(f"cat {file}").current == "k2"
    with pytest.raises(ConfigError, match="exit code 1"):
        Keyring.from_command("false")


@pytest.mark.parametrize(
    "text", ["", "[keys", 'current = "k9"\n[keys]\nk1 = "AA=="', '[keys]\nk1 = "secret!"', "[keys]\nk1 = 5"]
)
def test_a_key_file_that_cannot_be_used_is_told_without_its_keys(text: str) -> None:
    with pytest.raises(ConfigError) as failure:
        Keyring.from_text(text)
    assert "secret" not in str(failure.value)


def delivery(made: Envelope, **facts: Any) -> Delivery:
    parts = {name: getattr(made, name) for name in ("exchange", "routing_key", "properties", "body")}
    return Delivery(**{**parts, "queue": "q", "received_at": 0.0, **facts})


def test_a_document_shows_what_was_decoded() -> None:
    made = envelope(b'{"price": 150.0, "text": "%s"}' % (b"x" * 2000))
    encode_body(made, compress="gzip", keys=KEYS)
    shown = document(delivery(made), keys=KEYS)
    assert shown["decoded"] == ["gzip", "aes256gcm"]
    assert shown["body"]["price"] == 150.0
    assert b'"body":{"price": 150.0' in to_json(delivery(made), keys=KEYS)
    again = delivery_from(shown)
    assert (again.properties.content_encoding, again.headers, again.wire_size) == (None, {}, None)
    assert again.body == decode_body(made, keys=KEYS)


def test_a_document_says_why_a_body_is_not_shown() -> None:
    made = sealed()
    shown = document(delivery(made))
    assert shown["undecoded"] == "encrypted, key 'k2' not held"
    assert not {"text", "body", "decoded"} & set(shown)
    assert delivery_from(shown).body == made.body
    cut = document(delivery(made, body=made.body[:50], wire_size=len(made.body)), keys=KEYS)
    assert "only 50 bytes" in cut["undecoded"]
