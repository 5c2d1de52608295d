"""Peek: look at what waits in a queue, within its budget, and give everything back in order.

A quorum queue (run on 3.10.8, 4.0.5, 4.3.6) keeps what came back before all others, and puts behind it what comes back
next. So who takes some of those, and gives them back, turns their order: all of them have to be taken, or none. How
many there are is told by the API from 4.0 on, some seconds late.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from busctl_lib.broker import MessageBroker, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, GuardRefused, LinkLost
from busctl_lib.management import ManagementClient, QueueInfo
from busctl_lib.taps.budget import PeekBudget, Spending, peek_budget, spend
from busctl_lib.taps.takes import OFFSET_ARGUMENT
from busctl_lib.taps.taking import HOLD_MAX, SINGLE_ACTIVE, require_lasting

PEEK_MAX = 10_000
MAX_BYTES = 256 * 2**20
_QUIET_S = 10.0
"""How long the next message of those that wait may take to come."""
_QUIET_SHARED_S = 1.0
"""The same where others take them too."""
_SLICE_S = 0.25


class Peeked(msgspec.Struct, kw_only=True):
    """What was seen, and what looking did to the queue."""

    messages: list[Delivery]
    ready: int
    """How many messages waited."""
    consumers: int
    delayed: int | None = None
    """How many more wait for their retry, as the broker counted some seconds ago; nobody can take those."""
    budget: PeekBudget
    """What is left after this look."""
    taken: int
    """How many messages were taken: more than are shown where the order needs it."""
    turned: bool = False
    """Whether there may be messages that came back to the quorum queue before, and stand before the taken ones now."""
    given_back: bool = True
    """Whether they are known to have been given back in order; otherwise they went back with a lost link."""

    @property
    def account(self) -> str:
        """Say in one sentence what looking did to the queue."""
        if self.messages and self.budget.type == "stream":
            count = len(self.messages)
            return f"{count:,} message{'s' * (count > 1)} read; a stream does not change by it"
        if not self.messages:
            return f"nothing was taken from {self.budget.queue}"
        count = self.taken
        said = f"{count:,} message{'s' * (count != 1)} "
        said += "taken and given back in order" if self.given_back else "taken, and gone back with the lost link"
        said += ", behind any other that came back to the queue before" if self.turned else ""
        done = self.budget.did(count, by_name=self.given_back)
        return f"{said}: {'it is' if count == 1 else 'they are'} {done}"


def peek(
    broker: MessageBroker,
    management: ManagementClient,
    vhost: str,
    queue: str,
    count: int = 10,
    *,
    accept_loss: bool = False,
    accept_delay: bool = False,
    folder: Path | None = None,
) -> Peeked:
    """Look at the first messages that wait in a queue; of a stream, at the first that are kept.

    Args:
        broker: A connection to the vhost.
        management: A client of the same cluster.
        vhost: Where the queue is.
        queue: Its name.
        count: Show at most so many messages. More are taken only of a quorum queue of which more came back before, so
            that their order stays; not with `accept_loss` or `accept_delay`, where taking more could cost more.
        accept_loss: Also when the peek budget is used up.
        accept_delay: Also where delayed retry hides for a while what is given back.
        folder: Where looks are counted; `budget.peek_folder()` by default.

    Raises:
        NotFound: no such queue. QueueAway: it cannot be reached now.
        GuardRefused: looking could cost a message or would delay it, would delete the queue at the end, or would show
            nothing because another consumer is the active one.

    Effect: what is seen is taken and given back: marked redelivered, and on a quorum queue up to 4.2 counted.
    """
    info = management.queue_at_hand(vhost, queue)
    budget = peek_budget(management, vhost, queue, folder=folder, info=info, sure=True)
    found = broker.declare_queue(queue, passive=True)
    if info.type == "stream":
        made = Peeked(messages=[], taken=0, ready=info.messages or 0, consumers=found.consumer_count, budget=budget)
        stream = {OFFSET_ARGUMENT: "first"}
        _take(broker, queue, min(count, PEEK_MAX), made, Spending(budget), _QUIET_SHARED_S, stream)
        made.ready = max(made.ready, len(made.messages))
        return made
    if (info.arguments or {}).get(SINGLE_ACTIVE) and found.consumer_count:
        raise GuardRefused(
            f"{queue} gives messages to one active consumer only, which is not us: nothing would be seen",
            hint=f"busctl tail {queue} shows what comes",
        )
    broker.guard_change(f"taking messages from {budget.queue!r} to look at them")
    made = Peeked(messages=[], taken=0, ready=found.message_count, consumers=found.consumer_count, budget=budget)
    made.delayed = info.delayed
    wanted = min(count, found.message_count, HOLD_MAX if budget.counts else PEEK_MAX)
    if wanted:
        require_lasting(info, found.consumer_count)
        budget.require(accept_loss=accept_loss, accept_delay=accept_delay)
        with spend(budget, accept_loss=accept_loss, folder=folder) as spending:
            most = wanted if accept_loss or accept_delay else max(wanted, _came_back(info, found.message_count))
            _take(broker, queue, most, made, spending, _QUIET_SHARED_S if found.consumer_count else _QUIET_S)
        last = made.messages[-1] if made.messages else None
        made.turned = budget.counts and last is not None and bool(last.redelivered) and made.taken < made.ready
        made.messages = made.messages[:wanted]
        made.budget = spending.after
    return made


def _came_back(info: QueueInfo, ready: int) -> int:
    """How many have to be taken so that the order stays, as far as is known; 0 where they are too many."""
    returned = min(info.messages_ready_returned or 0, ready)
    return returned if returned <= HOLD_MAX else 0


def _take(
    broker: MessageBroker,
    queue: str,
    wanted: int,
    made: Peeked,
    spending: Spending,
    quiet_s: float,
    stream: dict[str, Any] | None = None,
) -> None:
    """Take so many and give them back, in the way that keeps the order.

    Raises:
        GuardRefused: one of them is near the queue's limit. LinkLost: before any came.
    """
    taken: list[Delivery] = []
    ending: list[Subscription] = []
    came = threading.Semaphore(0)

    def receive(delivery: Delivery) -> None:
        delivery.via = "stream" if stream else "peek"
        taken.append(delivery)
        spending.saw(delivery)
        if spending.harmful is not None and ending:
            ending[0].abandon()
        came.release()

    def end(_reason: str) -> None:
        came.release()

    subscription = broker.subscribe(
        queue, receive, prefetch=wanted, arguments=stream, stream=stream is not None, on_cancelled=end
    )
    ending.append(subscription)
    subscription.once()  # a lost link has given everything back already
    size = 0
    try:
        for index in range(wanted):
            if not _waited(came, subscription, quiet_s) or index >= len(taken):
                break  # others took the rest, or it was ended
            if spending.harmful is not None:
                raise spending.harmful
            size += len(taken[index].body)
            if size > MAX_BYTES:
                break
    finally:
        made.given_back = False
        with contextlib.suppress(BusError):  # then they go back with the connection
            made.given_back = subscription.cancel()
        made.messages = taken[:wanted]  # of a stream whole chunks come
        made.taken = len(made.messages)
        spending.all_seen = len(taken) >= made.ready and not made.consumers
        if made.given_back:
            spending.gave_back()
    if not made.messages and not made.given_back:
        raise LinkLost(f"the link was lost while {queue} was looked at: nothing was seen", hint="try again")


def _waited(came: threading.Semaphore, subscription: Subscription, seconds: float) -> bool:
    """Wait for the next message as long as one may come."""
    deadline = time.monotonic() + seconds
    while not came.acquire(timeout=_SLICE_S):
        if not subscription.is_open or time.monotonic() > deadline:
            return False
    return True
