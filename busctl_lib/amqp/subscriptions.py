"""Consumers that survive reconnects and a deleted queue, and their settlement by meaning.

Deliveries go to a callback on the I/O thread, which may only put them somewhere. Settlements come from any thread, are
gathered for a loop turn and leave as few acks as possible; one for an earlier incarnation of the channel is dropped,
since its message has gone back to the queue with that channel.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from busctl_lib.amqp import wire
from busctl_lib.amqp.acks import Acks, counts_lost_channels
from busctl_lib.amqp.channels import PATIENCE_S, Channel
from busctl_lib.amqp.link import Link
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.tasks import Pending, spawn
from busctl_lib.amqp.topology import look_at
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BrokerRefused, BusError, ConsumerTimedOut, NotFound, TimedOut

logger = logging.getLogger(__name__)

_ACK, _RETRY, _GIVE_BACK, _DEAD_LETTER = range(4)


class Subscription:
    """One consumer on a channel of its own. A `Part` of a link and the `Sink` of its channel.

    Thread: settlement verbs from any thread and without waiting; the rest on the I/O thread.
    """

    def __init__(
        self,
        link: Link,
        queue: str,
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int,
        auto_ack: bool = False,
        exclusive: bool = False,
        arguments: dict[str, Any] | None = None,
        on_cancelled: Callable[[str], None] | None = None,
        on_tick: Callable[[float], None] | None = None,
        exact: bool = False,
        rename: Callable[[str], str] = lambda name: name,
    ) -> None:
        self.link = link
        self.queue = queue
        self.epoch = 0
        self.lost: BusError | None = None
        """Why the broker ended it last, while the link was up."""
        self._exact = exact
        self._on_delivery = on_delivery
        self._on_cancelled = on_cancelled
        self._on_tick = on_tick
        self._prefetch = prefetch
        self._auto_ack = auto_ack
        self._exclusive = exclusive
        self._arguments = arguments
        self._rename = rename
        self._number = 0
        """Of its channel; taken when it starts: one that never does has none to give back."""
        self._channel: Channel | None = None
        self._connection: LinkConnection | None = None
        self._stopping = self._once = self._by_name = False
        self._ending: Pending[bool] | None = None
        self._begun = False
        self._tag = ""
        self._tries = 0
        self._settled: deque[tuple[int, int, int]] = deque()
        self._scheduled = False
        self._acks = Acks(self._number)

    # -- any thread

    def ack(self, delivery: Delivery) -> None:
        """Done: the broker may forget it."""
        self._settle(_ACK, delivery)

    def retry(self, delivery: Delivery) -> None:
        """Failed: back to the queue, counted as a failure where the queue counts."""
        self._settle(_RETRY, delivery)

    def give_back(self, delivery: Delivery) -> None:
        """Not tried: back to the queue. Counts as a failure on quorum queues before RabbitMQ 4.3, not from there on."""
        self._settle(_GIVE_BACK, delivery)

    def dead_letter(self, delivery: Delivery) -> None:
        """Never again: to the queue's dead-letter exchange, or dropped where there is none."""
        self._settle(_DEAD_LETTER, delivery)

    def _settle(self, verb: int, delivery: Delivery) -> None:
        self._settled.append((verb, delivery.epoch, delivery.delivery_tag))
        if not self._scheduled:
            self._scheduled = True
            self.link.submit(self._flush)

    def step_aside(self, seconds: float) -> None:
        """Give all that is open back and take nothing for a moment, so that other consumers get it."""
        self.link.submit(lambda: spawn(self._step_aside(seconds)))

    async def _step_aside(self, seconds: float) -> None:
        channel, connection, tag = self._channel, self._connection, self._tag
        if channel is None or connection is None or not channel.is_open or not tag:
            return
        self._tag = ""
        await channel.ask("basic_cancel", tag)
        self._flush()
        self.link.counts["given_back"] += self._acks.open
        connection.emit(wire.encode_nack_all(self._number))
        self._acks.forget()
        self.link.later(seconds, lambda: spawn(self._consume_again(channel)))

    async def _consume_again(self, channel: Channel) -> None:
        if self._channel is channel and channel.is_open and not self._stopping:
            with contextlib.suppress(BusError):  # the channel closes with it, and is opened anew
                await self._consume(channel)

    @property
    def is_open(self) -> bool:
        """Whether messages may come now."""
        return self._channel is not None

    def once(self) -> None:
        """Do not start again by itself when the link or the queue is lost: what was delivered would come once more."""
        self._once = True

    def again(self, timeout: float = 30.0) -> None:
        """Start again after a loss, where that is to happen only `once`. Raises NotFound and the broker's refusals."""
        self.link.run(self._begin_again, timeout)

    async def _begin_again(self) -> None:
        if self._channel is None and not self._stopping and self.link.connection is not None:
            self.lost = None
            await self._start(self.link.connection)

    def abandon(self) -> None:
        """End at once, and give back what was sent; `cancel` tells how that went. It may not even have begun."""
        self.link.submit(self._abandon)

    def _abandon(self) -> None:
        self._stopping = True
        if self._begun:  # else it ends itself when it has
            spawn(self.finish())

    def pause(self, timeout: float = 5.0) -> None:
        """Take no more messages, but keep what was delivered open for settling."""
        self._stopping = True
        self.link.run(self._pause, timeout)

    async def _pause(self) -> None:
        if self._channel is not None and self._channel.is_open and self._tag:
            await self._channel.ask("basic_cancel", self._tag)
            self._tag = ""

    def cancel(self, timeout: float = 5.0) -> bool:
        """Stop consuming and close the channel; what was delivered and not settled goes back, in order.

        Returns:
            Whether the broker is known to have taken it back by name, where that counts least; False when it went back
            with a channel or a link that was lost before.
        """
        self._stopping = True
        return self.link.run(self._end, timeout)

    # -- a link's part

    async def subscribe(self) -> None:
        """Start for the first time. Raises NotFound and the broker's other refusals."""
        assert self.link.connection is not None
        self._number = self.link.take_number()
        try:
            await self._start(self.link.connection)
        except BusError:
            self.link.free_number(self._number)
            raise
        self.link.add_started(self)
        if self._stopping:
            await self.finish()

    async def start(self, connection: LinkConnection) -> None:
        """Start on a new connection; where the broker refuses, try again later."""
        if self._stopping or self._once:
            return
        try:
            await self._start(connection, PATIENCE_S)
        except TimedOut as error:
            self._leave_behind()
            self._lost_consumer(error, connection)
        except BusError as error:
            if connection.is_open and self._channel is None:  # else the closing channel tells
                self._lost_consumer(error, connection)

    def _leave_behind(self) -> None:
        """Another channel for the next try: the broker hangs in this one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            spawn(channel.close())
            channel.when_gone(self.link.free_number)
            self._number = self.link.take_number()

    async def _start(self, connection: LinkConnection, patience_s: float | None = None) -> None:
        channel = Channel(connection, self._number, self, patience_s=patience_s)
        channel.when_closed(lambda reason: self._channel_closed(channel, reason))
        await channel.open()
        self.epoch += 1
        self._acks = Acks(self._number)
        self._channel, self._connection, self._by_name = channel, connection, False
        channel.on_server_cancel(lambda: self._server_cancelled(connection))
        if not self._auto_ack:
            await channel.ask("basic_qos", prefetch_count=self._prefetch)
        await self._consume(channel)
        channel.patience_s = None
        self._tries, self._begun = 0, True

    async def _consume(self, channel: Channel) -> None:
        self._tag = await channel.consume(
            self._rename(self.queue), auto_ack=self._auto_ack, exclusive=self._exclusive, arguments=self._arguments
        )

    async def finish(self) -> None:
        """Flush settlements, stop consuming, give back what is open, close the channel."""
        await self._end()

    async def _end(self) -> bool:
        if self._ending is None:
            self._ending = spawn(self._end_once())
        return await self._ending

    async def _end_once(self) -> bool:
        self._stopping = True
        self.link.remove(self)
        self._flush()
        channel = self._channel
        if channel is not None:
            channel.patience_s = PATIENCE_S
            self._by_name = await self._give_back(channel)
            self._channel = None
            await channel.close()
            channel.when_gone(self.link.free_number)
        else:
            self.link.free_number(self._number)
        return self._by_name

    async def _give_back(self, channel: Channel) -> bool:
        """Give back what is open in the way that harms least; whether the broker is known to have heard of it."""
        try:
            if self._tag and channel.is_open:
                tag, self._tag = self._tag, ""
                await channel.ask("basic_cancel", tag)
            self._flush()  # what was settled meanwhile
            self.link.counts["given_back"] += self._acks.open
            await self._nack_all(channel)
        except BusError:
            return False
        return channel.is_open

    async def _nack_all(self, channel: Channel, *, timed_out: bool = False) -> None:
        """Give back by name what is open, where the closing channel would count as a failure."""
        if self._acks.open and counts_lost_channels(self.link.server_properties):
            everything = self._acks.youngest_first() if timed_out else [wire.encode_nack_all(self._number)]
            for frames in everything:
                channel.connection.emit(frames)
                await channel.ask("basic_qos", prefetch_count=self._prefetch)  # answered when that was heard
            self._acks.forget()

    def resume(self) -> None:
        """Consuming does not depend on the link taking publishes."""

    def tick(self, now: float) -> None:
        """Pass the time on to who watches handlers."""
        self._acks.mark(now)
        if self._on_tick is not None:
            self._on_tick(now)

    # -- the channel's sink

    def on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        """Hand a delivery on."""
        _, tag, redelivered, exchange, key = wire.decode_deliver(method)
        if not self._auto_ack:
            self._acks.delivered(tag)
        self._on_delivery(
            Delivery(
                exchange=exchange,
                routing_key=key,
                properties=wire.decode_properties(header, exact=self._exact),
                body=body,
                wire_properties=header[12:],
                queue=self.queue,
                received_at=time.time(),
                redelivered=redelivered,
                delivery_tag=tag,
                epoch=self.epoch,
            )
        )

    def on_return(self, method: bytes, header: bytes, body: bytes) -> None:
        """Nothing is published here."""

    def on_confirm(self, tag: int, multiple: bool, ack: bool) -> None:
        """Nothing is published here."""

    # -- settling

    def _flush(self) -> None:
        self._scheduled = False
        connection, channel, number = self._connection, self._channel, self._number
        usable = connection is not None and channel is not None and channel.is_open
        acked: list[int] = []
        settled, acks = self._settled, self._acks
        for _ in range(len(settled)):
            verb, epoch, tag = settled.popleft()
            if epoch != self.epoch or not usable or not acks.settle(tag):
                self.link.counts["stale_settlements"] += 1
                continue
            assert connection is not None
            if verb == _ACK:
                acked.append(tag)
            elif verb == _RETRY:
                connection.emit(wire.encode_reject(number, tag, requeue=True))
            else:
                connection.emit(wire.encode_nack(number, tag, requeue=verb == _GIVE_BACK))
                self.link.counts["given_back"] += verb == _GIVE_BACK
        if connection is not None and acked:
            connection.emit(acks.encode(acked))
            self.link.counts["acked"] += len(acked)

    # -- losing the consumer

    def _channel_closed(self, channel: Channel, reason: BusError) -> None:
        if channel is not self._channel:
            return
        connection = self._connection
        self._channel = self._connection = None
        if isinstance(reason, BrokerRefused) and connection is not None and connection.is_open:
            self._lost_consumer(reason, connection)

    def _server_cancelled(self, connection: LinkConnection) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            spawn(self._cancelled(channel, connection))

    async def _cancelled(self, channel: Channel, connection: LinkConnection) -> None:
        """Give back what is open, and find out why the broker ended the consumer: it does not say so."""
        held_s = self._acks.open_for(time.monotonic())
        self._tag = ""
        with contextlib.suppress(BusError):
            await self._nack_all(channel, timed_out=True)
            self._by_name = channel.is_open
        await channel.close()
        self._lost_consumer(await self._why_cancelled(held_s), connection)

    async def _why_cancelled(self, held_s: float | None) -> BusError:
        try:
            await look_at(self.link, self._rename(self.queue), PATIENCE_S)
        except NotFound as error:
            return NotFound("the queue was deleted", text=error.text) if "no queue" in error.text else error
        except BusError as error:
            return error
        if held_s is None or not counts_lost_channels(self.link.server_properties):
            return BrokerRefused("the broker ended it; the queue is there")
        return ConsumerTimedOut(
            f"its consumer timeout: a message was held for {held_s:.0f} s; the queue is there",
            queue=self.queue,
            held_s=held_s,
        )

    def _lost_consumer(self, reason: BusError, connection: LinkConnection) -> None:
        self.lost = reason
        if self._stopping or not self._begun:  # a refusal of the first try is its caller's to handle
            return
        if self._on_cancelled is not None:
            self._on_cancelled(str(reason))
        if self._once:
            return
        self._tries += 1
        delay = random.uniform(0.05, min(10.0, 0.2 * 2 ** min(self._tries, 8)))  # noqa: S311
        logger.warning("the consumer of %r is gone (%s); subscribing again in %.1f s", self.queue, reason, delay)
        self.link.later(delay, lambda: self._again(connection))

    def _again(self, connection: LinkConnection) -> None:
        if not self._stopping and self.link.connection is connection and connection.is_open and self._channel is None:
            spawn(self.start(connection))
