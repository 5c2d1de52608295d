"""Feed: what every screen looks at. One session, one poller, and the newest snapshot."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from busctl_lib.poller import Poller, Snapshot

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.rpc import RPCConsumer


class Feed:
    """The bus as the console sees it.

    Args:
        session: The context's broker and API.
        on_snapshot: Called after every beat, on the poller's thread.
    """

    def __init__(self, session: Session, on_snapshot: Callable[[Snapshot], None]) -> None:
        self.session = session
        self.poller = Poller(session.management, on_snapshot, vhost=session.vhost)
        self.snapshot = Snapshot(sequence=0)
        """The newest that reached the screens; only the app's thread changes it."""

    @property
    def context(self) -> str:
        """What the broker is called here."""
        return self.session.settings.context or "local"

    @cached_property
    def rpc(self) -> RPCConsumer:
        """The one caller of all dialogs: it keeps its reply address open."""
        from busctl_lib.rpc import RPCConsumer

        return RPCConsumer(self.session.broker)

    @property
    def guard(self) -> str:
        """The context's guard in a word, if it has one."""
        if self.session.settings.production:
            return "production"
        return "read-only" if self.session.settings.read_only else ""

    def command(self, *words: str) -> str:
        """Write the command line that does the same in a shell."""
        context = self.session.settings.context
        return shlex.join(["busctl", *(["-c", context] if context else []), *words])
