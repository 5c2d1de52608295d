"""The thread that owns a connection: a persistent loop, commands from other threads, timers, lag.

Commands are gathered in a deque and one wake-up serves a burst: pika's own way costs a mutex and a send each. No
callback can end the loop: what it raises is logged, and the owner told.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pika.adapters.select_connection import IOLoop

from busctl_lib.amqp.pika_compat import quiet_pika

logger = logging.getLogger(__name__)

TICK_S = 0.25


class IoThread:
    """One I/O thread; it may be started again after it has ended.

    Args:
        name: the thread's name ends with it.
        on_turn: called with True before a burst of commands, with False after it.
        on_tick: called four times a second with the monotonic time.
        on_failure: called when a callback raised.
    """

    def __init__(
        self,
        name: str,
        *,
        on_turn: Callable[[bool], None],
        on_tick: Callable[[float], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.name = name
        self.lag_s = 0.0
        """How late the last tick came: what the loop's work cost the others."""
        self.ended = threading.Event()
        self.loop: IOLoop | None = None
        self._on_turn = on_turn
        self._on_tick = on_tick
        self._on_failure = on_failure
        self._commands: deque[Callable[[], Any]] = deque()
        self._woken = False
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    # -- any thread

    def start(self) -> None:
        """Start the thread; commands submitted before run first."""
        self.ended = ended = threading.Event()  # the former thread, if it is still ending, keeps its own
        loop = IOLoop()
        loop.add_callback_threadsafe(self._drain)
        loop.call_later(TICK_S, lambda: self._tick(time.monotonic() + TICK_S))
        self._woken = True
        self.loop = loop
        self._thread = threading.Thread(
            target=self._run, args=(loop, ended), name=f"busctl-link-{self.name}", daemon=True
        )
        self._thread.start()

    def submit(self, command: Callable[[], Any]) -> None:
        """Run a short command on the thread."""
        self._commands.append(command)
        if not self._woken:
            self._woken = True
            if self.loop is not None:
                self.loop.add_callback_threadsafe(self._drain)

    @property
    def is_current(self) -> bool:
        """Whether the caller is on this thread."""
        return threading.current_thread() is self._thread

    @property
    def is_another_process(self) -> bool:
        """Whether this process was forked from the one that had the thread: it has none."""
        return self._process != os.getpid()

    @property
    def started(self) -> bool:
        """Whether there is a thread that has not ended."""
        return self._thread is not None and not self.ended.is_set() and not self.is_another_process

    def join(self, timeout: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None and not self.is_current:
            self._thread.join(timeout)

    # -- the thread itself

    def later(self, delay_s: float, callback: Callable[[], Any]) -> object:
        """Call back after a delay; the handle is for `cancel`."""
        assert self.loop is not None
        return self.loop.call_later(delay_s, callback)

    def cancel(self, handle: object) -> None:
        """Call off a `later`."""
        assert self.loop is not None
        self.loop.remove_timeout(handle)  # type: ignore[arg-type]  # pika's own timer object

    def stop(self) -> None:
        """End the thread after this turn."""
        self.ended.set()
        assert self.loop is not None
        self.loop.stop()

    def _run(self, loop: IOLoop, ended: threading.Event) -> None:
        quiet_pika()
        while not ended.is_set():
            try:
                loop.start()
            except Exception:
                logger.exception("link %s: a callback failed", self.name)
                self._on_failure()
        loop.close()

    def _drain(self) -> None:
        self._woken = False
        commands = self._commands
        self._on_turn(True)
        for _ in range(len(commands)):
            command = commands.popleft()
            try:
                command()
            except Exception:
                logger.exception("link %s: a command failed", self.name)
        self._on_turn(False)

    def _tick(self, due: float) -> None:
        if self.ended.is_set():
            return
        now = time.monotonic()
        self.lag_s = max(now - due, 0.0)
        self._on_tick(now)
        self.later(TICK_S, lambda: self._tick(time.monotonic() + TICK_S))


class Deadline:
    """One thing that happens unless it is cleared in time. Thread: the I/O thread."""

    def __init__(self, io: IoThread) -> None:
        self._io = io
        self._handle: object | None = None

    def set(self, delay_s: float, callback: Callable[[], Any]) -> None:
        """Call back after a delay; replaces what was set before."""
        self.clear()
        self._handle = self._io.later(delay_s, callback)

    def clear(self) -> None:
        """It was in time."""
        if self._handle is not None:
            self._io.cancel(self._handle)
            self._handle = None
