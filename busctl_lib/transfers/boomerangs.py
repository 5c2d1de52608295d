"""Messages of an operation that come back: replayed, failed again, and dead letters once more."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from busctl_lib.amqp.movers import Mover
from busctl_lib.deadletters import Failure, cause, failure_of, fingerprint
from busctl_lib.envelope import Delivery
from busctl_lib.transfers.requests import OPERATION_HEADER, CameBack
from busctl_lib.transfers.sorter import QUORUM_HELD, WINDOW

_SLICE_S = 0.25


class Watch:
    """Looks for an operation's messages among all that is and comes into its source, for a while.

    What is seen stays in the mover's hand and goes back at the end: nothing else reads the queue meanwhile.

    Args:
        mover: Open, on the source; nothing of it under way.
        operation: The id to look for.
        again: Whether the queue can be read again for nothing (classic).
        stop: Ends it early.
        died: Tells why and where a message of the source died.
    """

    def __init__(
        self,
        mover: Mover,
        operation: str,
        *,
        again: bool,
        stop: threading.Event,
        died: Callable[[Delivery], Failure] = failure_of,
    ) -> None:
        self._died = died
        self.to_the_end = False
        """Whether everything that was there was seen."""
        self._mover, self._operation, self._again, self._stop = mover, operation, again, stop
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def count(self) -> int:
        """How many came back."""
        return self._counts.total()

    @property
    def came_back(self) -> list[CameBack]:
        """Those that came back, by cause, the most frequent first."""
        return [CameBack(group=known, cause=said, count=count) for (known, said), count in self._counts.most_common()]

    def run(self, for_s: float) -> Iterator[int]:
        """Watch; yields how many came back so far, a few times a second."""
        self._counts.clear()
        mover, deadline = self._mover, time.monotonic() + for_s
        epoch, of_window, kept = mover.epoch, 0, list[Delivery]()
        while time.monotonic() < deadline and not self._stop.is_set() and mover.failure is None:
            if mover.epoch != epoch:  # everything comes again
                epoch, of_window, kept = mover.epoch, 0, []
                self._counts.clear()
            if of_window >= WINDOW // 2 and self._again:
                mover.renew()
                of_window = 0
            most = 1000 if self._again else max(0, QUORUM_HELD - len(kept))
            found = mover.take(most, min(_SLICE_S, max(0.0, deadline - time.monotonic())), epoch) if most else []
            of_window += len(found)
            self.to_the_end = bool(most) and not found and mover.ready
            if not most:
                self._stop.wait(_SLICE_S)
            kept += [] if self._again else found
            for delivery in found:
                self._look_at(delivery)
            yield self.count
        if mover.failure is not None:
            raise mover.failure
        if self._again:
            mover.restart()
        elif mover.epoch == epoch:
            mover.push_back(kept)

    def _look_at(self, delivery: Delivery) -> None:
        if delivery.headers.get(OPERATION_HEADER) == self._operation:
            failure = self._died(delivery)
            self._counts[(fingerprint(failure), cause(failure))] += 1
