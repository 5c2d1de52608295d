"""`busctl rpc spy`: the calls of others, request and reply put together, without touching them."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags, output, watching
from busctl.cli.confirm import YesOption
from busctl.cli.lists import seconds
from busctl.views import calls, formats
from busctl_lib.errors import NotFound

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.rpc.pairs import Pairs, SpiedCall
    from busctl_lib.taps import Tap, TapPlan

_LOOK_S = 0.25


class SpyFormat(enum.StrEnum):
    """How calls are printed."""

    PRETTY = "pretty"
    JSONL = "jsonl"


class SpyVia(enum.StrEnum):
    """How the messages are seen."""

    AUTO = "auto"
    FIREHOSE = "firehose"


def spy(
    ctx: typer.Context,
    queue: Annotated[
        str | None, typer.Argument(metavar="QUEUE", help="Only requests to this queue.", show_default=False)
    ] = None,
    via: Annotated[
        SpyVia, typer.Option("--via", help="firehose: also in production, where it is never chosen alone.")
    ] = SpyVia.AUTO,
    patience: Annotated[
        str, typer.Option(metavar="DURATION", help="After this a request without deadline counts as an orphan.")
    ] = "30s",
    number: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Stop after so many calls.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop after 30s, 5m, 2h.")] = None,
    form: Annotated[SpyFormat, typer.Option("-o", "--output", help="How to print.")] = SpyFormat.PRETTY,
    yes: YesOption = False,
) -> int:
    """Watch the calls of others: method, latency, orphans, late and duplicate replies; figures of each at the end.

    Exit code 5 when --for ended with fewer than -n calls, 9 when the messages cannot be seen without harm.
    """
    for_s = None if for_ is None else seconds(for_, "--for")
    from busctl_lib.rpc.pairs import Pairs

    pairs = Pairs(queue, patience_s=seconds(patience, "--patience"))
    with flags.open_session(ctx) as session:
        session.broker.connect()
        plan = _plan(session, queue, via)
        watching.allow(session, [plan], yes=yes)
        shown = _watch(session, plan, pairs, form, number, for_s)
    if number is not None and shown < number:
        exits.note(f"{shown} of {number} calls came in time")
        return exits.ExitCode.TIMED_OUT
    return exits.ExitCode.DONE


def _plan(session: Session, queue: str | None, via: SpyVia) -> TapPlan:
    from busctl_lib.taps.calls import plan_calls

    try:
        return plan_calls(
            session.management,
            session.vhost,
            queue,
            exchanges={method.exchange for method in session.methods.values()} if queue is None else (),
            via=via.value,
            production=session.settings.production,
        )
    except NotFound as error:
        if queue is not None:
            error.hint = error.hint or session.hint_for_queue(queue)
        raise


def _watch(
    session: Session, plan: TapPlan, pairs: Pairs, form: SpyFormat, number: int | None, for_s: float | None
) -> int:
    from busctl_lib.taps import lease_folder, open_tap

    shown, interrupted = 0, False
    tap = open_tap(plan, session.broker, session.management, lease_folder=lease_folder())
    try:
        exits.note(f"calls via {plan.way}: {plan.coverage}")
        exits.note(plan.costs)
        for call in _calls(tap, pairs, for_s):
            _print(call, form)
            shown += 1
            if shown == number:
                break
    except KeyboardInterrupt:  # the usual end of a long look; its figures come once all is given back
        interrupted = True
    finally:
        with watching.patiently():
            tap.close()
        if tap.left_behind is not None:
            exits.note(tap.left_behind)
    _figures(pairs, form)
    if interrupted:
        raise KeyboardInterrupt
    return shown


def _calls(tap: Tap, pairs: Pairs, for_s: float | None) -> Iterator[SpiedCall]:
    from busctl_lib.taps import Note

    deadline = None if for_s is None else time.monotonic() + for_s
    expire_at = 0.0
    while (left := _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())) > 0:
        event = tap.next(left)
        if isinstance(event, Note):
            exits.note(f"-- {event.text} --")
        elif event is not None:
            yield from pairs.take(event)
        elif output.reader_gone():
            raise exits.PipeClosed
        if time.monotonic() >= expire_at:
            expire_at = time.monotonic() + _LOOK_S
            yield from pairs.expire(time.time())


def _print(call: SpiedCall, form: SpyFormat) -> None:
    if form is SpyFormat.JSONL:
        output.write_jsonl(calls.spied_json(call))
    else:
        line, tone = calls.spied_line(call)
        output.write_line(output.paint(line, tone))


def _figures(pairs: Pairs, form: SpyFormat) -> None:
    """What was seen of each method: data for people, talk beside the lines for programs."""
    figures = pairs.figures()
    if not figures:
        exits.note("no call was seen")
    elif form is SpyFormat.PRETTY:
        output.write_line()
        output.write_list(calls.FIGURES, figures, output.Format.TABLE)
    else:
        exits.note(output.table(calls.FIGURES.columns, figures).rstrip())
    if pairs.open:
        exits.note(f"{formats.counted(pairs.open, 'request')} without a reply so far")
