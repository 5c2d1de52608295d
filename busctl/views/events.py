"""Events: what happened on a broker, to what, and by whom."""

from __future__ import annotations

import fnmatch
from datetime import datetime
from typing import TYPE_CHECKING

from busctl.views import columns
from busctl.views.formats import safe_text
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.events import Event

NOISY = ("channel.*", "user.authentication.success", "connection.stats", "queue.stats", "channel.stats")
"""Not shown unless they are asked for."""
_GOOD, _BAD = ("created", "up", "set"), ("deleted", "closed", "down", "cleared", "failure")
_DETAILS = ("type", "user_provided_name", "pattern", "definition", "reason", "protocol", "component", "error")
"""What is worth a place on the line."""


def wanted(event: Event, glob: str | None, vhost: str | None) -> bool:
    """Tell whether to show an event: of this vhost or of none, and as the glob says; without one what is not noisy."""
    if event.event.startswith("busctl."):
        return True
    if vhost is not None and event.vhost not in (None, vhost):
        return False
    if glob is not None:
        return fnmatch.fnmatchcase(event.event, glob)
    return not any(fnmatch.fnmatchcase(event.event, each) for each in NOISY)


def clock(event: Event) -> str:
    """Its time of day, local, to the millisecond."""
    try:
        return datetime.fromisoformat(event.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return safe_text(event.at, 12)


def tone(event: Event) -> Tone:
    """What the colour of an event says: something came, something went."""
    verb = event.event.rpartition(".")[2]
    return Tone.GOOD if verb in _GOOD else Tone.BAD if verb in _BAD else Tone.WARN


def details(event: Event) -> list[str]:
    """What else is worth a place on its line."""
    return [f"{name} {event.details[name]}" for name in _DETAILS if event.details.get(name) not in (None, "", {})]


EVENTS: View[Event] = View(
    noun="events",
    sort="-at",
    columns=(
        Column(
            name="at",
            title="TIME",
            value=lambda event: event.at,
            text=clock,
            tone=lambda _: Tone.MUTED,
        ),
        Column(
            name="event",
            title="EVENT",
            value=lambda event: event.event,
            text=lambda event: safe_text(event.event),
            tone=tone,
        ),
        columns.text("name", "WHAT"),
        columns.text("user", "BY"),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("details", "MORE", lambda event: "  ".join(details(event))),
    ),
)
