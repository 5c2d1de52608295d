"""Session: one context's broker and management API, opened when first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from busctl_lib.errors import BusError, GuardRefused, LinkLost, NoConfirm, NotFound, PublishFailed, RpcFailed, TimedOut

if TYPE_CHECKING:
    from busctl.busfile import BusFile
    from busctl.config import Settings
    from busctl_lib.broker import MessageBroker
    from busctl_lib.capabilities import Capabilities
    from busctl_lib.management import ManagementClient
    from busctl_lib.methods import Method
    from busctl_lib.rights import Rights
    from busctl_lib.rpc.caller import MethodCaller

CONNECT_TIMEOUT_S = 3.5
"""Nobody on the port must be known within five seconds."""
ANSWER_TIMEOUT_S = 10.0
_CLOSE_S, _CLOSE_AT_ONCE_S = 5.0, 1.0


class Session:
    """A broker to talk to, with the context's guards. A password or token that is in no address is asked for at once.

    Args:
        settings: what `config.resolve` found.
        bus_file: the bus file that was named; None: the nearest.

    Raises:
        ConfigError: there is no such password.

    Thread: open `broker` and `management` on one thread first; both may then be used from any.
    """

    def __init__(self, settings: Settings, *, bus_file: Path | None = None) -> None:
        self.settings = settings.with_password()
        if settings.token is not None:
            settings.token()
        self.bus_file = bus_file
        self._broker: MessageBroker | None = None
        self._management: ManagementClient | None = None
        self._caller: MethodCaller | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, BusError):
            self.explain(error)
        self.close(patiently=error is None or isinstance(error, Exception))

    @property
    def vhost(self) -> str:
        """The virtual host of the context."""
        return self.settings.vhost

    @property
    def broker(self) -> MessageBroker:
        """The AMQP side; it connects at its first use."""
        if self._broker is None:
            self._broker = self.another_broker()
        return self._broker

    def another_broker(self, vhost: str | None = None) -> MessageBroker:
        """Make one more AMQP side, of another virtual host if one is named; it is the caller's to close."""
        from busctl_lib.broker import MessageBroker

        url = urlsplit(self.settings.amqp_url)
        if vhost is not None:
            url = url._replace(path=f"/{quote(vhost, safe='')}")
        tls = self.settings.tls if url.scheme == "amqps" else None
        return MessageBroker(
            url=url.geturl(),
            password=self.settings.token or "guest",  # where the address has none
            tls=tls.context() if tls is not None else None,
            server_name=tls.server_name if tls is not None else None,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            answer_timeout_s=ANSWER_TIMEOUT_S,
            client_name="busctl",
            read_only=self.settings.read_only,
        )

    @property
    def management(self) -> ManagementClient:
        """The HTTP side."""
        if self._management is None:
            self._management = self._client((CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S))
        return self._management

    def _client(self, timeout_s: tuple[float, float]) -> ManagementClient:
        from busctl_lib.management import ManagementClient

        return ManagementClient(
            self.settings.api_url,
            timeout_s=timeout_s,
            read_only=self.settings.read_only,
            tls=self.settings.tls,
            token=self.settings.token_of_api,
            username="" if self.settings.api_lacks_login else None,
        )

    @property
    def rights(self) -> Rights:
        """What the user may do in this virtual host, as it is now."""
        from busctl_lib.rights import Rights

        return Rights(self.vhost, management=self.management, broker=self.broker)

    @cached_property
    def bus(self) -> BusFile:
        """What the bus file says; read at the first use. Raises ConfigError."""
        from busctl.busfile import load

        return load(self.bus_file)

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods that can be called: of the bus file, or where that has none, of the sample bus."""
        return self.bus.methods()

    def filter_named(self, text: str) -> str:
        """What stands behind --where: of `@NAME` the bus file's filter of that name, anything else as it is."""
        return self.bus.filter_named(text) if text.startswith("@") else text

    @property
    def caller(self) -> MethodCaller:
        """Calls methods; made at its first use, and kept with its reply addresses."""
        if self._caller is None:
            from busctl_lib.rpc.caller import MethodCaller

            self._caller = MethodCaller(self.broker, check_shared=self._check_shared)
        return self._caller

    def _check_shared(self, queue: str) -> None:
        """Refuse a shared reply queue where giving back what is not ours does harm."""
        from busctl_lib.taps.budget import peek_budget

        budget = peek_budget(self.management, self.vhost, queue)
        if budget.type != "classic":
            harm = f"is a {budget.type} queue: replies of others cannot be given back there unharmed"
            if budget.counts:
                when = "a lost link" if budget.free else "giving them back"
                harm = f"is a quorum queue: {when} counts as a failed delivery of the replies of others"
            raise GuardRefused(
                f"reply queue {queue!r} {harm}",
                hint='use direct reply-to for this method: replies = "direct"',
                queue=queue,
            )

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the broker and this user allow, found out at the first use. Raises ApiError."""
        from busctl_lib.capabilities import detect

        return detect(self.management)

    @cached_property
    def cluster(self) -> str:
        """The name of the cluster, or its address where the API does not tell."""
        try:
            name = self.management.overview().cluster_name
        except BusError:
            name = None
        return name or urlsplit(self.settings.amqp_url).netloc.rpartition("@")[2]

    def hint_for_queue(self, name: str) -> str:
        """What to do about a queue that takes nothing, or is not there: why, or the name that was probably meant."""
        try:
            why = self.management.why_away(self.management.queue(self.vhost, name))
        except BusError:
            return self._hint("queues", name, lambda: [info.name for info in self.management.queues(self.vhost)])
        return f"queue {name!r} is there, but {why}" if why else f"queue {name!r} is there: try again"

    def explain(self, error: BusError) -> None:
        """Say of an error that comes of a queue or a cluster which cannot answer now that it does."""
        if not isinstance(error, PublishFailed | RpcFailed | TimedOut | LinkLost):
            return
        try:
            with self._client((2.0, 3.0)) as api:  # whatever failed, the API may hang as well
                why = self._why_queue(api, error) or (_why_cluster(api) if isinstance(error, TimedOut) else None)
        except BusError:
            return
        if why is not None:
            error.hint = f"{why}{'; it may get the message yet' if isinstance(error, NoConfirm) else ''}"

    def _why_queue(self, api: ManagementClient, error: BusError) -> str | None:
        """Why the queue that an error is about cannot be reached, if so."""
        sent_to = error.facts.get("routing_key") if error.facts.get("exchange") == "" else None
        queue = error.facts.get("queue") or sent_to
        try:
            why = api.why_away(api.queue(self.vhost, queue)) if queue else None
        except NotFound:
            return None
        return f"queue {queue!r} is there, but {why}" if why is not None else None

    def hint_for_exchange(self, name: str) -> str:
        """What to do about an exchange that is not there."""
        return self._hint("exchanges", name, lambda: [info.name for info in self.management.exchanges(self.vhost)])

    def _hint(self, noun: str, name: str, names: Callable[[], list[str]]) -> str:
        from busctl_lib.schemas import nearest

        try:
            meant = nearest(name, names())
        except BusError:
            meant = None
        return f"did you mean {meant}?" if meant else f"`busctl {noun}` lists what there is"

    def close(self, *, patiently: bool = True) -> None:
        """Close what was opened; not `patiently`, somebody waits for the prompt: what hangs is left behind."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None
        if self._broker is not None:
            self._broker.close(_CLOSE_S if patiently else _CLOSE_AT_ONCE_S)
            self._broker = None
        if self._management is not None:
            self._management.close()
            self._management = None


def _why_cluster(api: ManagementClient) -> str | None:
    """Why a cluster takes no changes, if so: 4.3.6 keeps what is declared by majority, 3.10.8 and 4.0.5 do not."""
    from busctl_lib.management.infos_cluster import release_of

    if (release_of(api.overview().rabbitmq_version) or (0,)) < (4, 3):
        return None
    nodes = api.nodes()
    running = sum(bool(node.running) for node in nodes)
    if 2 * running > len(nodes):
        return None
    return f"{running} of {len(nodes)} nodes run: without a majority of them nothing can be declared, bound or deleted"
