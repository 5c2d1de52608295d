"""What every tap has: a reader, notes about what it could not see, and a watch that keeps it honest."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Literal, Self

import msgspec

from busctl_lib.broker import LinkEvent, MessageBroker, State
from busctl_lib.envelope import Delivery
from busctl_lib.errors import (
    ApiError,
    ApiForbidden,
    ApiLoginRefused,
    BusError,
    CannotConnect,
    ConsumerTimedOut,
    GuardRefused,
    NotFound,
    ResourceLocked,
    TimedOut,
    VhostNotFound,
)
from busctl_lib.management import ManagementClient
from busctl_lib.taps.buffers import Buffer, Note, TapEvent
from busctl_lib.taps.footing import foundation_of
from busctl_lib.taps.foundations import Changes, Foundation
from busctl_lib.taps.plans import TapPlan

logger = logging.getLogger(__name__)

WATCH_S = 2.0
_REST = 9
"""The API rests this many times as long as a look took."""
_UNSEEN_S = 10.0
_RETRY_S = 1.0
_GIVE_BACK_S, _WATCH_END_S, _LAST_LOOK_S = 8.0, 3.0, 2.0
"""At the end: for all that is asked of the API, for the watch to end, and for a last look."""
_PATIENCE_S = 1.5
_PATIENCE_AFTER_GAP_S = 30.0
_PULSE_S = 1.0
_STALL_S = 5.0
_SILENCE_S = 10.0  # longer than the pause between two heartbeats of a peer that is there
_UP = (State.OPEN, State.BLOCKED)


class Gone(NotFound):
    """What a tap watches was deleted."""


class Tap:
    """Base of the taps: opened on entering, everything given back on leaving.

    Thread: `follow`, `next` and `close` from one thread, the reader's.
    """

    def __init__(
        self, plan: TapPlan, broker: MessageBroker, management: ManagementClient, *, watch_s: float = WATCH_S
    ) -> None:
        self.plan = plan
        """How messages are seen now: what it was built on may have changed."""
        self.cleaned: list[str] = []
        """What killed taps had left behind and was put right before this one was opened, a sentence each."""
        self.account: str | None = None
        """After closing: what looking did to the queue, in one sentence, if anything."""
        self.exact = False
        """Set before opening: keep the AMQP types of header values, for captures."""
        self.buffer = Buffer()
        """Where events go; what `Taps` exchanges before opening."""
        self._broker = broker
        self._management = management
        self._watch_s = watch_s
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._closed = False
        self._watcher: threading.Thread | None = None
        self._pulse = _Pulse()
        self._heard_at: float | None = None
        """When the last message came, shown or not."""
        self._lost_at: float | None = None
        self._gap_began = 0.0
        self._silence = ""
        self._gap_words = "nothing was seen"
        self._doubt_since: float | None = None
        self._unseen_told = False
        self._link_returned = False
        self._ended = False
        self._built_on = plan.built_on
        self._sure_until = time.time()
        """Up to then (seconds since 1970) all was surely as planned."""

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def left_behind(self) -> str | None:
        """What could not be given back, in one sentence; None when all is as it was."""
        return None

    @property
    def dropped(self) -> int:
        """How many messages the reader was too slow for."""
        return self.buffer.dropped

    def open(self) -> Self:
        """Set the tap up; when that fails, or is interrupted, what was done of it is taken back. Once only."""
        if self._watcher is not None:
            return self
        try:
            self._sure_until = time.time()
            self._set_up()
            self._broker.add_listener(self._on_link)
            self._watcher = threading.Thread(target=self._watch, name="busctl-tap-watch", daemon=True)
            self._watcher.start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Give everything back. Trouble on the way does not raise: `left_behind` says what could not be undone."""
        if self._closed:
            return
        self._closing.set()
        self._wake.set()
        self.buffer.end()
        began = time.monotonic()
        with self._management.within(_GIVE_BACK_S):  # a broker that hangs takes nothing back
            if self._watcher is not None:
                self._watcher.join(_WATCH_END_S)
            self._broker.remove_listener(self._on_link)
            self._give_back()
            quick = time.monotonic() - began < _WATCH_END_S
            if self._watcher is not None and not self._ended and self._doubt_since is None and quick:
                self._look_back()
        self._closed = True

    def next(self, timeout: float | None = None) -> TapEvent | None:
        """Wait for the next event; None after `timeout` seconds.

        Raises:
            BusError: the tap cannot go on (the queue was deleted, somebody keeps switching tracing off).
        """
        event = self.buffer.get(timeout)
        if isinstance(event, Delivery):
            self.taken(event)
        return event

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Say that messages were written out: where a way takes messages away, it takes them now."""

    def follow(self, *, limit: int | None = None, for_s: float | None = None) -> Iterator[TapEvent]:
        """Yield messages, and notes about what was not seen.

        Args:
            limit: Stop after so many messages.
            for_s: Stop after so many seconds.

        Raises:
            BusError: the tap cannot go on.
        """
        deadline = None if for_s is None else time.monotonic() + for_s
        count = 0
        while limit is None or count < limit:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            event = self.next(left)
            if event is not None:
                count += isinstance(event, Delivery)
                yield event
            elif self.buffer.ended:
                return

    # -- for the ways

    def _set_up(self) -> None:
        """Make the tap. Effect: what the plan says."""
        raise NotImplementedError

    def _give_back(self) -> None:
        """Undo `_set_up` as far as it got. Must not raise BusError."""
        raise NotImplementedError

    def _check(self, *, after_gap: bool) -> None:
        """See that the tap still shows what it promises. Thread: the watch."""
        raise NotImplementedError

    def taken(self, delivery: Delivery) -> None:
        """Note that the reader took a message. Thread: the reader's."""

    def _look_back(self) -> None:
        """See whether all was as planned to the end, and say so in the account if not. Must not raise BusError."""

    @property
    def _unsure_s(self) -> float:
        """How long ago all was surely as planned."""
        return max(0.0, time.time() - self._sure_until)

    def _changes(self) -> Changes:
        """Look at what the plan was built on, and say what is another now.

        Raises:
            Gone: what is watched was deleted: both doors say so.
        """
        plan, began = self.plan, time.time()
        try:
            now = foundation_of(self._management, plan.vhost, plan.queue, plan.exchange, way=plan.way)
        except (NotFound, ApiError):
            self._require_there()
            raise
        self._built_on = now
        known = plan.built_on != Foundation()  # a plan that was made by hand stands on what is there
        changes = plan.built_on.changes(now) if known else Changes()
        if not changes:
            self._sure_until = began
            self._accept()  # the counters have grown
        return changes

    def _accept(self) -> None:
        """Go on with what was there at the last look."""
        self.plan = msgspec.structs.replace(self.plan, built_on=self._built_on)

    def _require_there(self) -> None:
        """Ask the broker itself. Raises Gone: what is watched is not there."""
        plan, timeout = self.plan, _LAST_LOOK_S if self._closing.is_set() else None
        try:
            if plan.queue is not None:
                self._broker.declare_queue(plan.queue, passive=True, timeout=timeout)
            elif plan.exchange:
                self._broker.declare_exchange(plan.exchange, passive=True, timeout=timeout)
        except NotFound as error:
            if "no queue" in error.text or "no exchange" in error.text:  # not: it is on a node that is down
                raise Gone(
                    f"{plan.target} was deleted: nothing comes there any more",
                    code=404,
                    text=error.text,
                    hint="should it be declared again, it is another one: begin anew",
                ) from None
        except BusError as error:
            logger.info("whether %s is there is not known: %s", plan.target, error)

    def _note(self, kind: Literal["gap", "dropped", "changed"], text: str, **facts: float) -> None:
        count = facts.get("count")
        self.buffer.put(
            Note(
                kind=kind,
                text=text,
                at=time.time(),
                seconds=facts.get("seconds"),
                count=None if count is None else int(count),
            )
        )

    # -- the watch

    def _on_link(self, event: LinkEvent) -> None:
        if event.link != "consume" or self._closing.is_set():
            return
        if event.old in _UP and event.new not in _UP:
            self._pulse.beat()
            went_silent = event.heard_at is not None and event.at - event.heard_at > _SILENCE_S
            lost_at = event.heard_at if event.heard_at is not None and went_silent else event.at
            self._lost_at = min(lost_at, self._pulse.stopped_at or lost_at)
            silent = self._lost_at - self._heard_at if self._heard_at is not None else 0.0
            self._silence = f"; the last message came {silent:.0f} s before" if silent >= 1 else ""
        elif event.new in _UP and self._lost_at is not None:
            self._gap_began, self._lost_at = self._lost_at, None
            gap = event.at - self._gap_began
            text = f"the link to the broker was lost for {gap:.1f} s: {self._gap_words}{self._silence}"
            self._note("gap", text, seconds=gap)
            self._link_returned = True
            self._wake.set()

    def _watch(self) -> None:
        due = time.monotonic() + self._watch_s
        while not self._closing.is_set():
            woken = self._wake.wait(min(_PULSE_S, max(0.0, due - time.monotonic())))
            self._pulse.beat()
            if not woken and time.monotonic() < due:
                continue
            self._wake.clear()
            try:
                due = time.monotonic() + self._look()
            except BusError as error:
                self._ended = True
                self.buffer.end(error)
                return

    def _look(self) -> float:
        """Check once; returns in how many seconds to check again. Raises what ends the tap."""
        if self._closing.is_set():
            return self._watch_s
        if self._broker.state not in _UP:
            return self._look_without_link()
        after_gap, self._link_returned = self._link_returned, False
        began = time.monotonic()
        try:
            self._check(after_gap=after_gap)
        except (GuardRefused, Gone, ConsumerTimedOut):
            raise
        except BusError as error:
            self._doubt(error, _PATIENCE_AFTER_GAP_S if after_gap else _PATIENCE_S)
            self._link_returned = self._link_returned or after_gap
            return _RETRY_S
        self._doubt_since = None
        self._unseen_told = False
        return max(self._watch_s, _REST * (time.monotonic() - began))

    def _look_without_link(self) -> float:
        """See whether there is anything to come back to: a virtual host that is gone closes the link, too."""
        try:
            self._management.policies(self.plan.vhost)
        except VhostNotFound as error:
            self._doubt(error, _PATIENCE_S)
            return _RETRY_S
        except BusError as error:
            logger.info("the link is down, and the API says nothing: %s", error)
        self._doubt_since = None
        return self._watch_s

    def _doubt(self, error: BusError, patience_s: float) -> None:
        """Raise an error that stays; a broker that is going down or coming up says many things once."""
        logger.info("a tap could not be checked, again in %g s: %s", _RETRY_S, error)
        now = time.monotonic()
        self._doubt_since = self._doubt_since or now
        passes = isinstance(error, CannotConnect | ApiError | TimedOut | ResourceLocked)
        if not passes or isinstance(error, ApiForbidden | ApiLoginRefused | VhostNotFound):
            if now - self._doubt_since > patience_s:
                raise error
        elif now - self._doubt_since > _UNSEEN_S and not self._unseen_told:
            self._unseen_told = True
            self._note("changed", f"whether {self.plan.target} is still as it was cannot be seen: {error}")


class _Pulse:
    """Knows when this process did not run: stopped by Ctrl-Z, or the machine asleep."""

    def __init__(self) -> None:
        self.stopped_at: float | None = None
        """Since when it had stood still (seconds since 1970), if that was just now."""
        self._at = time.time()
        self._until = 0.0

    def beat(self) -> None:
        """It runs. Thread: any."""
        now = time.time()
        if now - self._at > _PULSE_S + _STALL_S:
            self.stopped_at, self._until = self._at, now + _STALL_S
        elif now > self._until:
            self.stopped_at = None
        self._at = now
