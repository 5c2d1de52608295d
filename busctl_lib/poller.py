"""Poller: a snapshot of the bus on a beat, cheap at 10,000 queues.

An API that is down is a state, not a crash: the last good data stays, with its age and the error. Where a part alone
does not come (a list that takes too long), the rest is new, and the part is said to be missing.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from busctl_lib.depths import HISTORY, SAMPLE_EVERY_S, Depth, Depths, QueueKey
from busctl_lib.errors import ApiForbidden, BusError, NotFound
from busctl_lib.management import BindingInfo, History, ManagementClient, NodeInfo, OverviewInfo, QueueInfo
from busctl_lib.management.queue_reading import fill_absent
from busctl_lib.management.roll import Roll
from busctl_lib.parts import SHARE, Parts
from busctl_lib.turns import Turns

MIN_INTERVAL_S = 0.5
"""The least time between two beats."""
MIN_GLANCE_S = 0.1
"""The least time between two questions about what just came on the screen."""
MAX_INTERVAL_S = 60.0
"""The beat slows down to this at most, however long the API takes."""
RETRY_MAX_S = 5.0
"""The longest wait before an API that does not answer is asked again."""
LIST_WITH_HISTORY_MAX = 200
"""Up to this many queues the first list brings the broker's samples of all as well."""
LIST_EVERY_S = 60.0
"""Above that all queues are listed this often or seldomer; those that are looked at come as they move."""
OVERVIEW_EVERY_S = 15.0
"""There the overview comes no more often: the broker counts all queues for it, at the cost of twenty single ones."""
LIST_SHARE = 40
"""Such lists leave the API alone for this many times as long as one kept it busy."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that one beat knows. Immutable; after a failed beat it holds the last good data, with the error."""

    sequence: int
    """Counts the snapshots, good or failed."""
    overview: OverviewInfo | None = None
    """None until the API answered once. Holds `samples` of the last 10 minutes. Of a large bus up to 15 s older."""
    nodes: list[NodeInfo] | None = None
    """None without the monitoring tag."""
    queues: Mapping[QueueKey, QueueInfo] = field(default_factory=dict)
    """All queues; with rates when `complete`, else only those looked at have them, up to 20 s old where they rest."""
    complete: bool = False
    history: Mapping[QueueKey, tuple[Depth, ...]] = field(default_factory=dict)
    """Oldest first, about 10 minutes, of all queues when `complete`, else of those that are looked at."""
    details: Mapping[QueueKey, QueueInfo] = field(default_factory=dict)
    """Watched queues with consumers and samples of lengths and rates. A watched queue that is gone is not in it."""
    bindings: Mapping[QueueKey, list[BindingInfo]] = field(default_factory=dict)
    """Of the watched queues."""
    listed_at: float | None = None
    """When all queues were listed, by `time.monotonic()`; None: never yet, and `queues` says nothing. On a large bus
    (not `complete`), and where the list is missing, longer ago than the rest."""
    taken_at: float | None = None
    """When the data was good, by `time.monotonic()`; None: never yet."""
    taken_wall: float | None = None
    """The same in seconds since 1970."""
    took_s: float | None = None
    """How long the API was busy with the last good beat."""
    error: BusError | None = None
    """Why the last try failed; None when it did not."""
    missing: Mapping[str, BusError] = field(default_factory=dict)
    """Parts that the newest beat did not bring, and why; what was known of them stays: "overview", "nodes", "queues"
    (the list of all), "rates" (of some on the screen), "details" (of some that are watched)."""
    next_at: float | None = None
    """When the next try is due, by `time.monotonic()`."""

    @property
    def age_s(self) -> float | None:
        """Seconds since the data was good; None: never yet."""
        return None if self.taken_at is None else time.monotonic() - self.taken_at

    @property
    def version(self) -> str | None:
        """The broker's version."""
        return self.overview.rabbitmq_version if self.overview else None


class Poller:
    """Asks the management API on a beat and hands each Snapshot to `on_snapshot`.

    Args:
        client: Where to ask.
        on_snapshot: Called with every snapshot, good or failed.
        vhost: One virtual host, or None for all that the user may see.
        interval_s: Seconds between two beats; longer by itself when the API is slow.

    Thread: one daemon thread with one request in flight; `on_snapshot` is called on it. All methods may be called
    from any thread.
    """

    def __init__(
        self,
        client: ManagementClient,
        on_snapshot: Callable[[Snapshot], None],
        *,
        vhost: str | None = None,
        interval_s: float = 2.0,
    ) -> None:
        self._client = client
        self._on_snapshot = on_snapshot
        self._vhost = vhost
        self._interval_s = max(interval_s, MIN_INTERVAL_S)
        self._depths = Depths()
        self._turns = Turns()
        self._parts = Parts()
        self._roll = Roll(client)
        self._wake = threading.Condition()
        self._visible: frozenset[QueueKey] = frozenset()
        self._watched: frozenset[QueueKey] = frozenset()
        self._due = False
        self._curious = False
        self._list_at = self._overview_at = 0.0
        self._stopping = False
        self._took_s = math.inf
        """How long the last good beat took."""
        self._failures = 0
        self._snapshot = Snapshot(sequence=0)
        self._thread: threading.Thread | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot; sequence 0 before the first beat."""
        return self._snapshot

    def start(self) -> None:
        """Begin to ask, at once."""
        self._thread = threading.Thread(target=self._run, name="busctl-poller", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End within `timeout` seconds, also in the middle of a request: its answer is dropped, no call follows."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def refresh(self) -> None:
        """Ask now instead of at the next beat."""
        with self._wake:
            self._due = True
            self._list_at = self._overview_at = 0.0
            self._turns.forget()
            self._parts.forget()
            self._roll.forget()
            self._wake.notify_all()

    def watch_queue(self, vhost: str, name: str) -> None:
        """Bring consumers, bindings and samples of this queue with every snapshot."""
        with self._wake:
            self._watched |= {(vhost, name)}
        self._look()

    def unwatch_queue(self, vhost: str, name: str) -> None:
        """End `watch_queue`."""
        with self._wake:
            self._watched -= {(vhost, name)}

    def show_queues(self, keys: Collection[QueueKey]) -> None:
        """Say which queues are on the screen: in a large bus only these get rates, consumers and history."""
        visible = frozenset(keys)
        news = visible - self._visible
        self._visible = visible
        if not news <= self._depths.asked:
            self._look()

    def _look(self) -> None:
        with self._wake:
            self._curious = True
            self._wake.notify_all()

    # --- the thread

    def _run(self) -> None:
        next_at = 0.0
        while not self._stopping:
            started = time.monotonic()
            with self._wake:  # else what is asked for in this moment would be forgotten
                beat = self._due or started >= next_at
                self._due = self._curious = False
            snapshot = self._guarded(self._beat if beat else self._glance)
            took_s = time.monotonic() - started
            if beat:
                next_at = time.monotonic() + self._pause_s(took_s - self._parts.lost_s, snapshot)
            self._publish(replace(snapshot, next_at=next_at))
            self._wait(next_at, started + (MIN_INTERVAL_S if beat else max(MIN_GLANCE_S, 2 * took_s)))

    def _wait(self, next_at: float, earliest: float) -> None:
        """Wait for the next beat or until somebody wants something sooner, but never less than until `earliest`."""
        with self._wake:
            pause_s = next_at - time.monotonic()
            self._wake.wait_for(lambda: self._stopping or self._due or self._curious, pause_s)
            while not self._stopping and (rest := earliest - time.monotonic()) > 0:
                self._wake.wait_for(lambda: self._stopping, rest)

    def _publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if self._stopping:
            return
        try:
            self._on_snapshot(snapshot)
        except Exception:  # noqa: BLE001 - a listener's fault must not stop the beat
            _LOG.exception("a listener of the poller failed")

    def _pause_s(self, took_s: float, snapshot: Snapshot) -> float:
        if snapshot.error is None:
            self._failures = 0
            least_s = self._interval_s if snapshot.complete else max(self._interval_s, SAMPLE_EVERY_S)
            # One slow answer may be a hang that is over, or the first sign of a death; two are a slow API.
            before_s, self._took_s = self._took_s, took_s
            return min(max(least_s, SHARE * min(took_s, before_s)), MAX_INTERVAL_S)
        self._failures += 1
        pause_s = float(min(max(self._interval_s, 2 ** (self._failures - 2)), max(RETRY_MAX_S, self._interval_s)))
        return max(pause_s, min(snapshot.error.facts.get("retry_after_s") or 0.0, MAX_INTERVAL_S))

    def _guarded(self, ask: Callable[[Snapshot], Snapshot]) -> Snapshot:
        last = self._snapshot
        try:
            return ask(last)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: whatever failed is shown, not lost
            if not isinstance(error, BusError):
                _LOG.exception("a beat of the poller failed")
                error = BusError(f"the poller failed: {error!r}")
            return replace(last, sequence=last.sequence + 1, error=error, missing={})

    def _beat(self, last: Snapshot) -> Snapshot:
        """Ask for everything."""
        started = time.monotonic()
        self._parts.begin()
        overview = self._overview(last)
        nodes = self._parts.ask("nodes", self._nodes, last.nodes)
        seen = replace(last, sequence=last.sequence + 1, overview=overview, nodes=nodes, error=None)
        seen, queues = self._many_queues(seen) if overview.is_large else self._queues(seen)
        seen = self._with_details(seen, queues)
        now = time.monotonic()
        took_s = now - started - self._parts.lost_s
        return replace(seen, taken_at=now, taken_wall=time.time(), took_s=took_s)

    def _glance(self, last: Snapshot) -> Snapshot:
        """Ask only for what came into view since the last beat; the rest stays, and so does its age."""
        if last.error is not None:  # nothing to build on: the next beat tells
            return last
        queues = dict(last.queues)
        self._look_closer(queues, self._visible - self._depths.asked, one_by_one=not last.complete)
        return self._with_details(replace(last, sequence=last.sequence + 1), queues)

    def _with_details(self, seen: Snapshot, queues: dict[QueueKey, QueueInfo]) -> Snapshot:
        details, bindings = self._details(seen)
        queues.update({key: info for key, info in details.items() if key in queues})
        self._depths.add(time.time(), queues, None if seen.complete else self._visible | self._watched)
        missing, history = self._parts.missing, self._depths.copy()
        return replace(seen, queues=queues, details=details, bindings=bindings, history=history, missing=missing)

    def _overview(self, last: Snapshot) -> OverviewInfo:
        """The overview; of a large bus the last one, as long as it is good."""
        before = last.overview
        if before is not None and before.is_large and time.monotonic() < self._overview_at:
            return before
        if before is None:  # what else to ask for depends on it
            return self._client.overview(HISTORY)
        overview = self._parts.ask("overview", lambda: self._client.overview(HISTORY), before)
        if overview is not before:
            self._overview_at = time.monotonic() + OVERVIEW_EVERY_S
        return overview

    def _nodes(self) -> list[NodeInfo] | None:
        try:
            return self._client.nodes()
        except ApiForbidden:  # needs the monitoring tag; the rest does not
            return None

    def _queues(self, last: Snapshot) -> tuple[Snapshot, dict[QueueKey, QueueInfo]]:
        """All queues with their rates, and the broker's samples in the way that fits their number."""
        totals = last.overview.object_totals if last.overview else None
        few = totals is None or (totals.queues or 0) <= LIST_WITH_HISTORY_MAX
        everything = few and not self._depths.asked
        history = HISTORY if everything else None
        listed = self._parts.ask("queues", lambda: self._client.queues_with_rates(self._vhost, history=history), None)
        if listed is None:
            return last, dict(last.queues)
        queues = {info.key: info for info in listed}
        if everything:
            self._depths.asked.update(queues)
        else:
            self._look_closer(queues, self._visible - self._depths.asked)
        return replace(last, complete=True, listed_at=time.monotonic()), queues

    def _many_queues(self, last: Snapshot) -> tuple[Snapshot, dict[QueueKey, QueueInfo]]:
        """All queues of a large bus, listed now and then, with news of those on the screen."""
        started = time.monotonic()
        queues = dict(last.queues)
        if last.listed_at is None or last.complete or started >= self._list_at:
            overview = last.overview or OverviewInfo()
            listed = self._parts.ask("queues", lambda: self._roll.call(self._vhost, overview), None)
            if listed is not None:
                queues = {info.key: info for info in listed}
                listed_at = time.monotonic()
                self._list_at = listed_at + max(LIST_EVERY_S, LIST_SHARE * (listed_at - started))
                for key in queues.keys() & self._visible:
                    fill_absent(queues[key], last.queues.get(key))
                last = replace(last, complete=False, listed_at=listed_at)
        self._turns.forget(but=self._visible)
        self._look_closer(queues, self._turns.due(queues, self._visible), one_by_one=True)
        return last, queues

    def _look_closer(
        self, queues: dict[QueueKey, QueueInfo], keys: Collection[QueueKey], *, one_by_one: bool = False
    ) -> None:
        """Fill in what a list lacks, with the broker's samples where they were not asked for yet."""
        present = queues.keys() & keys
        if not present:
            return
        history = None if present <= self._depths.asked else HISTORY
        found = self._each(present, history) if one_by_one else self._named(present, history)
        for key, info in found.items():
            if info is not None:
                fill_absent(info, queues[key])
                queues[key] = info
                self._turns.told(info)
            else:  # deleted since all were listed
                del queues[key]
        self._depths.asked.update(found)

    def _named(self, keys: Collection[QueueKey], history: History | None) -> Mapping[QueueKey, QueueInfo | None]:
        nothing: dict[QueueKey, QueueInfo] = {}
        return self._parts.ask("rates", lambda: self._client.queues_named(keys, history=history), nothing)

    def _each(self, keys: Collection[QueueKey], history: History | None) -> Mapping[QueueKey, QueueInfo | None]:
        """One answer for each that came; None for one that is gone."""
        found: dict[QueueKey, QueueInfo | None] = {}
        for key in sorted(keys):
            answer = self._parts.ask(
                "rates", partial(self._client.queues_one_by_one, [key], history=history), None, of=key
            )
            if answer is not None:
                found[key] = answer.get(key)
        return found

    def _details(self, last: Snapshot) -> tuple[dict[QueueKey, QueueInfo], dict[QueueKey, list[BindingInfo]]]:
        details: dict[QueueKey, QueueInfo] = {}
        bindings: dict[QueueKey, list[BindingInfo]] = {}
        for key in sorted(self._watched):
            info, bound = last.details.get(key), last.bindings.get(key)
            info, bound = self._parts.ask("details", partial(self._detail, key), (info, bound), of=key)
            if info is not None:
                details[key] = info
            if bound is not None:
                bindings[key] = bound
        return details, bindings

    def _detail(self, key: QueueKey) -> tuple[QueueInfo | None, list[BindingInfo] | None]:
        try:
            return self._client.queue(*key, HISTORY), self._client.queue_bindings(*key)
        except NotFound:  # it was deleted: no detail is the answer
            return None, None
