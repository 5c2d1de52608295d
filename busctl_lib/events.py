"""What happens on a broker, as it happens: who created, closed, left, set or cleared what.

From the exchange amq.rabbitmq.event where the plugin rabbitmq_event_exchange is on; else from the differences between
snapshots of the management API, which see neither what came and went between two, nor who did it.
Source: https://www.rabbitmq.com/docs/event-exchange.
"""

from __future__ import annotations

import contextlib
import queue
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from busctl_lib.broker import LinkEvent, MessageBroker, State
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ApiError, ApiForbidden, BrokerRefused, BusError, CannotConnect, GuardRefused
from busctl_lib.management import ManagementClient

Via = Literal["auto", "exchange", "snapshots"]
EXCHANGE = "amq.rabbitmq.event"
"""Where the plug-in rabbitmq_event_exchange publishes what happens."""
GAP = "busctl.gap"
"""The name of an event of ours: others may have been missed before it."""
_MOST_WAITING = 10_000
_OUR_QUEUE = "busctl.tap.events."
_LIFTED = ("timestamp_in_ms", "vhost", "user_who_performed_action", "name")
_SECRET_IN_URL = re.compile(r"((?<!\w)\w+://[^:/@\s]*):[^@\s]*(@)?")
"""What has no @ is matched as well, and left as it is: to look for one from each of its places would take too long."""


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that happened. None is not told."""

    event: str
    """As RabbitMQ names it: queue.created, connection.closed, policy.set ..."""
    at: str
    """When: RFC 3339, UTC; of a snapshot, when it was noticed."""
    via: Literal["exchange", "snapshots"]
    name: str | None = None
    vhost: str | None = None
    user: str | None = None
    """Who did it."""
    details: dict[str, Any] = {}
    """What else the broker says; passwords in addresses are blotted out."""


class Feed(Protocol):
    """A source of events."""

    def next(self, timeout_s: float) -> Event | None:
        """Give the next event; None when none came in time."""

    def close(self) -> None:
        """Give back what was borrowed."""


class Source(NamedTuple):
    """Where events come from."""

    feed: Feed
    told: list[str]
    """What it shows and what it cannot, a sentence each."""
    broker: MessageBroker | None = None
    """What they come by; None where they are made of snapshots."""


@contextlib.contextmanager
def open_feed(
    api: ManagementClient, connect: Callable[[str], MessageBroker], vhost: str | None = None, *, via: Via = "auto"
) -> Iterator[Source]:
    """Open the source of events that was asked for, or the best there is; it is given back at the end.

    Args:
        api: Of the cluster.
        connect: Makes a broker of the vhost it is given; it is closed here.
        vhost: What snapshots are taken of; of all that the user may see when None. The exchange tells of all.
        via: By its exchange, or from snapshots; auto: these only where the exchange cannot be used.

    Raises:
        GuardRefused: the exchange was asked for and cannot be used.
        ApiError: nothing at all may be read.
    """
    told: list[str] = []
    if via != "snapshots":
        try:
            with _from_exchange(api, connect) as (feed, broker):
                yield Source(feed, [f"events as the broker tells them, by its exchange {EXCHANGE}"], broker)
                return
        except _NoExchange as error:
            why = f"the event exchange cannot be used: {error}"
            if via == "exchange":
                hint = "rabbitmq-plugins enable rabbitmq_event_exchange, or --via snapshots"
                raise GuardRefused(why, hint=hint) from None
            told.append(why)
    taken = SnapshotFeed(api, vhost)
    unseen = f"; not seen by this user: {', '.join(taken.unseen)}" if taken.unseen else ""
    told.append(
        "events from the differences between snapshots, every 2 s: not what comes and goes between two, nor who did it"
        + unseen
    )
    yield Source(taken, told)


class _NoExchange(Exception):
    """Why it cannot be used."""


@contextlib.contextmanager
def _from_exchange(
    api: ManagementClient, connect: Callable[[str], MessageBroker]
) -> Iterator[tuple[Feed, MessageBroker]]:
    try:
        vhost = exchange_vhost(api)
    except ApiError as error:
        raise _NoExchange(str(error)) from error
    if vhost is None:
        raise _NoExchange("the plugin rabbitmq_event_exchange is off, or not for this user to see")
    with connect(vhost) as broker:
        try:
            broker.connect()
            feed = ExchangeFeed(broker, api)
        except (CannotConnect, BrokerRefused) as error:
            raise _NoExchange(str(error)) from error
        try:
            yield feed, broker
        finally:
            feed.close()


def exchange_vhost(api: ManagementClient) -> str | None:
    """Name the vhost that has the event exchange; None where the plugin is off, or not for this user to see."""
    return next((info.vhost for info in api.exchanges() if info.name == EXCHANGE), None)


class _Connection(NamedTuple):
    vhost: str | None
    user: str | None


class ExchangeFeed:
    """Events as the broker tells them.

    Args:
        broker: Of the vhost that has the exchange; it stays its owner's to close.
        api: To know the connections that were there before; their end is told by name alone.

    Raises:
        NotFound, AccessForbidden: the exchange is not there, or not for this user.

    Effect: one exclusive bounded queue while it is open.
    """

    def __init__(self, broker: MessageBroker, api: ManagementClient | None = None) -> None:
        self._broker = broker
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._connections = _known_connections(api) if api is not None else {}
        name = _OUR_QUEUE + secrets.token_hex(6)
        # Overflow must not fall into a dead-letter queue that a catch-all policy names.
        bounds = {
            "x-max-length": _MOST_WAITING,
            "x-overflow": "drop-head",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"{name}.none",
        }
        self._queue = broker.declare_queue(name, exclusive=True, arguments=bounds).queue
        try:
            broker.bind_queue(self._queue, EXCHANGE, "#")
            self._subscription = broker.subscribe(self._queue, self._take, auto_ack=True)
        except BaseException:
            broker.delete_queue(self._queue)
            raise
        broker.add_listener(self._link_changed)

    def next(self, timeout_s: float) -> Event | None:
        """Give the next event; None when none came in time."""
        try:
            return self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None

    def close(self) -> None:
        """Give the queue back."""
        self._broker.remove_listener(self._link_changed)
        with contextlib.suppress(BusError):  # then it goes with the connection
            self._subscription.cancel()
            self._broker.delete_queue(self._queue)

    def _take(self, delivery: Delivery) -> None:
        """Read an event. Thread: the I/O thread."""
        headers = dict(delivery.headers or {})
        if self._is_own(headers):
            return
        name, vhost = headers.get("name"), headers.get("vhost")
        user = headers.get("user_who_performed_action") or headers.get("user")
        if delivery.routing_key == "connection.created" and name:
            self._connections[str(name)] = _Connection(vhost, headers.get("user"))
        elif delivery.routing_key == "connection.closed":
            known = self._connections.pop(str(name), _Connection(None, None))
            vhost, user = vhost or known.vhost, user or known.user
        self._events.put(
            Event(
                event=delivery.routing_key,
                at=_iso(headers.get("timestamp_in_ms", delivery.received_at * 1000) / 1000),
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
            text = "the connection was lost for a while: what happened meanwhile is not known"
            self._events.put(Event(event=GAP, at=_iso(time.time()), via="exchange", details={"reason": text}))


def _known_connections(api: ManagementClient) -> dict[str, _Connection]:
    try:
        return {info.name: _Connection(info.vhost, info.user) for info in api.connections()}
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


def masked(value: Any) -> Any:
    """Blot out the passwords of addresses, as in the settings of a shovel, wherever they stand."""
    if isinstance(value, str):
        return _SECRET_IN_URL.sub(lambda found: f"{found[1]}:***@" if found[2] else found[0], value)
    if isinstance(value, dict):
        return {key: masked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- snapshots

Key = tuple[str, ...]
Snapshot = dict[str, dict[Key, tuple[str | None, dict[str, Any]]]]
"""By noun, by key: the vhost, and what counts as a change when it differs."""
_VERBS = {
    "connection": ("created", "closed", None),
    "policy": ("set", "cleared", "set"),
    "node": ("up", "down", None),
}
_LEAST_SHARE = 9
"""The API rests this many times as long as it took to answer."""


class SnapshotFeed:
    """Events from the differences between snapshots.

    Args:
        api: Where they are taken.
        vhost: Only of this vhost; of all that the user may see when None.
        every_s: How long to wait between two; longer where the API is slow.

    Raises:
        ApiError: nothing at all may be read.
    """

    def __init__(self, api: ManagementClient, vhost: str | None = None, *, every_s: float = 2.0) -> None:
        self._api, self._vhost, self._every_s = api, vhost, every_s
        self._waiting: deque[Event] = deque()
        self.unseen: list[str] = []
        """Nouns that this user may not see."""
        self._before = self._take()
        self._due = time.monotonic() + every_s
        self._lost = False

    def next(self, timeout_s: float) -> Event | None:
        """Give the next event; None when none came in time. A broker that is away is waited for."""
        deadline = time.monotonic() + timeout_s
        while not self._waiting:
            rest = min(deadline, self._due) - time.monotonic()
            if rest > 0:
                time.sleep(rest)
            if time.monotonic() < self._due:
                return None
            self._look()
        return self._waiting.popleft()

    def close(self) -> None:
        """Nothing was borrowed."""

    def _look(self) -> None:
        begun = time.monotonic()
        try:
            now = self._take()
        except BusError as error:
            if not self._lost:
                self._add(GAP, None, None, {"reason": str(error)})
            self._lost = True
        else:
            self._lost = False
            self._compare(self._before, now)
            self._before = now
        took = time.monotonic() - begun
        self._due = time.monotonic() + max(self._every_s, _LEAST_SHARE * took)

    def _compare(self, before: Snapshot, now: Snapshot) -> None:
        for noun in now.keys() & before.keys():
            made, gone, changed = _VERBS.get(noun, ("created", "deleted", None))
            old, new = before[noun], now[noun]
            for key in old.keys() - new.keys():
                self._add(f"{noun}.{gone}", key[-1], old[key][0], old[key][1])
            for key in new.keys() - old.keys():
                self._add(f"{noun}.{made}", key[-1], new[key][0], new[key][1])
            for key in (new.keys() & old.keys()) if changed else ():
                if new[key][1] != old[key][1]:
                    self._add(f"{noun}.{changed}", key[-1], new[key][0], new[key][1])

    def _add(self, event: str, name: str | None, vhost: str | None, details: dict[str, Any]) -> None:
        found = masked({key: value for key, value in details.items() if value is not None})
        self._waiting.append(
            Event(event=event, at=_iso(time.time()), via="snapshots", name=name, vhost=vhost, details=found)
        )

    def _take(self) -> Snapshot:
        taken: Snapshot = {}
        unseen = []
        refused: ApiForbidden | None = None
        for noun, read in self._readers().items():
            try:
                taken[noun] = read()
            except ApiForbidden as error:
                unseen.append(noun)
                refused = error
        if refused is not None and not taken:  # a feed that can never tell anything
            raise refused
        self.unseen = unseen
        return taken

    def _readers(self) -> dict[str, Callable[[], dict[Key, tuple[str | None, dict[str, Any]]]]]:
        api, vhost = self._api, self._vhost
        return {
            "queue": lambda: {
                (info.vhost, info.name): (info.vhost, {"type": info.type})
                for info in api.queues(vhost)
                if not info.name.startswith(_OUR_QUEUE)
            },
            "exchange": lambda: {
                (info.vhost, info.name): (info.vhost, {"type": info.type}) for info in api.exchanges(vhost)
            },
            "binding": lambda: {
                (info.vhost, f"{info.source} -> {info.destination} {info.routing_key!r}"): (info.vhost, {})
                for info in api.bindings(vhost)
                if info.source
            },
            "consumer": lambda: {
                (info.queue.vhost, f"{info.consumer_tag} of {info.queue.name}"): (info.queue.vhost, {})
                for info in api.consumers(vhost)
            },
            "connection": lambda: {
                (info.name,): (info.vhost, {"user": info.user, "user_provided_name": info.user_provided_name})
                for info in api.connections(vhost)
            },
            "policy": lambda: {
                (info.vhost, info.name): (
                    info.vhost,
                    {"pattern": info.pattern, "definition": info.definition, "priority": info.priority},
                )
                for info in api.policies(vhost)
            },
            "vhost": lambda: {(info.name,): (info.name, {}) for info in api.vhosts()},
            "node": lambda: {(info.name,): (None, {}) for info in api.nodes() if info.running},
        }
