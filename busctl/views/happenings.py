"""Happenings: what changed, a line each: as the broker told it, and from one snapshot to the next what it did not."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from busctl.views import nodes
from busctl.views.formats import count, safe_text
from busctl.views.missing import no_news, why
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.depths import QueueKey
    from busctl_lib.events import Event
    from busctl_lib.poller import Snapshot

_MOST = 4
"""More of one kind in a beat are told as a number."""
_OURS = "busctl.tap."


class _Kind(NamedTuple):
    """How events of one kind are told."""

    one: str
    many: str
    tone: Tone
    by: bool = True
    """Whether to say who did it."""


_KINDS = {
    "queue.created": _Kind("queue {} created", "queues created", Tone.GOOD),
    "queue.deleted": _Kind("queue {} deleted", "queues deleted", Tone.WARN),
    "exchange.created": _Kind("exchange {} created", "exchanges created", Tone.GOOD),
    "exchange.deleted": _Kind("exchange {} deleted", "exchanges deleted", Tone.WARN),
    "binding.created": _Kind("binding {} created", "bindings created", Tone.GOOD),
    "binding.deleted": _Kind("binding {} deleted", "bindings deleted", Tone.WARN),
    "policy.set": _Kind("policy {} set", "policies set", Tone.WARN),
    "policy.cleared": _Kind("policy {} cleared", "policies cleared", Tone.WARN),
    "consumer.created": _Kind("consumer joined {}", "consumers joined", Tone.GOOD, by=False),
    "consumer.deleted": _Kind("consumer left {}", "consumers left", Tone.WARN, by=False),
    "connection.created": _Kind("connection {} opened", "connections were opened", Tone.NORMAL),
    "connection.closed": _Kind("connection {} closed", "connections were closed", Tone.WARN),
    "user.authentication.failure": _Kind("login of {} refused", "logins refused", Tone.BAD, by=False),
}
HEARD_KEYS = tuple(_KINDS)
"""The events that are told here; the events' own screen has them all."""
_NOBODY = (None, "", "rmq-internal")
"""No user: the broker did it by itself."""


class Heard(NamedTuple):
    """What the broker told since the last time."""

    events: Sequence[Event] = ()
    since: float | None = None
    """Since when nothing was missed, by `time.monotonic()`; None: now and then something is."""


NOTHING_HEARD = Heard()


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


def happened(before: Snapshot, now: Snapshot, at: float, heard: Heard = NOTHING_HEARD) -> list[Happening]:
    """Tell what was heard, and compare two snapshots: in all, or where nothing was missed, in what is not heard of.

    Args:
        before: The one that was shown.
        now: The one that comes.
        at: The time of day, seconds since 1970.
        heard: What the broker told between the two.
    """
    found = list(_told(heard.events, now))
    whole = heard.since is not None and before.listed_at is not None and heard.since <= before.listed_at
    if before.taken_at is None:
        return found
    found += _reach(before, now, at)
    if now.error is None and now.taken_at is not None:
        found += _nodes(before, now, at)
        found += _parts(before, now, at)
        if before.queues is not now.queues and before.listed_at is not None:
            found += _left(before, now, at) if whole else _counted(before, now, at, heard)
        if not whole:
            found += _connections(before, now, at)
    return found


def _told(events: Sequence[Event], now: Snapshot) -> Iterator[Happening]:
    """A line for each kind and whom it happened to; what is ours is left out."""
    kinds: dict[str, dict[str, list[Event]]] = {}
    for event in events:
        subject = _subject(event)
        if event.event in _KINDS and not subject.startswith(_OURS):
            kinds.setdefault(event.event, {}).setdefault(subject, []).append(event)
    for name, subjects in kinds.items():
        kind = _KINDS[name]
        if len(subjects) > _MOST:
            every = [event for found in subjects.values() for event in found]
            yield Happening(_when(every), f"{count(len(every))} {kind.many}", kind.tone)
            continue
        for subject, found in subjects.items():
            text = kind.one.format(safe_text(subject, 80))
            text += f", {len(found)} times" if len(found) > 1 else ""
            user = found[-1].user
            text += f" by {safe_text(user, 40)}" if kind.by and user not in _NOBODY else ""
            key = (found[-1].vhost or "", subject)
            yield Happening(_when(found), text, kind.tone, key if key in now.queues else None)


def _subject(event: Event) -> str:
    """Whom an event is told of: the queue of a consumer, the client's name for its connection."""
    noun, details = event.event.partition(".")[0], event.details
    if noun == "consumer":
        return str(details.get("queue"))
    if noun == "connection":
        return str(details.get("user_provided_name") or event.name)
    if noun == "binding" and str(details.get("destination_name")).startswith(_OURS):
        return _OURS
    return event.name or ""


def _when(events: Sequence[Event]) -> float:
    return max(datetime.fromisoformat(event.at).timestamp() for event in events)


def _left(before: Snapshot, now: Snapshot, at: float) -> Iterator[Happening]:
    """The queues whose last consumer is gone: how many are left is in no event."""
    left = []
    for key, info in now.queues.items():
        was = before.queues.get(key)
        if was is not None and was.consumers and info.consumers == 0 and not key[1].startswith(_OURS):
            left.append(key)
    if len(left) > _MOST:
        yield Happening(at, f"{count(len(left))} queues have no consumer left", Tone.BAD)
        return
    for key in left:
        yield Happening(at, f"{safe_text(key[1], 80)} has no consumer left", Tone.BAD, key)


def _counted(before: Snapshot, now: Snapshot, at: float, heard: Heard) -> Iterator[Happening]:
    told = {(event.event, (event.vhost, event.name)) for event in heard.events}
    yield from _queues(before, now, at, told)
    yield from _consumers(before, now, at)


def _reach(before: Snapshot, now: Snapshot, at: float) -> Iterator[Happening]:
    if now.error is not None and before.error is None:
        reason = safe_text(str(now.error.facts.get("reason") or now.error), 120)
        yield Happening(at, f"the API is away: {reason}", Tone.BAD)
    elif now.error is None and before.error is not None:
        yield Happening(at, "the API answers again", Tone.GOOD)


def _parts(before: Snapshot, now: Snapshot, at: float) -> Iterator[Happening]:
    came = {part: error for part, error in before.missing.items() if part not in now.missing}
    went = {part: error for part, error in now.missing.items() if part not in before.missing}
    if went:
        yield Happening(at, f"{no_news(went)}: {why(went)}", Tone.WARN)
    if came:
        yield Happening(at, f"news again, of {', '.join(came)}", Tone.GOOD)


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


def _queues(before: Snapshot, now: Snapshot, at: float, told: Container[object]) -> Iterator[Happening]:
    for verb, keys, tone in (
        ("created", now.queues.keys() - before.queues.keys(), Tone.GOOD),
        ("deleted", before.queues.keys() - now.queues.keys(), Tone.WARN),
    ):
        theirs = sorted(key for key in keys if not key[1].startswith(_OURS) and (f"queue.{verb}", key) not in told)
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
