"""Dead letters: the queues that hold them, and groups of one cause."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from busctl.views import columns, formats
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.deadletters import DeadLetterQueue, Group, Triage

_LINE_CELLS = 12
_HOUR_S = 3600


def _time(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None


def depth_line(info: DeadLetterQueue) -> str:
    """Its depth over the last hour."""
    return formats.sparkline(formats.buckets(info.history, _LINE_CELLS, _HOUR_S, time.time()))


def told(found: Triage) -> dict[str, Any]:
    """What was found in a queue, as JSON values."""
    values: dict[str, Any] = msgspec.to_builtins(found)
    values.pop("grounds", None)
    return values


def how_it_came(queue: str | None, *, moved: bool, shovelled: bool) -> str | None:
    """Say how a message came to lie where it lies, where that was not by dying."""
    if shovelled:
        return "by a shovel"
    if moved:
        return f"moved here: {queue} does not dead-letter into this queue, or no longer does"
    return None


class _DeadQueues(View[Any]):
    def json(self, info: DeadLetterQueue) -> Any:
        found = msgspec.to_builtins(info)
        found.pop("history", None)
        return found


DEAD_QUEUES: View[DeadLetterQueue] = _DeadQueues(
    noun="dead-letter queues",
    sort="-messages",
    columns=(
        columns.text("name", "NAME"),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("type", "TYPE"),
        columns.count("messages", "MESSAGES"),
        columns.count("arrivals", "LAST HOUR"),
        Column(name="depth", title="DEPTH, 1 H", value=lambda info: info.arrivals, text=depth_line),
        Column(
            name="oldest",
            title="OLDEST",
            value=lambda info: info.oldest,
            text=lambda info: formats.ago(info.oldest),
        ),
        columns.count("consumers", "CONS"),
        columns.text("sources", "FROM", lambda info: ", ".join(info.sources)),
        columns.text("found_by", "FOUND BY", lambda info: ", ".join(info.found_by), wide=True),
        columns.text("away", "AWAY", wide=True),
    ),
)

GROUPS: View[Group] = View(
    noun="groups",
    sort="-count",
    columns=(
        columns.text("id", "GROUP", tone=lambda _group: Tone.MUTED),
        columns.text("cause", "CAUSE"),
        columns.text("queue", "FROM"),
        columns.text("exchange", "EXCHANGE", wide=True),
        columns.text("routing_key", "KEY"),
        columns.count("count", "COUNT"),
        Column(
            name="first_seen",
            title="FIRST",
            value=lambda group: _time(group.first_seen),
            text=lambda group: formats.ago(_time(group.first_seen)),
        ),
        Column(
            name="last_seen",
            title="LAST",
            value=lambda group: _time(group.last_seen),
            text=lambda group: formats.ago(_time(group.last_seen)),
        ),
        Column(
            name="arrivals",
            title="LAST HOUR",
            value=lambda group: sum(group.arrivals),
            text=lambda group: formats.sparkline(list(map(float, group.arrivals))),
        ),
        columns.count("replayed", "REPLAYED"),
        columns.count("most_deaths", "DEATHS", wide=True),
        columns.count("moved", "MOVED", wide=True),
        columns.text("frame", "FRAME", wide=True),
        columns.text("dialect", "DIALECT", wide=True),
    ),
)
