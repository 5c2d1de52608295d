"""Exchanges: what comes in, what goes out, and what found no queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns, formats
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos import ExchangeInfo

DEFAULT_NAME = "(default)"
"""How the exchange without a name is shown."""


def shown_name(name: str) -> str:
    """The name of an exchange, safe for a terminal."""
    return formats.safe_text(name) if name else DEFAULT_NAME


def rate_in(info: ExchangeInfo) -> float | None:
    """Messages per second that are published to it; None when not known."""
    return columns.rate_of(info.message_stats, "publish_in")


def rate_out(info: ExchangeInfo) -> float | None:
    """Messages per second that it routes, one for each queue; None when not known."""
    return columns.rate_of(info.message_stats, "publish_out")


def out_tone(info: ExchangeInfo) -> Tone:
    """What the colour of its output says: messages come in and lead nowhere."""
    if rate_out(info):
        return Tone.NORMAL
    return Tone.WARN if rate_in(info) else Tone.MUTED


def rate_returned(info: ExchangeInfo) -> float | None:
    """Messages per second that found no queue and went back to their publisher; None when not known.

    The broker tells this per publishing channel, only of a single exchange, and only where its rates_mode is
    "detailed". Elsewhere `busctl channels --columns name,returned,dropped` says which publisher it is.
    """
    return _rate_of_publishers(info, "return_unroutable")


def rate_dropped(info: ExchangeInfo) -> float | None:
    """Messages per second that found no queue and are lost; None when not known."""
    return _rate_of_publishers(info, "drop_unroutable")


def _rate_of_publishers(info: ExchangeInfo, name: str) -> float | None:
    own = columns.rate_of(info.message_stats, name)
    if own is not None or not info.incoming:  # in the usual rates_mode nobody is listed: that is no 0
        return own
    return sum(columns.rate_of(publisher.stats, name) or 0.0 for publisher in info.incoming)


def alternate(info: ExchangeInfo) -> str | None:
    """The exchange that gets what this one cannot route, as far as it was declared with one."""
    name = (info.arguments or {}).get("alternate-exchange")
    return name if isinstance(name, str) else None


def features(info: ExchangeInfo) -> str:
    """Show what is special about an exchange: D durable, AD auto-delete, I internal, AE alternate, Pol policy."""
    return columns.marks(
        ("D", info.durable),
        ("AD", info.auto_delete),
        ("I", info.internal),
        ("AE", alternate(info) is not None),
        ("Pol", info.policy),
    )


EXCHANGES: View[ExchangeInfo] = View(
    noun="exchanges",
    sort="name",
    columns=(
        Column(
            name="name",
            title="NAME",
            value=lambda info: info.name,
            text=lambda info: shown_name(info.name),
            tone=lambda info: Tone.NORMAL if info.name else Tone.MUTED,
        ),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("type", "TYPE"),
        columns.rate("in", "IN/s", rate_in),
        Column(
            name="out",
            title="OUT/s",
            value=rate_out,
            text=lambda info: formats.rate(rate_out(info)),
            align="right",
            tone=out_tone,
        ),
        columns.rate("returned", "RETURNED/s", rate_returned, bad=Tone.WARN, wide=True),
        columns.rate("dropped", "DROPPED/s", rate_dropped, bad=Tone.BAD, wide=True),
        columns.text("features", "FEATURES", features),
        columns.text("alternate", "ALTERNATE", alternate),
        columns.text("policy", "POLICY", wide=True),
        columns.text("arguments", "ARGUMENTS", lambda info: columns.table(info.arguments), wide=True),
    ),
)
