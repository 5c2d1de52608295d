"""What queues of dead letters are called: ours, and those of others."""

from __future__ import annotations

import functools
import re

_NAMED = re.compile(
    r"(?:^|[._\-/ ])(?:dead(?:[._\-]?letters?(?:[._\-]?queue)?)?|dlq|dlx|xq|errors?(?:[._\-]?queue)?"
    r"|failed|skipped|poison)$"
    r"|DeadLetter(?:s|Queue)?$|DLQ$",
    re.IGNORECASE,
)
_PARKED = re.compile(r"(?:^|[._\-/ ])(?:parked|parking(?:[._\-]?lot)?)$|ParkingLot$", re.IGNORECASE)


def dead_letter_queue(queue: str) -> str:
    """The name of a queue's dead-letter queue."""
    return f"{queue}.dead"


@functools.lru_cache(1 << 14)  # every beat asks it of every queue
def is_dead_letter_queue(name: str) -> bool:
    """Tell by its name whether a queue keeps dead letters: ours end in `.dead`, others in `.dlq`, `_error` ..."""
    return _NAMED.search(name) is not None or is_parked_queue(name)


@functools.lru_cache(1 << 14)
def is_parked_queue(name: str) -> bool:
    """Tell by its name whether a queue keeps what somebody put aside: it may wait there as long as it wants."""
    return _PARKED.search(name) is not None
