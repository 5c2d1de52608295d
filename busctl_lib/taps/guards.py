"""Whether the firehose may be used, and what it costs and misses in this place."""

from __future__ import annotations

import msgspec

from busctl_lib.management import ManagementClient

_FEW_QUEUES = 1000
_PER_NODE = "messages published through other nodes of the cluster than {node} (tracing is a switch of each node)"


class Guard(msgspec.Struct, kw_only=True):
    """Whether the firehose may be used at all, and what it costs and misses in this place."""

    refusal: str | None = None
    by_name: str | None = None
    """Why it is taken only when it is asked for by name."""
    by_itself: bool = True
    """It was not asked for by name."""
    few_queues: bool = False
    """Looking at all queues is cheap."""
    misses: list[str] = []
    costs: str = ""


def firehose_guard(management: ManagementClient, vhost: str, *, production: bool) -> Guard:
    """Judge the firehose of a vhost."""
    if management.read_only:
        return Guard(refusal="it switches the tracing of the vhost, and this session is read-only")
    info = management.vhost(vhost)
    me = management.whoami()
    if not info.tracing and "administrator" not in me.tag_names:
        tags = ", ".join(sorted(me.tag_names)) or "none"
        return Guard(refusal=f"switching tracing on needs the tag administrator, user {me.name!r} has: {tags}")
    overview = management.overview()
    misses = ["whether a message was redelivered", "timestamps of more than 32 bits"]
    if len(info.cluster_state or {}) > 1:
        misses.insert(0, _PER_NODE.format(node=overview.node))
    costs = f"tracing of vhost {vhost} is on while it runs: every publish there costs the broker a second one"
    queues = overview.object_totals.queues if overview.object_totals is not None else None
    by_name = "it costs the whole vhost, and this is production: ask for it by name" if production else None
    return Guard(by_name=by_name, misses=misses, costs=costs, few_queues=(queues or 0) <= _FEW_QUEUES)
