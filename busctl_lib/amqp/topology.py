"""What was declared by intent, declared again on each new connection.

Recorded when the broker has said yes, forgotten when it is deleted through us. On a replay one entity that fails is
told and left, the others go on: an error closes only the channel of that entity.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from busctl_lib.amqp.channels import PATIENCE_S, Channel
from busctl_lib.amqp.link import Link
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.states import State
from busctl_lib.amqp.tasks import Pending
from busctl_lib.errors import BusError, ConfigError

logger = logging.getLogger(__name__)


class QueueDeclared(msgspec.Struct, frozen=True):
    """The broker's answer to a declaration."""

    queue: str
    """Its name; the broker's choice where none was given."""
    message_count: int
    """Messages ready, not those delivered and unacked."""
    consumer_count: int


class QueueSpec(msgspec.Struct, kw_only=True):
    """A queue as it was asked for."""

    queue: str
    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: dict[str, Any]
    actual: str = ""
    """The name the broker gave where `queue` is empty."""

    async def declare(self, channel: Channel, *, passive: bool = False) -> Any:
        """Declare it; answers Queue.DeclareOk.

        Raises:
            ConfigError: a line break in the name, which RabbitMQ drops: the queue would have another name.
        """
        if "\r" in self.queue or "\n" in self.queue:
            raise ConfigError(f"queue name {self.queue!r} has a line break", hint="RabbitMQ drops it from the name")
        return await channel.ask(
            "queue_declare",
            self.queue,
            passive=passive,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=self.auto_delete,
            arguments=self.arguments,
        )


async def look_at(link: Link, queue: str, patience_s: float | None = None) -> Any:
    """See whether a queue is there; answers Queue.DeclareOk. Raises NotFound and the broker's other refusals."""
    spec = QueueSpec(queue=queue, durable=False, exclusive=False, auto_delete=False, arguments={})
    return await link.with_channel(lambda channel: spec.declare(channel, passive=True), patience_s)


def with_priority(queue: str, arguments: dict[str, Any], max_priority: int) -> dict[str, Any]:
    """The arguments of a queue that hands out by priority. Raises ConfigError where they do not go together."""
    if not 1 <= max_priority <= 255:
        raise ConfigError(f"max_priority must be 1 to 255, found {max_priority}", hint="up to 10 is wise")
    if arguments.get("x-queue-type", "classic") != "classic":
        raise ConfigError(
            f"queue {queue!r}: max_priority is for classic queues",
            hint="quorum queues have priorities by themselves: from RabbitMQ 4.0 on two, from 4.3 on each its own",
        )
    return {**arguments, "x-max-priority": max_priority}


class ExchangeSpec(msgspec.Struct, kw_only=True):
    """An exchange as it was asked for."""

    exchange: str
    exchange_type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: dict[str, Any]

    async def declare(self, channel: Channel, *, passive: bool = False) -> None:
        """Declare it."""
        await channel.ask(
            "exchange_declare",
            self.exchange,
            exchange_type=self.exchange_type,
            passive=passive,
            durable=self.durable,
            auto_delete=self.auto_delete,
            internal=self.internal,
            arguments=self.arguments,
        )


class BindingSpec(msgspec.Struct, kw_only=True):
    """A binding of a queue, or of an exchange, to an exchange."""

    source: str
    destination: str
    to_exchange: bool
    routing_key: str
    arguments: dict[str, Any]

    @classmethod
    def of(
        cls,
        source: str,
        destination: str,
        routing_key: str,
        arguments: dict[str, Any] | None,
        *,
        to_exchange: bool = False,
    ) -> BindingSpec:
        """A binding from what callers give."""
        return cls(
            source=source,
            destination=destination,
            to_exchange=to_exchange,
            routing_key=routing_key,
            arguments=dict(arguments or {}),
        )

    async def declare(self, channel: Channel, destination: str) -> None:
        """Bind it; `destination` is the name it has on this connection."""
        method = "exchange_bind" if self.to_exchange else "queue_bind"
        await channel.ask(method, destination, self.source, self.routing_key, arguments=self.arguments)

    async def undo(self, channel: Channel, destination: str) -> None:
        """Unbind it."""
        method = "exchange_unbind" if self.to_exchange else "queue_unbind"
        await channel.ask(method, destination, self.source, self.routing_key, arguments=self.arguments)


class Topology:
    """The ledger of one link. A `Part`: it starts before the consumers that need its queues."""

    def __init__(self, link: Link, on_failure: Callable[[str, BusError], None] | None = None) -> None:
        self._link = link
        self._on_failure = on_failure
        self._exchanges: dict[str, ExchangeSpec] = {}
        self._queues: dict[str, QueueSpec] = {}
        self._bindings: list[BindingSpec] = []
        self._replayed = 0
        """The link's epoch on which all was declared again last."""
        self._awaited: list[Pending[None]] = []

    # Thread: the I/O thread, as all of a part. Each operation has a channel of its own: an error closes only that.

    async def declare_exchange(self, spec: ExchangeSpec, *, passive: bool) -> None:
        """Declare an exchange and remember it; passively, only look."""
        await self._link.with_channel(lambda channel: spec.declare(channel, passive=passive))
        if not passive:
            self._exchanges[spec.exchange] = spec

    async def declare_queue(self, spec: QueueSpec, *, passive: bool) -> Any:
        """Declare a queue and remember it under the name it had first; passively, only look. Answers DeclareOk."""
        answer = await self._link.with_channel(lambda channel: spec.declare(channel, passive=passive))
        if not passive:
            spec.actual = answer.queue
            self._queues[answer.queue] = spec
        return answer

    async def bind(self, spec: BindingSpec) -> None:
        """Bind and remember it, once."""
        await self._link.with_channel(lambda channel: spec.declare(channel, self._target(spec)))
        if spec not in self._bindings:
            self._bindings.append(spec)

    async def ensure(self, specs: Sequence[ExchangeSpec | QueueSpec | BindingSpec]) -> None:
        """Declare in order on one channel and remember nothing: durable and shared, it outlives us and our links."""

        async def declare(channel: Channel) -> None:
            for spec in specs:
                if isinstance(spec, BindingSpec):
                    await spec.declare(channel, self._target(spec))
                else:
                    await spec.declare(channel)

        await self._link.with_channel(declare)

    async def unbind(self, spec: BindingSpec) -> None:
        """Unbind and forget it."""
        await self._link.with_channel(lambda channel: spec.undo(channel, self._target(spec)))
        if spec in self._bindings:
            self._bindings.remove(spec)

    async def delete_queue(self, queue: str, *, if_unused: bool, if_empty: bool) -> int:
        """Delete a queue, forget it and its bindings; returns how many messages went with it."""
        answer = await self._link.with_channel(
            lambda channel: channel.ask("queue_delete", self.actual(queue), if_unused=if_unused, if_empty=if_empty)
        )
        self._queues.pop(queue, None)
        self._bindings = [b for b in self._bindings if b.to_exchange or b.destination != queue]
        return int(answer.message_count)

    async def purge_queue(self, queue: str) -> int:
        """Drop what waits; returns how many messages that was."""
        answer = await self._link.with_channel(lambda channel: channel.ask("queue_purge", self.actual(queue)))
        return int(answer.message_count)

    async def delete_exchange(self, exchange: str, *, if_unused: bool) -> None:
        """Delete an exchange, forget it and its bindings."""
        await self._link.with_channel(lambda channel: channel.ask("exchange_delete", exchange, if_unused=if_unused))
        self._exchanges.pop(exchange, None)
        self._bindings = [
            b for b in self._bindings if b.source != exchange and not (b.to_exchange and b.destination == exchange)
        ]

    def _target(self, spec: BindingSpec) -> str:
        return spec.destination if spec.to_exchange else self.actual(spec.destination)

    def actual(self, queue: str) -> str:
        """The name that a queue has on this connection: a server-named one changes with each."""
        spec = self._queues.get(queue)
        return spec.actual or queue if spec is not None else queue

    async def start(self, connection: LinkConnection) -> None:
        """Declare everything again, in the order it depends on each other."""
        for exchange in list(self._exchanges.values()):
            await self._declare(connection, f"exchange {exchange.exchange!r}", exchange.declare)
        for queue in list(self._queues.values()):
            answer = await self._declare(connection, f"queue {queue.queue!r}", queue.declare)
            if answer is not None and not queue.queue:
                queue.actual = answer.queue
        for binding in list(self._bindings):
            target = self._target(binding)
            what = f"binding of {target!r} to {binding.source!r}"
            await self._declare(connection, what, functools.partial(binding.declare, destination=target))
        self._replayed = self._link.epoch
        awaited, self._awaited = self._awaited, []
        for waiting in awaited:
            waiting.resolve(None)

    async def until_replayed(self) -> None:
        """Wait until what was declared is there again, where the link was lost."""
        link = self._link
        if link.state is State.RECOVERING or (link.state is State.REPLAYING and self._replayed != link.epoch):
            waiting: Pending[None] = Pending()
            self._awaited.append(waiting)
            await waiting

    async def _declare(self, connection: LinkConnection, what: str, declare: Callable[[Channel], Any]) -> Any:
        try:
            return await self._link.with_channel(declare, PATIENCE_S)
        except BusError as error:
            if not connection.is_open:
                raise
            logger.warning("after the reconnect, %s could not be declared again: %s", what, error)
            if self._on_failure is not None:
                self._on_failure(what, error)
            return None

    async def finish(self) -> None:
        """Nothing to drain."""

    def resume(self) -> None:
        """Nothing waits for publishes."""

    def tick(self, now: float) -> None:
        """Nothing is due by time."""
