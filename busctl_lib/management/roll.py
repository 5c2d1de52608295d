"""Roll: all queues of a large bus, counted again and again.

To name them costs the broker as much as to count them, and who is there hardly changes: they are named once, and those
that come and go are told by the counts.
"""

from __future__ import annotations

import copy
import time

from busctl_lib.management.infos import QUEUE_COUNT_COLUMNS, QUEUE_NAME_COLUMNS, QueueInfo
from busctl_lib.management.infos_cluster import OverviewInfo
from busctl_lib.management.metrics import Counts, fill_counts, key_of, labels_of
from busctl_lib.management.queue_reading import QueueReading

NAMED_FOR_S = 300.0
"""So old the type and the arguments may be of a queue that was deleted and declared anew under its name."""
_ASKED_SINGLY_MAX = 50


class Roll:
    """Gives what `queues_counted` gives, and remembers who was there.

    Thread: one at a time.
    """

    def __init__(self, client: QueueReading) -> None:
        self._client = client
        self._vhost: str | None = None
        self._labels: set[bytes] = set()
        """What the broker counted last, also where we may not look."""
        self._named: dict[bytes, QueueInfo] = {}
        self._until = 0.0

    def forget(self) -> None:
        """Name all queues the next time."""
        self._until = 0.0

    def call(self, vhost: str | None, overview: OverviewInfo) -> list[QueueInfo]:
        """Name, type, state, arguments, message counts and consumers of all queues.

        Args:
            vhost: One virtual host, or None for all.
            overview: Of the same broker.
        """
        counts = self._client.queue_counts(overview)
        if counts is None:
            return self._client.queues_with_rates(vhost, columns=QUEUE_COUNT_COLUMNS)
        if vhost != self._vhost or time.monotonic() >= self._until or not self._take_news(counts):
            self._name_all(vhost, counts)
        infos = [copy.copy(info) for info in self._named.values()]
        fill_counts(infos, counts)
        return self._client.fill_uncounted(infos)

    def _name_all(self, vhost: str | None, counts: Counts) -> None:
        self._named = {labels_of(info): info for info in self._client.queues_known(vhost)}
        self._labels = set(counts["messages"])
        self._vhost, self._until = vhost, time.monotonic() + NAMED_FOR_S

    def _take_news(self, counts: Counts) -> bool:
        """Drop who is gone and ask who came; False: that takes all names, since they are many or read two ways."""
        now = counts["messages"].keys()
        came, gone = now - self._labels, self._labels - now
        keys = {labels: key_of(labels) for labels in came}
        vhosts = {info.vhost for info in self._named.values()}
        if len(came) > _ASKED_SINGLY_MAX or any(key_of(labels) is None for labels in gone):
            return False
        if any(key is None or key[0] not in vhosts for key in keys.values()):
            return False
        wanted = {key for key in keys.values() if key is not None}
        found = self._client.queues_one_by_one(wanted, columns=QUEUE_NAME_COLUMNS)
        for labels in gone:
            self._named.pop(labels, None)
        self._named.update((labels_of(info), info) for info in found.values())
        self._labels = set(now)
        return True
