"""Measure calls: many of them, some at once, at a rate, and how long they took."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from busctl_lib.errors import BusError

_BUCKETS = (1.0, 2.0, 5.0)


class Bucket(msgspec.Struct, frozen=True):
    """One bar of a histogram."""

    up_to_s: float
    count: int


class LoadReport(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What became of many calls. Times are seconds; of the calls that brought a reply."""

    planned: int
    replied: int = 0
    failed: dict[str, int] = {}
    """How many ended by each kind of error."""
    elapsed_s: float = 0.0
    latencies_s: list[float] = []
    """Of each reply, ascending."""

    @property
    def done(self) -> int:
        """How many calls came to an end."""
        return self.replied + sum(self.failed.values())

    @property
    def per_s(self) -> float | None:
        """Replies a second."""
        return self.replied / self.elapsed_s if self.elapsed_s and self.replied else None

    def percentile(self, share: float) -> float | None:
        """The time within which this share of the replies was there: 0.5, 0.95, 0.99."""
        return percentile(self.latencies_s, share)

    def histogram(self) -> list[Bucket]:
        """How many replies took how long, on a 1-2-5 scale from the fastest to the slowest."""
        return histogram(self.latencies_s)


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """Give the nearest-rank percentile; None of nothing."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None


def histogram(ascending: Sequence[float]) -> list[Bucket]:
    """Count values into buckets whose upper bounds are 1, 2 or 5 times a power of ten."""
    if not ascending:
        return []
    bounds = (base * 10.0**power for power in range(-6, 8) for base in _BUCKETS)
    found: list[Bucket] = []
    before = 0
    for bound in bounds:
        count = sum(1 for value in ascending if value <= bound)
        if count:
            found.append(Bucket(bound, count - before))
        before = count
        if count == len(ascending):
            return found
    return found


class Load:
    """Makes a number of calls and measures them; `run` on one thread, `stop` from any.

    Args:
        call: one call; what it raises as BusError is counted.
        count: how many in all.
        concurrency: how many at once.
        rate: at most so many begun a second.
    """

    def __init__(
        self, call: Callable[[], object], *, count: int, concurrency: int = 1, rate: float | None = None
    ) -> None:
        self._call = call
        self._count = count
        self._concurrency = min(concurrency, count)
        self._rate = rate
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._latencies: list[float] = []
        self._failed: Counter[str] = Counter()
        self._fault: BaseException | None = None
        self._started = 0.0
        self.first_error: BusError | None = None

    def run(self, on_progress: Callable[[int], None] | None = None, every_s: float = 0.5) -> LoadReport:
        """Call until all are done or `stop()`.

        Args:
            on_progress: called every `every_s` with how many are done.
            every_s: how often.
        """
        self._started = time.perf_counter()
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(every_s)
                if on_progress is not None and thread.is_alive():
                    on_progress(self.report().done)
        if self._fault is not None:
            raise self._fault
        return self.report()

    def stop(self) -> None:
        """Begin no further calls; those under way end by themselves."""
        self._stop.set()

    def report(self) -> LoadReport:
        """Give the account so far."""
        with self._lock:
            return LoadReport(
                planned=self._count,
                replied=len(self._latencies),
                failed=dict(self._failed),
                elapsed_s=time.perf_counter() - self._started,
                latencies_s=sorted(self._latencies),
            )

    def _work(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            if number >= self._count:
                return
            if self._rate is not None:
                due = self._started + number / self._rate
                if self._stop.wait(max(0.0, due - time.perf_counter())):
                    return
            self._once()

    def _once(self) -> None:
        began = time.perf_counter()
        try:
            self._call()
        except BusError as error:
            with self._lock:
                self._failed[type(error).__name__] += 1
                self.first_error = self.first_error or error
        except BaseException as error:  # noqa: BLE001 - a thread's boundary: told by `run`
            self._fault = error
            self._stop.set()
        else:
            took = time.perf_counter() - began
            with self._lock:
                self._latencies.append(took)
