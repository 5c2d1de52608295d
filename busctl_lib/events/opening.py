"""Where events come from: the broker's event exchange where it can be used, else snapshots."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from busctl_lib.broker import MessageBroker
from busctl_lib.errors import GuardRefused
from busctl_lib.events.event import Feed
from busctl_lib.events.exchange import EXCHANGE, NoExchange, open_exchange
from busctl_lib.events.snapshots import SnapshotFeed
from busctl_lib.management import ManagementClient

Via = Literal["auto", "exchange", "snapshots"]
"""Which of them is asked for."""


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
        CannotConnect: the API answers and the broker does not.
    """
    told: list[str] = []
    if via != "snapshots":
        try:
            with open_exchange(api, connect) as (feed, broker):
                yield Source(feed, [f"events as the broker tells them, by its exchange {EXCHANGE}"], broker)
                return
        except NoExchange as error:
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
