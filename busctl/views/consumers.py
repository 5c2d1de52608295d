"""Consumers: who takes the messages of a queue, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns, formats
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos import ConsumerInfo


def mode(info: ConsumerInfo) -> str:
    """How it takes messages: ack or not, exclusive, and its activity when that is not simply up."""
    words = ["ack" if info.ack_required else "no ack"]
    if info.exclusive:
        words.append("exclusive")
    if info.activity_status not in (None, "up"):
        words.append(str(info.activity_status).replace("_", " "))
    return ", ".join(words)


def connection(info: ConsumerInfo) -> str | None:
    """The connection it lives on: peer -> broker."""
    return info.channel_details.connection_name if info.channel_details is not None else None


CONSUMERS: View[ConsumerInfo] = View(
    noun="consumers",
    sort="queue",
    columns=(
        columns.text("queue", "QUEUE", lambda info: info.queue.name),
        columns.text("vhost", "VHOST", lambda info: info.queue.vhost, wide=True),
        columns.text("tag", "CONSUMER", lambda info: info.consumer_tag),
        Column(
            name="prefetch",
            title="PREFETCH",
            value=lambda info: info.prefetch_count,
            text=lambda info: columns.prefetch(info.prefetch_count),
            align="right",
        ),
        columns.text("mode", "MODE", mode, tone=lambda _: Tone.MUTED),
        columns.text(
            "active",
            "ACTIVE",
            lambda info: columns.yes_or_no(info.active),
            tone=lambda info: Tone.WARN if info.active is False else Tone.NORMAL,
        ),
        Column(
            name="connection",
            title="CONNECTION",
            value=connection,
            text=lambda info: formats.safe_text(connection(info) or formats.UNKNOWN),
        ),
        columns.text(
            "user", "USER", lambda info: info.channel_details.user if info.channel_details else None, wide=True
        ),
        columns.text("arguments", "ARGUMENTS", lambda info: columns.table(info.arguments), wide=True),
    ),
)
