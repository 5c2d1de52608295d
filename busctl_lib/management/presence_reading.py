"""Which queues can be reached now, as far as it takes the broker's own checks to know."""

from __future__ import annotations

import re

from busctl_lib.errors import QueueAway
from busctl_lib.management.cluster_reading import ClusterReading
from busctl_lib.management.infos import QueueInfo
from busctl_lib.management.presence import why_away
from busctl_lib.management.queue_reading import QueueReading
from busctl_lib.management.transport import segment

_LEADERLESS = "quorum-queues-without-elected-leaders"


class PresenceReading(QueueReading, ClusterReading):
    """The part of a ManagementClient that tells whether a queue can be worked with."""

    def queue_at_hand(self, vhost: str, name: str) -> QueueInfo:
        """One queue with its consumers, that can be reached now.

        Raises:
            NotFound: no such queue. QueueAway: it is there, but its node is down, or it has no majority or leader.
        """
        info = self.queue(vhost, name)
        if (why := self.why_away(info)) is not None:
            raise QueueAway.because(name, why, vhost=vhost)
        return info

    def why_away(self, info: QueueInfo) -> str | None:
        """Say why a queue cannot be reached now, as the end of "it is there, but"; None where nothing tells so."""
        why = why_away(info)
        if why is None and info.type == "quorum" and self._lacks_leader(info.vhost, info.name):
            return "it has no elected leader"
        return why

    def _lacks_leader(self, vhost: str, name: str) -> bool:
        """Whether the broker knows a quorum queue to have no leader: what it says of the queue does not tell."""
        pattern = f"^{re.escape(name)}$"
        check = self._check(_LEADERLESS, f"{_LEADERLESS}/vhost/{segment(vhost)}/pattern/{segment(pattern)}")
        return check.status == "failed"
