"""Shovels: what they move from where to where, and whether they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns, formats
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos_links import ShovelInfo

_GOOD, _HELD, _BROKEN = (Tone.GOOD, ""), (Tone.WARN, "▲ "), (Tone.BAD, "✖ ")
_TONES = {
    "running": _GOOD,
    "starting": _HELD,
    "flow": _HELD,
    "blocked": _HELD,
    "terminated": _BROKEN,
    "not running": _BROKEN,
}


def state(info: ShovelInfo) -> str:
    """What it does; a destination that holds it back comes first. One without a state is declared, and that is all."""
    if info.state is None:
        return "not running"
    if info.state == "running" and info.blocked_status in ("flow", "blocked"):
        return info.blocked_status
    return info.state


def state_tone(info: ShovelInfo) -> Tone:
    """What the colour of its state says: one that starts again and again does not get through."""
    return _TONES.get(state(info), (Tone.MUTED, ""))[0]


def _state_text(info: ShovelInfo) -> str:
    return formats.safe_text(_TONES.get(state(info), (Tone.MUTED, ""))[1] + state(info))


def source(info: ShovelInfo) -> str | None:
    """Where it takes messages: a queue, an exchange with a key, or an AMQP 1.0 address."""
    return _place(info.src_queue, info.src_exchange, info.src_exchange_key, info.src_address)


def target(info: ShovelInfo) -> str | None:
    """Where it puts them."""
    return _place(info.dest_queue, info.dest_exchange, info.dest_exchange_key, info.dest_address)


def _place(queue: str | None, exchange: str | None, key: str | None, address: str | None) -> str | None:
    if queue is not None:
        return queue
    if exchange is not None:
        return f"exchange {exchange or '(default)'}{f' with key {key!r}' if key is not None else ''}"
    return address


def _to_go(info: ShovelInfo) -> float | None:
    return info.remaining if isinstance(info.remaining, int) else None


def _remaining(info: ShovelInfo) -> str:
    """How many messages it has still to move; one that never ends says so itself."""
    return formats.safe_text(info.remaining) if isinstance(info.remaining, str) else formats.count(info.remaining)


SHOVELS: View[ShovelInfo] = View(
    noun="shovels",
    sort="name",
    columns=(
        columns.text("name", "NAME"),
        columns.text("vhost", "VHOST", wide=True),
        Column(name="state", title="STATE", value=state, text=_state_text, tone=state_tone),
        columns.text("source", "SOURCE", source),
        columns.text("target", "TARGET", target),
        columns.text("since", "SINCE", lambda info: info.timestamp),
        columns.text("reason", "REASON", tone=lambda _: Tone.BAD),
        columns.text("type", "TYPE", wide=True),
        columns.text("from", "FROM", lambda info: info.src_uri, wide=True),
        columns.text("to", "TO", lambda info: info.dest_uri, wide=True),
        columns.count("forwarded", "FORWARDED", wide=True),
        Column(name="remaining", title="REMAINING", value=_to_go, text=_remaining, align="right", wide=True),
        columns.count("pending", "PENDING", wide=True),
        columns.text("flow", "FLOW", lambda info: info.blocked_status, wide=True),
        columns.text("node", "NODE", wide=True),
    ),
)
