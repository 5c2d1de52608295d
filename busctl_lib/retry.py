"""What happens to a message that failed: how long it waits, when it is given up, and what it says of its failure."""

from __future__ import annotations

import random
import time
import traceback
from typing import Any

import msgspec

from busctl_lib.broker_headers import AT_DELIVERY, tells_of_death
from busctl_lib.documents import iso_time
from busctl_lib.envelope import Delivery, Envelope
from busctl_lib.errors import ConfigError

ATTEMPT_HEADER = "busctl-attempt"
"""How many attempts at a message have failed."""
REPLAYS_HEADER = "busctl-replays"
"""How often a message was replayed from a dead-letter queue."""
ERROR_PREFIX = "busctl-error-"
"""Of the headers that say how the last attempt failed."""
_MESSAGE_CHARS = 1000
_STACK_CHARS = 8000
_MOST = 2**31 - 2
"""What a count is taken for at most, whatever a message says: one more must still be a number that can be sent."""
_NOT_KEPT = frozenset({"CC", "BCC", *AT_DELIVERY})
"""Would act a second time, or tell the broker of a history that is not this copy's (it drops what seems to loop)."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a failing message is tried, and how long it waits in between: exponential, with full jitter.

    Before attempt n + 1 it waits a random time between 0.1 s and `first_delay_s * factor ** (n - 1)`, at most
    `max_delay_s`: random, so that what failed together does not come back together.
    """

    max_attempts: int = 5
    """The first one included; after the last the message goes to the dead-letter queue."""
    first_delay_s: float = 1.0
    factor: float = 2.0
    max_delay_s: float = 300.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigError(f"max_attempts must be at least 1, found {self.max_attempts}")
        if not (self.first_delay_s > 0 and self.max_delay_s > 0 and self.factor >= 1):
            raise ConfigError("a retry policy needs delays above 0 s and a factor of at least 1")

    def longest_delay_s(self, attempt: int) -> float:
        """The upper end of the wait after failed attempt `attempt` (from 1)."""
        try:
            grown = self.first_delay_s * self.factor ** (attempt - 1)
        except OverflowError:
            return self.max_delay_s
        return min(self.max_delay_s, grown)

    def delay_s(self, attempt: int) -> float:
        """Draw the wait after failed attempt `attempt` (from 1)."""
        return random.uniform(0.1, max(0.1, self.longest_delay_s(attempt)))  # noqa: S311 - spreads load, no secret


def attempts_of(headers: dict[str, Any] | None) -> int:
    """How many attempts at a message have failed before."""
    return _count(headers, ATTEMPT_HEADER)


def replays_of(headers: dict[str, Any] | None) -> int:
    """How often a message was replayed before."""
    return _count(headers, REPLAYS_HEADER)


def stage_of(headers: dict[str, Any] | None) -> int:
    """How far a message has come: counts its failed attempts, and a replay counts for more than any number of them.

    A copy is of the stage after its message; a message that is put back by hand from a dead-letter queue keeps it.
    """
    return (replays_of(headers) << 31) + attempts_of(headers)


def _count(headers: dict[str, Any] | None, name: str) -> int:
    found = headers.get(name) if headers else None
    return min(found, _MOST) if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def failed_copy(delivery: Delivery, error: BaseException, attempt: int, *, stack: bool) -> Envelope:
    """The message as it goes on after a failure, with what failed in its headers; its route is for the caller to set.

    Args:
        delivery: stays as it is.
        error: what its handler raised.
        attempt: which attempt failed, from 1.
        stack: say where in the code it was raised, too.
    """
    now = iso_time(time.time())
    old = delivery.headers
    headers = {name: value for name, value in old.items() if not _is_dropped(name)}
    headers.setdefault(f"{ERROR_PREFIX}exchange", delivery.exchange)
    headers.setdefault(f"{ERROR_PREFIX}routing-key", delivery.routing_key)
    headers.setdefault(f"{ERROR_PREFIX}first-time", now)
    headers |= {
        ATTEMPT_HEADER: attempt,
        f"{ERROR_PREFIX}queue": delivery.queue or "",
        f"{ERROR_PREFIX}type": type(error).__name__,
        f"{ERROR_PREFIX}message": _sendable(said(error))[:_MESSAGE_CHARS],
        f"{ERROR_PREFIX}time": now,
    }
    headers.pop(f"{ERROR_PREFIX}stack", None)
    if stack and error.__traceback__ is not None:
        text = "".join(traceback.format_exception(error))
        headers[f"{ERROR_PREFIX}stack"] = _sendable(text)[-_STACK_CHARS:]
    properties = msgspec.structs.replace(delivery.properties, headers=headers, expiration=None, user_id=None)
    return Envelope(
        exchange=delivery.exchange, routing_key=delivery.routing_key, properties=properties, body=delivery.body
    )


def said(error: BaseException) -> str:
    """What an error says; some fail at that, too."""
    try:
        return str(error)
    except Exception as again:  # noqa: BLE001 - it is a handler's own class
        return f"<its text cannot be had: {type(again).__name__}>"


def _is_dropped(name: str) -> bool:
    return name in _NOT_KEPT or tells_of_death(name)


def _sendable(text: str) -> str:
    """AMQP carries no lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
