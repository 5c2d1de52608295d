"""Events as the broker tells them, by the exchange of its plug-in rabbitmq_event_exchange.

Source: https://www.rabbitmq.com/docs/event-exchange.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from busctl_lib.broker import LinkEvent, MessageBroker, State
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ApiError, ApiUnreachable, BrokerRefused, BusError, LoginRefused, VhostNotFound
from busctl_lib.events.event import GAP, OUR_QUEUE, Event, iso, masked
from busctl_lib.management import ManagementClient

EXCHANGE = "amq.rabbitmq.event"
"""Where the plug-in rabbitmq_event_exchange publishes what happens."""
_MOST_WAITING = 10_000
_CLOSE_S = 2.0
_PROOF_S = 5.0
"""So long the news of one's own consumer may take."""
_LIFTED = ("timestamp_in_ms", "vhost", "user_who_performed_action", "name")


class NoExchange(Exception):
    """Why it cannot be used, and could not a little later either."""


class MuteExchange(NoExchange):
    """It tells nothing, to nobody.

    RabbitMQ 4.x (4.0.5, 4.3.6) forgets that somebody listens when the first two begin at the same moment; it speaks
    again when the last of them has ended.
    """


@contextlib.contextmanager
def open_exchange(
    api: ManagementClient, connect: Callable[[str], MessageBroker], keys: Sequence[str] = ("#",)
) -> Iterator[tuple[ExchangeFeed, MessageBroker]]:
    """Open a feed by the event exchange; feed and broker are closed at the end.

    Args:
        api: Of the cluster.
        connect: Makes a broker of the vhost it is given.
        keys: Which events, as binding keys.

    Raises:
        NoExchange: it is not there, or not for this user, or it tells nothing (MuteExchange).
        ApiUnreachable, CannotConnect: the broker is away.
    """
    try:
        vhost = exchange_vhost(api)
    except ApiUnreachable:
        raise
    except ApiError as error:
        raise NoExchange(str(error)) from error
    if vhost is None:
        raise NoExchange("the plugin rabbitmq_event_exchange is off, or not for this user to see")
    with contextlib.ExitStack() as stack:
        broker = connect(vhost)
        stack.callback(broker.close)
        try:
            broker.connect()
            feed = _proven_feed(broker, api, keys)
        except (LoginRefused, VhostNotFound, BrokerRefused) as error:
            raise NoExchange(str(error)) from error
        stack.callback(feed.close)
        yield feed, broker


def _proven_feed(broker: MessageBroker, api: ManagementClient, keys: Sequence[str]) -> ExchangeFeed:
    """A feed that has heard of its own consumer; the second try finds out whether others have ended meanwhile."""
    for _ in range(2):
        feed = ExchangeFeed(broker, api, keys)
        if feed.hears(_PROOF_S):
            return feed
        feed.close()
        time.sleep(secrets.randbelow(1000) / 1000)  # others may have found the same, at the same moment
    raise MuteExchange(f"{EXCHANGE} tells nobody anything until all who listen have ended (a fault of RabbitMQ 4.x)")


def exchange_vhost(api: ManagementClient) -> str | None:
    """Name the vhost that has the event exchange; None where the plugin is off, or not for this user to see."""
    return next((info.vhost for info in api.exchanges(columns=("name",)) if info.name == EXCHANGE), None)


class _Connection(NamedTuple):
    vhost: str | None
    user: str | None


class ExchangeFeed:
    """Events as the broker tells them.

    Args:
        broker: Of the vhost that has the exchange; it stays its owner's to close.
        api: To know the connections that were there before; their end is told by name alone.
        keys: Which events, as binding keys; all by default. `consumer.created` is among them: by that of its own
            consumer the feed knows that it hears.

    Raises:
        NotFound, AccessForbidden: the exchange is not there, or not for this user.

    Effect: one exclusive bounded queue while it is open.
    """

    def __init__(
        self, broker: MessageBroker, api: ManagementClient | None = None, keys: Sequence[str] = ("#",)
    ) -> None:
        self._broker = broker
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._connections = _known_connections(api) if api is not None else {}
        self._proof = threading.Event()
        self._proven_epoch = 0
        self._proof_due: float | None = None
        name = OUR_QUEUE + secrets.token_hex(6)
        # Overflow must not fall into a dead-letter queue that a catch-all policy names.
        bounds = {
            "x-max-length": _MOST_WAITING,
            "x-overflow": "drop-head",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"{name}.none",
        }
        self._queue = broker.declare_queue(name, exclusive=True, arguments=bounds).queue
        try:
            for key in keys:
                broker.bind_queue(self._queue, EXCHANGE, key)
            self._subscription = broker.subscribe(self._queue, self._take, auto_ack=True)
        except BaseException:
            broker.delete_queue(self._queue)
            raise
        broker.add_listener(self._link_changed)

    def next(self, timeout_s: float) -> Event | None:
        """Give the next event; None when none came in time."""
        if self._proof_due is not None and time.monotonic() > self._proof_due:
            self._proof_due = None
            if not self.hears():
                return _gap(f"since then {EXCHANGE} tells nobody anything")
        try:
            return self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None

    def hears(self, timeout_s: float = 0.0) -> bool:
        """Whether it has heard of its own consumer on this connection, after so many seconds at most."""
        return self._proof.wait(timeout_s) and self._proven_epoch == self._subscription.epoch

    def close(self) -> None:
        """Give the queue back."""
        self._broker.remove_listener(self._link_changed)
        with contextlib.suppress(BusError):  # then it goes with the connection
            self._subscription.cancel(_CLOSE_S)
            self._broker.delete_queue(self._queue, timeout=_CLOSE_S)

    def _take(self, delivery: Delivery) -> None:
        """Read an event. Thread: the I/O thread."""
        headers = dict(delivery.headers or {})
        if self._is_own(headers):
            self._proven_epoch = delivery.epoch
            self._proof.set()
            return
        name, vhost = headers.get("name"), headers.get("vhost")
        user = headers.get("user_who_performed_action") or headers.get("user")
        if delivery.routing_key.startswith("vhost."):
            vhost = name
        elif delivery.routing_key == "connection.created" and name:
            self._connections[str(name)] = _Connection(vhost, headers.get("user"))
        elif delivery.routing_key == "connection.closed":
            known = self._connections.pop(str(name), _Connection(None, None))
            vhost, user = vhost or known.vhost, user or known.user
        self._events.put(
            Event(
                event=delivery.routing_key,
                at=iso(headers.get("timestamp_in_ms", delivery.received_at * 1000) / 1000),
                via="exchange",
                name=str(name) if name is not None else _name_of(delivery.routing_key, headers),
                vhost=vhost,
                user=user,
                details=masked({key: value for key, value in headers.items() if key not in _LIFTED}),
            )
        )

    def _is_own(self, headers: dict[str, Any]) -> bool:
        """Whether it is about our own queue."""
        return self._queue in (headers.get("name"), headers.get("queue"), headers.get("destination_name"))

    def _link_changed(self, event: LinkEvent) -> None:
        if event.new is State.OPEN and event.old is not State.OPEN:
            self._events.put(_gap("the connection was lost for a while: what happened meanwhile is not known"))
            self._proof_due = time.monotonic() + _PROOF_S


def _gap(reason: str) -> Event:
    return Event(event=GAP, at=iso(time.time()), via="exchange", details={"reason": reason})


def _known_connections(api: ManagementClient) -> dict[str, _Connection]:
    try:
        return {info.name: _Connection(info.vhost, info.user) for info in api.connections(columns=("name", "user"))}
    except BusError:
        return {}


def _name_of(event: str, headers: dict[str, Any]) -> str | None:
    """What an event without a name is about."""
    if event.startswith("binding."):
        source, key = headers.get("source_name"), headers.get("routing_key")
        return f"{source} -> {headers.get('destination_name')} {key!r}"
    if event.startswith("consumer."):
        return f"{headers.get('consumer_tag')} of {headers.get('queue')}"
    found = headers.get("user") or headers.get("pid")
    return str(found) if found is not None else None
