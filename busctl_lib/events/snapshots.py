"""Events from the differences between snapshots of the management API."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from busctl_lib.errors import ApiForbidden, BusError
from busctl_lib.events.event import GAP, OUR_QUEUE, Event, iso, masked
from busctl_lib.management import ManagementClient

Key = tuple[str, ...]
Snapshot = dict[str, dict[Key, tuple[str | None, dict[str, Any]]]]
"""By noun, by key: the vhost, and what counts as a change when it differs."""
_VERBS = {
    "connection": ("created", "closed", None),
    "policy": ("set", "cleared", "set"),
    "node": ("up", "down", None),
}
_LEAST_SHARE = 9
"""The API rests this many times as long as it took to answer."""


class SnapshotFeed:
    """Events from the differences between snapshots.

    Args:
        api: Where they are taken.
        vhost: Only of this vhost; of all that the user may see when None.
        every_s: How long to wait between two; longer where the API is slow.

    Raises:
        ApiError: nothing at all may be read.
    """

    def __init__(self, api: ManagementClient, vhost: str | None = None, *, every_s: float = 2.0) -> None:
        self._api, self._vhost, self._every_s = api, vhost, every_s
        self._waiting: deque[Event] = deque()
        self.unseen: list[str] = []
        """Nouns that this user may not see."""
        self._before = self._take()
        self._due = time.monotonic() + every_s
        self._lost = False

    def next(self, timeout_s: float) -> Event | None:
        """Give the next event; None when none came in time. A broker that is away is waited for."""
        deadline = time.monotonic() + timeout_s
        while not self._waiting:
            rest = min(deadline, self._due) - time.monotonic()
            if rest > 0:
                time.sleep(rest)
            if time.monotonic() < self._due:
                return None
            self._look()
        return self._waiting.popleft()

    def close(self) -> None:
        """Nothing was borrowed."""

    def _look(self) -> None:
        begun = time.monotonic()
        try:
            now = self._take()
        except BusError as error:
            if not self._lost:
                self._add(GAP, None, None, {"reason": str(error)})
            self._lost = True
        else:
            self._lost = False
            self._compare(self._before, now)
            self._before = now
        took = time.monotonic() - begun
        self._due = time.monotonic() + max(self._every_s, _LEAST_SHARE * took)

    def _compare(self, before: Snapshot, now: Snapshot) -> None:
        for noun in now.keys() & before.keys():
            made, gone, changed = _VERBS.get(noun, ("created", "deleted", None))
            old, new = before[noun], now[noun]
            for key in old.keys() - new.keys():
                self._add(f"{noun}.{gone}", key[-1], old[key][0], old[key][1])
            for key in new.keys() - old.keys():
                self._add(f"{noun}.{made}", key[-1], new[key][0], new[key][1])
            for key in (new.keys() & old.keys()) if changed else ():
                if new[key][1] != old[key][1]:
                    self._add(f"{noun}.{changed}", key[-1], new[key][0], new[key][1])

    def _add(self, event: str, name: str | None, vhost: str | None, details: dict[str, Any]) -> None:
        found = masked({key: value for key, value in details.items() if value is not None})
        self._waiting.append(
            Event(event=event, at=iso(time.time()), via="snapshots", name=name, vhost=vhost, details=found)
        )

    def _take(self) -> Snapshot:
        taken: Snapshot = {}
        unseen = []
        refused: ApiForbidden | None = None
        for noun, read in self._readers().items():
            try:
                taken[noun] = read()
            except ApiForbidden as error:
                unseen.append(noun)
                refused = error
        if refused is not None and not taken:  # a feed that can never tell anything
            raise refused
        self.unseen = unseen
        return taken

    def _readers(self) -> dict[str, Callable[[], dict[Key, tuple[str | None, dict[str, Any]]]]]:
        api, vhost = self._api, self._vhost
        return {
            "queue": lambda: {
                (info.vhost, info.name): (info.vhost, {"type": info.type})
                for info in api.queues(vhost)
                if not info.name.startswith(OUR_QUEUE)
            },
            "exchange": lambda: {
                (info.vhost, info.name): (info.vhost, {"type": info.type}) for info in api.exchanges(vhost)
            },
            "binding": lambda: {
                (info.vhost, f"{info.source} -> {info.destination} {info.routing_key!r}"): (info.vhost, {})
                for info in api.bindings(vhost)
                if info.source
            },
            "consumer": lambda: {
                (info.queue.vhost, f"{info.consumer_tag} of {info.queue.name}"): (info.queue.vhost, {})
                for info in api.consumers(vhost)
            },
            "connection": lambda: {
                (info.name,): (info.vhost, {"user": info.user, "user_provided_name": info.user_provided_name})
                for info in api.connections(vhost)
            },
            "policy": lambda: {
                (info.vhost, info.name): (
                    info.vhost,
                    {"pattern": info.pattern, "definition": info.definition, "priority": info.priority},
                )
                for info in api.policies(vhost)
            },
            "vhost": lambda: {(info.name,): (info.name, {}) for info in api.vhosts()},
            "node": lambda: {(info.name,): (None, {}) for info in api.nodes() if info.running},
        }
