"""`busctl events`: who created, closed, left what, as it happens."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags, lists, output
from busctl.views import events as view
from busctl.views.formats import safe_text
from busctl.views.view import Tone

if TYPE_CHECKING:
    from busctl_lib.events import Event, Feed

_LOOK_S = 0.5


class Via(enum.StrEnum):
    """Where events come from."""

    AUTO = "auto"
    EXCHANGE = "exchange"
    SNAPSHOTS = "snapshots"


class EventFormat(enum.StrEnum):
    """How events are printed."""

    PRETTY = "pretty"
    JSONL = "jsonl"


def events(
    ctx: typer.Context,
    glob: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="Which, such as 'queue.*'; by default all but channels and logins."),
    ] = None,
    via: Annotated[Via, typer.Option("--via", help="Where they come from.")] = Via.AUTO,
    number: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Stop after so many.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop after 30s, 5m, 2h.")] = None,
    all_vhosts: lists.AllVhostsOption = False,
    form: Annotated[EventFormat, typer.Option("-o", "--output", help="How to print.")] = EventFormat.PRETTY,
) -> int:
    """Follow what happens on the broker, until Ctrl-C; on stderr it says where the events come from.

    From the exchange amq.rabbitmq.event where the plugin rabbitmq_event_exchange is on, else from the differences
    between snapshots. Exit code 5 when --for ended with fewer than -n.
    """
    seconds = None if for_ is None else lists.seconds(for_, "--for")
    from busctl_lib.events import open_feed

    with flags.open_session(ctx) as session:
        vhost = None if all_vhosts else session.vhost
        with open_feed(session.management, session.another_broker, vhost, via=via.value) as source:
            for sentence in source.told:
                exits.note(sentence)
            shown = _show(source.feed, glob, vhost, form, number, seconds)
    if number is not None and shown < number:
        exits.note(f"{shown} of {number} events came in time")
        return exits.ExitCode.TIMED_OUT
    return exits.ExitCode.DONE


def _show(
    feed: Feed, glob: str | None, vhost: str | None, form: EventFormat, number: int | None, seconds: float | None
) -> int:
    """Print until there is enough of events or time; returns how many were printed."""
    deadline = None if seconds is None else time.monotonic() + seconds
    shown = 0
    while number is None or shown < number:
        left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
        if left <= 0:
            break
        event = feed.next(left)
        if event is None:
            if output.reader_gone():
                raise exits.PipeClosed
        elif view.wanted(event, glob, vhost):
            if form is EventFormat.JSONL:
                output.write_jsonl(event)
            else:
                output.write_line(_line(event))
            shown += not event.event.startswith("busctl.")
    return shown


def _line(event: Event) -> str:
    what = output.paint(f"{safe_text(event.event):<20}", view.tone(event))
    head = f"{output.paint(view.clock(event), Tone.MUTED)}  {what}"
    said = [event.name or ""]
    said += [f"in {event.vhost}"] if event.vhost is not None else []
    said += [f"by {event.user}"] if event.user else []
    return f"{head}  {safe_text('  '.join(part for part in [*said, *view.details(event)] if part))}"
