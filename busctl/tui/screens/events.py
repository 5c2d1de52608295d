"""Events: who created, closed, left, set or cleared what, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.message import Message
from textual.worker import Worker

from busctl.tui.feed import Feed
from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.messages import FlowOpened, OpenList, OpenQueue
from busctl.tui.nouns import bindings_of_exchange, connection_named
from busctl.tui.screens.flow_place import FlowPlace
from busctl.tui.tapping import lost_link
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views import events as view
from busctl.views.formats import safe_text

if TYPE_CHECKING:
    from busctl_lib.events import Event

_GONE = ("deleted", "closed", "cleared", "down")


class EventsScreen(FlowPlace["Event"]):
    """What happens on the broker.

    Args:
        feed: The bus.
        filtered: What to narrow it to at first.
        glob: Which events, such as `queue.*`; all but channels and logins if there is none.
    """

    WAITS = "looking for the event exchange …"

    def __init__(self, feed: Feed, filtered: Filter = EVERYTHING, *, glob: str = "") -> None:
        super().__init__(feed, view.EVENTS, filtered, of=safe_text(glob, 40))
        self._glob = glob

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("events", *([self._glob] if self._glob else []))

    @property
    def empty(self) -> str:
        """Nothing yet."""
        return "Nothing happened yet: what does from now on appears here." if self._opened else ""

    def slots(self, *, wide: bool) -> list[Slot[Event]]:
        """The columns."""
        column = view.EVENTS.column
        slots = [
            Slot(column=column("at"), least=12, rank=1),
            Slot(column=column("event"), least=18, most=32, rank=0),
            Slot(column=column("name"), least=20, most=70, rank=2),
            Slot(column=column("user"), least=8, most=20, rank=3),
            Slot(column=column("details"), least=24, most=90, rank=5),
        ]
        if wide:
            slots[4:4] = [Slot(column=column("vhost"), least=6, most=20, rank=4)]
        return slots

    def label(self, row: Event) -> str:
        """What happened to what, and by whom."""
        return " ".join([row.event, row.name or "", row.user or "", *view.details(row)])

    def follow(self, worker: Worker[None]) -> None:
        """Follow the event exchange, or snapshots where that cannot be used."""
        from busctl_lib.events import open_feed

        session, glob = self.feed.session, self._glob or None
        with self.feed.held, open_feed(session.management, session.another_broker, session.vhost) as source:
            self.post_message(FlowOpened(source.told))

            def take(timeout_s: float) -> Event | None:
                event = source.feed.next(timeout_s)
                return event if event is not None and view.wanted(event, glob, session.vhost) else None

            self.gather(worker, take, lambda: lost_link(source.broker))

    @on(LiveTable.Opened)
    def _open(self, event: LiveTable.Opened) -> None:
        message = leads_to(event.row)
        if message is not None:
            self.post_message(message)
        else:
            self.action_describe()


def leads_to(event: Event) -> Message | None:
    """Where an event leads: to what it is about, while that is there."""
    noun, _, verb = event.event.partition(".")
    name, vhost = event.name, event.vhost
    if name is None or verb in _GONE:
        queue = event.details.get("queue") if noun == "consumer" else None
        return OpenQueue(vhost, str(queue)) if queue and vhost else None
    match noun:
        case "queue" if vhost is not None:
            return OpenQueue(vhost, name)
        case "consumer" if vhost is not None:
            return OpenQueue(vhost, str(event.details.get("queue") or name.rpartition(" of ")[2]))
        case "exchange":
            return bindings_of_exchange(name)
        case "connection":
            return connection_named(name)
        case "policy":
            return OpenList("policies", safe_text(name, 40), lambda policy: policy.name == name)
        case "node":
            return OpenList("nodes")
    return None
