"""One thing that happened on a broker, and what gives one after the other."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec

GAP = "busctl.gap"
"""The name of an event of ours: others may have been missed before it."""
OUR_QUEUE = "busctl.tap.events."
"""How the names of our own queues begin."""
_SECRET_IN_URL = re.compile(r"((?<!\w)\w+://[^:/@\s]*):[^@\s]*(@)?")
"""What has no @ is matched as well, and left as it is: to look for one from each of its places would take too long."""


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that happened. None is not told."""

    event: str
    """As RabbitMQ names it: queue.created, connection.closed, policy.set ..."""
    at: str
    """When: RFC 3339, UTC; of a snapshot, when it was noticed."""
    via: Literal["exchange", "snapshots"]
    name: str | None = None
    vhost: str | None = None
    user: str | None = None
    """Who did it."""
    details: dict[str, Any] = {}
    """What else the broker says; passwords in addresses are blotted out."""


class Feed(Protocol):
    """A source of events."""

    def next(self, timeout_s: float) -> Event | None:
        """Give the next event; None when none came in time."""

    def close(self) -> None:
        """Give back what was borrowed."""


def masked(value: Any) -> Any:
    """Blot out the passwords of addresses, as in the settings of a shovel, wherever they stand."""
    if isinstance(value, str):
        return _SECRET_IN_URL.sub(lambda found: f"{found[1]}:***@" if found[2] else found[0], value)
    if isinstance(value, dict):
        return {key: masked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def iso(seconds: float) -> str:
    """A time of day, seconds since 1970, as an event has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
