"""How a link ends: its parts finish, the broker is told, and one that does not answer is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from busctl_lib.amqp.channels import GOODBYE_S
from busctl_lib.amqp.io_thread import Deadline, IoThread
from busctl_lib.amqp.states import State
from busctl_lib.amqp.tasks import spawn

if TYPE_CHECKING:
    from busctl_lib.amqp.link import Link
    from busctl_lib.amqp.pika_compat import LinkConnection

_LOOK_S = 0.05


class Ending:
    """The end of one link. Thread: the I/O thread.

    Args:
        link: what ends.
        io: its thread.
        over: called when there is no connection any more.
    """

    def __init__(self, link: Link, io: IoThread, over: Callable[[], None]) -> None:
        self.was_cut = False
        """Whether the broker did not answer."""
        self._link = link
        self._over = over
        self._begun = False
        self._deadline = Deadline(io)

    def begin(self) -> None:
        """Let the parts finish, then close the connection."""
        if self._begun:
            return
        self._begun = True
        if self._link.state in (State.OPEN, State.BLOCKED):
            spawn(self._link.parts.finish()).when_done(lambda _outcome: self._close())
        else:
            self._close()

    def _close(self) -> None:
        # A broker that takes no publishes, or hangs in something else, does not hear a goodbye either.
        open_before = self._link.state is State.OPEN
        connection = self._link.end_dialling()
        if connection is None or connection.is_closed:
            self._over()
            return
        self.was_cut = connection.unanswered
        connection.flush()
        if connection.is_open and open_before and not connection.unanswered:
            connection.close()
            self._await_goodbye(connection)
        else:
            connection.force_close("closed by its owner")

    def _await_goodbye(self, connection: LinkConnection) -> None:
        """Give the broker its time to answer, once it has been sent all that there is."""
        if connection.is_closed:
            return
        if connection.backlog:
            self._deadline.set(_LOOK_S, lambda: self._await_goodbye(connection))
        else:
            self._deadline.set(GOODBYE_S, self.cut)

    def cut(self) -> None:
        """End it now, whatever is open."""
        connection = self._link.end_dialling()
        self.was_cut = True
        if connection is None or connection.is_closed:
            self._over()
        else:
            connection.force_close("closed by its owner: the broker did not answer")

    def clear(self) -> None:
        """The connection is gone."""
        self._deadline.clear()
