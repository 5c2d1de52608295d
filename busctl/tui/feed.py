"""Feed: what every screen looks at. One session, one poller, and the newest snapshot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from busctl.contexts import ConsoleConfig, config_path, load_with_demos
from busctl.tui.hearing import Hearing
from busctl.tui.history import History
from busctl.tui.rpc_history import RpcHistory
from busctl.views.commands import command_line
from busctl.views.happenings import Happening, happened
from busctl.views.overview import Attention, attention
from busctl.views.queues import QUEUES
from busctl_lib.errors import ConfigError
from busctl_lib.poller import Poller, Snapshot
from busctl_lib.schemas import METHODS

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.management.infos import QueueInfo
    from busctl_lib.methods import Method

HAPPENINGS_KEPT = 200


class Judged(NamedTuple):
    """What takes long to make of a snapshot of many queues."""

    snapshot: Snapshot
    queues: Sequence[QueueInfo]
    """All, in their view's own order."""
    matters: Sequence[Attention]
    """What needs attention."""


def judged(snapshot: Snapshot) -> Judged:
    """Put the queues in order, and find what needs attention."""
    queues = QUEUES.sorted(snapshot.queues.values())
    return Judged(snapshot, queues, attention(queues, snapshot.nodes))


class Feed:
    """The bus as the console sees it.

    Args:
        session: The context's broker and API.
        on_snapshot: Called after every beat, on the poller's thread.
        console: The console's part of the config file.
        held: Where screens say what they hold at the broker; the console's one.
    """

    def __init__(
        self,
        session: Session,
        on_snapshot: Callable[[Feed, Snapshot], None],
        console: ConsoleConfig | None = None,
        held: Held | None = None,
    ) -> None:
        self.session = session
        self.console = console or ConsoleConfig()
        self._on_snapshot = on_snapshot
        self.poller = Poller(session.management, self.take_snapshot, vhost=session.vhost)
        self.hearing = Hearing(session)
        self.snapshot = self._last = Snapshot(sequence=0)
        """The newest that reached the screens; only the app's thread changes it."""
        self.happenings: Sequence[Happening] = ()
        """What changed, the newest first."""
        self.lists: dict[str, Sequence[Any]] = {}
        """What the lists held when they were last shown, by their noun."""
        self.listed_at: dict[str, float] = {}
        """When that was."""
        self.held = held or Held()
        self.bus_file_trouble = ""
        """Why the bus file cannot be used, once it was looked for."""
        self.rpc_history = RpcHistory()
        self.history = History()
        self._judged = self._before = Judged(self.snapshot, (), ())

    def start(self) -> None:
        """Begin to ask, and to listen."""
        self.poller.start()
        self.hearing.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End both; each is waited for so many seconds."""
        self.hearing.stop(timeout)
        self.poller.stop(timeout)

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """Note what changed since the last one, and hand it on. Thread: the poller's; the screens need not wait."""
        at = time.time() if snapshot.taken_wall is None or snapshot.error is not None else snapshot.taken_wall
        news = happened(self._last, snapshot, at, self.hearing.take())
        self._last = snapshot
        if news:
            self.happenings = [*reversed(news), *self.happenings][:HAPPENINGS_KEPT]
        # The one before is let go only now, here: to give back what ten thousand queues took costs the screen 10 ms.
        self._before, self._judged = self._judged, judged(snapshot)
        self._on_snapshot(self, snapshot)

    def judged(self, snapshot: Snapshot) -> Judged:
        """What was made of a snapshot where it came from: keys need not wait for that."""
        made = self._judged
        return made if made.snapshot is snapshot else judged(snapshot)

    @property
    def context(self) -> str:
        """What the broker is called here."""
        return self.session.settings.context or "local"

    @cached_property
    def methods(self) -> Mapping[str, Method]:
        """What can be called: the bus file's methods, else those of the sample bus."""
        try:
            return self.session.methods
        except ConfigError as error:
            self.bus_file_trouble = str(error)
            return METHODS

    @cached_property
    def context_names(self) -> Sequence[str]:
        """The brokers that have a name; read once, where a name is typed."""
        try:
            return list(load_with_demos(config_path()).contexts)
        except ConfigError:
            return ()

    @property
    def guard(self) -> str:
        """The context's guard in a word, if it has one."""
        if self.session.settings.production:
            return "production"
        return "read-only" if self.session.settings.read_only else ""

    def command(self, *words: str) -> str:
        """Write the command line that does the same in a shell."""
        return command_line(*words, context=self.session.settings.context)


class Held:
    """What screens hold at the broker, and must have given back before the console ends.

    Thread: any.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self.told: list[str] = []
        """What could not be given back, a sentence each."""

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until all is given back; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, timeout)
