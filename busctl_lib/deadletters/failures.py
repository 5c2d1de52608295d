"""Why a message is a dead letter, and the small readers that all dialects share."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from busctl_lib.envelope import Envelope
from busctl_lib.moments import as_datetime


class Failure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a message is a dead letter, and where it came from; what is not known is absent."""

    dialect: str
    """Who wrote of the failure: busctl, a framework, rabbitmq (the broker alone) or none."""
    reason: str | None = None
    """rejected, expired, maxlen, delivery_limit as the broker says, or `error` where a service says more."""
    queue: str | None = None
    """Where it died."""
    exchange: str | None = None
    """Where it was published."""
    routing_key: str | None = None
    routing_keys: list[str] = []
    """All keys that it was routed by, where there may be several (CC)."""
    error_type: str | None = None
    error: str | None = None
    stack: str | None = None
    failed_at: datetime | None = None
    deaths: int = 0
    """How often it died so, as far as the broker counts: waiting for a delay or a retry is no death."""
    seen_again: int = 0
    """How often busctl replayed it."""
    moved: bool = False
    """It did not come here by dying there: somebody moved it, or its queue's dead-letter route was changed since."""
    shovelled: bool = False
    """A shovel brought it."""
    inner: Envelope | None = None
    """The message itself, where what lies in the queue is a report about it."""


def text_of(headers: dict[str, Any], name: str) -> str | None:
    """A header's text."""
    value = headers.get(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


_NSB_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d):(\d{1,6}) Z")


def time_of(value: Any) -> datetime | None:
    """A moment, however it was written down."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return as_datetime(value)
    if isinstance(value, str):
        found = _NSB_TIME.fullmatch(value)
        text = f"{found[1]}T{found[2]}.{found[3]:0<6}+00:00" if found else value
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def queue_of_address(address: str | None) -> str | None:
    """The queue of an address such as rabbitmq://host/vhost/queue?durable=true."""
    if not address:
        return None
    with contextlib.suppress(ValueError):
        return unquote(urlsplit(address).path.rpartition("/")[2]) or None
    return None


_JAVA_ERROR = re.compile(r"^(?:Caused by: )?((?:[\w$]+\.)+[\w$]+)(?::|$)", re.MULTILINE)
_ERROR_LINE = re.compile(r"\s*([\w$.`+\\]{1,200}): ?(.*)")
_NUMBERED = re.compile(r"\d+ unhandled exceptions?: ")


def innermost(stack: str | None) -> str | None:
    """The type of the exception that caused the others, in a Java stack trace."""
    found = _JAVA_ERROR.findall(stack) if stack else []
    return found[-1] if found else None


def split_error(text: str | None) -> tuple[str | None, str | None]:
    """Type and message of an exception that is written as one text, `Type: message`, with its stack behind."""
    if not text:
        return None, None
    first = _NUMBERED.sub("", text.strip().partition("\n")[0], count=1)
    found = _ERROR_LINE.fullmatch(first)
    return (found[1], found[2] or None) if found is not None else (None, first)


def last_error(traceback: str | None) -> tuple[str | None, str | None]:
    """The same of a Python traceback, whose last line says it."""
    lines = [line for line in (traceback or "").splitlines() if line.strip()]
    if not lines:
        return None, None
    found = _ERROR_LINE.fullmatch(lines[-1])
    return (found[1], found[2] or None) if found is not None else (lines[-1].strip()[:200], None)
