"""The dialects that tell of a failure in the body: a report with the message in it, or a job that knows its errors.

Sources: EasyNetQ's Error, Sneakers' Maxretry handler, dramatiq's Retries middleware, Laravel's queue payload.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from busctl_lib.deadletters.failures import Failure, last_error, split_error, time_of
from busctl_lib.envelope import Envelope, Properties

_LONGEST = 4 * 2**20
"""A longer body is not searched for a report."""


def read_body(body: bytes) -> Failure | None:
    """What a body says of a failure, where it has one of the known forms. Never raises."""
    if not body.startswith(b"{") or len(body) > _LONGEST:
        return None
    for marks, read in _READERS:
        if all(mark in body for mark in marks):
            with contextlib.suppress(msgspec.MsgspecError, RecursionError, UnicodeError, binascii.Error):
                found = msgspec.json.decode(body)
                if isinstance(found, dict) and (failure := read(found)) is not None:
                    return failure
    return None


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) and value else None


def _easynetq(found: dict[str, Any]) -> Failure | None:
    properties, message, stack = found.get("BasicProperties"), found.get("Message"), _text(found, "Exception")
    if not isinstance(properties, dict) or not isinstance(message, str) or stack is None:
        return None
    exchange, key = _plain(found, "Exchange"), _plain(found, "RoutingKey")
    kind, said = split_error(stack)
    return Failure(
        dialect="easynetq",
        error_type=kind,
        error=said,
        stack=stack,
        queue=_text(found, "Queue"),
        exchange=exchange,
        routing_key=key,
        failed_at=time_of(found.get("DateTime")),
        inner=Envelope(
            exchange=exchange or "",
            routing_key=key or "",
            properties=_easynetq_properties(properties),
            body=message.encode(),
        ),
    )


def _plain(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None


def _easynetq_properties(found: dict[str, Any]) -> Properties:
    headers = found.get("Headers")
    stamp = found.get("Timestamp")
    mode, priority = found.get("DeliveryMode"), found.get("Priority")
    return Properties(
        content_type=_text(found, "ContentType"),
        content_encoding=_text(found, "ContentEncoding"),
        headers=headers if isinstance(headers, dict) and headers else None,
        delivery_mode=mode if mode in (1, 2) else None,
        priority=priority if isinstance(priority, int) and 0 < priority < 256 else None,
        correlation_id=_text(found, "CorrelationId"),
        reply_to=_text(found, "ReplyTo"),
        message_id=_text(found, "MessageId"),
        timestamp=stamp if isinstance(stamp, int) and stamp > 0 else None,
        type=_text(found, "Type"),
        app_id=_text(found, "AppId"),
    )


def _sneakers(found: dict[str, Any]) -> Failure | None:
    payload = found.get("payload")
    if not isinstance(payload, str) or "num_attempts" not in found:
        return None
    body = base64.b64decode(payload, validate=True)
    stack = found.get("backtrace")
    attempts = found.get("num_attempts")
    kind = _text(found, "error_class")
    return Failure(
        dialect="sneakers",
        error_type=kind or (None if _text(found, "error_message") else _text(found, "error")),
        error=_text(found, "error_message") or (_text(found, "error") if kind else None),
        stack="\n".join(map(str, stack)) if isinstance(stack, list) else None,
        deaths=attempts if isinstance(attempts, int) and 0 < attempts < 2**31 else 0,
        failed_at=time_of(found.get("failed_at")),
        inner=Envelope(exchange="", routing_key="", properties=Properties(delivery_mode=2), body=body),
    )


def _dramatiq(found: dict[str, Any]) -> Failure | None:
    actor, queue, options = _text(found, "actor_name"), _text(found, "queue_name"), found.get("options")
    if actor is None or queue is None or not isinstance(options, dict):
        return None
    stack = _text(options, "traceback")
    kind, said = last_error(stack)
    queue = queue.removesuffix(".DQ")
    return Failure(
        dialect="dramatiq",
        error_type=kind or actor,
        error=said,
        stack=stack,
        queue=queue,
        exchange="",
        routing_key=queue,
    )


def _laravel(found: dict[str, Any]) -> Failure | None:
    name = _text(found, "displayName")
    return Failure(dialect="laravel", error_type=name) if name is not None and "job" in found else None


_READERS: tuple[tuple[tuple[bytes, ...], Callable[[dict[str, Any]], Failure | None]], ...] = (
    ((b'"BasicProperties"', b'"Exception"'), _easynetq),
    ((b'"num_attempts"', b'"payload"'), _sneakers),
    ((b'"actor_name"', b'"queue_name"'), _dramatiq),
    ((b'"displayName"', b'"job"'), _laravel),
)
"""With what such a body must contain: only then it is parsed."""
