"""What happens on the broker while the console is open, from its event exchange where the user may read that."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from busctl.tui.tapping import RETRY_S, lost_link
from busctl.views.happenings import HEARD_KEYS, NOTHING_HEARD, Heard
from busctl_lib.errors import BusError

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.broker import MessageBroker
    from busctl_lib.events import Event, ExchangeFeed

MUTE_RETRY_S = 30.0
"""An exchange that tells nothing may do so again when others have ended."""
BY_EXCHANGE, BY_SNAPSHOTS = "by the event exchange", "between snapshots"


class Hearing:
    """Listens on a thread of its own, and until it can, or where it may not, says so.

    Args:
        session: Whose broker to listen to; a connection of its own is made.

    Thread: any; `take` by one at a time.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread = threading.Thread(target=self._listen, name="busctl-hearing", daemon=True)
        self._stopping = threading.Event()
        self._open: tuple[ExchangeFeed, MessageBroker] | None = None
        self._since: float | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Give back what was borrowed; that is waited for so many seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def take(self) -> Heard:
        """What was heard since the last time, and since when nothing was missed."""
        if (opened := self._open) is None:
            return NOTHING_HEARD
        from busctl_lib.events import GAP

        feed, broker = opened
        deaf = lost_link(broker) is not None or not feed.hears()
        found: list[Event] = []
        while (event := feed.next(0)) is not None:
            found.append(event)
        if deaf or any(event.event == GAP for event in found):
            self._since = None
        if self._since is None and not deaf:
            self._since = time.monotonic()
        vhost = self._session.vhost
        return Heard([event for event in found if event.event != GAP and event.vhost in (None, vhost)], self._since)

    @property
    def told(self) -> str:
        """Where what just happened is known from."""
        return BY_EXCHANGE if self._since is not None else BY_SNAPSHOTS

    def _listen(self) -> None:
        from busctl_lib.events import MuteExchange, NoExchange, open_exchange

        session = self._session
        while not self._stopping.is_set():
            try:
                with open_exchange(session.management, session.another_broker, HEARD_KEYS) as opened:
                    self._open = opened
                    self._stopping.wait()
                    self._open = None
            except MuteExchange:
                self._stopping.wait(MUTE_RETRY_S)
            except NoExchange:
                return
            except BusError:  # the broker is away: the state line says so
                self._stopping.wait(RETRY_S)
