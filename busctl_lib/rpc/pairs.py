"""Pairs: the calls of other parties, put together from the messages that a tap shows.

A request is a message with `reply_to`; its reply is the message with the same correlation id on that address.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec.structs import replace

from busctl_lib.amqp.replies import DIRECT_REPLY_TO
from busctl_lib.codecs import read_json
from busctl_lib.envelope import Delivery
from busctl_lib.errors import CodecError
from busctl_lib.rpc.answers import ERROR_HEADER, deadline_of
from busctl_lib.rpc.load import percentile

State = Literal["answered", "orphan", "late", "duplicate", "uncorrelated", "unasked"]
_PATIENCE_S = 30.0
_REMEMBERED = 20_000
_SAMPLES = 10_000
_BODY_BYTES = 16_384
_DIRECT = f"{DIRECT_REPLY_TO}."


class SpiedCall(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing learnt about a call of others.

    answered: request and reply. orphan: no reply by its deadline. late: the reply came after that. duplicate: one more
    reply. uncorrelated: a reply without correlation id. unasked: a reply whose request was not seen.
    """

    state: State
    method: str
    queue: str
    """Where the request went; of replies without a known request the address they went to."""
    correlation_id: str | None = None
    at: float
    """When it was learnt, seconds since 1970."""
    latency_s: float | None = None
    error: str | None = None
    """The error's type, if the reply is one of ours."""
    request: Delivery | None = None
    reply: Delivery | None = None


class MethodFigures(msgspec.Struct, kw_only=True):
    """What was seen of one method."""

    method: str
    answered: int = 0
    errors: int = 0
    orphans: int = 0
    late: int = 0
    duplicates: int = 0
    latencies_s: list[float] = []
    """Of the last replies, in the order they came."""

    def percentile(self, share: float) -> float | None:
        """The time within which this share of the replies was there."""
        return percentile(sorted(self.latencies_s), share)


class _Open(msgspec.Struct):
    request: Delivery
    method: str
    until: float
    state: Literal["open", "orphan", "answered"] = "open"


_AFTER: dict[str, State] = {"open": "answered", "orphan": "late", "answered": "duplicate"}
"""What a reply is, by what its request had become."""


class Pairs:
    """Pairs requests with replies; takes every message a tap shows, in order.

    Args:
        queue: only requests to this queue.
        patience_s: after how long a request without deadline counts as an orphan.
    """

    def __init__(self, queue: str | None = None, *, patience_s: float = _PATIENCE_S) -> None:
        self._queue = queue
        self._patience_s = patience_s
        self._calls: OrderedDict[tuple[str, str | None], _Open] = OrderedDict()
        self._addresses: OrderedDict[str, str] = OrderedDict()
        """Reply address -> the method last asked with it."""
        self._figures: dict[str, MethodFigures] = {}

    @property
    def open(self) -> int:
        """Requests that wait for their reply."""
        return sum(1 for call in self._calls.values() if call.state == "open")

    def figures(self) -> list[MethodFigures]:
        """What was seen so far, the most used method first."""
        return sorted(self._figures.values(), key=lambda one: (-one.answered - one.orphans, one.method))

    def take(self, delivery: Delivery) -> Iterator[SpiedCall]:
        """Look at one message; yields what it tells, if anything."""
        address = delivery.properties.reply_to
        if address and not self._is_known_reply(delivery):
            if self._queue in (None, _queue_of(delivery)):
                self._ask(delivery, address)
        elif delivery.properties.correlation_id is not None or delivery.routing_key in self._addresses:
            learnt = self._answer(delivery)
            if learnt is not None:
                yield learnt

    def expire(self, now: float) -> Iterator[SpiedCall]:
        """Yield the requests whose deadline has passed without a reply, once each."""
        for call in list(self._calls.values()):
            if call.state == "open" and call.until < now:
                call.state = "orphan"
                self._of(call.method).orphans += 1
                request = call.request
                yield SpiedCall(
                    state="orphan",
                    method=call.method,
                    queue=_queue_of(request),
                    correlation_id=request.properties.correlation_id,
                    at=now,
                    request=request,
                )

    def _is_known_reply(self, delivery: Delivery) -> bool:
        return (delivery.routing_key, delivery.properties.correlation_id) in self._calls

    def _ask(self, request: Delivery, address: str) -> None:
        method = method_of(request)
        until = _deadline(request, self._patience_s)
        key = (address, request.properties.correlation_id)
        self._calls[key] = _Open(_cut(request), method, until)
        self._addresses[address] = method
        for memory in (self._calls, self._addresses):
            while len(memory) > _REMEMBERED:
                memory.popitem(last=False)

    def _answer(self, reply: Delivery) -> SpiedCall | None:
        address, correlation_id = reply.routing_key, reply.properties.correlation_id
        call = self._calls.get((address, correlation_id))
        if call is None:
            return self._unpaired(reply)
        figures = self._of(call.method)
        latency_s = max(0.0, reply.received_at - call.request.received_at)
        error = reply.headers.get(ERROR_HEADER)
        state = _AFTER[call.state]
        if state == "answered" and call.until < reply.received_at:
            state = "late"
        if state == "duplicate":
            figures.duplicates += 1
        else:
            figures.answered += state == "answered"
            figures.late += state == "late"
            figures.errors += error is not None
            figures.latencies_s.append(latency_s)
            del figures.latencies_s[:-_SAMPLES]
        call.state = "answered"
        return SpiedCall(
            state=state,
            method=call.method,
            queue=_queue_of(call.request),
            correlation_id=correlation_id,
            at=reply.received_at,
            latency_s=latency_s,
            error=None if error is None else str(error),
            request=call.request,
            reply=reply,
        )

    def _unpaired(self, reply: Delivery) -> SpiedCall | None:
        """A reply whose request was not seen; None for what need not be a reply at all."""
        address, correlation_id = reply.routing_key, reply.properties.correlation_id
        method = self._addresses.get(address)
        if method is None and (self._queue is not None or not address.startswith(_DIRECT)):
            return None
        return SpiedCall(
            state="unasked" if correlation_id is not None else "uncorrelated",
            method=method or "",
            queue=address,
            correlation_id=correlation_id,
            at=reply.received_at,
            reply=reply,
        )

    def _of(self, method: str) -> MethodFigures:
        return self._figures.setdefault(method, MethodFigures(method=method))


def method_of(request: Delivery) -> str:
    """What a request asks for: its `action`, else its `type` property, else where it went."""
    try:
        message = read_json(request)
    except CodecError:
        message = None
    action = message.get("action") if isinstance(message, dict) else None
    return action if isinstance(action, str) else request.properties.type or request.routing_key


def _queue_of(request: Delivery) -> str:
    """Where a request went: the queue if the tap knows it, which by the default exchange is the key."""
    return request.queue or request.routing_key


def _cut(request: Delivery) -> Delivery:
    """Keep of a large body what a person looks at."""
    size = len(request.body)
    return request if size <= _BODY_BYTES else replace(request, body=request.body[:_BODY_BYTES], wire_size=size)


def _deadline(request: Delivery, patience_s: float) -> float:
    """Until when its caller waits; by the expiration if it has one, since that needs no common clock."""
    expiration = request.properties.expiration or ""
    deadline = deadline_of(request.properties)
    if deadline is not None and not expiration:
        return deadline
    return request.received_at + (
        int(expiration) / 1000 if expiration.isascii() and expiration.isdigit() else patience_s
    )
