"""Queues: columns, and the word for the state each is in."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from busctl.views import columns, formats
from busctl.views.replicas import MEMBERS, STOPPED, trouble
from busctl.views.view import Column, Tone, View
from busctl_lib.dead_names import is_dead_letter_queue, is_parked_queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from busctl_lib.management.infos import QueueInfo, Sample

GROWING_PER_S = 0.5
"""Slower growth is breathing, not a backlog."""
GROWING_FROM = 20
"""Fewer messages than this are not a backlog either."""

_BROKEN = ("down", "crashed", "stopped", "minority")


class State(NamedTuple):
    """The state of a queue: a mark and a word say what the tone colours."""

    word: str
    tone: Tone
    mark: str

    @property
    def text(self) -> str:
        """Mark and word."""
        return f"{self.mark} {self.word}".strip()


def dead_letter_queue(info: QueueInfo) -> str | None:
    """Name the queue that its dead letters go to; None when they go elsewhere, or nowhere, or lie in this one."""
    arguments = {**(info.effective_policy_definition or {}), **_plain_arguments(info)}
    key = arguments.get("dead-letter-routing-key")
    if is_dead_letter_queue(info.name) or arguments.get("dead-letter-exchange") != "" or not isinstance(key, str):
        return None
    return key


def waiting_for_retry(delayed: int | None, next_at_ms: int | None) -> str | None:
    """Say how many messages wait for their retry, and when the next one is ready; None where none does."""
    if not delayed:
        return None
    left = None if next_at_ms is None else next_at_ms / 1000 - time.time()
    return f"{formats.count(delayed)} delayed" + (
        f", the next ready in {formats.duration(left)}" if left and left > 0 else ""
    )


def growth(info: QueueInfo) -> float | None:
    """Messages per second that the queue gains; None when not known."""
    return columns.rate_in_details(info.messages_details)


def rate_in(info: QueueInfo) -> float | None:
    """Messages per second that arrive; None when not known."""
    return columns.rate_of(info.message_stats, "publish")


def rate_out(info: QueueInfo) -> float | None:
    """Messages per second that are delivered, again or for the first time; None when not known."""
    return columns.rate_of(info.message_stats, "deliver_get")


def rate_ack(info: QueueInfo) -> float | None:
    """Messages per second that are acknowledged; None when not known."""
    return columns.rate_of(info.message_stats, "ack")


_WORKS, _IDLE = State("ok", Tone.GOOD, ""), State("idle", Tone.MUTED, "")
_EMPTY, _UNKNOWN = State("empty", Tone.MUTED, ""), State(formats.UNKNOWN, Tone.MUTED, "")


def state(info: QueueInfo) -> State:
    """Put the state of a queue into a word. What needs action comes first."""
    return of_note(info) or _at_rest(info)


def of_note(info: QueueInfo) -> State | None:
    """The state of a queue that is not simply at work or at rest; None of all others."""
    if info.state in _BROKEN:
        return State(info.state, Tone.BAD, "✖")
    if (replicas := trouble(info)) is not None:
        return State(replicas, Tone.BAD if replicas == STOPPED else Tone.WARN, "✖" if replicas == STOPPED else "▲")
    if info.messages and not info.consumers and is_parked_queue(info.name):
        return State("parked", Tone.NORMAL, "")
    if info.messages and not info.consumers and is_dead_letter_queue(info.name):
        return State("dead letters", Tone.BAD, "✖")
    if info.messages and info.consumers == 0 and not info.consumer_details and info.type != "stream":
        return State("delay", Tone.NORMAL, "◷") if _is_delay(info) else State("no consumer", Tone.WARN, "∅")
    per_s = growth(info)
    if per_s is not None and info.messages and info.type != "stream":
        if per_s >= GROWING_PER_S and info.messages >= GROWING_FROM:
            return State(f"growing {formats.rate(per_s)}/s", Tone.WARN, "▲")
        if per_s <= -GROWING_PER_S and info.messages >= GROWING_FROM:
            return State(f"draining {formats.rate(-per_s)}/s", Tone.NORMAL, "▼")
    if info.state == "flow":
        return State("flow", Tone.WARN, "▲")
    return None


def _is_delay(info: QueueInfo) -> bool:
    """Whether its messages wait for their time by design: nobody consumes, a time to live moves them on."""
    arguments = {**(info.effective_policy_definition or {}), **_plain_arguments(info)}
    return "message-ttl" in arguments and "dead-letter-exchange" in arguments


def _at_rest(info: QueueInfo) -> State:
    if info.delayed:
        return State(f"{formats.count(info.delayed)} delayed", Tone.NORMAL, "◷")
    if info.message_stats is None:
        if info.consumers is None:  # a light list: nothing more is known
            return _EMPTY if info.messages == 0 else _UNKNOWN
        return _IDLE
    return _WORKS if rate_in(info) or rate_out(info) else _IDLE


def features(info: QueueInfo) -> str:
    """Show what is special about a queue: D durable, AD auto-delete, Excl, TTL, Exp, DLX, Lim, Pri, SAC, Pol."""
    arguments = {**(info.effective_policy_definition or {}), **_plain_arguments(info)}
    return columns.marks(
        ("D", info.durable),
        ("AD", info.auto_delete),
        ("Excl", info.exclusive),
        ("TTL", "message-ttl" in arguments),
        ("Exp", "expires" in arguments),
        ("DLX", "dead-letter-exchange" in arguments),
        ("Lim", "max-length" in arguments or "max-length-bytes" in arguments),
        ("Pri", "max-priority" in arguments),
        ("SAC", arguments.get("single-active-consumer")),
        ("Pol", info.policy),
    )


def _plain_arguments(info: QueueInfo) -> dict[str, object]:
    """The arguments under the names that policies use."""
    return {name.removeprefix("x-"): value for name, value in (info.arguments or {}).items()}


def rates_between(samples: Sequence[Sample] | None) -> list[tuple[float, float]]:
    """Turn the broker's samples of a growing count into (time in seconds, rate per second), oldest first.

    A count that falls back (the queue's statistics began anew) gives no point.
    """
    points: list[tuple[float, float]] = []
    ordered = sorted(samples or (), key=lambda sample: sample.timestamp)
    for older, newer in itertools.pairwise(ordered):
        seconds = (newer.timestamp - older.timestamp) / 1000
        if seconds > 0 and newer.sample >= older.sample:
            points.append((newer.timestamp / 1000, (newer.sample - older.sample) / seconds))
    return points


def _state_word(info: QueueInfo) -> str | None:
    word = state(info).word
    return word if word != formats.UNKNOWN else None


QUEUES: View[QueueInfo] = View(
    noun="queues",
    sort="name",
    columns=(
        columns.text("name", "NAME"),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("type", "TYPE"),
        columns.count("messages_ready", "READY"),
        columns.count("messages_unacknowledged", "UNACKED"),
        replace(columns.count("messages_delayed", "DELAYED", lambda info: info.delayed, wide=True), rare=True),
        columns.count("messages", "TOTAL", wide=True),
        columns.count("consumers", "CONS"),
        columns.rate("in", "IN/s", rate_in),
        columns.rate("out", "OUT/s", rate_out),
        columns.rate("ack", "ACK/s", rate_ack, wide=True),
        columns.rate("growth", "GROWTH/s", growth, wide=True),
        Column(
            name="state",
            title="STATE",
            value=_state_word,
            text=lambda info: formats.safe_text(state(info).text),
            tone=lambda info: state(info).tone,
        ),
        Column(name="features", title="FEATURES", value=features, text=features, wide=True),
        columns.text("policy", "POLICY", wide=True),
        columns.text("node", "NODE", wide=True),
        MEMBERS,
        columns.size("memory", "MEMORY", wide=True),
        columns.size("message_bytes", "BYTES", wide=True),
    ),
)
