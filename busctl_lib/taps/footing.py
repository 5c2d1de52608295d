"""Reads what a tap is built on, when it is planned and again while it is open."""

from __future__ import annotations

import msgspec

from busctl_lib.management import BindingInfo, ManagementClient
from busctl_lib.management.settings import settings_now
from busctl_lib.taps.foundations import Foundation, Way
from busctl_lib.taps.plans import TAP_PREFIX, described
from busctl_lib.taps.sources import Topology

_COLUMNS = (
    *("name", "vhost", "type", "durable", "auto_delete", "exclusive", "arguments"),
    *("message_stats.publish", "message_stats.deliver_get"),
)
_OF_THE_QUEUE_ALONE = ("stream", "hold", "consume")


def foundation_of(
    management: ManagementClient,
    vhost: str,
    queue: str | None = None,
    exchange: str | None = None,
    *,
    way: Way | None = None,
) -> Foundation:
    """Look at what the ways to watch a queue or an exchange are built on.

    Args:
        management: Where it is read.
        vhost: Where it is.
        queue: What is watched; or
        exchange: what is watched; neither is a whole virtual host, which stands on nothing.
        way: Only what this one is built on.

    Raises:
        NotFound: the queue or the exchange is not there.
    """
    if queue is not None:
        found = _of_queue(management, vhost, queue, way)
    elif exchange:
        info = management.exchange(vhost, exchange)
        found = Foundation(
            exchanges={exchange: Topology(management, vhost).described(info)},
            bindings=_bindings(management.exchange_bindings(vhost, exchange)) if way != "firehose" else [],
        )
    else:
        found = Foundation()
    return found if way is None else found.of(way)


def _of_queue(management: ManagementClient, vhost: str, queue: str, way: Way | None) -> Foundation:
    info = management.queues_one_by_one([(vhost, queue)], columns=_COLUMNS).get((vhost, queue))
    if info is None:
        info = management.queue(vhost, queue)  # says whether it is the queue that is not there
    stats = info.message_stats
    facts = {"type": info.type, "durable": info.durable, "auto-delete": info.auto_delete, "exclusive": info.exclusive}
    given = {name: value for name, value in (info.arguments or {}).items() if name != "x-queue-type"}
    arguments = {f"argument {name}": value for name, value in given.items()}
    found = Foundation(
        queue=facts | arguments,
        counted=(stats.publish or 0) + (stats.deliver_get or 0) if stats is not None else None,
        settings=settings_now(management, info),
    )
    if way in _OF_THE_QUEUE_ALONE:
        return found
    bindings = [each for each in management.queue_bindings(vhost, queue) if each.source]
    topology, bound = Topology(management, vhost), {each.source for each in bindings}
    there = [topology.exchanges[name] for name in sorted(bound) if name in topology.exchanges]
    return msgspec.structs.replace(
        found,
        exchanges={each.name: topology.described(each) for each in there},
        bindings=sorted({described(each) for each in bindings}),
        entrances=["", *topology.entrances(bound)] if way != "copy" else [],
    )


def _bindings(infos: list[BindingInfo]) -> list[str]:
    theirs = [info for info in infos if not info.destination.startswith(TAP_PREFIX)]
    return sorted({f"{info.destination_type} {info.destination} to {described(info)}" for info in theirs})
