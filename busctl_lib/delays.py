"""Delayed delivery without a plugin: a ladder of queues, each of which holds its messages for one power of two.

A message goes once through the levels of its delay's binary digits, so a long delay never stands in front of a short
one. Every level is a quorum queue that dead-letters at least once: a delayed message survives restarts, and one whose
destination is gone lands in `busctl.parking` instead of jamming its level. Names and keys: docs/message-conventions.md.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any

import msgspec

from busctl_lib.amqp.topology import BindingSpec, ExchangeSpec, QueueSpec
from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Envelope
from busctl_lib.errors import PublishRefused

UNIT_MS = 100
"""What the shortest level holds its messages for; delays are rounded up to it."""
LEVELS = 28
"""The digits of a delay."""
LONGEST_S = (2**LEVELS - 1) * UNIT_MS / 1000
"""The longest delay: 310 days."""
PREFIX = "busctl.delay."
"""Of the names of all that the delays are made of."""
DELIVER = "busctl.delay.deliver"
"""The exchange by which what has waited goes to its queue."""
UNROUTABLE = "busctl.unroutable"
"""The exchange that gets what has waited for a destination that is gone."""
PARKING = "busctl.parking"
"""The queue where such messages stay."""
_BOUND_FOR_S = 30.0
"""How long a destination is taken to be bound still; it may be deleted and declared anew by others."""
_KEY_BYTES = 255

Spec = ExchangeSpec | QueueSpec | BindingSpec


class Delays:
    """Sends messages on a detour that takes as long as they shall wait. Thread: any.

    Args:
        broker: where the ladder is, or is made at the first use (the first takes a second or two).
    """

    def __init__(self, broker: MessageBroker) -> None:
        self._broker = broker
        self._levels = 0
        self._known: dict[str, float] = {}
        """What is declared or bound, and when we last made sure (monotonic)."""

    def delayed(self, envelope: Envelope, delay_s: float, *, fixed: bool = False) -> Envelope:
        """The envelope to publish now so that `envelope` arrives in `delay_s` seconds: rounded up to 0.1 s, not early.

        Args:
            envelope: stays as it is. To a queue it arrives through `busctl.delay.deliver`, to an exchange with its own
                key.
            delay_s: 0 to 310 days.
            fixed: use a queue for exactly this delay instead of the ladder: one hop, for a delay used over and over.

        Raises:
            PublishRefused: a delay or a name that is too long, or an `expiration`, which would run while it waits.
            NotFound: there is no such queue or exchange. BrokerRefused: the ladder may not be declared here.

        Effect: declares what is missing of the ladder, and binds the destination to its end.
        """
        units = _units(delay_s, envelope)
        if units == 0:
            return envelope
        queue = _destination(envelope)
        key = _key(units, queue, envelope)  # before anything is declared: a key too long would cost the connection
        if envelope.exchange and not self._is_bound(queue):
            self._broker.declare_exchange(envelope.exchange, passive=True)
        relay = _relay(queue, envelope) if envelope.exchange else []
        self._bind(queue, relay)
        if fixed:
            exchange = self._fixed(units * UNIT_MS)
        else:
            highest = units.bit_length() - 1
            self._climb(highest)
            exchange = _level(highest)
        return msgspec.structs.replace(envelope, exchange=exchange, routing_key=key)

    # -- what has to be there

    def _bind(self, queue: str, specs: list[Spec]) -> None:
        if self._is_bound(queue):
            return
        binding = BindingSpec.of(DELIVER, queue, "*." * LEVELS + _word(queue), None)
        self._broker.ensure([*_ground(), *specs, binding])
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[queue] = time.monotonic()

    def _is_bound(self, queue: str) -> bool:
        return time.monotonic() - self._known.get(queue, -math.inf) < _BOUND_FOR_S

    def _climb(self, highest: int) -> None:
        if highest < self._levels:
            return
        specs = _ground()
        for level in range(self._levels, highest + 1):
            specs += _rung(level)
        self._broker.ensure(specs, timeout=120.0)
        self._levels = highest + 1

    def _fixed(self, milliseconds: int) -> str:
        name = f"busctl.delay.fixed.{milliseconds}"
        if name not in self._known:
            queue = _queue(name, _held(DELIVER) | {"x-message-ttl": milliseconds})
            self._broker.ensure([*_ground(), _exchange(name, "fanout"), queue, BindingSpec.of(name, name, "", None)])
            self._known[name] = math.inf
        return name


def _units(delay_s: float, envelope: Envelope) -> int:
    if not 0 <= delay_s <= LONGEST_S:  # NaN too
        raise PublishRefused(
            f"a delay must be 0 to {LONGEST_S:,.1f} s (310 days), found {delay_s:,.10g}",
            hint="keep what is further away in a database",
        )
    if envelope.properties.expiration is not None:
        raise PublishRefused(
            "a delayed message cannot have an expiration: it would run while the message waits",
            hint="leave `expiration` out, or the delay",
        )
    return math.ceil(round(delay_s * 1000 / UNIT_MS, 6))


def _destination(envelope: Envelope) -> str:
    """The queue at the end of the ladder."""
    if not envelope.exchange:
        return envelope.routing_key
    where = f"{envelope.exchange}\0{envelope.routing_key}".encode()
    return f"busctl.delay.to.{hashlib.sha256(where).hexdigest()[:20]}"


def _relay(name: str, envelope: Envelope) -> list[Spec]:
    """A queue that passes everything on at once, to where the envelope is addressed."""
    way = {"x-message-ttl": 0, "x-dead-letter-routing-key": envelope.routing_key}
    return [_queue(name, _held(envelope.exchange) | way)]


def _key(units: int, queue: str, envelope: Envelope) -> str:
    key = "".join(f"{bit}." for bit in f"{units:0{LEVELS}b}") + _word(queue)
    if (length := len(key.encode())) > _KEY_BYTES:
        raise PublishRefused(
            f"queue name {envelope.routing_key!r:.80} is {length - _KEY_BYTES} bytes too long for delayed delivery",
            hint=f"{_KEY_BYTES - 2 * LEVELS} bytes are the most.",
        )
    return key


def _word(queue: str) -> str:
    """A queue's name as a part of a topic key, where * and # would match other names."""
    return queue.replace("%", "%25").replace("*", "%2A").replace("#", "%23")


def _level(level: int) -> str:
    return f"busctl.delay.{level:02}"


def _ground() -> list[Spec]:
    """The end of the ladder, and where messages go whose destination is gone."""
    return [
        _exchange(UNROUTABLE, "fanout"),
        _queue(PARKING, {"x-queue-type": "quorum"}),
        BindingSpec.of(UNROUTABLE, PARKING, "", None),
        _exchange(DELIVER, "topic", {"alternate-exchange": UNROUTABLE}),
    ]


def _rung(level: int) -> list[Spec]:
    """One level: a 1 at its place of the key leads into its queue, a 0 past it; both go on to the level below."""
    name, below = _level(level), _level(level - 1) if level else DELIVER
    place = "*." * (LEVELS - 1 - level)
    return [
        _exchange(name, "topic"),
        _queue(name, _held(below) | {"x-message-ttl": UNIT_MS << level}),
        BindingSpec.of(name, name, f"{place}1.#", None),
        BindingSpec.of(name, below, f"{place}0.#", None, to_exchange=True),
    ]


def _held(exchange: str) -> dict[str, Any]:
    """A queue that gives what expires to an exchange, and forgets it only when that has it."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _exchange(name: str, kind: str, arguments: dict[str, Any] | None = None) -> ExchangeSpec:
    return ExchangeSpec(
        exchange=name, exchange_type=kind, durable=True, auto_delete=False, internal=False, arguments=arguments or {}
    )


def _queue(name: str, arguments: dict[str, Any]) -> QueueSpec:
    return QueueSpec(queue=name, durable=True, exclusive=False, auto_delete=False, arguments=arguments)
