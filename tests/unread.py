"""Bodies that are not read as JSON: the bytes, what their message says of them, and what is told."""

from __future__ import annotations

import gzip
import pickle
from typing import Any

import msgspec

UNREAD: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "malformed": (b'{"keep": true, "price": NaN}', {"content_type": "application/json"}, "not JSON: invalid character"),
    "cut": (b'{"keep": true', {}, "not JSON: Input data was truncated"),
    "plain": (b"keep", {"content_type": "text/plain"}, "not JSON"),
    "empty": (b"", {}, "empty"),
    "encoding": (b'{"keep": true}', {"content_encoding": "foo"}, "unknown encoding 'foo'"),
    "brotli": (b"\x01\x02", {"content_encoding": "br"}, "encoded as 'br' (Brotli)"),
    "kombu": (b"\x01\x02", {"headers": {"compression": "application/x-brotli"}}, "encoded as 'br' (Brotli)"),
    "broken": (gzip.compress(b'{"keep": true}')[:-5], {"content_encoding": "gzip"}, "the gzip data ends early"),
    "charset": (b'{"keep": true}', {"content_type": "application/json; charset=foo"}, "unknown character set 'foo'"),
    "bytes": (b"\x80\xff\x01", {}, "no text, and of no format known here"),
    "pickle": (pickle.dumps({"keep": True}), {}, "a Python pickle"),
    "msgpack": (msgspec.msgpack.encode({"keep": True}), {}, "MessagePack"),
    "java": (b"\xac\xed\x00\x05t\x00\x04keep", {}, "a serialized Java object"),
    "amqp10": (b"\x00Sw\xa1\x04keep", {"type": "amqp-1.0"}, "an AMQP 1.0 value section"),
}
