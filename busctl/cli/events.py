"""`busctl events`: who created, closed, left what, as it happens."""

from __future__ import annotations

import enum
import fnmatch
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags, lists, output
from busctl.views.formats import safe_text
from busctl.views.view import Tone
from busctl_lib.errors import ApiError, BrokerRefused, CannotConnect, GuardRefused

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.events import Event, Feed

_LOOK_S = 0.5
_NOISY = ("channel.*", "user.authentication.success", "connection.stats", "queue.stats", "channel.stats")
"""Not shown unless they are asked for."""
_GOOD, _BAD = ("created", "up", "set"), ("deleted", "closed", "down", "cleared", "failure")
_DETAILS = ("type", "user_provided_name", "pattern", "definition", "reason", "protocol", "component", "error")
"""What is worth a place on the line."""


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
        typer.Argument(metavar="[GLOB]", help="Which, such as 'queue.*'; by default all but channels and logins."),
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
    with flags.open_session(ctx) as session, _opened(session, via, all_vhosts=all_vhosts) as feed:
        vhost = None if all_vhosts else session.vhost
        shown = _show(feed, glob, vhost, form, number, seconds)
    if number is not None and shown < number:
        exits.note(f"{shown} of {number} events came in time")
        return exits.ExitCode.TIMED_OUT
    return exits.ExitCode.DONE


@contextmanager
def _opened(session: Session, via: Via, *, all_vhosts: bool) -> Iterator[Feed]:
    """The source of events that was asked for, or the best there is."""
    if via is not Via.SNAPSHOTS:
        try:
            with _from_exchange(session) as feed:
                exits.note("events as the broker tells them, by its exchange amq.rabbitmq.event")
                yield feed
                return
        except _NoExchange as error:
            if via is Via.EXCHANGE:
                raise GuardRefused(
                    f"the event exchange cannot be used: {error.why}",
                    hint="rabbitmq-plugins enable rabbitmq_event_exchange, or --via snapshots",
                ) from None
            exits.note(f"the event exchange cannot be used: {error.why}")
    from busctl_lib.events import SnapshotFeed

    taken = SnapshotFeed(session.management, None if all_vhosts else session.vhost)
    unseen = f"; not seen by this user: {', '.join(taken.unseen)}" if taken.unseen else ""
    exits.note(
        "events from the differences between snapshots, every 2 s: not what comes and goes between two, nor who did it"
        + unseen
    )
    yield taken


class _NoExchange(Exception):
    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@contextmanager
def _from_exchange(session: Session) -> Iterator[Feed]:
    from busctl_lib.events import ExchangeFeed, exchange_vhost

    try:
        vhost = exchange_vhost(session.management)
    except ApiError as error:
        raise _NoExchange(str(error)) from error
    if vhost is None:
        raise _NoExchange("the plugin rabbitmq_event_exchange is off, or not for this user to see")
    with session.another_broker(vhost) as broker:
        try:
            broker.connect()
            feed = ExchangeFeed(broker, session.management)
        except (CannotConnect, BrokerRefused) as error:
            raise _NoExchange(str(error)) from error
        try:
            yield feed
        finally:
            feed.close()


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
        elif _wanted(event, glob, vhost):
            if form is EventFormat.JSONL:
                output.write_jsonl(event)
            else:
                output.write_line(_line(event))
            shown += not event.event.startswith("busctl.")
    return shown


def _wanted(event: Event, glob: str | None, vhost: str | None) -> bool:
    if event.event.startswith("busctl."):
        return True
    if vhost is not None and event.vhost not in (None, vhost):
        return False
    if glob is not None:
        return fnmatch.fnmatchcase(event.event, glob)
    return not any(fnmatch.fnmatchcase(event.event, each) for each in _NOISY)


def _line(event: Event) -> str:
    when = datetime.fromisoformat(event.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    verb = event.event.rpartition(".")[2]
    tone = Tone.GOOD if verb in _GOOD else Tone.BAD if verb in _BAD else Tone.WARN
    said = [event.name or ""]
    said += [f"in {event.vhost}"] if event.vhost is not None else []
    said += [f"by {event.user}"] if event.user else []
    said += [f"{name} {event.details[name]}" for name in _DETAILS if event.details.get(name) not in (None, "", {})]
    head = f"{output.paint(when, Tone.MUTED)}  {output.paint(f'{safe_text(event.event):<20}', tone)}"
    return f"{head}  {safe_text('  '.join(part for part in said if part))}"
