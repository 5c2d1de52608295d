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


def own_timeout(info: ConsumerInfo) -> int | None:
    """The time to acknowledge in that it asked for itself, in milliseconds."""
    asked = (info.arguments or {}).get("x-consumer-timeout")
    return asked if isinstance(asked, int) else None


def timeout(info: ConsumerInfo, kind: str | None, release: tuple[int, ...] | None) -> str | None:
    """How long it may hold a message before the broker takes it back; None when the broker does not tell.

    From 4.3 on its own argument counts, else the smaller of the queue's argument and policy, and only of a quorum
    queue; before, its argument has no effect, and the queue's holds for the whole channel.
    """
    own, of_queue = own_timeout(info), info.consumer_timeout
    if release is not None and release >= (4, 3):
        if kind in ("classic", "stream"):
            return "none"
        if own is not None:
            return f"{_long(own)} (its own{f'; the queue has {_long(of_queue)}' if of_queue is not None else ''})"
    elif release is not None and own is not None and of_queue is not None:
        return f"{_long(of_queue)} (the {_long(own)} it asks for count from 4.3 on)"
    return _long(of_queue) if of_queue is not None else None


def _timeouts(info: ConsumerInfo) -> str:
    """What a list tells: whether what it asks for counts depends on its queue and on the broker."""
    own, of_queue = own_timeout(info), info.consumer_timeout
    told = [_long(of_queue)] if of_queue is not None else []
    return ", ".join([*told, f"asks for {_long(own)}"] if own is not None else told) or formats.UNKNOWN


def _long(milliseconds: int) -> str:
    return formats.duration(milliseconds / 1000)


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
        Column(name="timeout", title="TIMEOUT", value=lambda info: info.consumer_timeout, text=_timeouts, wide=True),
        columns.text("arguments", "ARGUMENTS", lambda info: columns.table(info.arguments), wide=True),
    ),
)
