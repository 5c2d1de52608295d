"""ManagementClient: what the management API knows, typed; and the few changes only it can make."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from busctl_lib.errors import ApiForbidden, NotFound, VhostNotFound
from busctl_lib.management.changes import Changes
from busctl_lib.management.infos import (
    QUEUE_LIST_COLUMNS,
    BindingInfo,
    ChannelInfo,
    ConnectionInfo,
    ConsumerInfo,
    ExchangeInfo,
    Info,
    NodeInfo,
    OverviewInfo,
    PolicyInfo,
    QueueInfo,
    UserInfo,
    VhostInfo,
)
from busctl_lib.management.transport import Params, Transport, segment

T = TypeVar("T")

_LIGHT: Params = {"disable_stats": "true", "enable_queue_totals": "true"}
_HISTORY_COLUMNS = ("messages_details.samples",)
_PAGE_SIZE = 500  # the most that the API gives on one page
_FINE_S, _FINE_SURE_S = 605, 580
"""The broker keeps its samples of every 5 s for this long, and surely for that long: what it no longer has it gives as
0, and a count that starts from 0 looks like a burst (24,000/s of 443,000 messages, seen on 3.10.8)."""
_NAME_FILTER_BYTES = 5000  # the broker's web server takes request lines of 8,000 bytes


class History(NamedTuple):
    """How much of the broker's own samples to ask for: it keeps 10 minutes at 5 s, and an hour at 60 s."""

    age_s: int = 600
    step_s: int = 20

    def params(self, *, rates: bool = True) -> dict[str, str | int]:
        """The query parameters, for lengths and (unless not wanted) message rates; never older than the samples are."""
        age_s = min(self.age_s, _FINE_SURE_S) if self.age_s <= _FINE_S else self.age_s
        names = ("lengths", "msg_rates") if rates else ("lengths",)
        return {f"{name}_{what}": value for name in names for what, value in (("age", age_s), ("incr", self.step_s))}


class _QueuePage(Info):
    items: list[QueueInfo]
    page_count: int = 1


class ManagementClient(Changes):
    """The RabbitMQ management API of one cluster, versions 3.10 to 4.x.

    Args:
        api_url: For example http://guest:guest@localhost:15672; a path prefix is kept.
        username: Instead of the one in the address; guest when neither names one.
        password: Instead of the one in the address.
        timeout_s: How long to wait for a connection, and then for each answer.
        read_only: Refuse whatever changes the broker, with GuardRefused.

    Raises:
        ApiUnreachable, ApiLoginRefused, ApiForbidden, ApiError: from every method.
        VhostNotFound: from every method that takes a vhost.

    Thread: any thread; connections come from a shared pool.
    Source: https://www.rabbitmq.com/docs/http-api-reference.
    """

    def __init__(
        self,
        api_url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        timeout_s: tuple[float, float] = (3.0, 15.0),
        read_only: bool = False,
    ) -> None:
        self._http = Transport(api_url, username, password, timeout_s, read_only)

    def __repr__(self) -> str:
        return f"ManagementClient({self._http.url!r}, username={self._http.username!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address without credentials."""
        return self._http.url

    @property
    def username(self) -> str:
        """Who we are to the API."""
        return self._http.username

    @property
    def read_only(self) -> bool:
        """Whether changes are refused."""
        return self._http.read_only

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get_json(self, path: str, params: Params | None = None) -> Any:
        """GET any path below /api/ as plain JSON values; names in it must be percent-encoded."""
        return self._http.get(path, object, params)

    # --- the cluster

    def overview(self, history: History | None = None) -> OverviewInfo:
        """Versions, totals and rates of the cluster; with samples when `history` is given."""
        return self._http.get("overview", OverviewInfo, history.params() if history else None)

    def whoami(self) -> UserInfo:
        """The user we are, and its tags."""
        return self._http.get("whoami", UserInfo)

    def nodes(self) -> list[NodeInfo]:
        """The nodes of the cluster. Needs the monitoring tag."""
        return self._http.get("nodes", list[NodeInfo])

    def vhosts(self) -> list[VhostInfo]:
        """The virtual hosts this user may see."""
        return self._http.get("vhosts", list[VhostInfo])

    def vhost(self, name: str) -> VhostInfo:
        """One virtual host."""
        try:
            return self._of_vhost(f"vhosts/{segment(name)}", VhostInfo, name)
        except ApiForbidden:  # one by name is for administrators, the list is for everyone
            found = next((info for info in self.vhosts() if info.name == name), None)
            if found is None:
                raise
            return found

    def set_tracing(self, vhost: str, on: bool) -> None:
        """Switch the firehose of a vhost. Needs the administrator tag.

        Effect: the vhost's tracing flag and nothing else; description, tags and default queue type are sent along
        as they are, because a PUT without them empties them.
        Source: https://www.rabbitmq.com/docs/firehose.
        """
        before = self._of_vhost(f"vhosts/{segment(vhost)}", VhostInfo, vhost)
        body: dict[str, object] = {"tracing": on}
        if before.description is not None:
            body["description"] = before.description
        if before.tags is not None:
            body["tags"] = before.tags
        if before.default_queue_type not in (None, "undefined"):
            body["default_queue_type"] = before.default_queue_type
        self._http.change("PUT", f"vhosts/{segment(vhost)}", body)

    def policies(self, vhost: str | None = None) -> list[PolicyInfo]:
        """Policies of one vhost, or of all."""
        return self._list("policies", PolicyInfo, vhost)

    def operator_policies(self, vhost: str) -> list[PolicyInfo]:
        """The operator policies of one vhost. Raises ApiForbidden for who is no administrator."""
        return self._list("operator-policies", PolicyInfo, vhost)

    # --- queues

    def queues(self, vhost: str | None = None) -> list[QueueInfo]:
        """The light list: name, type, state, message counts. Cheap at 10,000 queues; no rates, no consumers."""
        return self._list("queues", QueueInfo, vhost, _LIGHT)

    def queues_with_rates(self, vhost: str | None = None, *, history: History | None = None) -> list[QueueInfo]:
        """Queues with rates, consumers and policies; for up to about 1,000 queues.

        With `history` also `messages_details.samples`. A queue declared a moment ago has no statistics for up to 5 s:
        its counts then come from the light list.
        """
        params = self._columns(history)
        listed = self._list("queues", QueueInfo, vhost, params)
        if any(info.messages is None or info.state is None for info in listed):
            light = {info.key: info for info in self.queues(vhost)}
            for info in listed:
                fill_absent(info, light.get(info.key))
        return listed

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
                page = self._of_vhost(f"queues/{segment(vhost)}", _QueuePage, vhost, {**params, "page": 1})
                found.update((info.key, info) for info in page.items if info.key in wanted)
        return found

    def queue(self, vhost: str, name: str, history: History | None = None) -> QueueInfo:
        """One queue with its consumers; with samples of lengths and rates when `history` is given.

        Raises:
            NotFound: no such queue.
        """
        path = f"queues/{segment(vhost)}/{segment(name)}"
        info = self._one(path, QueueInfo, vhost, f"queue {name!r}", history.params() if history else None)
        if info.messages is None:
            fill_absent(info, next((light for light in self.queues(vhost) if light.name == name), None))
        return info

    def queue_bindings(self, vhost: str, name: str) -> list[BindingInfo]:
        """The bindings that lead to a queue, the default exchange's among them."""
        path = f"queues/{segment(vhost)}/{segment(name)}/bindings"
        return self._one(path, list[BindingInfo], vhost, f"queue {name!r}")

    # --- the rest of the topology

    def exchanges(self, vhost: str | None = None) -> list[ExchangeInfo]:
        """Exchanges of one vhost, or of all."""
        return self._list("exchanges", ExchangeInfo, vhost)

    def exchange(self, vhost: str, name: str) -> ExchangeInfo:
        """One exchange, also the broker's own ones.

        Raises:
            NotFound: no such exchange.
        """
        path = f"exchanges/{segment(vhost)}/{segment(name or 'amq.default')}"
        return self._one(path, ExchangeInfo, vhost, f"exchange {name!r}")

    def exchange_bindings(self, vhost: str, name: str) -> list[BindingInfo]:
        """The bindings that start at an exchange."""
        path = f"exchanges/{segment(vhost)}/{segment(name or 'amq.default')}/bindings/source"
        return self._one(path, list[BindingInfo], vhost, f"exchange {name!r}")

    def bindings(self, vhost: str | None = None) -> list[BindingInfo]:
        """All bindings of one vhost, or of all."""
        return self._list("bindings", BindingInfo, vhost)

    def consumers(self, vhost: str | None = None) -> list[ConsumerInfo]:
        """Consumers of one vhost, or of all."""
        return self._list("consumers", ConsumerInfo, vhost)

    def connections(self, vhost: str | None = None) -> list[ConnectionInfo]:
        """Client connections; without the monitoring tag only one's own."""
        path = "connections" if vhost is None else f"vhosts/{segment(vhost)}/connections"
        return self._of_vhost(path, list[ConnectionInfo], vhost)

    def channels(self, vhost: str | None = None) -> list[ChannelInfo]:
        """Channels; without the monitoring tag only one's own."""
        path = "channels" if vhost is None else f"vhosts/{segment(vhost)}/channels"
        return self._of_vhost(path, list[ChannelInfo], vhost)

    # --- how

    @staticmethod
    def _columns(history: History | None) -> dict[str, str | int]:
        if history is None:
            return {"columns": ",".join(QUEUE_LIST_COLUMNS)}
        return {"columns": ",".join(QUEUE_LIST_COLUMNS + _HISTORY_COLUMNS), **history.params(rates=False)}

    def _list(self, noun: str, kind: type[T], vhost: str | None, params: Params | None = None) -> list[T]:
        path = noun if vhost is None else f"{noun}/{segment(vhost)}"
        return self._of_vhost(path, list[kind], vhost, params)  # type: ignore[valid-type]

    def _of_vhost(self, path: str, kind: type[T], vhost: str | None, params: Params | None = None) -> T:
        """An answer that is only absent when its vhost is."""
        try:
            return self._http.get(path, kind, params)
        except NotFound as error:
            if vhost is None:
                raise
            raise self._no_vhost(vhost, "it does not exist") from error
        except ApiForbidden as error:
            if vhost is None or "access virtual host" not in error.facts.get("text", ""):
                raise
            raise self._no_vhost(vhost, f"user {self.username!r} has no access to it") from error

    def _one(self, path: str, kind: type[T], vhost: str, what: str, params: Params | None = None) -> T:
        """An answer about one object: it or its vhost may be absent."""
        try:
            return self._http.get(path, kind, params)
        except NotFound as error:
            self._list("exchanges", ExchangeInfo, vhost, {"columns": "name,vhost"})  # says so when the vhost is absent
            raise NotFound(f"no {what} in vhost {vhost!r}", code=404, text="Not Found", vhost=vhost) from error
        except ApiForbidden as error:
            if "access virtual host" not in error.facts.get("text", ""):
                raise
            raise self._no_vhost(vhost, f"user {self.username!r} has no access to it") from error

    def _no_vhost(self, vhost: str, reason: str) -> VhostNotFound:
        return VhostNotFound(
            f"no vhost {vhost!r} at {self.url}: {reason}",
            hint="check the vhost and the user's permissions on it",
            address=self.url,
            reason=reason,
            vhost=vhost,
        )


def fill_absent(info: QueueInfo, other: QueueInfo | None) -> None:
    """Take what `info` does not know from another answer about the same queue."""
    if other is None:
        return
    for field in info.__struct_fields__:
        if getattr(info, field) is None:
            setattr(info, field, getattr(other, field))


def _name_patterns(names: list[str]) -> Iterator[str]:
    """Regular expressions that together match just these names, each short enough for one request line."""
    batch: list[str] = []
    size = 0
    for name in names:
        escaped = re.escape(name)
        cost = 3 * len(escaped.encode()) + 3  # at worst every byte is percent-encoded
        if batch and size + cost > _NAME_FILTER_BYTES:
            yield f"^({'|'.join(batch)})$"
            batch, size = [], 0
        batch.append(escaped)
        size += cost
    if batch:
        yield f"^({'|'.join(batch)})$"
