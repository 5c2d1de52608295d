"""`busctl tail`: live messages of a queue or an exchange, without taking any."""

from __future__ import annotations

import contextlib
import enum
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags, lists, output

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.envelope import Delivery
    from busctl_lib.taps import Tap, TapEvent, TapPlan

_BATCH = 256
_LOOK_S = 0.5
"""How often to look whether anybody still reads stdout."""


class MessageFormat(enum.StrEnum):
    """How messages are printed."""

    PRETTY = "pretty"
    JSONL = "jsonl"
    RAW = "raw"


class Via(enum.StrEnum):
    """How messages are seen."""

    AUTO = "auto"
    COPY = "copy"
    FIREHOSE = "firehose"


def tail(
    ctx: typer.Context,
    queue: Annotated[str | None, typer.Argument(help="The queue to watch.", show_default=False)] = None,
    via: Annotated[Via, typer.Option("--via", help="The way to see the messages.")] = Via.AUTO,
    explain: Annotated[bool, typer.Option("--explain", help="Say what would be seen, how and why, and stop.")] = False,
    number: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Stop after so many messages.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop after 30s, 5m, 2h.")] = None,
    form: Annotated[MessageFormat, typer.Option("-o", "--output", help="How to print.")] = MessageFormat.PRETTY,
    exchange: Annotated[
        str | None, typer.Option("--exchange", metavar="NAME", help='Watch an exchange; "" is the default one.')
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Of the exchange only this key (topic: pattern).")
    ] = None,
) -> int:
    """Show live messages of a queue without taking them.

    The way is chosen so that nothing on the bus changes; what it cannot show is said on stderr. Exit code 5 when --for
    ended with fewer than -n messages, 9 when no way would be true and harmless.
    """
    if (queue is None) == (exchange is None):
        raise typer.BadParameter("name a queue, or an exchange with --exchange")
    if key is not None and exchange is None:
        raise typer.BadParameter("--key goes with --exchange")
    seconds = None if for_ is None else lists.seconds(for_, "--for")
    with flags.open_session(ctx) as session:
        if not explain:
            session.broker.connect()  # first, because everything needs it and its errors are the clearest
        plan = _plan(session, queue, exchange, key, via, explain)
        if explain:
            _explain(plan, form)
            return exits.ExitCode.DONE
        return _watch(session, plan, form, number, seconds)


def _plan(
    session: Session, queue: str | None, exchange: str | None, key: str | None, via: Via, explain: bool
) -> TapPlan:
    from busctl_lib.errors import ApiUnreachable, NotFound
    from busctl_lib.taps import plan_tap

    try:
        return plan_tap(
            session.management,
            session.vhost,
            queue,
            exchange=exchange,
            key=key,
            via=via.value,
            production=session.settings.production,
        )
    except ApiUnreachable as error:
        if not explain:
            hint = f"AMQP answers; say where the API is with --api-url{f', {error.hint}' if error.hint else ''}"
            raise ApiUnreachable(f"tail cannot know how to watch without harm: {error}", hint=hint) from error
        raise
    except NotFound as error:
        error.hint = error.hint or (session.hint_for_queue(queue) if queue else _nearest_exchange(session, exchange))
        raise


def _nearest_exchange(session: Session, exchange: str | None) -> str | None:
    from busctl_lib.schemas import nearest

    meant = nearest(exchange or "", [info.name for info in session.management.exchanges(session.vhost) if info.name])
    return f"did you mean {meant}?" if meant else None


def _explain(plan: TapPlan, form: MessageFormat) -> None:
    from busctl.views.formats import safe_text

    if form is not MessageFormat.PRETTY:
        output.write_jsonl(plan)
        return
    lines = [f"{plan.target}: {plan.way}", f"  why    {plan.reason}", f"  sees   {plan.sees}"]
    lines += [f"  {'not' if not index else '   '}    {miss}" for index, miss in enumerate(plan.misses)]
    lines += [f"  costs  {plan.costs}"]
    for line in lines:
        output.write_line(safe_text(line))


def _watch(session: Session, plan: TapPlan, form: MessageFormat, number: int | None, seconds: float | None) -> int:
    from busctl_lib.taps import lease_folder, open_tap

    tap = open_tap(plan, session.broker, session.management, lease_folder=lease_folder())
    try:
        for sentence in tap.cleaned:
            exits.note(sentence)
        exits.note(f"{plan.target} via {plan.way}: {plan.coverage}")
        if plan.way == "firehose":
            exits.note(plan.costs)
        shown = _show(tap, _printer(form), number, seconds)
    finally:
        with _patiently():
            tap.close()
        if tap.left_behind is not None:
            exits.note(tap.left_behind)
    if number is not None and shown < number:
        exits.note(f"{shown} of {number} messages came in time")
        return exits.ExitCode.TIMED_OUT
    return exits.ExitCode.DONE


def _show(tap: Tap, printer: _Printer, number: int | None, seconds: float | None) -> int:
    """Print until there is enough of messages or time; returns how many were printed."""
    from busctl_lib.taps import Note

    deadline = None if seconds is None else time.monotonic() + seconds
    shown = 0
    while number is None or shown < number:
        left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
        if left <= 0:
            break
        events = _take(tap, left, _BATCH if number is None else min(_BATCH, number - shown))
        if not events and output.reader_gone():
            raise exits.PipeClosed
        deliveries: list[Delivery] = []
        for event in events:
            if isinstance(event, Note):
                printer.print(deliveries)
                deliveries = []
                exits.note(f"-- {event.text} --")
            else:
                deliveries.append(event)
                shown += 1
        printer.print(deliveries)
    return shown


def _take(tap: Tap, timeout: float, most: int) -> list[TapEvent]:
    """Wait for an event, and take what else is there already: a burst is written at once."""
    events: list[TapEvent] = []
    event = tap.next(timeout)
    while event is not None:
        events.append(event)
        if len(events) >= most:
            break
        event = tap.next(0)
    return events


class _Printer:
    """Prints messages one way."""

    def print(self, deliveries: list[Delivery]) -> None:
        """Print what came together, in one write."""
        if deliveries:
            output.write_bytes(b"".join(map(self.line, deliveries)))

    def line(self, delivery: Delivery) -> bytes:
        """Form one message, with its end of line."""
        raise NotImplementedError


class _Jsonl(_Printer):
    def line(self, delivery: Delivery) -> bytes:
        from busctl_lib.documents import to_json

        return to_json(delivery) + b"\n"


class _Raw(_Printer):
    """The body as it is; on a terminal made harmless."""

    def line(self, delivery: Delivery) -> bytes:
        if not output.is_terminal():
            return delivery.body + b"\n"
        from busctl.views.formats import safe_text

        return safe_text(delivery.body.decode("utf-8", "backslashreplace"), keep_lines=True).encode() + b"\n"


class _Pretty(_Printer):
    """One line a message; on a terminal as wide as that, elsewhere whole."""

    def __init__(self) -> None:
        self._key_width = 8
        self._type_width = 4

    def line(self, delivery: Delivery) -> bytes:
        import shutil

        from busctl.views import messages
        from busctl.views.formats import cell_width
        from busctl.views.view import Tone

        row = messages.row(delivery)
        self._key_width = min(32, max(self._key_width, cell_width(row.key)))
        self._type_width = min(20, max(self._type_width, cell_width(row.type)))
        head = f"{_padded(row.key, self._key_width)}  {row.size:>8}  {_padded(row.type, self._type_width)}  "
        body = row.body
        if output.is_terminal():
            room = shutil.get_terminal_size().columns - len(row.time) - 2 - cell_width(head)
            body = _fitted(body, max(room, 8))
        return f"{output.paint(row.time, Tone.MUTED)}  {head}{body}".rstrip().encode() + b"\n"


def _padded(text: str, width: int) -> str:
    from busctl.views.formats import cell_width

    return text + " " * max(0, width - cell_width(text))


def _fitted(text: str, width: int) -> str:
    from busctl.views.formats import cell_width

    if cell_width(text) <= width:
        return text
    text = text[: width - 1]
    while cell_width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _printer(form: MessageFormat) -> _Printer:
    return {MessageFormat.PRETTY: _Pretty, MessageFormat.JSONL: _Jsonl, MessageFormat.RAW: _Raw}[form]()


@contextlib.contextmanager
def _patiently() -> Iterator[None]:
    """Let giving back finish when Ctrl-C is hit again; a further one leaves the rest to the next run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hits = 0

    def once_more(number: int, frame: FrameType | None) -> None:
        nonlocal hits
        hits += 1
        if hits > 1:
            raise KeyboardInterrupt
        exits.note("giving back what was borrowed; again to leave that to the next run")

    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, once_more) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
