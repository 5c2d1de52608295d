"""What watches for a screen: it tries again while the broker is away, gives back its tap, gathers for a tick."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from busctl.tui.messages import TapTold
from busctl_lib.broker import State
from busctl_lib.errors import ApiUnreachable, BusError, CannotConnect

if TYPE_CHECKING:
    from textual.app import App
    from textual.worker import Worker

    from busctl.tui.feed import Feed
    from busctl_lib.broker import MessageBroker
    from busctl_lib.taps import Tap, TapPlan

T = TypeVar("T")
TICK_S = 0.1
BUDGET = 500
"""Rows a tick: more than anyone reads, and no more than the screen can draw while keys still work."""
RETRY_S = 3.0
CALM_S = 1.0
"""A batch comes at least so often, so that rates fall to 0 and a lost link is seen."""


def is_away(error: BusError) -> bool:
    """Whether trying again may help."""
    return isinstance(error, (CannotConnect, ApiUnreachable))


def keep_trying(worker: Worker[None], once: Callable[[], None], tell: Callable[[BusError], object]) -> None:
    """Watch until that ends by itself; while the broker is away, try again.

    Thread: the worker's.
    """
    while not worker.is_cancelled:
        try:
            once()
        except BusError as error:
            tell(error)
            if not is_away(error):
                return
            deadline = time.monotonic() + RETRY_S
            while not worker.is_cancelled and time.monotonic() < deadline:
                time.sleep(TICK_S)  # a thread of its own that has nothing else to do
        else:
            return


@contextmanager
def opened_tap(feed: Feed, app: App[None], plan: TapPlan) -> Iterator[Tap]:
    """Open a tap and give it back, whatever happens; what that leaves behind outlives the screen."""
    from busctl_lib.taps import lease_folder, open_tap

    session = feed.session
    with feed.held:
        tap = open_tap(plan, session.broker, session.management, lease_folder=lease_folder())
        for text in tap.cleaned:
            app.post_message(TapTold(text))
        try:
            yield tap
        finally:
            tap.close()
            if tap.left_behind is not None:
                feed.held.told.append(tap.left_behind)  # also after the last screen is gone
                app.post_message(TapTold(tap.left_behind))


def lost_link(broker: MessageBroker | None) -> str | None:
    """What the link to the broker is doing when it is not up: nothing can be seen meanwhile."""
    if broker is None or broker.state in (State.OPEN, State.BLOCKED):
        return None
    return str(broker.state.value)


class Gatherer(Generic[T]):
    """Gathers for a tick, then hands over at most the budget; never ahead of the screen.

    Args:
        take: Gives the next one that came, or None when nothing did in so many seconds.
        tell: Called with (what came, over how many seconds) on the worker's thread.

    Thread: `run` on the worker's; `painted` may be set from any.
    """

    def __init__(self, take: Callable[[float], T | None], tell: Callable[[list[T], float], object]) -> None:
        self._take, self._tell = take, tell
        self.painted = threading.Event()
        """Set when the screen has shown the last batch."""
        self.painted.set()

    def run(self, worker: Worker[None], each_tick: Callable[[], object] = lambda: None) -> None:
        """Go on until the worker is cancelled."""
        gathered: deque[T] = deque(maxlen=BUDGET)
        began = time.monotonic()
        while not worker.is_cancelled:
            each_tick()
            try:
                self._gather(gathered, time.monotonic() + TICK_S)
            except BusError:
                if gathered:
                    self._tell(list(gathered), time.monotonic() - began)
                raise
            elapsed = time.monotonic() - began
            if (gathered or elapsed >= CALM_S) and self.painted.is_set():
                self.painted.clear()
                self._tell(list(gathered), elapsed)
                gathered.clear()
                began = time.monotonic()

    def _gather(self, gathered: deque[T], until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            if (one := self._take(left)) is not None:
                gathered.append(one)
