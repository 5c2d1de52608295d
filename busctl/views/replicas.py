"""Replicas of a quorum queue or stream: how many are there, and how many more it can lose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import formats
from busctl.views.view import Column, Tone

if TYPE_CHECKING:
    from busctl_lib.management.infos import QueueInfo

LOST, LAST, STOPPED = "lost a member", "one from stopping", "no majority"


def trouble(info: QueueInfo) -> str | None:
    """Say what is wrong with the members of a queue; None when nothing is, or when they are not known.

    A queue of one member, as on a single node, is as safe as it was meant to be.
    """
    if not info.members or info.online is None:
        return None
    members, online = len(info.members), len(info.online)
    majority = members // 2 + 1
    if online < majority:
        return STOPPED
    if online == majority and members > 1:
        return LAST
    return LOST if online < members else None


def tone(info: QueueInfo) -> Tone:
    """What the colour of its members says."""
    found = trouble(info)
    return Tone.NORMAL if found is None else Tone.BAD if found == STOPPED else Tone.WARN


def shown(info: QueueInfo) -> str:
    """How many members are online, of how many."""
    if not info.members:
        return ""
    return f"{formats.UNKNOWN if info.online is None else len(info.online)}/{len(info.members)}"


MEMBERS: Column[QueueInfo] = Column(
    name="members",
    title="MEMBERS",
    value=lambda info: len(info.online) if info.members and info.online is not None else None,
    text=shown,
    align="right",
    tone=tone,
    wide=True,
)
"""Empty for a classic queue."""
