"""ManagementClient: what the management API knows, typed; and the few changes only it can make."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from busctl_lib.errors import ApiForbidden
from busctl_lib.management.access_reading import AccessReading
from busctl_lib.management.changes import Changes
from busctl_lib.management.infos import BindingInfo, ChannelInfo, ConnectionInfo, ConsumerInfo, ExchangeInfo, PolicyInfo
from busctl_lib.management.infos_access import UserInfo
from busctl_lib.management.infos_cluster import NodeInfo, OverviewInfo, VhostInfo
from busctl_lib.management.presence_reading import PresenceReading
from busctl_lib.management.queue_reading import History as History
from busctl_lib.management.transport import Params, Transport, segment
from busctl_lib.management.way import Way
from busctl_lib.tls import TlsFiles
from busctl_lib.tokens import TokenSource


class ManagementClient(Changes, PresenceReading, AccessReading):
    """The RabbitMQ management API of one cluster, versions 3.10 to 4.3.

    Args:
        api_url: For example http://guest:guest@localhost:15672; a path prefix is kept.
        username: Instead of the one in the address; guest when neither names one. "" logs in nowhere.
        password: Instead of the one in the address.
        timeout_s: How long to wait for a connection, and then for each answer.
        read_only: Refuse whatever changes the broker, with GuardRefused.
        tls: For https: a private authority, a certificate of our own; the system's authorities when None.
        token: An OAuth 2 access token, instead of username and password.

    Raises:
        ApiUnreachable, ApiLoginRefused, ApiForbidden, ApiError: from every method.
        VhostNotFound: from every method that takes a vhost.
        GuardRefused: from every method that names something, where the answer is about something else; from every
            change, where a proxy on the way changes names or this client is read-only.

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
        tls: TlsFiles | None = None,
        token: TokenSource | None = None,
    ) -> None:
        self._http = Transport(api_url, username, password, timeout_s, read_only, tls, token)
        self._way = Way(self._http)

    def __repr__(self) -> str:
        return f"ManagementClient({self._http.url!r}, username={self.username!r})"

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
        """Who we are to the API; "" by a token, for whose user ask `whoami`."""
        return self._http.login.username

    @property
    def who(self) -> str:
        """The same for people, who also logs in by a token."""
        return self._http.login.who

    @property
    def read_only(self) -> bool:
        """Whether changes are refused."""
        return self._http.read_only

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Let all that is asked in the block be answered within so many seconds: for who must come to an end."""
        return self._http.within(seconds)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get_json(self, path: str, params: Params | None = None) -> Any:
        """GET any path below /api/ as plain JSON values; names in it must be percent-encoded."""
        return self._http.get(path, object, params)

    def trouble_on_the_way(self) -> str | None:
        """What makes names arrive at the API as others, so that changes are refused; None where they arrive whole."""
        return self._way.trouble()

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
            return self._vhost(name)
        except ApiForbidden:  # one by name is for administrators, the list is for everyone
            found = next((info for info in self.vhosts() if info.name == name), None)
            if found is None:
                self._check_vhost(name)
                raise
            return found

    def policies(self, vhost: str | None = None) -> list[PolicyInfo]:
        """Policies of one vhost, or of all."""
        return self._list("policies", PolicyInfo, vhost)

    def operator_policies(self, vhost: str) -> list[PolicyInfo]:
        """The operator policies of one vhost. Raises ApiForbidden for who is no administrator."""
        return self._list("operator-policies", PolicyInfo, vhost)

    # --- the rest of the topology

    def exchanges(self, vhost: str | None = None, *, columns: Collection[str] | None = None) -> list[ExchangeInfo]:
        """Exchanges of one vhost, or of all; or some of what is known of each."""
        params = {"columns": ",".join({*columns, "vhost"})} if columns is not None else None
        return self._list("exchanges", ExchangeInfo, vhost, params)

    def exchange(self, vhost: str, name: str) -> ExchangeInfo:
        """One exchange, also the broker's own ones.

        Raises:
            NotFound: no such exchange.
        """
        path = f"exchanges/{segment(vhost)}/{segment(name or 'amq.default')}"
        return self._one(path, ExchangeInfo, vhost, "exchange", name)

    def exchange_bindings(self, vhost: str, name: str) -> list[BindingInfo]:
        """The bindings that start at an exchange; none of one that is not there."""
        path = f"exchanges/{segment(vhost)}/{segment(name or 'amq.default')}/bindings/source"
        return self._bindings(path, vhost, {"source": name})

    def exchange_sources(self, vhost: str, name: str) -> list[BindingInfo]:
        """The bindings that lead from other exchanges to one; none of one that is not there."""
        path = f"exchanges/{segment(vhost)}/{segment(name)}/bindings/destination"
        return self._bindings(path, vhost, {"destination": name, "destination_type": "exchange"})

    def bindings(self, vhost: str | None = None) -> list[BindingInfo]:
        """All bindings of one vhost, or of all."""
        return self._list("bindings", BindingInfo, vhost)

    def consumers(self, vhost: str | None = None) -> list[ConsumerInfo]:
        """Consumers of one vhost, or of all."""
        found = self._list("consumers", ConsumerInfo, vhost)
        if not found:  # what 3.10 and 4.0 say to who may not enter it, too
            self._check_vhost(vhost)
        return found

    def connections(self, vhost: str | None = None, *, columns: Collection[str] | None = None) -> list[ConnectionInfo]:
        """Client connections, or some of what is known of each; without the monitoring tag only one's own."""
        path = "connections" if vhost is None else f"vhosts/{segment(vhost)}/connections"
        params = {"columns": ",".join({*columns, "vhost"})} if columns is not None else None
        return self._of_vhost(path, list[ConnectionInfo], vhost, params)

    def channels(self, vhost: str | None = None, *, columns: Collection[str] | None = None) -> list[ChannelInfo]:
        """Channels, or some of what is known of each; without the monitoring tag only one's own."""
        path = "channels" if vhost is None else f"vhosts/{segment(vhost)}/channels"
        params = {"columns": ",".join({*columns, "vhost"})} if columns is not None else None
        return self._of_vhost(path, list[ChannelInfo], vhost, params)

    def channel(self, name: str) -> ChannelInfo:
        """One channel, by the name a consumer gives of it.

        Raises:
            NotFound: it is closed, or its statistics have not come yet.
        """
        return self._ask(f"channels/{segment(name)}", ChannelInfo, asked={"name": name})
