"""A plan to see calls: their requests, and the replies, which come by the default exchange."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from busctl_lib.taps.planner import plan as plan_tap
from busctl_lib.taps.sources import sources_of

if TYPE_CHECKING:
    from busctl_lib.management import ManagementClient
    from busctl_lib.taps.plans import TapPlan


def plan_calls(
    api: ManagementClient,
    vhost: str,
    queue: str | None = None,
    *,
    exchanges: Iterable[str] = (),
    via: str = "auto",
    production: bool = False,
) -> TapPlan:
    """Plan to watch the publishes to the default exchange, by which replies come, and to those by which requests do.

    Args:
        api: Of the cluster.
        vhost: Where the calls are made.
        queue: The exchanges that lead to it are watched.
        exchanges: More by which requests are sent.
        via: "firehose" also in production, where it is never chosen alone.
        production: Whether that is one.

    Raises:
        NotFound: there is no such queue.
        GuardRefused: it cannot be seen without harm.
    """
    entrances = {*exchanges, *(sources_of(api, vhost, queue).entrances if queue is not None else ())}
    plan = plan_tap(api, vhost, everything=True, via=via, production=production)
    plan.publishes_to = sorted({"", *entrances})
    plan.sees = f"requests and replies by {', '.join(name or 'the default exchange' for name in plan.publishes_to)}"
    return plan
