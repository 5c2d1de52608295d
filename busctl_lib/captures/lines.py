"""Delivery <-> one line of a capture."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from busctl_lib.documents import capture_document, delivery_from
from busctl_lib.envelope import Delivery
from busctl_lib.errors import InvalidMessage

HASH = "sha256"
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


def line_of(delivery: Delivery) -> bytes:
    """Write a message as one line of JSON, with its hash and without the line's end.

    Raises:
        ValueError: its body was cut for display.
    """
    if delivery.wire_size not in (None, len(delivery.body)):
        raise ValueError("a message whose body was cut cannot be captured")
    found = capture_document(delivery)
    found[HASH] = _hash(found)
    return _encode(found)


def delivery_of(line: bytes) -> Delivery:
    """Read a line of a capture; one without a hash (written or edited by hand) is taken as it is.

    Raises:
        InvalidMessage: it is no document, or its hash is of something else.
    """
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InvalidMessage(
            f"no message in JSON: {error}", field="line", expected="a document", found=line[:80]
        ) from None
    return delivery_in(found)


def delivery_in(document: dict[str, Any]) -> Delivery:
    """Read the document of a capture. Raises InvalidMessage, as `delivery_of`."""
    found = dict(document)
    expected = found.pop(HASH, None)
    if expected is not None and expected != _hash(found):
        raise InvalidMessage(
            f"{HASH}: the message is not the one that was captured",
            hint=f"take {HASH} out of a line that was edited by hand",
            field=HASH,
            expected=expected,
            found=_hash(found),
        )
    delivery = delivery_from(found)
    if found.get("headers") == {}:
        delivery.properties.headers = {}  # an empty table and none are told apart
    return delivery


def _hash(found: dict[str, Any]) -> str:
    return hashlib.sha256(_encode_sorted(found)).hexdigest()
