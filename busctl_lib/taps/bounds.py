"""How often delivering a message of a quorum queue has failed at most, before any was seen: what is known, and how.

Run on 3.10.8, 4.0.5 and 4.3.6:

- A look that never said how it ended (killed, its link lost) stays counted: its file says one more than was seen.
- What other clients did is read off the messages as they come. Before that, up to 4.2, the broker's count of
  redeliveries since the last look is an upper bound. From 4.3 on it says nothing, since nacks make redeliveries too:
  there a message that comes and is near the limit ends the look at once, and giving it back by name costs it nothing.
- From 4.0 on the broker tells how many of the ready messages came back (`messages_ready_returned`). None did: nothing
  has failed, however many redeliveries there were. More came back than it knows to have been delivered: its counts
  began anew after that, and how often it was is not known.
- A file that is damaged, cannot be read or speaks of another queue: it is not known.
- A queue that nobody of this user has looked at, or whose file is gone: the broker's counts are all there is.
- The broker's counts began anew since the last look (they are smaller than before): it was started again, which gives
  back what was held, so one more is counted; or the queue is another one of that name, and nothing is known of that.
"""

from __future__ import annotations

import time

import msgspec

from busctl_lib.management import ManagementClient, QueueInfo, restarted_since
from busctl_lib.taps.looks import Looks, LooksFile, Unreadable

LATE_S = 5.5
"""The broker's counts of deliveries are so late."""
_FEW = 10
"""Delivering a message may fail so often meanwhile."""
_OLD_S = 30.0
"""What the broker says of a queue is surely younger than a look that was made so long ago."""


class Bound(msgspec.Struct, kw_only=True):
    """What is known."""

    used: int = 0
    """How often delivering a message has failed at most."""
    known: bool = False
    """Whether that was read off the messages; otherwise it is a bound by the broker's redeliveries."""
    redelivered: int = 0
    """The broker's count of redeliveries, our own included that it does not know yet."""
    told: tuple[int, int] = (0, 0)
    """What the broker says: messages delivered, and redelivered."""
    trouble: str | None = None
    """Why it is not known."""


def bound_of(
    management: ManagementClient, info: QueueInfo, file: LooksFile, *, limit: int, free: bool, sure: bool
) -> Bound:
    """Find it out.

    Args:
        management: Where the queue is read again.
        info: The queue, as it was read a moment ago.
        file: Where looks at it are written down.
        limit: Its delivery limit.
        free: Whether what is given back by name counts nothing.
        sure: A look will follow: wait for the broker's counts, where nothing else is known and so few failed deliveries
            are allowed that all may have happened meanwhile.
    """
    found = Bound(told=_told(info))
    try:
        looks = file.read()
    except Unreadable as error:
        found.trouble, looks = str(error), None
    if sure and looks is None and not free and (limit <= _FEW or _forgot(info)):
        time.sleep(LATE_S)
        info = management.queue(info.vhost, info.name)
        found.told = _told(info)
    delivered, now = found.told
    began_anew = looks is not None and (delivered < looks.told[0] or now < looks.told[1])
    if looks is not None and began_anew and not restarted_since(management, looks.at):
        looks = None  # another queue of that name
    old = looks is None or time.time() - looks.at > _OLD_S
    if old and _is_untouched(info) and (free or limit > _FEW):
        found.known, found.redelivered = True, now
        return found
    found.used = looks.count if looks is not None else 0
    if free:
        found.known = True
        return found
    if sure and looks is None and _forgot(info):
        found.trouble = found.trouble or (
            f"messages of {info.name} came back before the broker was started: how often is not known"
        )
    return _by_redeliveries(found, looks, began_anew=began_anew)


def _by_redeliveries(found: Bound, looks: Looks | None, *, began_anew: bool) -> Bound:
    """Add what others may have done, where it counts whatever they did."""
    delivered, now = found.told
    same = looks is not None and not began_anew
    since = max(0, now - looks.redelivered) if looks is not None and same else now
    found.redelivered = max(now, looks.redelivered) if looks is not None and same else now
    found.known = same and not since
    found.used += since + (looks is not None and began_anew)
    if delivered:  # what came back last is not redelivered yet
        found.used = max(found.used, since + 1)
    return found


def _told(info: QueueInfo) -> tuple[int, int]:
    stats = info.message_stats
    return (stats.deliver_get or 0, stats.redeliver or 0) if stats is not None else (0, 0)


def _is_untouched(info: QueueInfo) -> bool:
    """Whether no message of it ever came back."""
    return info.messages_ready_returned == 0 and info.messages_unacknowledged == 0 and info.messages_ready is not None


def _forgot(info: QueueInfo) -> bool:
    """Whether more came back than the broker knows to have been delivered."""
    return (info.messages_ready_returned or 0) > _told(info)[0]
