"""Happenings: what changed from one snapshot to the next, a line each, without asking the broker anything more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from busctl.views import nodes
from busctl.views.formats import count, safe_text
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.depths import QueueKey
    from busctl_lib.poller import Snapshot

_MOST = 4
"""More of one kind in a beat are told as a number."""
_OURS = "busctl.tap."


class Happening(NamedTuple):
    """One thing that happened."""

    at: float
    """When it was noticed, seconds since 1970."""
    text: str
    """Safe to show."""
    tone: Tone = Tone.NORMAL
    key: QueueKey | None = None
    """(vhost, queue) when it is about one that is there."""


HAPPENINGS: View[Happening] = View(
    noun="happenings",
    sort="-at",
    columns=(
        Column(
            name="at",
            title="WHEN",
            value=lambda found: found.at,
            text=lambda found: datetime.fromtimestamp(found.at).astimezone().strftime("%H:%M:%S"),
            tone=lambda _: Tone.MUTED,
        ),
        Column(
            name="text",
            title="WHAT",
            value=lambda found: found.text,
            text=lambda found: safe_text(found.text),
            tone=lambda found: found.tone,
        ),
    ),
)


def happened(before: Snapshot, now: Snapshot, at: float) -> list[Happening]:
    """Compare two snapshots.

    Args:
        before: The one that was shown.
        now: The one that comes.
        at: The time of day, seconds since 1970.
    """
    if before.taken_at is None:
        return []
    found = list(_reach(before, now, at))
    if now.error is None and now.taken_at is not None:
        found += _nodes(before, now, at)
        if before.queues is not now.queues:
            found += _queues(before, now, at)
            found += _consumers(before, now, at)
        found += _connections(before, now, at)
    return found


def _reach(before: Snapshot, now: Snapshot, at: float) -> Iterator[Happening]:
    if now.error is not None and before.error is None:
        reason = safe_text(str(now.error.facts.get("reason") or now.error), 120)
        yield Happening(at, f"the API is away: {reason}", Tone.BAD)
    elif now.error is None and before.error is not None:
        yield Happening(at, "the API answers again", Tone.GOOD)


def _nodes(before: Snapshot, now: Snapshot, at: float) -> Iterator[Happening]:
    was = {node.name: nodes.problems(node) for node in before.nodes or ()}
    for node in now.nodes or ():
        name, problems = safe_text(node.name), nodes.problems(node)
        if node.name not in was:
            if before.nodes:
                yield Happening(at, f"node {name} joined", Tone.GOOD)
            continue
        for problem in problems:
            if problem not in was[node.name]:
                yield Happening(at, f"node {name}: {problem}", Tone.BAD)
        for problem in was[node.name]:
            if problem not in problems:
                yield Happening(at, f"node {name}: no longer {problem}", Tone.GOOD)


def _queues(before: Snapshot, now: Snapshot, at: float) -> Iterator[Happening]:
    for verb, keys, tone in (
        ("created", now.queues.keys() - before.queues.keys(), Tone.GOOD),
        ("deleted", before.queues.keys() - now.queues.keys(), Tone.WARN),
    ):
        theirs = sorted(key for key in keys if not key[1].startswith(_OURS))
        if len(theirs) > _MOST:
            yield Happening(at, f"{count(len(theirs))} queues {verb}", tone)
            continue
        for key in theirs:
            yield Happening(at, f"queue {safe_text(key[1], 80)} {verb}", tone, key if verb == "created" else None)


def _consumers(before: Snapshot, now: Snapshot, at: float) -> Iterator[Happening]:
    changed = []
    for key, info in now.queues.items():
        was = before.queues.get(key)
        if was is None or was.consumers == info.consumers or was.consumers is None or info.consumers is None:
            continue
        if not key[1].startswith(_OURS):
            changed.append((key, was.consumers, info.consumers))
    if len(changed) > _MOST:
        yield Happening(at, f"consumers came or went at {count(len(changed))} queues", Tone.WARN)
        return
    for key, had, has in changed:
        who = "consumer" if abs(has - had) == 1 else f"{abs(has - had)} consumers"
        verb, tone = ("joined", Tone.GOOD) if has > had else ("left", Tone.WARN if has else Tone.BAD)
        yield Happening(at, f"{who} {verb} {safe_text(key[1], 80)}, {has or 'none'} now", tone, key)


def _connections(before: Snapshot, now: Snapshot, at: float) -> Sequence[Happening]:
    was, are = (one.overview.object_totals if one.overview else None for one in (before, now))
    if was is None or are is None or was.connections is None or are.connections is None:
        return []
    more = are.connections - was.connections
    if not more:
        return []
    who = "a connection was" if abs(more) == 1 else f"{count(abs(more))} connections were"
    verb = "opened" if more > 0 else "closed"
    return [Happening(at, f"{who} {verb}, {count(are.connections)} now", Tone.NORMAL if more > 0 else Tone.WARN)]
