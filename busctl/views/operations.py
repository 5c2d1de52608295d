"""Operations of the journal: what busctl changed on a bus."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from busctl.views import columns
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.journal import Operation

_TONES = {
    "done": Tone.GOOD,
    "partial": Tone.WARN,
    "interrupted": Tone.WARN,
    "cancelled": Tone.WARN,
    "failed": Tone.BAD,
}


def tone(operation: Operation) -> Tone:
    """The colour of its state."""
    return _TONES.get(operation.state, Tone.NORMAL)


def _when(at: float | None) -> str:
    if at is None:
        return ""
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", timespec="seconds")[:19]


def _stays(operation: Operation) -> int:
    return operation.returned + operation.failed


_started: Column[Operation] = Column(
    name="started_at",
    title="STARTED",
    value=lambda operation: operation.started_at,
    text=lambda operation: _when(operation.started_at),
)
_ended: Column[Operation] = Column(
    name="ended_at",
    title="ENDED",
    value=lambda operation: operation.ended_at,
    text=lambda operation: _when(operation.ended_at),
    wide=True,
)

OPERATIONS: View[Operation] = View(
    noun="operations",
    sort="-started_at",
    columns=(
        columns.text("id", "ID"),
        _started,
        columns.text("kind", "KIND"),
        columns.text("source", "SOURCE"),
        columns.text("target", "TARGET"),
        columns.text("state", "STATE", tone=tone),
        columns.count("planned", "PLANNED"),
        columns.count("moved", "DONE"),
        columns.count("stays", "STAY", _stays),
        columns.count("unknown", "UNKNOWN"),
        _ended,
        columns.text("who", "WHO", wide=True),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("broker", "BROKER", wide=True),
        columns.text("note", "NOTE", wide=True),
    ),
)
