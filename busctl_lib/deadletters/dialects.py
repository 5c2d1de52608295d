"""What a dead letter says of its failure, in the dialects that services write: the broker's and five frameworks'.

Each dialect is a reader of headers; the first that recognises a message tells what failed, and the broker's `x-death`
fills in what it does not say. Sources: https://www.rabbitmq.com/docs/dlx, Spring AMQP's RepublishMessageRecoverer,
MassTransit's MessageHeaders, NServiceBus's Headers and FaultsHeaderKeys, Celery's message protocol 2.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from busctl_lib.envelope import Death, Envelope, deaths_of
from busctl_lib.moments import as_datetime
from busctl_lib.retry import ATTEMPT_HEADER, ERROR_PREFIX, replays_of


class Failure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a message is a dead letter, and where it came from; what is not known is absent."""

    dialect: str
    """busctl, spring, masstransit, nservicebus, celery, rabbitmq or none."""
    reason: str | None = None
    """rejected, expired, maxlen, delivery_limit as the broker says, or `error` where a service says more."""
    queue: str | None = None
    """Where it died."""
    exchange: str | None = None
    """Where it was published."""
    routing_key: str | None = None
    error_type: str | None = None
    error: str | None = None
    stack: str | None = None
    failed_at: datetime | None = None
    deaths: int = 0
    """How often it died, as far as the broker counts."""
    seen_again: int = 0
    """How often busctl replayed it."""


Reader = Callable[[dict[str, Any]], Failure | None]


def failure_of(envelope: Envelope) -> Failure:
    """Decode why a message failed. Never raises: what is not understood is absent."""
    headers = envelope.headers
    failure: Failure | None = None
    for read in _readers(tuple(headers)):
        failure = read(headers)
        if failure is not None:
            break
    failure = failure or Failure(dialect="none")
    deaths = deaths_of(headers)
    death = first_death(headers, deaths)
    if death is not None:
        if failure.dialect == "none":
            failure.dialect = "rabbitmq"
        _complete(failure, death)
        failure.deaths = sum(each.count or 1 for each in deaths)
    if failure.reason is None and (failure.error_type or failure.error):
        failure.reason = "error"
    failure.seen_again = replays_of(headers)
    return failure


@functools.lru_cache(maxsize=512)
def _readers(names: tuple[str, ...]) -> tuple[Reader, ...]:
    """The dialects that a message with these headers may be in; thousands of messages have the same."""
    return tuple(read for read, mark in _READERS if any(map(mark, names)))


def first_death(headers: dict[str, Any], deaths: list[Death]) -> Death | None:
    """The death that led to all others: by the broker's own word for it, else the oldest."""
    queue, reason = headers.get("x-first-death-queue"), headers.get("x-first-death-reason")
    matching = [death for death in deaths if death.queue == queue and (reason is None or death.reason == reason)]
    return next(iter((matching or deaths)[-1:]), None)


def _complete(failure: Failure, death: Death) -> None:
    failure.reason = failure.reason or death.reason or None
    failure.queue = failure.queue or death.queue
    if failure.exchange is None:
        failure.exchange = death.exchange
        failure.routing_key = death.routing_keys[0] if death.routing_keys else failure.routing_key
    failure.failed_at = failure.failed_at or death.time


def _own(headers: dict[str, Any]) -> Failure:
    def take(what: str) -> str | None:
        return _text(headers, ERROR_PREFIX + what)

    return Failure(
        dialect="busctl",
        error_type=take("type"),
        error=take("message"),
        stack=take("stack"),
        queue=take("queue"),
        exchange=take("exchange"),
        routing_key=take("routing-key"),
        failed_at=_time(headers.get(ERROR_PREFIX + "time")),
    )


def _spring(headers: dict[str, Any]) -> Failure:
    stack = _text(headers, "x-exception-stacktrace")
    exchange = _text(headers, "x-original-exchange")
    key = _text(headers, "x-original-routingKey")
    return Failure(
        dialect="spring",
        error_type=_innermost(stack),
        error=_text(headers, "x-exception-message"),
        stack=stack,
        exchange=exchange,
        routing_key=key,
        queue=key if exchange == "" else None,
    )


def _masstransit(headers: dict[str, Any]) -> Failure:
    queue = _queue_of_address(_text(headers, "MT-Fault-InputAddress"))
    return Failure(
        dialect="masstransit",
        reason=_text(headers, "MT-Reason"),
        error_type=_text(headers, "MT-Fault-ExceptionType"),
        error=_text(headers, "MT-Fault-Message"),
        stack=_text(headers, "MT-Fault-StackTrace"),
        queue=queue,
        exchange="" if queue else None,
        routing_key=queue,
        failed_at=_time(headers.get("MT-Fault-Timestamp")),
    )


def _nservicebus(headers: dict[str, Any]) -> Failure | None:
    queue = _text(headers, "NServiceBus.FailedQ")
    kind = _text(headers, "NServiceBus.ExceptionInfo.ExceptionType")
    if queue is None and kind is None:
        return None
    queue = queue.partition("@")[0] if queue else None
    return Failure(
        dialect="nservicebus",
        error_type=kind,
        error=_text(headers, "NServiceBus.ExceptionInfo.Message"),
        stack=_text(headers, "NServiceBus.ExceptionInfo.StackTrace"),
        queue=queue,
        exchange="" if queue else None,
        routing_key=queue,
        failed_at=_time(headers.get("NServiceBus.TimeOfFailure")),
    )


def _celery(headers: dict[str, Any]) -> Failure | None:
    """A Celery task carries no error; its name is the best there is to tell it by."""
    task = _text(headers, "task")
    if task is None or "id" not in headers or "lang" not in headers:
        return None
    return Failure(dialect="celery", error_type=task)


_READERS: tuple[tuple[Reader, Callable[[str], object]], ...] = (
    (_own, re.compile(re.escape(ERROR_PREFIX)).match),
    (_spring, re.compile("x-exception-(message|stacktrace)$").match),
    (_masstransit, re.compile("MT-(Fault-|Reason$)").match),
    (_nservicebus, re.compile(r"NServiceBus\.(FailedQ|ExceptionInfo\.ExceptionType)$").match),
    (_celery, re.compile("task$").match),
)
"""With the names of headers that a dialect is known by."""


def is_failure_header(name: str) -> bool:
    """Whether a header tells of a failure or an attempt that a replay begins anew."""
    return name.startswith((ERROR_PREFIX, "MT-Fault-", "NServiceBus.ExceptionInfo.")) or name in (
        *(ATTEMPT_HEADER, "MT-Reason", "NServiceBus.FailedQ", "NServiceBus.TimeOfFailure"),
        *("NServiceBus.Retries", "NServiceBus.FLRetries", "NServiceBus.DelayedRetries"),
    )


def _text(headers: dict[str, Any], name: str) -> str | None:
    value = headers.get(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


_NSB_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d):(\d{1,6}) Z")


def _time(value: Any) -> datetime | None:
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


def _queue_of_address(address: str | None) -> str | None:
    """The queue of an address such as rabbitmq://host/vhost/queue?durable=true."""
    if not address:
        return None
    with contextlib.suppress(ValueError):
        return unquote(urlsplit(address).path.rpartition("/")[2]) or None
    return None


def _innermost(stack: str | None) -> str | None:
    """The type of the exception that caused the others, in a Java stack trace."""
    if not stack:
        return None
    found = re.findall(r"^(?:Caused by: )?((?:[\w$]+\.)+[\w$]+)(?::|$)", stack, re.MULTILINE)
    return found[-1] if found else None
