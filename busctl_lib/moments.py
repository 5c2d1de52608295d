"""The moment that an AMQP timestamp means: the protocol says seconds since 1970, senders write other units too."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000), (1e20, 1_000_000_000))
"""Below each bound, how many make a second: seconds reach to the year 5138, milliseconds begin with 1973."""
_END = 253_402_300_800
"""The year 10000."""


def moment_of(timestamp: float | None) -> float | None:
    """Tell the moment of a timestamp in seconds, milliseconds, microseconds or nanoseconds, by its magnitude.

    Returns:
        Seconds since 1970; None where there is none: 0, which clients write for "not set", or a time of no calendar.
    """
    if timestamp is None or not timestamp > 0:
        return None
    unit = next((unit for bound, unit in _UNITS if timestamp < bound), None)
    if unit is None:
        return None
    moment = timestamp / unit if unit > 1 else timestamp
    return moment if moment < _END else None


def as_datetime(timestamp: float | None) -> datetime | None:
    """The same as a datetime in UTC."""
    moment = moment_of(timestamp)
    return None if moment is None else datetime.fromtimestamp(moment, UTC)
