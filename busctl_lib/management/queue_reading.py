"""What the management API knows of queues: in lists of several prices, chosen ones, and one."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from busctl_lib.errors import ApiForbidden, NotFound
from busctl_lib.management.asking import Asked
from busctl_lib.management.infos import QUEUE_COUNT_COLUMNS, QUEUE_LIST_COLUMNS, BindingInfo, Info, QueueInfo, QueueName
from busctl_lib.management.infos_cluster import NodeInfo, ObjectTotals, OverviewInfo
from busctl_lib.management.metrics import CONSUMERS, Counts, fill_counts, labels_of, listener_of, read_counts
from busctl_lib.management.presence import hold_against, is_doubtful, trust
from busctl_lib.management.reading import Reading
from busctl_lib.management.transport import NO_PATH, Params, segment

_NAMED: Params = {"disable_stats": "true"}
"""What the broker knows without asking a queue. Without `columns=`, which cost it more than they save."""
_COUNTED: Params = {**_NAMED, "enable_queue_totals": "true"}
"""How many messages each has. It leaves out the queues that cannot be reached, on all versions."""
_HISTORY_COLUMNS = ("messages_details.samples",)
_ASKED_SINGLY_MAX = 50
_CONSUMER_COSTS = 3
"""The broker lists a consumer at the cost of counting those of so many queues (50 and 15 to 24 us on 4.0.5)."""
_RAN_S = 2.0
_PAGE_SIZE = 500  # the most that the API gives on one page
_FINE_S, _FINE_SURE_S = 605, 580
"""The broker keeps its samples of every 5 s for this long, and surely for that long: what it no longer has it gives as
0, and a count that starts from 0 looks like a burst (24,000/s of 443,000 messages, seen on 3.10.8)."""
_NAME_FILTER_BYTES = 1024 - len("^()$")
"""Of a pattern before it is percent-encoded; from 4.2.6 the broker takes 1,024, and a line of 8,000 bytes on all."""


class History(NamedTuple):
    """How much of the broker's own samples to ask for: it keeps 10 minutes at 5 s, and an hour at 60 s."""

    age_s: int = 600
    step_s: int = 20

    def params(self, *, rates: bool = True) -> dict[str, str | int]:
        """The query parameters, for lengths and (unless not wanted) message rates; never older than the samples are."""
        age_s = min(self.age_s, _FINE_SURE_S) if self.age_s <= _FINE_S else self.age_s
        names = ("lengths", "msg_rates") if rates else ("lengths",)
        return {f"{name}_{what}": value for name in names for what, value in (("age", age_s), ("incr", self.step_s))}


class _Consumed(Info):
    queue: QueueName


class _QueuePage(Info):
    items: list[QueueInfo]
    page_count: int = 1


class QueueReading(Reading):
    """The part of a ManagementClient that reads queues."""

    _ran: tuple[frozenset[str] | None, float] = (None, -_RAN_S)
    """The nodes that ran, and when that was."""

    def queues(self, vhost: str | None = None) -> list[QueueInfo]:
        """The light list: name, type, state, message counts. Cheap at 10,000 queues; no rates, no consumers."""
        infos = self.queues_known(vhost)
        counted = {info.key: info for info in self._list("queues", QueueInfo, vhost, _COUNTED)}
        for info in infos:
            fill_absent(info, counted.get(info.key))
        return infos

    def queues_counted(self, vhost: str | None, overview: OverviewInfo) -> list[QueueInfo]:
        """Name, type, state, arguments, message counts and consumers of all queues, for a large bus.

        The counts come from the node's Prometheus listener, a quarter of what the API spends on them; from the API
        where that cannot be had (a cluster, a closed port, a proxy in between). Both are asked at the same time; who
        lists again and again asks a `Roll`.

        Args:
            vhost: One virtual host, or None for all.
            overview: Of the same broker.
        """
        if listener_of(overview, self._http.url) is None:
            return self.queues_with_rates(vhost, columns=QUEUE_COUNT_COLUMNS)
        found: list[Counts | None] = []
        counting = threading.Thread(target=lambda: found.append(self.queue_counts(overview, hurry=True)), daemon=True)
        counting.start()
        infos = self.queues_known(vhost)
        counting.join()
        if not found or (counts := found[0]) is None:
            return self.queues_with_rates(vhost, columns=QUEUE_COUNT_COLUMNS)
        fill_counts(infos, counts)
        return self.fill_uncounted(infos)

    def queue_counts(self, overview: OverviewInfo, *, hurry: bool = False) -> Counts | None:
        """The counts of all queues of the broker, whoever may see them; None where they cannot be had.

        Args:
            overview: Of the same broker.
            hurry: For one who waits: what does not go far is not packed.
        """
        listener = listener_of(overview, self._http.url)
        if listener is None:
            return None
        totals = overview.object_totals or ObjectTotals()
        few = (totals.consumers or 0) * _CONSUMER_COSTS < (totals.queues or 0)
        text = self._http.get_open(listener.url if few else listener.url + CONSUMERS, hurry=hurry)
        counts = read_counts(text, listener) if text is not None else None
        if counts is not None and few:
            counts["consumers"] = dict.fromkeys(counts["messages"], 0) | self._consumer_counts()
        return counts

    def _consumer_counts(self) -> dict[bytes, int]:
        consumed = self._http.get("consumers", list[_Consumed], {"columns": "queue.name,queue.vhost"})
        return Counter(labels_of(each.queue) for each in consumed)

    def queues_known(self, vhost: str | None = None) -> list[QueueInfo]:
        """Name, type, state and arguments: what the broker knows without asking a queue."""
        infos = self._list("queues", QueueInfo, vhost, _NAMED)
        for info in infos:
            if info.state == "live":  # what 3.x keeps of a queue that runs
                info.state = "running"
        return self._seen(infos)

    def fill_uncounted(self, infos: list[QueueInfo]) -> list[QueueInfo]:
        """Ask for the queues that have no counts, where they are few; returns all but those that are gone meanwhile."""
        without = {info.key for info in infos if info.messages is None}
        if len(without) > _ASKED_SINGLY_MAX:
            return infos
        found = self.queues_one_by_one(without)
        for info in infos:
            fill_absent(info, found.get(info.key))
        return [info for info in infos if info.key in found or info.key not in without]

    def queues_with_rates(
        self, vhost: str | None = None, *, history: History | None = None, columns: Collection[str] | None = None
    ) -> list[QueueInfo]:
        """Queues with rates, consumers and policies; for up to about 1,000 queues, or for chosen columns of more.

        With `history` also `messages_details.samples`. A queue declared a moment ago has no statistics for up to 5 s:
        its counts then come from the light list.
        """
        params = self._columns(history) if columns is None else {"columns": ",".join(columns)}
        listed = self._list("queues", QueueInfo, vhost, params)
        if any(info.messages is None or info.state is None for info in listed):
            light = {info.key: info for info in self.queues(vhost)}
            for info in listed:
                fill_absent(info, light.get(info.key))
        return self._seen(listed)

    def queues_named(
        self, names: Collection[tuple[str, str]], *, history: History | None = None
    ) -> dict[tuple[str, str], QueueInfo]:
        """Chosen queues with rates (and samples), in few requests however many queues there are.

        Args:
            names: (vhost, queue) of each; those that do not exist are left out of the answer.
            history: Also ask for `messages_details.samples`.
        """
        found: dict[tuple[str, str], QueueInfo] = {}
        wanted = set(names)
        for vhost in sorted({vhost for vhost, _ in wanted}):
            for pattern in _name_patterns(sorted(name for host, name in wanted if host == vhost)):
                params = {**self._columns(history), "name": pattern, "use_regex": "true", "page_size": _PAGE_SIZE}
                for number in itertools.count(1):  # capital letters or not are all one to the broker's filter
                    page = self._of_vhost(f"queues/{segment(vhost)}", _QueuePage, vhost, {**params, "page": number})
                    found.update((info.key, info) for info in page.items if info.key in wanted)
                    if number >= page.page_count:
                        break
        return found

    def queues_one_by_one(
        self,
        names: Collection[tuple[str, str]],
        *,
        history: History | None = None,
        columns: Collection[str] | None = None,
    ) -> dict[tuple[str, str], QueueInfo]:
        """The same as `queues_named`, one small request each: on a large bus a tenth of its cost for 50 queues."""
        found = self.queues_named([key for key in names if key[1] in NO_PATH], history=history)
        params = self._columns(history) if columns is None else {"columns": ",".join(columns)}
        for vhost, name in sorted(key for key in names if key[1] not in NO_PATH):
            with contextlib.suppress(NotFound):
                path = f"queues/{segment(vhost)}/{segment(name)}"
                found[vhost, name] = self._ask(path, QueueInfo, params, asked={"vhost": vhost, "name": name})
        return found

    def queue(self, vhost: str, name: str, history: History | None = None) -> QueueInfo:
        """One queue with its consumers; with samples of lengths and rates when `history` is given.

        Raises:
            NotFound: no such queue; one that cannot be reached now is there, see `presence.why_away`.
        """
        path = f"queues/{segment(vhost)}/{segment(name)}"
        try:
            info = self._one(path, QueueInfo, vhost, "queue", name, history.params() if history else None)
        except NotFound:
            if (listed := self._listed(vhost, name)) is None:
                raise
            return self._seen([listed])[0]
        if (info.messages is None or is_doubtful(info)) and (listed := self._listed(vhost, name)) is not None:
            trust(info, listed)
            fill_absent(info, listed)
        return self._seen([info])[0]

    def _listed(self, vhost: str, name: str) -> QueueInfo | None:
        """What the light list says of one queue."""
        if not name.isprintable():  # its filter is a pattern, and text
            return next((info for info in self.queues(vhost) if info.name == name), None)
        # The filter takes capital letters and small ones for the same.
        only: Params = {"name": f"^{re.escape(name)}$", "use_regex": "true", "page": 1, "page_size": _PAGE_SIZE}
        for params in (_COUNTED, _NAMED):
            page = self._of_vhost(f"queues/{segment(vhost)}", _QueuePage, vhost, {**params, **only})
            if (found := next((info for info in page.items if info.name == name), None)) is not None:
                return found
        return None

    def _seen(self, infos: list[QueueInfo]) -> list[QueueInfo]:
        """The same queues, with what only the nodes that run can say of them."""
        if any(map(is_doubtful, infos)) and (running := self._running()) is not None:
            hold_against(infos, running)
        return infos

    def _running(self) -> frozenset[str] | None:
        """The nodes that run, as of a moment ago; None for who may not know."""
        known, at = self._ran
        if time.monotonic() - at > _RAN_S:
            try:
                nodes = self._ask("nodes", list[NodeInfo], {"columns": "name,running"})
                known = frozenset(info.name for info in nodes if info.running)
            except ApiForbidden:  # it takes the monitoring tag
                known = None
            self._ran = known, time.monotonic()
        return known

    def queue_bindings(self, vhost: str, name: str) -> list[BindingInfo]:
        """The bindings that lead to a queue, the default exchange's among them."""
        path = f"queues/{segment(vhost)}/{segment(name)}/bindings"
        return self._bindings(path, vhost, {"destination": name, "destination_type": "queue"})

    def _bindings(self, path: str, vhost: str, asked: Asked) -> list[BindingInfo]:
        found = self._of_vhost(path, list[BindingInfo], vhost, asked=asked)
        if not found:  # what is said of an absent vhost, too
            self._check_vhost(vhost)
        return found

    @staticmethod
    def _columns(history: History | None) -> dict[str, str | int]:
        if history is None:
            return {"columns": ",".join(QUEUE_LIST_COLUMNS)}
        return {"columns": ",".join(QUEUE_LIST_COLUMNS + _HISTORY_COLUMNS), **history.params(rates=False)}


def fill_absent(info: QueueInfo, other: QueueInfo | None) -> None:
    """Take what `info` does not know from another answer about the same queue."""
    if other is None:
        return
    for field in info.__struct_fields__:
        if getattr(info, field) is None:
            setattr(info, field, getattr(other, field))


def _name_patterns(names: list[str]) -> Iterator[str]:
    """Regular expressions that together match just these names, each short enough for the broker's filter."""
    batch: list[str] = []
    size = 0
    for name in names:
        escaped = re.escape(name)  # of the longest name half of what the filter takes
        cost = len(escaped.encode("utf-8", "surrogateescape")) + len("|")
        if batch and size + cost > _NAME_FILTER_BYTES:
            yield f"^({'|'.join(batch)})$"
            batch, size = [], 0
        batch.append(escaped)
        size += cost
    if batch:
        yield f"^({'|'.join(batch)})$"
