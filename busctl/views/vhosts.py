"""Virtual hosts: what waits in each, and whether it is being traced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns
from busctl.views.view import Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos_cluster import VhostInfo


def tracing(info: VhostInfo) -> str | None:
    """Whether its firehose is on, which costs every message a copy."""
    return None if info.tracing is None else "on" if info.tracing else "off"


def state(info: VhostInfo) -> str | None:
    """Put its state into words: running, or the nodes on which it is not."""
    if not info.cluster_state:
        return None
    stopped = [f"{word} on {node}" for node, word in sorted(info.cluster_state.items()) if word != "running"]
    return ", ".join(stopped) or "running"


def default_queue_type(info: VhostInfo) -> str | None:
    """The type of queues that are declared without one; None when the broker does not say."""
    return info.default_queue_type if info.default_queue_type != "undefined" else None


def protected(info: VhostInfo) -> str | None:
    """Whether the broker refuses to delete it; None when it does not say."""
    return columns.yes_or_no(info.protected_from_deletion)


VHOSTS: View[VhostInfo] = View(
    noun="vhosts",
    sort="name",
    columns=(
        columns.text("name", "NAME"),
        columns.text("state", "STATE", state, tone=lambda info: _state_tone(state(info))),
        columns.text(
            "tracing",
            "TRACING",
            tracing,
            tone=lambda info: Tone.WARN if info.tracing else Tone.MUTED,
        ),
        columns.count("messages", "MESSAGES"),
        columns.count("messages_ready", "READY", wide=True),
        columns.count("messages_unacknowledged", "UNACKED", wide=True),
        columns.rate("in", "IN/s", lambda info: columns.rate_of(info.message_stats, "publish")),
        columns.rate("out", "OUT/s", lambda info: columns.rate_of(info.message_stats, "deliver_get")),
        *columns.unroutable(),
        columns.text("default_queue_type", "QUEUE TYPE", default_queue_type),
        columns.text("protected", "PROTECTED", protected, wide=True),
        columns.text("tags", "TAGS", lambda info: ",".join(info.tags or ()) or None, wide=True),
        columns.text("description", "DESCRIPTION"),
    ),
)


def _state_tone(word: str | None) -> Tone:
    return Tone.MUTED if word is None else Tone.GOOD if word == "running" else Tone.BAD
