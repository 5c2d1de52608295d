"""The dialects that tell of a failure in headers, each with the closed list of headers that tell it.

A replay takes away those of the dialect that was recognised, and no others.
Sources: Spring AMQP's RepublishMessageRecoverer, MassTransit's MessageHeaders, NServiceBus's Headers and
FaultsHeaderKeys, Rebus's Headers, Symfony Messenger's stamps, Celery's message protocol 2.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from busctl_lib.deadletters.failures import Failure, innermost, queue_of_address, split_error, text_of, time_of
from busctl_lib.retry import ATTEMPT_HEADER, ERROR_PREFIX

Reader = Callable[[dict[str, Any]], Failure | None]
_NSB = "NServiceBus."
_NSB_INFO = "NServiceBus.ExceptionInfo."
_STAMP = "X-Message-Stamp-Symfony\\Component\\Messenger\\Stamp\\"


class Dialect(NamedTuple):
    """One way to tell of a failure in headers."""

    name: str
    read: Reader
    marks: frozenset[str]
    """A message with one of these headers may be in it."""
    tells: frozenset[str]
    """The headers that tell of the failure: a replay begins without them."""


def read_headers(headers: dict[str, Any]) -> Failure | None:
    """What the first dialect that recognises them says."""
    for read in _readers(tuple(headers)):
        failure = read(headers)
        if failure is not None:
            return failure
    return None


def failure_headers(dialect: str) -> frozenset[str]:
    """The headers that tell of a failure in a dialect."""
    return _TELLS.get(dialect, frozenset())


@functools.lru_cache(maxsize=512)
def _readers(names: tuple[str, ...]) -> tuple[Reader, ...]:
    """The dialects that a message with these headers may be in; thousands of messages have the same."""
    return tuple(each.read for each in DIALECTS if not each.marks.isdisjoint(names))


def _own(headers: dict[str, Any]) -> Failure:
    def take(what: str) -> str | None:
        return text_of(headers, ERROR_PREFIX + what)

    return Failure(
        dialect="busctl",
        error_type=take("type"),
        error=take("message"),
        stack=take("stack"),
        queue=take("queue"),
        exchange=take("exchange"),
        routing_key=take("routing-key"),
        failed_at=time_of(headers.get(ERROR_PREFIX + "time")),
    )


def _spring(headers: dict[str, Any]) -> Failure:
    stack = text_of(headers, "x-exception-stacktrace")
    exchange = text_of(headers, "x-original-exchange")
    key = text_of(headers, "x-original-routingKey")
    return Failure(
        dialect="spring",
        error_type=innermost(stack),
        error=text_of(headers, "x-exception-message"),
        stack=stack,
        exchange=exchange,
        routing_key=key,
        queue=key if exchange == "" else None,
    )


def _masstransit(headers: dict[str, Any]) -> Failure:
    queue = queue_of_address(text_of(headers, "MT-Fault-InputAddress"))
    return Failure(
        dialect="masstransit",
        reason=text_of(headers, "MT-Reason"),
        error_type=text_of(headers, "MT-Fault-ExceptionType"),
        error=text_of(headers, "MT-Fault-Message"),
        stack=text_of(headers, "MT-Fault-StackTrace"),
        queue=queue,
        exchange="" if queue else None,
        routing_key=queue,
        failed_at=time_of(headers.get("MT-Fault-Timestamp")),
    )


def _nservicebus(headers: dict[str, Any]) -> Failure | None:
    queue = text_of(headers, "NServiceBus.FailedQ")
    kind = text_of(headers, f"{_NSB_INFO}ExceptionType")
    if queue is None and kind is None:
        return None
    queue = queue.partition("@")[0] if queue else None
    return Failure(
        dialect="nservicebus",
        error_type=kind,
        error=text_of(headers, f"{_NSB_INFO}Message"),
        stack=text_of(headers, f"{_NSB_INFO}StackTrace"),
        queue=queue,
        exchange="" if queue else None,
        routing_key=queue,
        failed_at=time_of(headers.get("NServiceBus.TimeOfFailure")),
    )


def _rebus(headers: dict[str, Any]) -> Failure:
    details, queue = text_of(headers, "rbs2-error-details"), text_of(headers, "rbs2-source-queue")
    kind, said = split_error(details)
    queue = queue.partition("@")[0] if queue else None
    return Failure(
        dialect="rebus",
        error_type=kind,
        error=said,
        stack=details,
        queue=queue,
        exchange="" if queue else None,
        routing_key=queue,
    )


def _symfony(headers: dict[str, Any]) -> Failure:
    details, redelivery = _stamp(headers, "ErrorDetailsStamp"), _stamp(headers, "RedeliveryStamp")
    trace = details.get("flattenException")
    stack = trace.get("trace_as_string") if isinstance(trace, dict) else None
    return Failure(
        dialect="symfony",
        error_type=_plain(details.get("exceptionClass")),
        error=_plain(details.get("exceptionMessage")),
        stack=_plain(stack),
        failed_at=time_of(redelivery.get("redeliveredAt")),
    )


def _stamp(headers: dict[str, Any], name: str) -> dict[str, Any]:
    """The last stamp of a kind; what cannot be read says nothing."""
    with contextlib.suppress(msgspec.MsgspecError, RecursionError):
        found = msgspec.json.decode(text_of(headers, _STAMP + name) or "[]")
        last = found[-1] if isinstance(found, list) and found else None
        if isinstance(last, dict):
            return last
    return {}


def _plain(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _celery(headers: dict[str, Any]) -> Failure | None:
    """A Celery task carries no error; its name is the best there is to tell it by."""
    task = text_of(headers, "task")
    if task is None or "id" not in headers or "lang" not in headers:
        return None
    return Failure(dialect="celery", error_type=task)


def _names(prefix: str, *ends: str) -> frozenset[str]:
    return frozenset(prefix + end for end in ends)


_ERROR_ENDS = ("type", "message", "stack", "time", "first-time", "exchange", "routing-key", "queue")
_MT_ENDS = ("ExceptionType", "Message", "StackTrace", "Timestamp", "InputAddress", "ConsumerType", "MessageType")
_NSB_ENDS = ("FailedQ", "TimeOfFailure", "Retries", "Retries.Timestamp", "FLRetries", "DelayedRetries")
_NSB_INFO_ENDS = ("ExceptionType", "InnerExceptionType", "HelpLink", "Message", "Source", "StackTrace")
_NSB_DATA_ENDS = ("Message type", "Handler type", "Handler start time", "Handler failure time", "Handler canceled")
_STAMPS = _names(_STAMP, "ErrorDetailsStamp", "SentToFailureTransportStamp")

DIALECTS = (
    Dialect(
        "busctl",
        _own,
        _names(ERROR_PREFIX, *_ERROR_ENDS),
        _names(ERROR_PREFIX, *_ERROR_ENDS) | {ATTEMPT_HEADER},
    ),
    Dialect(
        "spring",
        _spring,
        _names("x-exception-", "message", "stacktrace"),
        _names("x-", "exception-message", "exception-stacktrace", "original-exchange", "original-routingKey"),
    ),
    Dialect(
        "masstransit",
        _masstransit,
        _names("MT-Fault-", *_MT_ENDS) | {"MT-Reason"},
        _names("MT-Fault-", *_MT_ENDS, "RetryCount", "RedeliveryCount") | {"MT-Reason"},
    ),
    Dialect(
        "nservicebus",
        _nservicebus,
        frozenset({"NServiceBus.FailedQ", f"{_NSB_INFO}ExceptionType"}),
        _names(_NSB, *_NSB_ENDS, "DelayedRetries.Timestamp")
        | _names(_NSB_INFO, *_NSB_INFO_ENDS)
        | _names(f"{_NSB_INFO}Data.", *_NSB_DATA_ENDS, "Message ID", "Transport message ID"),
    ),
    Dialect(
        "rebus",
        _rebus,
        frozenset({"rbs2-error-details"}),
        frozenset({"rbs2-error-details", "rbs2-source-queue"}),
    ),
    Dialect("symfony", _symfony, _STAMPS, _STAMPS),
    Dialect("celery", _celery, frozenset({"task"}), frozenset()),
)
"""In the order in which they are asked."""
_TELLS = {each.name: each.tells for each in DIALECTS}
RETRY_COUNTERS = frozenset(
    {
        *("x-retry-count", "x-retries", "x-retry", "retry-count", "retry_count", "retryCount", "retries", "attempts"),
        *("x-attempt", "x-attempts", "x-delivery-attempts", "x-redelivery-count", "x-redelivered-count"),
        *("MT-Redelivery-Count", "rbs2-delivery-count", "laravel", f"{_STAMP}RedeliveryStamp"),
    }
)
"""Headers in which applications and frameworks count attempts. They stay in a replay, and whoever reads them may give
up at once: a plan names them."""
