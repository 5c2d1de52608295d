"""What queues of dead letters are called: ours, and those of others."""

from __future__ import annotations

import functools
import re

_NAMED = re.compile(
    r"(?:^|[._\-/ ])(?:dead|dead[._\-]?letters?(?:[._\-]?queue)?|dlq|dlx|errors?|skipped|poison|parked|parking)$"
    r"|DeadLetter(?:s|Queue)?$|DLQ$",
    re.IGNORECASE,
)


def dead_letter_queue(queue: str) -> str:
    """The name of a queue's dead-letter queue."""
    return f"{queue}.dead"


@functools.lru_cache(1 << 14)  # every beat asks it of every queue
def is_dead_letter_queue(name: str) -> bool:
    """Tell by its name whether a queue keeps dead letters: ours end in `.dead`, others in `.dlq`, `_error` ..."""
    return _NAMED.search(name) is not None
