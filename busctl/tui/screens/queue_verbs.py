"""What can be done with one queue, wherever it is shown: the one under the cursor, or the one the screen is about."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from busctl.tui.messages import OpenDead, OpenPeek, OpenPublish, OpenTail, OpenTopology, OpenTransfer
from busctl.tui.nouns import bindings_of_queue, consumers_of_queue
from busctl.tui.screens.place import Place
from busctl.views.queues import dead_letter_queue

if TYPE_CHECKING:
    from busctl_lib.transfers.requests import Kind


class QueueVerbs(Place):
    """A place where keys act on a queue."""

    @property
    def queue_name(self) -> str | None:
        """Which queue; None while there is none."""
        raise NotImplementedError

    def action_tail(self) -> None:
        """Watch the queue's messages."""
        if (name := self.queue_name) is not None:
            self.post_message(OpenTail(name))

    def action_peek(self) -> None:
        """Look at what waits in the queue."""
        if (name := self.queue_name) is not None:
            self.post_message(OpenPeek(name))

    def action_publish(self) -> None:
        """Write a message to the queue."""
        if (name := self.queue_name) is not None:
            self.post_message(OpenPublish(name))

    def action_transfer(self, kind: Kind) -> None:
        """Plan an operation on the queue."""
        from busctl_lib.transfers import Request

        if (name := self.queue_name) is not None:
            self.post_message(OpenTransfer(request=Request(kind=kind, source=name)))

    def action_move(self) -> None:
        """Ask for the queue to move to."""
        if (name := self.queue_name) is not None:
            self.open_prompt(":", f"move {shlex.quote(name)} ")

    def action_dead(self) -> None:
        """Show the queue's dead letters, in groups: where they went, else those in it."""
        if (name := self.queue_name) is not None:
            snapshot, key = self.feed.snapshot, (self.feed.session.vhost, name)
            info = snapshot.details.get(key) or snapshot.queues.get(key)
            self.post_message(OpenDead((dead_letter_queue(info) if info is not None else None) or name))

    def action_bindings(self) -> None:
        """Show what leads to the queue."""
        if (name := self.queue_name) is not None:
            self.post_message(bindings_of_queue(name))

    def action_topology(self) -> None:
        """Show what feeds the queue and where it leads."""
        if (name := self.queue_name) is not None:
            self.post_message(OpenTopology(name))

    def action_consumers(self) -> None:
        """Show who consumes from the queue."""
        if (name := self.queue_name) is not None:
            self.post_message(consumers_of_queue(name))
