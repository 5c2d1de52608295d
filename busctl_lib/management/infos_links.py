"""What the management API says of shovels and federation links, as types. Passwords in addresses are left out."""

from __future__ import annotations

import re
from typing import Any

from busctl_lib.management.infos import Info

_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")


class ShovelInfo(Info):
    """One shovel, as the node that runs it sees it."""

    name: str
    vhost: str | None = None
    """None for a static shovel: it stands in a node's configuration."""
    type: str | None = None
    """dynamic or static."""
    state: str | None = None
    """starting, running or terminated."""
    blocked_status: str | None = None
    """running, flow or blocked: whether its destination takes messages. From 3.12."""
    node: str | None = None
    reason: str | None = None
    """Why it ended."""
    timestamp: str | None = None
    src_protocol: str | None = None
    src_uri: str | None = None
    src_queue: str | None = None
    src_exchange: str | None = None
    src_exchange_key: str | None = None
    src_address: str | None = None
    dest_protocol: str | None = None
    dest_uri: str | None = None
    dest_queue: str | None = None
    dest_exchange: str | None = None
    dest_exchange_key: str | None = None
    dest_address: str | None = None
    remaining: int | str | None = None
    """Messages to go; "unlimited" for one that never ends. From 4.3, as the three below."""
    remaining_unacked: int | str | None = None
    """The same, counted by what its destination has confirmed."""
    pending: int | None = None
    """Taken, and kept here while its destination is blocked."""
    forwarded: int | None = None
    """Since it started last."""

    def __post_init__(self) -> None:
        self.src_uri, self.dest_uri = without_login(self.src_uri), without_login(self.dest_uri)
        self.reason = without_login(self.reason)


class FederationLinkInfo(Info):
    """One link of a federated exchange or queue to its upstream."""

    id: str | None = None
    vhost: str | None = None
    type: str | None = None
    """exchange or queue."""
    exchange: str | None = None
    queue: str | None = None
    upstream: str | None = None
    upstream_exchange: str | None = None
    upstream_queue: str | None = None
    status: str | None = None
    """starting, running, shutdown or error."""
    error: str | None = None
    uri: str | None = None
    node: str | None = None
    timestamp: str | None = None
    consumer_tag: str | None = None
    local_channel: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.uri, self.error = without_login(self.uri), without_login(self.error)

    @property
    def name(self) -> str:
        """The exchange or queue here that is fed."""
        return self.exchange or self.queue or ""


def without_login(text: str | None) -> str | None:
    """Leave user and password out of the addresses in a text."""
    return _LOGIN.sub("", text) if text else text
