"""Channels: who holds unacknowledged messages, who waits for confirms, and who is slowed down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns
from busctl.views.connections import state_text, state_tone
from busctl.views.view import Column, View

if TYPE_CHECKING:
    from busctl_lib.management.infos import ChannelInfo


def mode(info: ChannelInfo) -> str:
    """What it was switched to: C confirms, T transactions."""
    return columns.marks(("C", info.confirm), ("T", info.transactional))


CHANNELS: View[ChannelInfo] = View(
    noun="channels",
    sort="name",
    columns=(
        columns.text("name", "CHANNEL"),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("user", "USER"),
        columns.text("mode", "MODE", mode),
        Column(
            name="prefetch",
            title="PREFETCH",
            value=lambda info: info.prefetch_count,
            text=lambda info: columns.prefetch(info.prefetch_count),
            align="right",
        ),
        columns.count("unacked", "UNACKED", lambda info: info.messages_unacknowledged),
        columns.count("unconfirmed", "UNCONFIRMED", lambda info: info.messages_unconfirmed),
        columns.count("consumers", "CONS", lambda info: info.consumer_count),
        Column(
            name="state",
            title="STATE",
            value=lambda info: info.state,
            text=lambda info: state_text(info.state),
            tone=lambda info: state_tone(info.state),
        ),
        columns.rate("publish", "PUB/s", lambda info: columns.rate_of(info.message_stats, "publish"), wide=True),
        columns.rate("deliver", "DELIV/s", lambda info: columns.rate_of(info.message_stats, "deliver_get"), wide=True),
        columns.rate("ack", "ACK/s", lambda info: columns.rate_of(info.message_stats, "ack"), wide=True),
        *columns.unroutable(),
        columns.text("idle_since", "IDLE SINCE", wide=True),
        columns.text("node", "NODE", wide=True),
    ),
)
