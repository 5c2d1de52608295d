"""MessageBroker: what a user of the library opens. Two links that come back by themselves, and what was declared.

Publishes and calls go over one link, consumers and declarations over the other: a broker that takes no publishes
(memory alarm) blocks a whole connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

from busctl_lib.amqp.endpoints import Endpoint, resolve_endpoints
from busctl_lib.amqp.links import BrokerStats, CloseReport, Links
from busctl_lib.amqp.states import LinkEvent, State
from busctl_lib.amqp.subscriptions import Subscription
from busctl_lib.amqp.topology import BindingSpec, ExchangeSpec, QueueDeclared, QueueSpec, Topology, with_priority
from busctl_lib.dead_names import dead_letter_queue
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ConfigError, GuardRefused, TimedOut, about
from busctl_lib.tracing import Tracer

T = TypeVar("T")

__all__ = ["BrokerStats", "CloseReport", "LinkEvent", "MessageBroker", "QueueDeclared", "State", "Subscription"]


class MessageBroker:
    """A connection to one broker or cluster.

    Args:
        host, port, username, password, virtual_host: where and who; a callable password is asked at each dial, so that
            it may be rotated; or
        url: `amqp[s]://user:password@host:port/vhost?parameters`, RabbitMQ's own parameters (`address_parameters`); or
        urls, hosts: several nodes of one cluster, tried in random order.
        tls: an SSL context (client certificate, private CA); `amqps://` makes a verifying one by itself.
        server_name: the name to verify in the server's certificate, where it is not the host's.
        heartbeat_s: seconds between heartbeats; a peer silent for two of them is given up.
        connect_timeout_s: for one host, where its address does not say.
        answer_timeout_s: for the broker's answer to what is asked of it without a `timeout`; then it is TimedOut.
        client_name: what the broker's operators see as the connection's name.
        read_only: refuse everything that changes the bus; exclusive queues of one's own stay possible.
        tracing: begin traces where there are none, and make OpenTelemetry spans where it is installed. Without it a
            trace that comes with a message still goes on with what its handler publishes.

    Thread: all methods from any thread, except callbacks of `subscribe` (I/O thread).
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 5672,
        *,
        username: str = "guest",
        password: str | Callable[[], str] = "guest",  # noqa: S107 - RabbitMQ's own default
        virtual_host: str = "/",
        url: str | None = None,
        urls: Sequence[str] | None = None,
        hosts: Sequence[str] | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        heartbeat_s: int = 15,
        connect_timeout_s: float = 10.0,
        answer_timeout_s: float = 30.0,
        client_name: str = "busctl_lib",
        read_only: bool = False,
        tracing: bool = False,
    ) -> None:
        if sum(given is not None for given in (url, urls, hosts)) > 1:
            raise ConfigError("give one of url, urls and hosts")
        default = Endpoint(
            host=host,
            port=port,
            virtual_host=virtual_host,
            username=username,
            password=password,
            tls=tls,
            server_name=server_name,
            heartbeat_s=heartbeat_s,
        )
        self.endpoints = resolve_endpoints(default, url=url, urls=urls, hosts=hosts)
        self.answer_timeout_s = answer_timeout_s
        self.read_only = read_only
        self.tracer = Tracer(self.endpoints[0].host, self.endpoints[0].port) if tracing else None
        self.links = Links(self.endpoints, connect_timeout_s=connect_timeout_s, client_name=client_name)
        self._own_queues: set[str] = set()

    def __repr__(self) -> str:
        return f"MessageBroker({self.endpoints[0].address}, vhost {self.virtual_host!r}, {self.state.value})"

    # -- life

    def connect(self) -> MessageBroker:
        """Connect now instead of at the first use.

        Raises:
            LoginRefused, VhostNotFound, CannotConnect.
        """
        self.links.consume.open()
        return self

    def close(self, timeout: float = 30.0) -> CloseReport:
        """Drain and end: consumers stop and finish what they handle, confirms are awaited, the rest is given back.

        Args:
            timeout: seconds; what is not done by then is cut, and the report says so. Closing twice is fine.

        Raises:
            RuntimeError: in a callback on an I/O thread, which it would wait for.
        """
        return self.links.close(timeout)

    def __enter__(self) -> MessageBroker:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        """The state of the link that declares and consumes, or of the only one in use."""
        return self.links.state

    def stats(self) -> BrokerStats:
        """States, window, counters and loop lag, now."""
        return self.links.stats()

    def connect_now(self) -> None:
        """Cut the wait for the next reconnect short."""
        self.links.connect_now()

    @property
    def virtual_host(self) -> str:
        """The virtual host this broker object works in."""
        return self.endpoints[0].virtual_host

    @property
    def server_properties(self) -> dict[str, Any]:
        """What the broker says of itself; connects if need be."""
        return self.links.any_open.server_properties

    @property
    def server_version(self) -> str:
        """The broker's version, like "4.0.5"; connects if need be."""
        return str(self.server_properties.get("version", ""))

    def add_listener(self, listener: Callable[[LinkEvent], None]) -> None:
        """Call `listener(event)` on each change of a link's state. Thread: one event thread, in order.

        An event whose state did not change tells of something declared that could not be restored.
        """
        self.links.announcer.add(listener)

    def remove_listener(self, listener: Callable[[LinkEvent], None]) -> None:
        """Undo `add_listener`; a listener that is not there is fine."""
        self.links.announcer.remove(listener)

    def guard_change(self, what: str) -> None:
        """Refuse a change of the bus when this broker object is read-only. Raises GuardRefused."""
        if self.read_only:
            raise GuardRefused(
                f"{what} is refused: this connection is read-only", hint="use a context without read_only"
            )

    # -- topology

    def declare_queue(
        self,
        queue: str = "",
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        dead_letter: bool = False,
        max_priority: int | None = None,
        arguments: dict[str, Any] | None = None,
        passive: bool = False,
        timeout: float | None = None,
    ) -> QueueDeclared:
        """Declare a queue, or with `passive` look whether it is there and what waits in it.

        No queue type is sent unless `arguments` names one. Exclusive queues are not durable and vanish with the link;
        they are declared again after a reconnect.

        Args:
            dead_letter: declare the queue `QUEUE.dead` as well, of the same type, and have the broker move there what
                is rejected, expires or passes a limit of this one. A `MessageConsumer` puts there what it gives up.
            max_priority: 1 to 255, up to 10 is wise: a classic queue hands out what has a higher `priority` first.
                Quorum queues take no such setting: before RabbitMQ 4.0 they know no priorities; from there on they have
                two levels, two messages of `priority` above 4 to one of the rest; from 4.3 on strictly by priority.

        Raises:
            NotFound: passive, and it is not there. PreconditionFailed: it exists with other settings.
            ConfigError: neither durable nor exclusive, which RabbitMQ 4.3 answers by closing the connection, unless it
                is configured to permit it; or settings that do not go together.
        """
        if max_priority is not None:
            arguments = with_priority(queue, arguments or {}, max_priority)
        if dead_letter and not passive:
            arguments = self._declare_dead(queue, arguments or {}, timeout)
        if not passive and not exclusive:
            self.guard_change(f"declaring queue {queue!r}")
            if not durable:
                raise ConfigError(
                    f"queue {queue!r} would be neither durable nor exclusive, which RabbitMQ 4.3 permits no more",
                    hint="make it durable, or exclusive to this connection",
                )
        spec = QueueSpec(
            queue=queue,
            durable=durable and not exclusive,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=dict(arguments or {}),
        )
        answer = self._run(lambda topology: topology.declare_queue(spec, passive=passive), timeout, queue)
        if exclusive and not passive:
            self._own_queues.add(answer.queue)
        return QueueDeclared(answer.queue, answer.message_count, answer.consumer_count)

    def _declare_dead(self, queue: str, arguments: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        """Declare the dead-letter queue of a queue; returns the queue's arguments with the way there."""
        if not queue:
            raise ConfigError("a queue named by the broker cannot have a dead-letter queue", hint="give it a name")
        kind = arguments.get("x-queue-type")
        dead = dead_letter_queue(queue)
        self.declare_queue(dead, arguments={"x-queue-type": kind} if kind == "quorum" else None, timeout=timeout)
        return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, **arguments}

    def ensure(self, specs: Sequence[ExchangeSpec | QueueSpec | BindingSpec], timeout: float | None = None) -> None:
        """Declare several things in order, on one channel. They are not declared again after a reconnect."""
        self.guard_change("declaring queues and exchanges")
        self._run(lambda topology: topology.ensure(specs), timeout)

    def declare_exchange(
        self,
        exchange: str,
        exchange_type: str = "direct",
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: dict[str, Any] | None = None,
        passive: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Declare an exchange, or with `passive` look whether it is there.

        Raises:
            NotFound: passive, and it is not there. PreconditionFailed: it exists with other settings.
        """
        if not passive:
            self.guard_change(f"declaring exchange {exchange!r}")
        spec = ExchangeSpec(
            exchange=exchange,
            exchange_type=exchange_type,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=dict(arguments or {}),
        )
        self._run(lambda topology: topology.declare_exchange(spec, passive=passive), timeout)

    def bind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Bind a queue to an exchange. Raises NotFound when either is not there."""
        if queue not in self._own_queues:
            self.guard_change(f"binding queue {queue!r}")
        spec = BindingSpec.of(exchange, queue, routing_key, arguments)
        self._run(lambda topology: topology.bind(spec), timeout, queue)

    def bind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Bind exchange `destination` to exchange `source`. Raises NotFound when either is not there."""
        self.guard_change(f"binding exchange {destination!r}")
        spec = BindingSpec.of(source, destination, routing_key, arguments, to_exchange=True)
        self._run(lambda topology: topology.bind(spec), timeout)

    def unbind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Undo `bind_queue`; a binding that is not there is fine."""
        if queue not in self._own_queues:
            self.guard_change(f"unbinding queue {queue!r}")
        self._run(lambda topology: topology.unbind(BindingSpec.of(exchange, queue, routing_key, arguments)), timeout)

    def delete_queue(
        self, queue: str, *, if_unused: bool = False, if_empty: bool = False, timeout: float = 30.0
    ) -> int:
        """Delete a queue; returns how many messages went with it. A queue that is not there is fine (0)."""
        if queue not in self._own_queues:
            self.guard_change(f"deleting queue {queue!r}")
        count = self._run(
            lambda topology: topology.delete_queue(queue, if_unused=if_unused, if_empty=if_empty), timeout, queue
        )
        self._own_queues.discard(queue)
        return count

    def purge_queue(self, queue: str, *, timeout: float | None = None) -> int:
        """Drop what waits in a queue; returns how many messages that was. Raises NotFound."""
        if queue not in self._own_queues:
            self.guard_change(f"purging queue {queue!r}")
        return self._run(lambda topology: topology.purge_queue(queue), timeout, queue)

    def delete_exchange(self, exchange: str, *, if_unused: bool = False, timeout: float | None = None) -> None:
        """Delete an exchange; one that is not there is fine."""
        self.guard_change(f"deleting exchange {exchange!r}")
        self._run(lambda topology: topology.delete_exchange(exchange, if_unused=if_unused), timeout)

    def _run(
        self, work: Callable[[Topology], Coroutine[Any, None, T]], timeout: float | None, queue: str | None = None
    ) -> T:
        link, topology = self.links.consume, self.links.topology
        with about(queue):
            return link.run(lambda: work(topology), self.answer_timeout_s if timeout is None else timeout)

    # -- consuming

    def subscribe(
        self,
        queue: str,
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int = 100,
        auto_ack: bool = False,
        exclusive: bool = False,
        arguments: dict[str, Any] | None = None,
        on_cancelled: Callable[[str], None] | None = None,
        on_tick: Callable[[float], None] | None = None,
        stream: bool = False,
        exact: bool = False,
        timeout: float | None = None,
    ) -> Subscription:
        """Consume a queue; goes on by itself after a reconnect, and after the queue was deleted and declared anew.

        Args:
            queue: its name.
            on_delivery: called with each Delivery on the I/O thread: it may only put it somewhere.
            prefetch: how many unsettled deliveries the broker hands out, 1 to 65535.
            auto_ack: the broker forgets each message when it is sent; nothing is settled.
            exclusive: no other consumer beside this one.
            arguments: of `basic.consume`, for example `x-stream-offset`.
            on_cancelled: called with a reason on the I/O thread when the consumer is lost and will be tried again.
            on_tick: called with the monotonic time on the I/O thread, four times a second.
            stream: the queue is known to be a stream, from which reading takes nothing: allowed when read-only.
            exact: keep the AMQP types of header values that would be written as others (for captures).

        Raises:
            NotFound: no such queue. AccessForbidden, ResourceLocked, PreconditionFailed: as the broker says.
        """
        if queue not in self._own_queues and not stream:
            self.guard_change(f"consuming from {queue!r}")
        if not 1 <= prefetch <= 65535:
            raise ConfigError(f"prefetch must be 1 to 65535, found {prefetch}", hint="0 would mean without bound.")
        link = self.links.consume
        link.open()
        subscription = Subscription(
            link,
            queue,
            on_delivery,
            prefetch=prefetch,
            auto_ack=auto_ack,
            exclusive=exclusive,
            arguments=arguments,
            on_cancelled=on_cancelled,
            on_tick=on_tick,
            exact=exact,
            rename=self.links.topology.actual,
        )
        try:
            with about(queue):
                link.run(subscription.subscribe, self.answer_timeout_s if timeout is None else timeout)
        except TimedOut:
            subscription.abandon()
            raise
        return subscription
