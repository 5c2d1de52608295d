"""How much may be under way at once."""

from __future__ import annotations

import threading
import time


class Window:
    """How many messages and bytes may be on their way at once; callers wait here, never on the I/O thread."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0
        self._waiting = 0
        self._changed = threading.Condition()

    def acquire(self, size: int, deadline: float) -> bool:
        """Take room for one message; False when there was none before the deadline (monotonic)."""
        with self._changed:
            while self.messages and (self.messages >= self.max_messages or self.bytes + size > self.max_bytes):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._waiting += 1
                self._changed.wait(left)
                self._waiting -= 1
            self.messages += 1
            self.bytes += size
            return True

    def release(self, messages: int, size: int) -> None:
        """Give room back; waiters are woken once there is a quarter of it, not for each message."""
        with self._changed:
            self.messages -= messages
            self.bytes -= size
            roomy = self.messages <= self.max_messages * 3 // 4 and self.bytes <= self.max_bytes * 3 // 4
            if self._waiting and (roomy or self.messages == 0):
                self._changed.notify_all()
