"""Takers: the consumers of one queue, and how much of what each may hold it does hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from busctl.views import columns, formats
from busctl.views.consumers import connection, mode
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos import ChannelInfo, ConsumerInfo

FULL = 0.9
"""From this share on a consumer gets nothing more until it acknowledges: it is the bottleneck."""
_BAR = 8


class Taker(NamedTuple):
    """A consumer with its channel, as far as that is known."""

    consumer: ConsumerInfo
    channel: ChannelInfo | None = None
    timeout: str | None = None
    """How long it may hold a message; None where the broker does not tell."""


def share(taker: Taker) -> float | None:
    """How much of its prefetch a consumer holds; None where that cannot be told.

    The broker counts unacknowledged messages by channel: what one of several consumers there holds, nobody knows.
    """
    consumer, channel, _ = taker
    held = channel.messages_unacknowledged if channel is not None and channel.consumer_count == 1 else None
    if held is None or not consumer.ack_required or not consumer.prefetch_count:
        return None
    return held / consumer.prefetch_count


def holds(taker: Taker) -> str:
    """A bar and the numbers, or why there is none."""
    consumer, channel, _ = taker
    limit = f"{consumer.prefetch_count:,}" if consumer.prefetch_count else "no limit"
    if not consumer.ack_required:
        return "never waits for acks"
    held = channel.messages_unacknowledged if channel is not None else None
    if channel is None or held is None:
        return f"{formats.UNKNOWN} of {limit}"
    if channel.consumer_count != 1:
        return f"{held:,} by {channel.consumer_count} on its channel"
    part = share(taker)
    if part is None:
        return f"{held:,}, {limit}"
    full = min(round(part * _BAR), _BAR)
    return f"{'━' * full}{'─' * (_BAR - full)} {held:,} of {limit}{' ▲' if part >= FULL else ''}"


def _tone(taker: Taker) -> Tone:
    part = share(taker)
    return Tone.MUTED if part is None else Tone.WARN if part >= FULL else Tone.GOOD


TAKERS: View[Taker] = View(
    noun="takers",
    sort="tag",
    columns=(
        columns.text("tag", "CONSUMER", lambda taker: taker.consumer.consumer_tag),
        Column(name="holds", title="HOLDS", value=share, text=holds, tone=_tone),
        columns.text("mode", "MODE", lambda taker: mode(taker.consumer), tone=lambda _: Tone.MUTED),
        columns.text("timeout", "TIMEOUT", lambda taker: (taker.timeout or formats.UNKNOWN).partition(" (")[0]),
        columns.text("connection", "CONNECTION", lambda taker: connection(taker.consumer) or formats.UNKNOWN),
    ),
)
