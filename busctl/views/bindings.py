"""Bindings: what leads where, and with which key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns
from busctl.views.exchanges import shown_name
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos import BindingInfo

BINDINGS: View[BindingInfo] = View(
    noun="bindings",
    sort="source",
    columns=(
        Column(
            name="source",
            title="FROM EXCHANGE",
            value=lambda info: info.source,
            text=lambda info: shown_name(info.source),
            tone=lambda info: Tone.NORMAL if info.source else Tone.MUTED,
        ),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("destination", "TO", lambda info: info.destination),
        columns.text("type", "TYPE", lambda info: info.destination_type),
        columns.text("key", "KEY", lambda info: info.routing_key),
        columns.text("arguments", "ARGUMENTS", lambda info: columns.table(info.arguments)),
    ),
)
