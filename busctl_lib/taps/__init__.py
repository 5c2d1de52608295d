"""Taps: see the messages of a queue or an exchange live, without taking, delaying or killing any.

::

    plan = plan_tap(management, "/", "obs_responses")     # which way, what it sees and what it cannot
    with open_tap(plan, broker, management, lease_folder=folder) as tap:
        for event in tap.follow(limit=5):                 # Delivery, or Note about what was not seen
            ...
"""

from __future__ import annotations

from pathlib import Path

from busctl_lib.broker import MessageBroker
from busctl_lib.management import ManagementClient
from busctl_lib.taps.buffers import Note as Note
from busctl_lib.taps.buffers import TapEvent as TapEvent
from busctl_lib.taps.copies import CopyTap
from busctl_lib.taps.firehose import FirehoseTap
from busctl_lib.taps.holds import HoldTap
from busctl_lib.taps.leases import clean_leases as clean_leases
from busctl_lib.taps.leases import lease_folder as lease_folder
from busctl_lib.taps.planner import plan as plan_tap
from busctl_lib.taps.plans import RefusedWay as RefusedWay
from busctl_lib.taps.plans import TapPlan as TapPlan
from busctl_lib.taps.several import Taps as Taps
from busctl_lib.taps.takes import ConsumeTap, StreamTap
from busctl_lib.taps.tap import WATCH_S
from busctl_lib.taps.tap import Tap as Tap

__all__ = [
    "Note",
    "RefusedWay",
    "Tap",
    "TapEvent",
    "TapPlan",
    "Taps",
    "clean_leases",
    "lease_folder",
    "make_tap",
    "open_tap",
    "plan_tap",
]


def open_tap(
    plan: TapPlan,
    broker: MessageBroker,
    management: ManagementClient,
    *,
    lease_folder: Path,
    limit: int | None = None,
    exact: bool = False,
    watch_s: float = WATCH_S,
) -> Tap:
    """Open the tap that a plan describes; it is a context manager and gives everything back on leaving.

    Args:
        plan: From `plan_tap`.
        broker: A connection to the plan's vhost.
        management: A client of the same cluster.
        lease_folder: Where the lease of a firehose is written down; the same for all runs on this machine.
        limit: How many messages will be read; holding and consuming take no more from the queue than that.
        exact: Keep the AMQP types of header values, for captures.
        watch_s: How often the tap looks whether it still shows what the plan promises.

    Raises:
        BusError: it could not be set up; what was done of it is taken back.

    Effect: as the plan says; and what killed taps of this machine left on at this cluster is switched off first.
    """
    cleaned = clean_leases(management, lease_folder)
    tap = make_tap(plan, broker, management, lease_folder=lease_folder, limit=limit, exact=exact, watch_s=watch_s)
    tap.cleaned = cleaned
    return tap.open()


def make_tap(
    plan: TapPlan,
    broker: MessageBroker,
    management: ManagementClient,
    *,
    lease_folder: Path,
    limit: int | None = None,
    exact: bool = False,
    watch_s: float = WATCH_S,
) -> Tap:
    """Make a tap without opening it, for `Taps`. Args as of `open_tap`."""
    tap: Tap
    if plan.way == "firehose":
        tap = FirehoseTap(plan, broker, management, lease_folder, watch_s=watch_s)
    elif plan.way == "copy":
        tap = CopyTap(plan, broker, management, watch_s=watch_s)
    elif plan.way == "stream":
        tap = StreamTap(plan, broker, management, watch_s=watch_s)
    elif plan.way == "hold":
        tap = HoldTap(plan, broker, management, limit=limit, watch_s=watch_s)
    else:
        tap = ConsumeTap(plan, broker, management, limit=limit, watch_s=watch_s)
    tap.exact = exact
    return tap
