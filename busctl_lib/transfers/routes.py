"""Where a route leads: which queues an exchange and a key reach, told from the bindings."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from busctl_lib import topology_map
from busctl_lib.envelope import Envelope
from busctl_lib.errors import ApiError, NotFound
from busctl_lib.management import (
    BindingInfo,
    ExchangeInfo,
    ManagementClient,
    QueueInfo,
    alternate_of,
    definitions_of,
    why_away,
)
from busctl_lib.management.alternates import Definitions
from busctl_lib.taps import keys

_FRESH_S = 3.0
_MAX_HOPS = 32


class Limits(msgspec.Struct, kw_only=True, omit_defaults=True):
    """When a queue is full."""

    messages: int | None = None
    size: int | None = None
    """Bytes of bodies."""
    size_now: int = 0
    """What is in it, as far as the statistics have come."""
    buries: bool = False
    """What it drops goes to a dead-letter exchange."""


class Reach(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a route leads just now."""

    queues: list[str] = []
    sure: bool = True
    """False where an exchange decides in a way that only the broker knows: `queues` are those it may choose from."""
    problem: str | None = None
    """Why nothing would take the message."""
    refuses: list[str] = []
    """Queues among them that refuse messages when they are full."""
    limits: dict[str, Limits] = {}
    """Queues among them that drop their oldest messages when they are full."""
    quorum: list[str] = []
    """Quorum queues among them, which take a transaction only in part when its connection ends before the answer."""
    passes_on: dict[str, str] = {}
    """Queues among them where messages expire and go on elsewhere, and how."""
    ends: dict[str, str] = {}
    """What becomes of messages with an expiration that is over, by queue."""
    silent: list[str] = []
    """Those of `refuses` that are quorum queues: a transaction is committed all the same, and only a confirm tells."""

    def obstacle(self, *, exact: bool) -> str | None:
        """Why a message cannot be sent there: nothing takes it, or (exact) a refusal would not be told."""
        if self.problem is None and exact and self.silent:
            return f"{self.silent[0]!r} is a quorum queue that may refuse, which no transaction tells: use --fast"
        return self.problem


class RouteMap:
    """Routes of one vhost, read again every few seconds.

    Thread: one.
    """

    def __init__(self, management: ManagementClient, vhost: str) -> None:
        self._management = management
        self._vhost = vhost
        self._reached: dict[tuple[Any, ...], Reach] = {}
        self._exchanges: dict[str, tuple[ExchangeInfo, list[BindingInfo]] | None] = {}
        self._queues: dict[str, _Queue | None] = {}
        self._policies: Definitions | None = None
        self._read_at = -1e9
        self._spent_s = 0.0

    def reach(self, envelope: Envelope) -> Reach:
        """Find the queues that a message reaches.

        Raises:
            ApiError: the bindings cannot be read.
        """
        now = time.monotonic()
        if now - self._read_at > max(_FRESH_S, 10 * self._spent_s):
            self._spent_s = 0.0
            self._reached.clear()
            self._exchanges.clear()
            self._queues.clear()
            self._policies = None
            self._read_at = now
        where = (envelope.exchange, envelope.routing_key)
        found = self._reached.get(where)
        if found is None:
            found = self._find(envelope)
            self._spent_s += time.monotonic() - now
            if not self._by_headers(envelope.exchange, set()):
                self._reached[where] = found
        return found

    def forget(self) -> None:
        """Read everything anew at the next question."""
        self._read_at = -1e9

    def _find(self, envelope: Envelope) -> Reach:
        exchange, key = envelope.exchange, envelope.routing_key
        if not exchange:
            if self._queue(key) is None:
                return Reach(problem=f"there is no queue {key!r}")
            return self._with_limits(Reach(queues=[key]))
        if self._exchange(exchange) is None:
            return Reach(problem=f"there is no exchange {exchange!r}")
        queues: set[str] = set()
        sure = self._follow(exchange, key, envelope.headers, queues, set())
        reach = Reach(queues=sorted(queues), sure=sure)
        if not queues and sure:
            reach.problem = f"exchange {exchange!r} has no queue for key {key!r}"
        return self._with_limits(reach)

    def _with_limits(self, reach: Reach) -> Reach:
        for name in reach.queues:
            queue = self._queue(name)
            if queue is None:
                continue
            if queue.away is not None and reach.problem is None:
                reach.problem = f"queue {name!r} is there, but {queue.away}"
            reach.quorum += [name] if queue.quorum else []
            reach.ends[name] = queue.ends
            if queue.passes_on is not None:
                reach.passes_on[name] = queue.passes_on
            if queue.refuses:
                reach.refuses.append(name)
                reach.silent += [name] if queue.quorum else []
            elif queue.limits is not None:
                reach.limits[name] = queue.limits
        return reach

    def _follow(self, name: str, key: str, headers: dict[str, Any], queues: set[str], seen: set[str]) -> bool:
        """Add what an exchange reaches; False where that cannot be known."""
        if name in seen or len(seen) > _MAX_HOPS:
            return True
        seen.add(name)
        found = self._exchange(name)
        if found is None:
            return True
        info, bindings = found
        sure, hit = True, False
        for binding in bindings:
            verdict = _matches(info.type or "", binding, key, headers)
            sure = sure and verdict is not None
            if verdict is False:
                continue
            hit = True
            if binding.destination_type == "queue":
                queues.add(binding.destination)
            else:
                sure = self._follow(binding.destination, key, headers, queues, seen) and sure
        alternate = None if hit else self._alternate(info)
        if alternate:
            sure = self._follow(alternate, key, headers, queues, seen) and sure
        return sure

    def _by_headers(self, name: str, seen: set[str]) -> bool:
        """Whether headers have a say in the route, so that each message needs a look of its own."""
        found = self._exchange(name) if name and name not in seen else None
        if found is None:
            return False
        seen.add(name)
        if found[0].type == "headers":
            return True
        onward = [binding.destination for binding in found[1] if binding.destination_type == "exchange"]
        return any(self._by_headers(each, seen) for each in onward)

    def _exchange(self, name: str) -> tuple[ExchangeInfo, list[BindingInfo]] | None:
        if name not in self._exchanges:
            try:
                info = self._management.exchange(self._vhost, name)
                self._exchanges[name] = (info, self._management.exchange_bindings(self._vhost, name))
            except NotFound:
                self._exchanges[name] = None
        return self._exchanges[name]

    def _queue(self, name: str) -> _Queue | None:
        if name not in self._queues:
            try:
                info = self._management.queue(self._vhost, name)
            except NotFound:
                self._queues[name] = None
            else:
                self._queues[name] = _Queue(
                    info.type == "quorum",
                    refuses_when_full(info),
                    limits_of(info),
                    passes_on(info),
                    _end_of(info),
                    why_away(info),
                )
        return self._queues[name]

    def _alternate(self, info: ExchangeInfo) -> str | None:
        if info.policy and self._policies is None:
            try:
                self._policies = definitions_of(self._management.policies(self._vhost))
            except ApiError:
                self._policies = {}
        return alternate_of(info, self._policies or {})


class _Queue(msgspec.Struct):
    """What matters of a queue that exists."""

    quorum: bool
    refuses: bool
    limits: Limits | None
    passes_on: str | None
    ends: str
    """What becomes of its messages that expire."""
    away: str | None
    """Why it takes nothing now."""


def passes_on(info: QueueInfo) -> str | None:
    """Say how messages of a queue expire and go on elsewhere, if they do, by argument or policy."""
    settings = {**(info.effective_policy_definition or {}), **(info.arguments or {})}
    ttl = [settings[name] for name in ("message-ttl", "x-message-ttl") if isinstance(settings.get(name), int)]
    exchange, _ = topology_map.dead_letter_route(info)
    if not ttl or exchange is None:
        return None
    return f"messages expire there after {min(ttl):,} ms and go on to {_lead_of(info)}"


def _end_of(info: QueueInfo) -> str:
    """What becomes of a message of a queue that expires."""
    if info.type == "stream":
        return "stays"
    lead = _lead_of(info)
    return "is dropped" if lead is None else f"goes on to {lead}"


def _lead_of(info: QueueInfo) -> str | None:
    """Where dead letters of a queue go, if anywhere."""
    exchange, key = topology_map.dead_letter_route(info)
    if exchange is None:
        return None
    return f"exchange {exchange!r}" if exchange else f"queue {key!r}" if key else "where their keys lead"


def refuses_when_full(info: QueueInfo) -> bool:
    """Whether a queue refuses messages when it is full, by argument or policy."""
    settings = {**(info.effective_policy_definition or {}), **(info.arguments or {})}
    overflow = str(settings.get("x-overflow") or settings.get("overflow") or "")
    return overflow.startswith("reject-publish")


def limits_of(info: QueueInfo) -> Limits | None:
    """When a queue is full, by argument and policy, of which the lower counts; None for one without limits.

    A stream's limit is how much it keeps for readers, not how much may wait.
    Source: https://www.rabbitmq.com/docs/maxlength.
    """
    if info.type == "stream":
        return None
    most, size = (_lower_of(info, name) for name in ("max-length", "max-length-bytes"))
    if most is None and size is None:
        return None
    buries = topology_map.dead_letter_route(info)[0] is not None
    return Limits(messages=most, size=size, size_now=info.message_bytes or 0, buries=buries)


def _lower_of(info: QueueInfo, name: str) -> int | None:
    found = ((info.arguments or {}).get(f"x-{name}"), (info.effective_policy_definition or {}).get(name))
    return min((value for value in found if isinstance(value, int)), default=None)


def _matches(kind: str, binding: BindingInfo, key: str, headers: dict[str, Any]) -> bool | None:
    """Whether an exchange of a type takes a binding for a message; None where only the broker knows."""
    if kind == "direct":
        return binding.routing_key == key
    if kind == "fanout":
        return True
    if kind == "topic":
        return keys.matches(binding.routing_key, key)
    if kind == "headers":
        return _headers_match(binding.arguments or {}, headers)
    return None


def _headers_match(arguments: dict[str, Any], headers: dict[str, Any]) -> bool:
    how = str(arguments.get("x-match", "all"))
    with_x = how.endswith("-with-x")
    wanted = {
        name: value for name, value in arguments.items() if name != "x-match" and (with_x or not name.startswith("x-"))
    }
    hits = [name in headers and (value is None or headers[name] == value) for name, value in wanted.items()]
    return any(hits) if how.startswith("any") else all(hits)
