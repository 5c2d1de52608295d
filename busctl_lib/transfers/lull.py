"""A lull: nothing comes out of a queue. Either it is empty, or what waits in it does not come to us."""

from __future__ import annotations

import time

from busctl_lib.amqp.movers import Mover
from busctl_lib.errors import BusError

_LOOKS = 3
"""So many times in a row a queue must be found empty."""
_PATIENCE_S = 10.0


class Lull:
    """Tells the end of a queue from messages that do not come.

    Args:
        mover: Open, on the queue.
    """

    def __init__(self, mover: Mover) -> None:
        self._mover = mover
        self._began_at: float | None = None
        self._empty = 0

    def over(self) -> None:
        """Something came."""
        self._began_at, self._empty = None, 0

    def is_the_end(self, *, alone: bool = False) -> bool:
        """Nothing came for a moment: whether nothing more will.

        Args:
            alone: Wait for other consumers to be gone: what a killed process had in the hand comes back when the
                broker has noted its end, and until then it would be taken for gone.

        Raises:
            BusError: messages wait, and for a while none came.
        """
        mover, now = self._mover, time.monotonic()
        self._began_at = self._began_at or now
        patient = now - self._began_at <= _PATIENCE_S
        waiting, consumers = mover.count() if mover.ready else (None, 0)
        shared = alone and consumers > 1 and patient
        self._empty = self._empty + 1 if waiting == 0 and not shared else 0
        if self._empty >= _LOOKS:
            return True
        if waiting != 0 and not patient:
            if waiting is None:
                raise BusError(f"nothing comes from {mover.queue}: {mover.says}", hint="Try again.")
            raise BusError(
                f"{waiting:,} messages wait in {mover.queue}, and none comes",
                hint="another consumer may be its single active one: stop it first",
            )
        if waiting:
            mover.renew()  # all of the window may be in the hand
        return False
