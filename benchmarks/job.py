"""What one measurement is given, and the watch it hands back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


class Stopwatch:
    """Wall time and this process's CPU time (all its threads) between `start` and `stop`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    def start(self) -> None:
        self._cpu_started = time.process_time()
        self._started = time.perf_counter()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._started
        self.cpu_seconds = time.process_time() - self._cpu_started


@dataclass
class Job:
    """One task for one client."""

    url: str
    queue: str
    n: int
    """How many messages or calls are timed."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    """Started when the connection stands, stopped at the last confirm, ack or reply."""
    untimed: int = 0
    """How many messages went to the queue beside the timed ones."""
    samples: list[tuple[int, int]] = field(default_factory=list)
    """Of the memory task: (messages published, resident bytes)."""
