"""The fixed set: which messages an operation is about, whatever else arrives meanwhile."""

from __future__ import annotations

from collections import Counter


class View:
    """What of a fixed set is still to come, read from the queue's head once more."""

    def __init__(self, left: Counter[bytes] | None, count: int) -> None:
        self._left = left
        self.count = count
        """How many are still to come."""

    def admits(self, identity: bytes) -> bool:
        """Whether a message is of the set; each is asked once."""
        if self.count <= 0:
            return False
        if self._left is not None:
            if self._left[identity] <= 0:
                return False
            self._left[identity] -= 1
        self.count -= 1
        return True

    @property
    def by_count(self) -> bool:
        """Whether only the number of messages is known."""
        return self._left is None


class FixedSet:
    """Messages by identity, or the first so many of the queue.

    Args:
        total: How many.
        copies: How many of each identity; None where the queue could not be read as a whole before.
    """

    def __init__(self, total: int, copies: Counter[bytes] | None) -> None:
        self.total = total
        self.copies = copies

    def view(self, away: Counter[bytes], beyond: int = 0) -> View:
        """What is left of it.

        Args:
            away: Messages that have left the queue, or are not to be touched.
            beyond: Messages of the set that were put back behind the others.
        """
        if self.copies is None:
            return View(None, max(0, self.total - away.total() - beyond))
        left = Counter(self.copies)
        left.subtract(away)
        for identity in [identity for identity, count in left.items() if count <= 0]:
            del left[identity]
        return View(left, left.total())
