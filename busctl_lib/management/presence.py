"""Whether a queue that is there can be reached: its node runs, most of its members are online.

Run on 3.10.8, 4.0.5 and 4.3.6. Of a queue whose node is down RabbitMQ 3.x answers 404 where it is asked for alone, and
4.3 that it is running; the light list says "down". Of the members of a stream 3.x says nothing there, and everywhere
else for minutes what was true before a node died.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from busctl_lib.management.infos import QueueInfo

_LIVE = "live"
"""What the light list of 3.x keeps of each queue that was not stopped: it says nothing."""
_BROKEN = {
    "down": "is down",
    "stopped": "was stopped by the broker",
    "crashed": "has crashed and stays down",
    "terminated": "has ended and stays down",
}


def why_away(info: QueueInfo) -> str | None:
    """Say why a queue cannot be reached now, as the end of "it is there, but"; None where nothing is known of it."""
    members = info.members or []
    if len(members) > 1 and info.online is not None and len(info.online) <= len(members) // 2:
        return f"it has no majority: {len(info.online)} of {len(members)} members online"
    if info.state == "minority":
        return "it has no majority: too few of its members are online"
    home = _home(info) or info.node or info.leader
    if info.state == "down":
        return f"the node {home} that holds it is down" if home else "the node that holds it is down"
    if len(members) == 1 and info.online == []:
        return f"its only member, on {home}, is not online"
    if info.state in _BROKEN:
        return f"it {_BROKEN[info.state]}"
    return None


def _home(info: QueueInfo) -> str | None:
    """The one node that holds a queue; None where several do, or it is not known."""
    if info.members is None:
        return info.node or info.leader
    return info.members[0] if len(info.members) == 1 else None


def is_doubtful(info: QueueInfo) -> bool:
    """Whether only the nodes that run can say if this queue is reached, and why not."""
    if info.type == "stream":
        return info.members is None or len(info.members) > 1
    return info.type == "quorum" and info.online == [] and info.state != "down"


def hold_against(infos: Iterable[QueueInfo], running: Collection[str]) -> None:
    """Correct what is said of the members and the state of doubtful queues by the nodes that run."""
    for info in infos:
        if not is_doubtful(info):
            continue
        if info.members is not None and info.type == "stream":
            info.online = [name for name in info.members if name in running]
        if (home := _home(info)) is not None and home not in running:
            info.state = "down"


def trust(info: QueueInfo, listed: QueueInfo) -> None:
    """Take from the light list what it knows better of a queue than the answer about that queue alone."""
    for field in ("state", "online", "leader"):
        if (known := getattr(listed, field)) not in (None, _LIVE):
            setattr(info, field, known)
