"""Watching: open taps, show what comes until there is enough, give everything back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from busctl.cli import confirm, exits, output
from busctl_lib.errors import ApiUnreachable, BusError, NotFound

if TYPE_CHECKING:
    from busctl.cli.selecting import Selection
    from busctl.session import Session
    from busctl_lib.captures import CaptureWriter
    from busctl_lib.envelope import Delivery
    from busctl_lib.rights import Rights
    from busctl_lib.taps import TapEvent, TapPlan, Taps

_BATCH = 256
_A_WHILE_S = 1.0
_LOOK_S = 0.5
"""How often to look whether anybody still reads stdout."""

Show = Callable[["Sequence[Delivery]"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What is to be watched."""

    queues: Sequence[str] = ()
    exchange: str | None = None
    key: str | None = None
    everything: bool = False
    via: str = "auto"
    since: str | int = "next"
    accept_loss: bool = False
    accept_delay: bool = False


@dataclass(slots=True, kw_only=True)
class Watch:
    """What is done with the messages.

    Args:
        show: Prints those that were chosen.
        number: Stop after so many.
        seconds: Stop after so long.
        capture: Keeps those that were chosen.
    """

    selection: Selection
    show: Show
    number: int | None = None
    seconds: float | None = None
    capture: CaptureWriter | None = None
    watch_stdout: bool = True
    shown: int = field(default=0, init=False)


def plan_all(session: Session, targets: Targets, *, explain: bool) -> list[TapPlan]:
    """Plan a tap for each target. Raises what planning raises, with the name that was probably meant."""
    queues: list[str | None] = [*dict.fromkeys(targets.queues)] or [None]
    rights = session.rights
    return [_plan(session, targets, queue, rights, explain=explain) for queue in queues]


def _plan(session: Session, targets: Targets, queue: str | None, rights: Rights, *, explain: bool) -> TapPlan:
    from busctl_lib.taps import plan_tap

    try:
        return plan_tap(
            session.management,
            session.vhost,
            queue,
            exchange=targets.exchange,
            key=targets.key,
            everything=targets.everything,
            via=targets.via,
            since=targets.since,
            production=session.settings.production,
            accept_loss=targets.accept_loss,
            accept_delay=targets.accept_delay,
            rights=rights,
            broker=None if explain else session.broker,
        )
    except ApiUnreachable as error:
        if not explain:
            hint = f"AMQP answers; say where the API is with --api-url{f', {error.hint}' if error.hint else ''}"
            raise ApiUnreachable(f"tail cannot know how to watch without harm: {error}", hint=hint) from error
        raise
    except NotFound as error:
        meant = session.hint_for_queue(queue) if queue else session.hint_for_exchange(targets.exchange or "")
        error.hint = error.hint or meant
        raise


def allow(session: Session, plans: Sequence[TapPlan], *, yes: bool) -> None:
    """Ask before what costs the whole vhost or takes messages away, where that has to be asked."""
    for plan in plans:
        if plan.way == "firehose":
            does, name = f"switch the tracing of vhost {plan.vhost!r} on", plan.vhost
        elif plan.way == "consume":
            does, name = f"take messages away from queue {plan.queue!r}", plan.queue or ""
        else:
            continue
        hits = [("costs", plan.costs)] if session.settings.production else []
        change = confirm.Change(does=does, name=name, hits=hits, destructive=False)
        confirm.allow(session.settings, change, yes=yes)


def watch(session: Session, plans: Sequence[TapPlan], doing: Watch) -> int:
    """Watch until there is enough; returns the exit code."""
    from busctl_lib.taps import Taps, clean_leases, lease_folder, make_tap

    folder = lease_folder()
    for sentence in clean_leases(session.management, folder):
        exits.note(sentence)
    exact = doing.capture is not None
    limit = None if doing.selection.narrows else doing.number
    taps = Taps(
        [
            make_tap(plan, session.broker, session.management, lease_folder=folder, limit=limit, exact=exact)
            for plan in plans
        ]
    )
    try:
        with doing.selection:
            taps.__enter__()
            _introduce(plans)
            _follow(taps, doing)
    finally:
        with patiently():
            taps.close()
        for sentence in taps.sentences:
            exits.note(sentence)
        doing.selection.tell()
    if doing.number is not None and doing.shown < doing.number:
        exits.note(f"{doing.shown} of {doing.number} messages came in time")
        return exits.ExitCode.TIMED_OUT
    return exits.ExitCode.DONE


def _introduce(plans: Sequence[TapPlan]) -> None:
    for plan in plans:
        exits.note(f"{plan.target} via {plan.way}: {plan.coverage}")
        if plan.way not in ("copy", "stream"):
            exits.note(plan.costs)


def _follow(taps: Taps, doing: Watch) -> None:
    """Show until there is enough of messages or time."""
    from busctl_lib.taps import Note

    deadline = None if doing.seconds is None else time.monotonic() + doing.seconds
    while doing.number is None or doing.shown < doing.number:
        left = _LOOK_S if deadline is None else min(_LOOK_S, deadline - time.monotonic())
        if left <= 0:
            break
        events = _take(taps, left, _BATCH if doing.number is None else min(_BATCH, doing.number - doing.shown))
        if not events and doing.watch_stdout and output.reader_gone():
            raise exits.PipeClosed
        deliveries: list[Delivery] = []
        for event in events:
            if isinstance(event, Note):
                _pass_on(taps, doing, deliveries)
                deliveries = []
                exits.note(f"-- {event.text} --")
            else:
                deliveries.append(event)
        _pass_on(taps, doing, deliveries)


def _pass_on(taps: Taps, doing: Watch, deliveries: list[Delivery]) -> None:
    """Choose, keep, print; and only then may what was taken away be gone."""
    chosen = doing.selection.choose(deliveries)
    doing.selection.warn()
    if doing.capture is not None and chosen:
        for delivery, _ in chosen:
            doing.capture.write(delivery)
        doing.capture.flush()
    doing.show([shown for _, shown in chosen])
    doing.shown += len(chosen)
    taps.settle(deliveries)


def _take(taps: Taps, timeout: float, most: int) -> list[TapEvent]:
    """Wait for an event, and take what else is there already: a burst is written at once.

    Raises:
        BusError: what ended the taps, once all that came before was taken.
    """
    events: list[TapEvent] = []
    event = taps.next(timeout)
    while event is not None:
        events.append(event)
        if len(events) >= most:
            break
        try:
            event = taps.next(0)
        except BusError:
            break  # it is raised again when there is nothing else to be told
    return events


@contextlib.contextmanager
def patiently() -> Iterator[None]:
    """Let giving back finish; by Ctrl-C, who was told that it takes a while leaves the rest to the next run."""
    told = threading.Event()

    def tell() -> None:
        if not told.is_set():
            told.set()
            exits.note("giving back what was borrowed; again to leave that to the next run")

    def once_more(_number: int, _frame: FrameType | None) -> None:
        if told.is_set():
            raise KeyboardInterrupt
        tell()

    timer = threading.Timer(_A_WHILE_S, tell)
    timer.daemon = True
    timer.start()
    try:
        with exits.signals_to(once_more):
            yield
    finally:
        timer.cancel()
