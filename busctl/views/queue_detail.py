"""One queue in labelled lines: what it is, how it does, what leads to it, who takes and who holds its messages."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from busctl.views import columns, consumers, formats, replicas
from busctl.views.lines import Line, labelled
from busctl.views.queues import features, rate_ack, rate_in, rate_out, state, waiting_for_retry
from busctl.views.view import Tone
from busctl_lib.management.infos_cluster import release_of
from busctl_lib.management.presence import why_away
from busctl_lib.moments import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from busctl_lib.management.infos import BindingInfo, ConsumerInfo, QueueInfo, StreamTracking
    from busctl_lib.queue_detail import Holder, QueueDetail

_LINE_WIDTH = 30


def lines(info: QueueInfo, detail: QueueDetail, span_s: float) -> list[Line]:
    """Show all of a queue.

    Args:
        info: It.
        detail: What belongs to it.
        span_s: How much time its samples cover.
    """
    return [
        *_identity(info),
        *_replica_lines(info),
        *_stream_lines(info, detail),
        *_numbers(info, span_s),
        *labelled("unacked by", _holder_lines(info, detail, span_s)),
        *labelled("consumers", _consumer_lines(info, detail)),
        *labelled("bindings", _binding_lines(info, detail.bindings)),
        *_dead_letter_lines(detail),
    ]


def _none(info: QueueInfo, what: str = "none") -> Line:
    """There is nothing, as far as the broker tells: of a queue that cannot be reached it may know no better."""
    return Line("", what if why_away(info) is None else f"{formats.UNKNOWN} (not known while it cannot be reached)")


def _identity(info: QueueInfo) -> list[Line]:
    now, away = state(info), why_away(info)
    return [
        Line("queue", formats.safe_text(info.name)),
        Line("vhost", formats.safe_text(info.vhost)),
        Line(
            "type", " ".join(part for part in (formats.safe_text(info.type or formats.UNKNOWN), features(info)) if part)
        ),
        Line("state", formats.safe_text(f"✖ {away}" if away else now.text), Tone.BAD if away else now.tone),
        Line("arguments", formats.safe_text(_plain(info.arguments))),
        *_policy_lines(info),
    ]


def _policy_lines(info: QueueInfo) -> list[Line]:
    names = [info.policy or "", f"operator policy {info.operator_policy}" if info.operator_policy else ""]
    found = [Line("policy", formats.safe_text(" and ".join(name for name in names if name) or "none"))]
    if info.effective_policy_definition:
        found.append(Line("", f"sets {formats.safe_text(_plain(info.effective_policy_definition))}"))
    if info.delivery_limit is not None:
        limit = info.delivery_limit
        counted = isinstance(limit, int) and limit >= 0
        found.append(Line("limit", f"{limit} failed deliveries of one message" if counted else "no delivery limit"))
    if info.delayed_retry not in (None, "disabled"):
        found.append(Line("retry", f"delays what comes back: {formats.safe_text(info.delayed_retry)}"))
    return found


def _replica_lines(info: QueueInfo) -> list[Line]:
    if not info.members:
        return [Line("node", formats.safe_text(info.node or formats.UNKNOWN))]
    leader, online = info.leader or info.node, info.online
    marks = [
        (" (leader)" if name == leader else "") + (" (offline)" if online is not None and name not in online else "")
        for name in info.members
    ]
    told = ", ".join(f"{name}{mark}" for name, mark in zip(info.members, marks, strict=True))
    trouble = replicas.trouble(info)
    what = f"{replicas.shown(info)} online{f', {trouble}' if trouble else ''}: {told}"
    return [Line("members", formats.safe_text(what), replicas.tone(info))]


def _stream_lines(info: QueueInfo, detail: QueueDetail) -> list[Line]:
    if info.type != "stream":
        return []
    readers = sum((info.readers or {}).values()) if info.readers is not None else None
    since = _clock(info.first_timestamp / 1000) if info.first_timestamp is not None else formats.UNKNOWN
    about = f"segments {formats.count(info.segments)}, readers {formats.count(readers)}; first message {since}; "
    found = [Line("stream", about + "its first and last offsets: the management API does not tell")]
    if detail.tracking is None:
        why = formats.safe_text(detail.tracking_unknown or "the broker does not tell")
        return [*found, Line("offsets", f"not known: {why}", Tone.MUTED)]
    return [*found, Line("offsets", offsets(detail.tracking) or "none stored by a reader")]


def offsets(tracking: StreamTracking) -> str:
    """Which readers stored which offset."""
    found = sorted((tracking.offsets or {}).items())
    return formats.safe_text(", ".join(f"{name} at {offset:,}" for name, offset in found))


def priorities(info: QueueInfo) -> str | None:
    """How many messages wait with which priority, the highest first; None where none wait, or that is not told."""
    found = [(int(name), count) for name, count in (info.messages_by_priority or {}).items() if name.isdecimal()]
    return ", ".join(f"{count:,} of {priority}" for priority, count in sorted(found, reverse=True)) or None


def _numbers(info: QueueInfo, span_s: float) -> list[Line]:
    oldest = formats.ago(moment_of(info.head_message_timestamp))
    delayed = waiting_for_retry(info.delayed, info.next_delayed_at)
    return [
        Line(
            "messages",
            f"{formats.count(info.messages_ready)} ready, {formats.count(info.messages_unacknowledged)} unacked"
            + (f", {delayed}" if delayed else "")
            + (f", the oldest sent {oldest}" if oldest != formats.UNKNOWN else ""),
        ),
        *([Line("priorities", f"{by_priority} (without one: 4)")] if (by_priority := priorities(info)) else []),
        Line("size", f"{formats.size(info.message_bytes)} of messages, {formats.size(info.memory)} of memory"),
        Line(
            "rates",
            f"{formats.rate(rate_in(info))}/s in, {formats.rate(rate_out(info))}/s out, "
            f"{formats.rate(rate_ack(info))}/s acknowledged",
        ),
        Line("depth", f"{_depth(info, span_s)} last {formats.duration(span_s)}"),
    ]


def _depth(info: QueueInfo, span_s: float) -> str:
    samples = (info.messages_details.samples if info.messages_details else None) or []
    points = sorted((sample.timestamp / 1000, sample.sample) for sample in samples)
    now = points[-1][0] if points else time.time()
    return formats.sparkline(formats.buckets(points, _LINE_WIDTH, span_s, now))


def _holder_lines(info: QueueInfo, detail: QueueDetail, span_s: float) -> list[Line]:
    if not info.messages_unacknowledged:
        return []
    if detail.holders is None:
        return [Line("", "not known: the channels of others need the monitoring tag", Tone.MUTED)]
    found = [Line("", holder(each)) for each in detail.holders]
    if not found:
        found = [Line("", "not known yet: no channel tells of them", Tone.MUTED)]
    return [*found, Line("", unacked_times(detail, span_s), Tone.MUTED)]


def holder(info: Holder) -> str:
    """Say what one channel holds, and what is not known of it."""
    who = f"consumer {', '.join(info.consumers)}" if info.consumers else "no consumer (basic.get, here or elsewhere)"
    where = f" of {info.user}" if info.user else ""
    parts = [f"{info.unacked:,} by {who}", f"channel {info.channel}{where}"]
    if info.shared:
        parts.append("of all the queues it consumes")
    if info.idle_since is not None:
        parts.append(f"since {info.idle_since[:19].replace('T', ' ')} or longer (the channel is idle)")
    return formats.safe_text(", ".join(parts))


def unacked_times(detail: QueueDetail, span_s: float) -> str:
    """Say since when messages are unacknowledged, as far as samples tell."""
    if detail.unacked_after is not None:
        return f"all delivered after {_clock(detail.unacked_after)}: none were unacked then"
    if detail.unacked_since is not None:
        return f"some at every sample of the last {formats.duration(span_s)}; whether the same ones is not known"
    return "since when is not known"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _consumer_lines(info: QueueInfo, detail: QueueDetail) -> list[Line]:
    release = release_of(detail.rabbitmq_version)
    found = [_consumer(each, info.type, release) for each in info.consumer_details or []]
    return [Line("", text) for text in found] or [_none(info)]


def _consumer(info: ConsumerInfo, kind: str | None, release: tuple[int, ...] | None) -> str:
    timeout = consumers.timeout(info, kind, release)
    channel = info.channel_details
    where = channel.connection_name or channel.name if channel is not None else None
    parts = [
        info.consumer_tag,
        f"from {where}" if where else "",
        f"user {channel.user}" if channel is not None and channel.user else "",
        f"prefetch {info.prefetch_count or 'unlimited'}",
        consumers.mode(info),
        f"timeout {timeout}" if timeout is not None else "",
        "" if info.active is not False else "inactive",
        _plain(info.arguments) if info.arguments else "",
    ]
    return formats.safe_text(", ".join(part for part in parts if part))


def _binding_lines(info: QueueInfo, bindings: Iterable[BindingInfo]) -> list[Line]:
    own = [Line("", binding(each)) for each in bindings if each.source]
    return own or [_none(info, "default exchange only")]


def binding(info: BindingInfo) -> str:
    """Say how a queue is bound."""
    arguments = f" {columns.table(info.arguments)}" if info.arguments else ""
    return formats.safe_text(f"{info.source} with key {info.routing_key!r}{arguments}")


def _dead_letter_lines(detail: QueueDetail) -> list[Line]:
    found = []
    exchange, key = detail.dead_letter_exchange, detail.dead_letter_routing_key
    if exchange is not None:
        route = f"exchange {exchange or '(default)'} with {f'key {key!r}' if key is not None else 'their own key'}"
        if detail.dead_letter_exchange_missing:
            found.append(
                Line("deaths to", formats.safe_text(f"{route}: there is no such exchange, they are lost"), Tone.BAD)
            )
        else:
            reached = ", ".join(detail.dead_letters_to or ())
            if not exchange and key is None:
                reached = "the queue that their key names"
            text = formats.safe_text(f"{reached or 'no queue: they are lost'}, by {route}")
            found.append(Line("deaths to", text, Tone.NORMAL if reached else Tone.BAD))
    sources = [Line("", formats.safe_text(name)) for name in detail.dead_letters_from or ()]
    return found + labelled("deaths from", sources)


def _plain(table: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}={value}" for name, value in (table or {}).items()) or "none"
