"""What bytes are that are neither text nor JSON, by what their format begins with and what the message says.

They are named so that a person knows what to read them with. Nothing here reads them: some of these formats run code.
"""

from __future__ import annotations

import re

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xac\xed\x00\x05", "a serialized Java object"),
    (b"\x00\x01\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00", "a serialized .NET object"),
    (b"Obj\x01", "an Avro file"),
    (b"\xd9\xd9\xf7", "CBOR"),
    (b"\x1f\x8b", "gzip data that the message does not call so"),
    (b"\x28\xb5\x2f\xfd", "zstd data that the message does not call so"),
    (b"\xfd7zXZ\x00", "xz data that the message does not call so"),
    (b"BZh", "bzip2 data that the message does not call so"),
    (b"\x04\x22\x4d\x18", "LZ4 data that the message does not call so"),
    (b"\xff\x06\x00\x00sNaPpY", "Snappy data that the message does not call so"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05].*\.", re.DOTALL)
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_PHP = re.compile(r'(?:a:\d+:\{|[OC]:\d+:\\?"[^"]+":\d+:\{|s:\d+:\\?"|[idb]:-?[\d.]+;$)')
_XML = re.compile(r"\s*<(?:\?xml|!DOCTYPE|[A-Za-z])")
_SECTIONS = {0x75: "data", 0x76: "sequence", 0x77: "value"}
_BRIDGED = "amqp-1.0"
"""The type that RabbitMQ gives to a message of AMQP 1.0 whose body is no plain data."""
_TYPES: tuple[tuple[str, str], ...] = (
    ("msgpack", "MessagePack"),
    ("cbor", "CBOR"),
    ("avro", "Avro"),
    ("protobuf", "Protocol Buffers"),
    ("python-serialize", "a Python pickle"),
    ("python-pickle", "a Python pickle"),
    ("java-serialized-object", "a serialized Java object"),
    ("vnd.php.serialized", "serialized PHP"),
    ("php-serialize", "serialized PHP"),
    ("erlang-binary", "an Erlang term"),
    ("thrift", "Thrift"),
    ("bson", "BSON"),
)
"""Words of content types that say a format of bytes."""


def section_of(data: bytes, message_type: str | None) -> str | None:
    """Name the section of an AMQP 1.0 message that RabbitMQ handed on as it is, saying so in the `type`."""
    if message_type != _BRIDGED or data[:2] != b"\x00S" or len(data) < 3 or data[2] not in _SECTIONS:
        return None
    return f"an AMQP 1.0 {_SECTIONS[data[2]]} section"


def kind_of_bytes(data: bytes, content_type: str | None) -> str | None:
    """Name the format of a message's own bytes; None where nothing tells it."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if _PICKLE.fullmatch(data):
        return "a Python pickle"
    said = kind_of_type(content_type)
    if said is not None:
        return said
    if _ZLIB.match(data):
        return "zlib data that the message does not call so"
    return "MessagePack" if _is_packed(data) else None


def kind_of_type(content_type: str | None) -> str | None:
    """The format of bytes that a content type names."""
    if content_type is None:
        return None
    lowered = content_type.lower()
    return next((kind for word, kind in _TYPES if word in lowered), None)


def kind_of_text(text: str, content_type: str | None) -> str | None:
    """Name the format of text that is no JSON, where it has a name."""
    if _PHP.match(text):
        return "serialized PHP"
    said = kind_of_type(content_type)
    if said is not None:
        return said
    return "XML" if _XML.match(text) else None


def _is_packed(data: bytes) -> bool:
    """Whether it is an array or a map of MessagePack, from its first byte to its last."""
    if not data or not (0x80 <= data[0] <= 0x9F or data[0] in (0xDC, 0xDD, 0xDE, 0xDF)) or len(data) < 2:
        return False
    import msgspec

    try:
        msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
