"""Peek: look at what waits in a queue, within its budget, and give everything back in order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from busctl_lib.broker import MessageBroker, QueueDeclared, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, GuardRefused
from busctl_lib.management import ManagementClient
from busctl_lib.taps.budget import PeekBudget, peek_budget, spend
from busctl_lib.taps.takes import OFFSET_ARGUMENT
from busctl_lib.taps.taking import HOLD_MAX, SINGLE_ACTIVE

PEEK_MAX = 10_000
MAX_BYTES = 256 * 2**20
_QUIET_S = 10.0
"""How long the next message of those that wait may take to come."""
_QUIET_SHARED_S = 1.0
"""The same where others take them too."""


class Peeked(msgspec.Struct, kw_only=True):
    """What was seen, and what looking did to the queue."""

    messages: list[Delivery]
    ready: int
    """How many messages waited."""
    consumers: int
    budget: PeekBudget
    """What is left after this look."""
    given_back: bool = True
    """False for a stream, where nothing was taken."""

    @property
    def account(self) -> str:
        """Say in one sentence what looking did to the queue."""
        count, budget = len(self.messages), self.budget
        if not count:
            return f"nothing was taken from {budget.queue}"
        if not self.given_back:
            return f"{count:,} message{'s' * (count > 1)} read; a stream does not change by it"
        who = "counts" if count == 1 else "each counts"
        counted = f" and {who} one more delivery; {budget.text}" if budget.delivery_limit is not None else ""
        if count == 1:
            return f"1 message taken and given back in order: it is marked redelivered{counted}"
        return f"{count:,} messages taken and given back in order: they are marked redelivered{counted}"


def peek(
    broker: MessageBroker,
    management: ManagementClient,
    vhost: str,
    queue: str,
    count: int = 10,
    *,
    accept_loss: bool = False,
    folder: Path | None = None,
) -> Peeked:
    """Look at the first messages that wait in a queue; of a stream, at the first that are kept.

    Args:
        broker: A connection to the vhost.
        management: A client of the same cluster.
        vhost: Where the queue is.
        queue: Its name.
        count: At most so many messages; never more are taken.
        accept_loss: Also when the peek budget is used up.
        folder: Where looks are counted; `budget.peek_folder()` by default.

    Raises:
        NotFound: no such queue.
        GuardRefused: looking could cost a message, or would show nothing because another consumer is the active one.

    Effect: what is seen is taken and given back: marked redelivered, and on a quorum queue with one more delivery.
    """
    info = management.queue(vhost, queue)
    budget = peek_budget(management, vhost, queue, folder=folder, info=info)
    found = broker.declare_queue(queue, passive=True)
    if info.type == "stream":
        made = Peeked(messages=[], ready=info.messages or 0, consumers=found.consumer_count, budget=budget)
        made.given_back = False
        made.messages = _take(
            broker, queue, min(count, PEEK_MAX), lambda delivery: None, _QUIET_SHARED_S, {OFFSET_ARGUMENT: "first"}
        )
        made.ready = max(made.ready, len(made.messages))
        return made
    if (info.arguments or {}).get(SINGLE_ACTIVE) and found.consumer_count:
        raise GuardRefused(
            f"{queue} gives messages to one active consumer only, which is not us: nothing would be seen",
            hint=f"busctl tail {queue} shows what comes",
        )
    return _within(broker, budget, found, count, accept_loss, folder)


def _within(
    broker: MessageBroker,
    budget: PeekBudget,
    found: QueueDeclared,
    count: int,
    accept_loss: bool,
    folder: Path | None,
) -> Peeked:
    broker.guard_change(f"taking messages from {budget.queue!r} to look at them")
    wanted = min(count, found.message_count, HOLD_MAX if budget.type == "quorum" else PEEK_MAX)
    made = Peeked(messages=[], ready=found.message_count, consumers=found.consumer_count, budget=budget)
    if not wanted:
        return made
    budget.require(accept_loss=accept_loss)
    with spend(budget, folder=folder) as spending:
        quiet_s = _QUIET_SHARED_S if found.consumer_count else _QUIET_S
        made.messages = _take(broker, budget.queue, wanted, spending.saw, quiet_s)
        spending.all_seen = len(made.messages) >= found.message_count and not found.consumer_count
    made.budget = spending.after
    return made


def _take(
    broker: MessageBroker,
    queue: str,
    wanted: int,
    saw: Callable[[Delivery], None],
    quiet_s: float,
    stream: dict[str, Any] | None = None,
) -> list[Delivery]:
    """Take so many and give them back, in the way that keeps the order."""
    taken: list[Delivery] = []
    came = threading.Semaphore(0)

    def receive(delivery: Delivery) -> None:
        delivery.via = "stream" if stream else "peek"
        taken.append(delivery)
        saw(delivery)
        came.release()

    subscription = broker.subscribe(queue, receive, prefetch=wanted, arguments=stream, stream=stream is not None)
    subscription.once()  # a lost link has given everything back already
    size = 0
    try:
        for index in range(wanted):
            if not came.acquire(timeout=quiet_s):
                break  # others took the rest
            size += len(taken[index].body)
            if size > MAX_BYTES:
                break
    finally:
        _return(subscription, taken)
    return taken[:wanted]  # of a stream whole chunks come


def _return(subscription: Subscription, taken: list[Delivery]) -> None:
    with contextlib.suppress(BusError):  # then they go back with the connection
        subscription.pause()
        for delivery in list(taken):
            subscription.leave(delivery)
        subscription.cancel()
