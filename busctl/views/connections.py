"""Connections: who is here, since when, how much it moves, and whom the broker holds back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from busctl.views import columns, formats
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos import ConnectionInfo

_STATES = {
    "running": (Tone.GOOD, ""),
    "flow": (Tone.WARN, "▲ "),
    "blocking": (Tone.WARN, "▲ "),
    "blocked": (Tone.BAD, "✖ "),
}


def state_tone(state: str | None) -> Tone:
    """What the colour of a connection's or channel's state says: flow slows publishers down, blocked stops them."""
    return _STATES.get(state or "", (Tone.MUTED, ""))[0]


def state_text(state: str | None) -> str:
    """The state with its mark."""
    return formats.safe_text(_STATES.get(state or "", (Tone.MUTED, ""))[1] + (state or formats.UNKNOWN))


def is_held_back(info: ConnectionInfo) -> bool:
    """Whether the broker slows its publishing down, or has stopped it."""
    return info.state in ("flow", "blocking", "blocked")


def client(info: ConnectionInfo) -> str | None:
    """What the client calls itself: the name of the connection, else its product."""
    product = (info.client_properties or {}).get("product")
    return info.user_provided_name or (product if isinstance(product, str) else None)


def peer(info: ConnectionInfo) -> str | None:
    """Where the client is: host:port."""
    if info.peer_host is None or info.peer_port is None:
        return info.peer_host
    return f"{info.peer_host}:{info.peer_port}"


def since(info: ConnectionInfo) -> str | None:
    """When it was opened, in UTC."""
    if info.connected_at is None:
        return None
    return datetime.fromtimestamp(info.connected_at // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


CONNECTIONS: View[ConnectionInfo] = View(
    noun="connections",
    sort="name",
    columns=(
        columns.text("name", "NAME", wide=True),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("client", "CLIENT", client),
        columns.text("user", "USER"),
        columns.text("peer", "PEER", peer),
        Column(
            name="state",
            title="STATE",
            value=lambda info: info.state,
            text=lambda info: state_text(info.state),
            tone=lambda info: state_tone(info.state),
        ),
        columns.count("channels", "CHAN"),
        columns.text("since", "SINCE", since),
        columns.rate("in", "IN B/s", lambda info: columns.rate_in_details(info.recv_oct_details)),
        columns.rate("out", "OUT B/s", lambda info: columns.rate_in_details(info.send_oct_details)),
        columns.size("recv_oct", "IN", wide=True),
        columns.size("send_oct", "OUT", wide=True),
        columns.count("send_pend", "PENDING", wide=True),
        columns.text("tls", "TLS", lambda info: info.ssl_protocol or columns.yes_or_no(info.ssl), wide=True),
        columns.text("protocol", "PROTOCOL", wide=True),
        Column(
            name="heartbeat",
            title="HEARTBEAT",
            value=lambda info: info.timeout,
            text=lambda info: formats.duration(info.timeout) if info.timeout != 0 else "off",
            align="right",
            wide=True,
        ),
        columns.text("node", "NODE", wide=True),
    ),
)
