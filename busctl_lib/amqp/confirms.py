"""Publishing with a known end: a window in messages and bytes, six outcomes, returns paired with their publish.

RabbitMQ sends a return before the confirm of the same message, so one ordered tracker a channel gives each publish
exactly one outcome. What could make the broker close the channel (an exchange not proven yet, a very large body)
travels alone, so that it fails alone. Source: https://www.rabbitmq.com/docs/confirms; rabbit_channel.erl.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections import deque
from collections.abc import Callable

from busctl_lib.amqp import wire
from busctl_lib.amqp.channels import Channel
from busctl_lib.amqp.link import Link
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.tasks import Pending, spawn
from busctl_lib.amqp.window import Window
from busctl_lib.envelope import Envelope, Outcome
from busctl_lib.errors import BrokerRefused, BusError

logger = logging.getLogger(__name__)

_ALONE_BYTES = 1 << 20
_BACKLOG_BYTES = 1 << 20
_BURST = 512


class Entry:
    """One publish under way."""

    __slots__ = (
        "alone",
        "deadline",
        "end",
        "envelope",
        "frames",
        "index",
        "late",
        "mandatory",
        "on_settled",
        "outcome",
        "reason",
        "returned",
        "seq",
        "size",
    )

    def __init__(
        self,
        envelope: Envelope,
        frames: bytes,
        mandatory: bool,
        deadline: float,
        on_settled: Callable[[Entry], None],
        index: int = 0,
    ) -> None:
        self.envelope = envelope
        self.frames = frames
        self.size = len(frames)
        self.mandatory = mandatory
        self.deadline = deadline
        """Monotonic: until then it may still be sent, or its confirm may still come."""
        self.on_settled = on_settled
        """Called once, on the I/O thread; must not block."""
        self.index = index
        """Its place in a batch."""
        self.outcome: Outcome | None = None
        self.late = False
        """Whether it was settled because its deadline passed."""
        self.reason: str | None = None
        self.returned: tuple[int, str] | None = None
        self.seq = 0
        self.end = 0
        """Wire offset behind it."""
        self.alone = False


class PublishChannel:
    """A confirming channel that survives reconnects. A `Part` of a link and the `Sink` of its channel.

    Thread: `publish` and `abandon` from any; the rest on the I/O thread.
    """

    def __init__(self, link: Link, *, max_unconfirmed: int = 4096, max_unconfirmed_bytes: int = 16 << 20) -> None:
        self.link = link
        self.window = Window(max_unconfirmed, max_unconfirmed_bytes)
        self.number = link.take_number()
        self._queue: deque[Entry] = deque()
        self._unconfirmed: dict[int, Entry] = {}
        self._scheduled = False
        self._channel: Channel | None = None
        self._connection: LinkConnection | None = None
        self._seq = 0
        self._lowest = 1
        self._lone: Entry | None = None
        self._proven: set[str] = {""}
        link.at_end(self._give_up)
        link.submit(lambda: link.add(self))

    # -- any thread

    def encode(self, envelope: Envelope, mandatory: bool, *, moves: bool = False) -> bytes:
        """The frames of a message on this channel; raises for what AMQP cannot carry. `moves`: of `encode_publish`."""
        return wire.encode_publish(self.number, envelope, mandatory, self.link.frame_max, moves=moves)

    def publish(self, entry: Entry) -> None:
        """Hand an entry over; its room in the window is taken already."""
        self._queue.append(entry)
        if not self._scheduled:
            self._scheduled = True
            self.link.submit(self._pump)

    def abandon(self, entry: Entry) -> None:
        """Settle an entry whose caller has waited long enough: NEVER_SENT if it is still here, else UNKNOWN."""
        self.link.submit(lambda: self._abandon(entry))

    @property
    def unconfirmed(self) -> int:
        """Messages sent whose confirm has not come."""
        return len(self._unconfirmed)

    # -- a link's part

    async def start(self, connection: LinkConnection) -> None:
        """Open the channel and switch confirms on."""
        channel = Channel(connection, self.number, self)
        channel.when_closed(lambda reason: self._channel_closed(channel, reason))
        try:
            await channel.open()
            await self._prepare(channel)
            await channel.ask("confirm_delivery", lambda _frame: None)
        except BusError as error:
            if connection.is_open:
                logger.warning("the publish channel did not open: %s", error)
                self.link.later(1.0, lambda: self._reopen(connection))
            return
        self._seq, self._lowest, self._lone = 0, 1, None
        self._proven = {""}
        self._channel, self._connection = channel, connection
        self._pump()

    async def _prepare(self, _channel: Channel) -> None:
        """For channels that need more than confirms."""

    def _reopen(self, connection: LinkConnection) -> None:
        if self.link.connection is connection and connection.is_open and self._channel is None:
            spawn(self.start(connection))

    async def finish(self) -> None:
        """Wait until everything handed over has its outcome."""
        while self._queue or self._unconfirmed:
            pause: Pending[None] = Pending()
            self.link.later(0.02, lambda pause=pause: pause.resolve(None))  # type: ignore[misc]
            await pause

    def resume(self) -> None:
        """The link takes publishes again."""
        self._pump()

    def tick(self, now: float) -> None:
        """Settle what ran into its deadline."""
        queue = self._queue
        while queue and queue[0].deadline <= now:
            entry = queue.popleft()
            self._settle_late(entry, Outcome.NEVER_SENT, f"its deadline came first, {self.link.says}")
        overdue = []
        for entry in self._unconfirmed.values():
            if entry.deadline > now:
                break
            overdue.append(entry)
        for entry in overdue:
            self._unconfirmed.pop(entry.seq, None)
            self._settle_late(entry, Outcome.UNKNOWN, self._no_confirm)
        if overdue:
            self._after_confirm()

    @property
    def _no_confirm(self) -> str:
        """Why a confirm has not come, as far as that is known."""
        told = "" if self.link.takes_publishes else f", {self.link.says}"
        return f"no confirm before the deadline{told}"

    # -- sending

    def _pump(self) -> None:
        self._scheduled = False
        connection, channel = self._connection, self._channel
        if connection is None or channel is None or not channel.is_open:
            return
        if not self.link.takes_publishes or self._lone is not None:
            return
        queue = self._queue
        burst = 0
        while queue:
            if burst >= _BURST or connection.backlog > _BACKLOG_BYTES:
                self._pump_later()
                return
            entry = queue[0]
            if entry.size > _ALONE_BYTES or entry.envelope.exchange not in self._proven:
                if self._unconfirmed:
                    return  # goes on when these are confirmed
                entry.alone = True
                self._lone = entry
            queue.popleft()
            self._send(connection, entry)
            burst += 1
            if entry.alone:
                return

    def _pump_later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if self._connection is not None and self._connection.backlog > _BACKLOG_BYTES:
                self.link.later(0.002, self._pump)
            else:
                self.link.submit(self._pump)

    def _send(self, connection: LinkConnection, entry: Entry) -> None:
        self._seq += 1
        entry.seq = self._seq
        entry.returned = None
        self._unconfirmed[self._seq] = entry
        entry.end = connection.emit(entry.frames)

    # -- the channel's sink

    def on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        """Nothing is consumed here."""

    def on_return(self, method: bytes, header: bytes, body: bytes) -> None:
        """Remember the return with its publish; the confirm that follows settles it."""
        code, text, exchange, key = wire.decode_return(method)
        properties = wire.decode_properties(header)
        for entry in self._unconfirmed.values():  # in the order sent
            sent = entry.envelope
            if (
                entry.returned is None
                and sent.properties.message_id == properties.message_id
                and sent.routing_key == key
                and sent.exchange == exchange
                and (properties.message_id is not None or sent.body == body)
            ):
                entry.returned = (code, text)
                return
        logger.warning(
            "a return (%s %s, exchange %r, key %r) matches no publish of this channel", code, text, exchange, key
        )

    def on_confirm(self, tag: int, multiple: bool, ack: bool) -> None:
        """Settle the publish, or all up to it."""
        unconfirmed = self._unconfirmed
        if self._connection is not None:
            self._connection.unanswered = False
        if multiple:
            settled = [
                entry for seq in range(self._lowest, tag + 1) if (entry := unconfirmed.pop(seq, None)) is not None
            ]
            self._lowest = tag + 1
        else:
            one = unconfirmed.pop(tag, None)
            settled = [one] if one is not None else []
            if tag == self._lowest:
                self._lowest += 1
        size = returned = 0
        for entry in settled:
            size += entry.size
            if entry.returned is not None:
                entry.outcome, entry.reason = Outcome.RETURNED, entry.returned[1]
                returned += 1
            elif ack:
                entry.outcome = Outcome.CONFIRMED
            else:
                entry.outcome, entry.reason = Outcome.NACKED, "a queue did not take it"
            if entry.alone:
                self._proven.add(entry.envelope.exchange)
        if settled:
            self.link.counts["returned"] += returned
            self.link.counts["confirmed" if ack else "nacked"] += len(settled) - returned
            self.window.release(len(settled), size)
            for entry in settled:
                entry.on_settled(entry)
            self._after_confirm()

    def _after_confirm(self) -> None:
        if self._lone is not None and self._lone.outcome is not None:
            self._lone = None
        if self._queue and not self._scheduled:
            self._pump()

    def _settle(self, entry: Entry, outcome: Outcome, reason: str | None) -> None:
        if entry.outcome is not None:
            return
        entry.outcome, entry.reason = outcome, reason
        self.link.counts[outcome.value] += 1
        self.window.release(1, entry.size)
        entry.on_settled(entry)

    def _settle_late(self, entry: Entry, outcome: Outcome, reason: str) -> None:
        entry.late = entry.outcome is None
        if self._connection is not None and outcome is Outcome.UNKNOWN:
            self._connection.unanswered = True
        self._settle(entry, outcome, reason)

    def _abandon(self, entry: Entry) -> None:
        if entry.outcome is not None:
            return
        if self._unconfirmed.get(entry.seq) is entry:
            del self._unconfirmed[entry.seq]
            self._settle_late(entry, Outcome.UNKNOWN, self._no_confirm)
            self._after_confirm()
        else:
            with contextlib.suppress(ValueError):
                self._queue.remove(entry)
            self._settle_late(entry, Outcome.NEVER_SENT, f"its deadline came first, {self.link.says}")

    # -- losing the channel

    def _give_up(self, gone: BusError) -> None:
        queue, self._queue = self._queue, deque()
        for entry in queue:
            self._settle(entry, Outcome.NEVER_SENT, str(gone))
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for entry in unconfirmed.values():
            self._settle(entry, Outcome.UNKNOWN, str(gone))

    def _channel_closed(self, channel: Channel, reason: BusError) -> None:
        if channel is not self._channel:
            return
        connection = self._connection
        self._channel = self._connection = None
        entries = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        if isinstance(reason, BrokerRefused):
            again = self._after_refusal(entries, reason)
        else:
            again = self._after_loss(entries, connection, reason)
        self._queue.extendleft(reversed(again))
        self._lone = None
        if connection is not None and connection.is_open and isinstance(reason, BrokerRefused):
            self.link.submit(lambda: self._reopen(connection))  # its number is free after this callback

    def _after_loss(self, entries: list[Entry], connection: LinkConnection | None, reason: BusError) -> list[Entry]:
        """Split by the wire: what the kernel never got goes out again, the rest is unknown."""
        handed_over = 0
        if connection is not None:
            handed_over = connection.gathered - (connection.unsent_at_loss or 0)
        again = []
        for entry in entries:
            if entry.end > handed_over:
                again.append(entry)
            else:
                self._settle(entry, Outcome.UNKNOWN, f"the link was lost before the confirm: {reason}")
        return again

    def _after_refusal(self, entries: list[Entry], reason: BrokerRefused) -> list[Entry]:
        """The broker closed the channel over one publish: that one is refused, what came after it was not looked at."""
        # Nothing but publishes travels on this channel, so a single one in flight is the one meant.
        only = entries[0] if len(entries) == 1 and reason.code < 500 else None
        culprit = only or next((entry for entry in entries if entry.alone or _is_blamed(entry, reason)), None)
        again: list[Entry] = []
        for entry in entries:
            if entry is culprit:
                self._settle(entry, Outcome.REFUSED, reason.text)
            elif culprit is not None and entry.seq > culprit.seq:
                again.append(entry)
            else:
                self._settle(entry, Outcome.UNKNOWN, f"the broker closed the channel before the confirm: {reason.text}")
        return again


def _is_blamed(entry: Entry, reason: BrokerRefused) -> bool:
    named = re.search(r"exchange '([^']*)'", reason.text)
    if named is not None:
        return entry.envelope.exchange == named[1]
    user = re.search(r"user_id property set to '([^']*)'", reason.text)
    return user is not None and entry.envelope.properties.user_id == user[1]
