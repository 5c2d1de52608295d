"""Messages taken from one queue and sent on by the same channel, so that both can be one transaction.

Everything a mover holds is unsettled: whatever ends it (its owner, a kill, a lost link) puts that back where it was.
It has a link of its own, because a broker that takes no publishes stops reading the whole connection, and because
its lock, an exclusive queue, must live and die with the channel.

Each connection is a new epoch: what was delivered before comes again from the queue's head, and nothing of an earlier
epoch can be settled any more. Sources: https://www.rabbitmq.com/docs/semantics, AMQP 0-9-1 section 1.9.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import time
from collections.abc import Sequence

from busctl_lib.amqp import wire
from busctl_lib.amqp.acks import Acks, counts_lost_channels
from busctl_lib.amqp.batches import Batch, Confirms, Sent, outcome_of
from busctl_lib.amqp.channels import Channel
from busctl_lib.amqp.hands import Hand, Look
from busctl_lib.amqp.link import Link
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.states import State
from busctl_lib.amqp.tables import Unencodable
from busctl_lib.amqp.tasks import Pending, spawn
from busctl_lib.amqp.topology import QueueSpec, look_at
from busctl_lib.envelope import Delivery, Envelope, Outcome
from busctl_lib.errors import BrokerRefused, BusError, LinkLost, NotFound, ResourceLocked, TimedOut

logger = logging.getLogger(__name__)

_LOCK_PATIENCE_S = 90.0
"""How long the broker may take to notice that our own former connection is dead."""
_ANSWER_S = 10.0
"""How long the broker may take for one answer after a reconnect."""
_PATIENCE_S = 20.0
"""How long a queue may be unavailable after a reconnect: its node is down, its leader is not elected yet."""


class Mode(enum.Enum):
    """How a mover settles."""

    READ = "read"
    """Not at all: everything goes back."""
    EXACT = "exact"
    """Publishes and acks of a batch in one transaction."""
    FAST = "fast"
    """Publishes confirmed, acks behind the confirms."""


class Mover:
    """One queue's messages in the hand. A `Part` of a link and the `Sink` of its channel.

    Args:
        link: Its own, not opened yet; the mover closes it.
        queue: Where the messages are.
        lock: The name of the exclusive queue that keeps others away; None takes no lock.
        mode: How it settles.
        window: How many messages the broker hands out ahead.
        look: Counts what is taken.

    Thread: public methods from the owner's thread.
    """

    def __init__(
        self, link: Link, queue: str, *, lock: str | None, mode: Mode, window: int, look: Look | None = None
    ) -> None:
        self.link = link
        self.queue = queue
        self.mode = mode
        self.epoch = 0
        self._lock, self._window, self._hand = lock, window, Hand(look)
        self._by_name = self._lost = False
        self._number = link.take_number()
        self._channel: Channel | None = None
        self._connection: LinkConnection | None = None
        self._tag = ""
        self._stopping = False
        self._refused_since: float | None = None
        self._committing: Batch | None = None
        self._last_commit: Pending[None] | None = None
        self._confirms = Confirms()
        self._acks = Acks(self._number)

    # -- the owner's thread

    def open(self, timeout: float = 30.0) -> Mover:
        """Connect, take the lock, begin to take messages.

        Raises:
            ResourceLocked: somebody else has the lock. NotFound: no such queue. CannotConnect.
        """
        self.link.open()
        self.link.run(self._begin, timeout)
        return self

    @property
    def ready(self) -> bool:
        """Whether messages come and batches can be sent now."""
        return self.link.takes_publishes and self._channel is not None

    @property
    def says(self) -> str:
        """Why nothing moves."""
        return self.link.says

    @property
    def failure(self) -> BusError | None:
        """Why it cannot go on at all."""
        return self._hand.failure

    def take(self, most: int, timeout: float, epoch: int) -> list[Delivery]:
        """The next deliveries of an epoch, at least one unless none came in time, or another epoch has begun."""
        return self._hand.take(most, timeout, epoch)

    def push_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries back that were taken and looked at; the next `take` gives them again, in order."""
        self._hand.push_back(deliveries)

    def encode(self, envelope: Envelope, header: bytes | None = None) -> bytes:
        """A message as `send` wants it. Raises Unencodable: AMQP, or this link, cannot carry it."""
        return wire.encode_publish(self._number, envelope, True, self.link.frame_max, header, moves=True)

    def require_fits(self, header: bytes) -> None:
        """Refuse properties that this link could not send. Raises Unencodable."""
        most = wire.widest_moved(self.link.frame_max)
        if len(header) > most:
            raise Unencodable(f"its headers take more than the {most:,} bytes that this link sends", field="headers")

    def send(self, envelopes: Sequence[Envelope], frames: list[bytes], tags: Sequence[int], epoch: int) -> Batch:
        """Publish, and settle the deliveries of these tags; exact: in one transaction, fast: each behind its confirm.

        Args:
            envelopes: What to publish.
            frames: The same by `encode`.
            tags: Exact: any deliveries of this epoch. Fast: one for each envelope, in order; empty to settle none.
            epoch: Of the deliveries; of another one than now nothing is done (NEVER_SENT).
        """
        batch = Batch(envelopes, tags, epoch)
        if self.mode is Mode.EXACT:
            self.link.submit(lambda: spawn(self._commit(batch, frames)))
        else:
            self.link.submit(lambda: self._publish(batch, frames))
        return batch

    def renew(self, timeout: float = 30.0) -> None:
        """Get another window of messages while all of the former one are held."""
        self.link.run(self._renew, timeout)

    def count(self, timeout: float = 30.0) -> tuple[int, int]:
        """How many messages wait in the queue, and how many consumers it has, this one among them. Raises NotFound."""
        answer = self.link.run(lambda: look_at(self.link, self.queue), timeout)
        return int(answer.message_count), int(answer.consumer_count)

    def restart(self, timeout: float = 30.0) -> None:
        """Give everything back and begin again at the queue's head: a new epoch on the same connection."""
        self.link.run(self._restart, timeout)

    def close(self, timeout: float = 15.0) -> bool:
        """Give everything back, in order, and let go of the lock; whether the broker is known to have heard of it."""
        self._stopping = True
        if self.link.state in (State.OPEN, State.BLOCKED):
            with contextlib.suppress(BusError):
                self.link.run(self._give_back, timeout if self.link.state is State.OPEN else 1.0)
        self.link.close(5.0)
        return self._by_name

    def abandon(self) -> None:
        """Cut the connection: no batch under way will be heard of."""
        self._stopping = True
        self.link.close(0.1)

    # -- the I/O thread

    async def _begin(self) -> None:
        assert self.link.connection is not None
        await self._start(self.link.connection)
        self.link.add_started(self)

    async def start(self, connection: LinkConnection) -> None:
        """Take the lock again, then the messages; before that nothing moves."""
        if self._stopping:
            return
        try:
            await self._start(connection, _ANSWER_S)
        except BusError as error:
            if not connection.is_open:
                return  # the next connection tries again
            now = time.monotonic()
            self._refused_since = self._refused_since or now
            patience = _LOCK_PATIENCE_S if isinstance(error, ResourceLocked) else _PATIENCE_S
            if now - self._refused_since > patience:
                self._hand.fail(error)
            elif isinstance(error, TimedOut):  # the channel is stuck, and its number is in what is encoded already
                connection.force_close(str(error))
            else:
                self.link.later(1.0, lambda: self._again(connection))

    def _again(self, connection: LinkConnection) -> None:
        if not self._stopping and self.link.connection is connection and connection.is_open and self._channel is None:
            spawn(self.start(connection))

    async def _start(self, connection: LinkConnection, patience_s: float | None = None) -> None:
        if self._lock is not None:
            kind = {"x-queue-type": "classic"}
            spec = QueueSpec(queue=self._lock, durable=False, exclusive=True, auto_delete=False, arguments=kind)
            await self.link.with_channel(spec.declare, patience_s)
        channel = Channel(connection, self._number, self, patience_s=patience_s)
        channel.when_closed(lambda reason: self._channel_closed(channel, reason))
        await channel.open()
        if self.mode is Mode.EXACT:
            await channel.ask("tx_select")
        elif self.mode is Mode.FAST:
            await channel.ask("confirm_delivery", lambda _frame: None)
        await channel.ask("basic_qos", prefetch_count=self._window)
        channel.on_server_cancel(lambda: self._server_cancelled(channel, connection))
        self._hand.begin(lost=self._lost)
        self._lost = self._by_name = False
        self._confirms, self._acks = Confirms(), Acks(self._number)
        self.epoch += 1
        self._tag = await channel.consume(self.queue, auto_ack=False)
        channel.patience_s = None
        self._channel, self._connection = channel, connection
        self._refused_since = None

    async def _renew(self) -> None:
        channel = self._channel
        if channel is not None and channel.is_open:
            if self._tag:
                await channel.ask("basic_cancel", self._tag)
            self._tag = await channel.consume(self.queue, auto_ack=False)

    async def _restart(self) -> None:
        connection = self._connection
        await self._give_back()
        if connection is not None and connection.is_open:
            await self._start(connection)

    def _server_cancelled(self, channel: Channel, connection: LinkConnection) -> None:
        if channel is self._channel and self._tag:  # from 4.3 on it tells so of each message that was held for too long
            self._tag = ""
            spawn(self._cancelled(connection))

    async def _cancelled(self, connection: LinkConnection) -> None:
        """The broker ended the consumer: the queue is gone; or from 4.3 on, something was held for too long."""
        try:
            await look_at(self.link, self.queue, _ANSWER_S)
        except BusError as error:
            gone = isinstance(error, NotFound) and "no queue" in error.text
            self._hand.fail(LinkLost(f"queue {self.queue!r} was deleted") if gone else error)
        else:
            await self._give_back(timed_out=True)
            self._again(connection)

    async def _give_back(self, *, timed_out: bool = False) -> None:
        channel, connection = self._channel, self._connection
        self._channel = None
        if channel is None or connection is None:
            return
        try:
            if channel.is_open:
                if self._tag:
                    await channel.ask("basic_cancel", self._tag)
                exact, everything = self.mode is Mode.EXACT, [wire.encode_nack_all(self._number)]
                bundles = self._acks.youngest_first(one_by_one=exact) if timed_out else everything
                for frames in bundles if counts_lost_channels(self.link.server_properties) else ():
                    connection.emit(frames)
                    if exact:
                        await channel.ask("tx_commit")
                    else:
                        await channel.ask("basic_qos", prefetch_count=self._window)  # answered when that was heard
                self._by_name = True
        finally:
            await channel.close(None)  # its number is used again

    async def finish(self) -> None:
        """Nothing to drain."""
        self.link.remove(self)

    def resume(self) -> None:
        """The owner looks at `ready`."""

    def tick(self, now: float) -> None:
        """Nothing is due by time."""

    # -- exact

    async def _commit(self, batch: Batch, frames: list[bytes]) -> None:
        before, self._last_commit = self._last_commit, Pending()
        mine = self._last_commit
        if before is not None:  # one transaction at a time: a channel that commits takes no publishes
            await before
        try:
            await self._commit_now(batch, frames)
        finally:
            mine.resolve(None)

    async def _commit_now(self, batch: Batch, frames: list[bytes]) -> None:
        channel, connection = self._channel, self._connection
        if batch.epoch != self.epoch or channel is None or connection is None or not channel.is_open:
            batch.settle(Sent(Outcome.NEVER_SENT, "the link was lost before"))
            return
        self._committing = batch
        connection.emit(b"".join([*frames, self._acks.encode(batch.tags)]))
        asking = spawn(channel.ask("tx_commit"))
        end = connection.gathered
        try:
            await asking
        except BrokerRefused as error:
            batch.settle(Sent(outcome_of(error), error.text))
        except BusError as error:
            handed_over = connection.gathered - (connection.unsent_at_loss or 0)
            outcome = Outcome.NEVER_SENT if end > handed_over else Outcome.UNKNOWN
            batch.settle(Sent(outcome, f"the link was lost before the commit was answered: {error}"))
        else:
            batch.settle()
        finally:
            self._committing = None

    # -- fast

    def _publish(self, batch: Batch, frames: list[bytes]) -> None:
        channel, connection = self._channel, self._connection
        if batch.epoch != self.epoch or channel is None or connection is None or not channel.is_open:
            batch.settle(Sent(Outcome.NEVER_SENT, "the link was lost before"))
            return
        if not frames:
            batch.settle()
            return
        self._confirms.add(batch)
        connection.emit(b"".join(frames))

    def on_confirm(self, tag: int, multiple: bool, ack: bool) -> None:
        """Ack what the target has, keep what it refused."""
        tags = self._confirms.take(tag, multiple, ack)
        if tags and self._connection is not None:
            self._connection.emit(self._acks.encode(tags))
        self._confirms.settle_ended()

    # -- the channel's sink

    def on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        """Keep a delivery for the owner, with every AMQP type: what is moved is not changed."""
        _, tag, redelivered, exchange, key = wire.decode_deliver(method)
        self._acks.delivered(tag)
        self._hand.put(
            Delivery(
                exchange=exchange,
                routing_key=key,
                properties=wire.decode_properties(header, shared=True),
                body=body,
                wire_properties=header[12:],
                queue=self.queue,
                received_at=time.time(),
                via="hold",
                redelivered=redelivered,
                delivery_tag=tag,
                epoch=self.epoch,
            )
        )

    def on_return(self, method: bytes, header: bytes, body: bytes) -> None:
        """Remember which message of a batch no queue took; it comes before the answer that ends the batch."""
        _, text, exchange, key = wire.decode_return(method)
        properties = wire.decode_properties(header)
        if self._committing is not None:
            place = self._committing.find(exchange, key, properties, body)
            if place is not None:
                self._committing.note_return(place, text)
            else:
                self._committing.lose_count(f"a return ({text}, exchange {exchange!r}, key {key!r}) fits no message")
            return
        if self._confirms.note_return(exchange, key, properties, body, text):
            return
        logger.error("a return (%s, exchange %r, key %r) fits nothing that was sent", text, exchange, key)
        if self._connection is not None:  # going on could ack the message it belongs to
            self._connection.force_close("a return fits nothing that was sent")

    # -- losing the channel

    def _channel_closed(self, channel: Channel, reason: BusError) -> None:
        if channel is not self._channel:
            return
        connection = self._connection
        self._channel = self._connection = None
        self._lost = True
        self._confirms.lose(reason)
        self._hand.wake()
        if isinstance(reason, BrokerRefused) and connection is not None and connection.is_open:
            self.link.submit(lambda: self._again(connection))
