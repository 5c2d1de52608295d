"""The engine: takes messages from a queue's head, sends each where it belongs, and loses none.

What happens to a message when the process dies at any line:

    taken                 | it is unsettled: the broker puts it back
    batch in the journal  | as before; whoever resumes finds an open batch and looks whether the queue has its messages
    exact: commit sent    | the broker does all of it or nothing: publishes and acks are one transaction; but quorum
                          | queues may lose what they were just given, so what went to one is unknown then
    fast: publish sent    | the ack follows the confirm: it is in its queue, or confirmed at its target, or both
    outcome in the journal| nothing is left to do

What is not known is written down as unknown, and such a message is not touched again without being told to.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from busctl_lib.amqp.batches import Sent
from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.envelope import Delivery, Outcome
from busctl_lib.errors import BusError
from busctl_lib.journal import Verdict
from busctl_lib.transfers.books import Books
from busctl_lib.transfers.requests import Progress
from busctl_lib.transfers.sorter import Sorter
from busctl_lib.transfers.targets import reason_for
from busctl_lib.transfers.works import Pace, UnderWay, Work, publish

EXACT_BATCH = 500
FAST_BATCH = 250
_EXACT_OPEN = 2
_FAST_OPEN = 4
_GHOSTS = 8 * FAST_BATCH
"""How many confirmed messages may have acks on their way: of no more batches than these, since the broker has read the
acks of all that were confirmed before it was sent what it confirms now."""
_BATCH_BYTES = 8 << 20
_SLICE_S = 0.25
_TELL_S = 0.1
_STOP_PATIENCE_S = 5.0
"""How long a batch under way is waited for when somebody wants to stop; after that it is left open in the journal."""
_PUT_BACK_PATIENCE_S = 60.0
Keep = Callable[[Sequence[Delivery]], None]


class _LeftOpen(Exception):
    """A batch was not answered in time, and stays open in the journal."""


class Engine:
    """One run of an operation.

    Args:
        mover: Open, on the source.
        books: Where every step is written first.
        sorter: Gives what is to be sent.
        trash: Takes what is discarded, before it is; None publishes.

    Thread: `run` on one; `pause`, `go_on` and `stop` from any.
    """

    def __init__(self, mover: Mover, books: Books, sorter: Sorter, *, trash: Keep | None = None) -> None:
        self.stopped: str | None = None
        """Why it was told to stop: cancelled or interrupted."""
        self.stopping = threading.Event()
        self._mover, self._books, self._sorter, self._trash = mover, books, sorter, trash
        self._request = books.request
        self._exact = mover.mode is Mode.EXACT
        self._batch = EXACT_BATCH if self._exact else FAST_BATCH
        self._pace = Pace(self._request.rate)
        self._paused = threading.Event()
        self._one_by_one = 0
        self._again = False
        """Whether something that was lined up has to come again."""
        self._open: deque[UnderWay] = deque()
        self._confirmed: deque[Work] = deque(maxlen=_GHOSTS)
        self._told_at = 0.0

    # -- any thread

    def pause(self) -> None:
        """Send nothing more until `go_on`."""
        self._paused.set()

    def go_on(self) -> None:
        """Undo `pause`."""
        self._paused.clear()

    def stop(self, why: str) -> None:
        """End after the batch under way: "cancelled" or "interrupted"."""
        self.stopped = self.stopped or why
        self.stopping.set()

    # -- the run

    def run(self, quota: int | None = None) -> Iterator[Progress]:
        """Send what is to be sent; ends when all is done, it was stopped, or (quota) so many were handled.

        Raises:
            BusError: it cannot go on; what is under way is settled first where that can be known.
        """
        self._sorter.quota = quota
        try:
            yield from self._run()
        except _LeftOpen:
            self._mover.abandon()
        except BaseException:  # a broken link, a full disk, Ctrl-C, a generator that was closed
            self._settle_quickly()
            raise
        yield self._progress()

    def _run(self) -> Iterator[Progress]:
        while True:
            while not self.stopping.is_set() and not self._finished():
                if self._mover.failure is not None:
                    raise self._mover.failure
                progress = self._step()
                if progress is not None:
                    yield progress
            yield from self._settle_all()
            if self.stopping.is_set() or self._finished():
                return

    def _finished(self) -> bool:
        sorter = self._sorter
        if sorter.lined_up or self._again:
            return False
        return sorter.ended or (sorter.quota is not None and sorter.quota <= 0)

    def _step(self) -> Progress | None:
        sorter = self._sorter
        if not sorter.is_current:
            for under_way in list(self._open):  # they will be heard of: their connection is gone
                self._wait_for(under_way)
            self._again = False
            sorter.begin(self._confirmed)
            self._confirmed.clear()
        self._collect()
        if not self._mover.ready or self._paused.is_set():
            self.stopping.wait(_SLICE_S)
            return self._progress(None if self._paused.is_set() else self._mover.says)
        if len(self._open) >= (_EXACT_OPEN if self._exact else _FAST_OPEN):
            batch = self._open[0].batch
            answered = batch is not None and batch.wait(_SLICE_S) is not None
            return None if answered else self._progress()
        sorter.fetch(self._batch, patiently=not self._open)
        if sorter.lined_up:
            self._send_next()
        if time.monotonic() - self._told_at < _TELL_S:
            return None
        return self._progress()

    # -- sending

    def _send_next(self) -> None:
        """Write the next batch into the journal, then send it once there is room."""
        may = self._pace.may(self._batch)
        if may == 0:
            self.stopping.wait(0.02)
            return
        works = self._next_batch(may)
        if self._trash is not None:
            self._trash([work.delivery for work in works if not work.rewrites])
        number = self._books.open([work.intent for work in works], exact=self._exact)
        under_way = UnderWay(number, works, works[0].delivery.epoch)
        sent = [work for work in works if work.frame]
        tags = [work.delivery.delivery_tag for work in works] if self._request.takes else []
        self._open.append(under_way)
        under_way.batch = self._mover.send(
            [work.envelope for work in sent], [work.frame for work in sent], tags, under_way.epoch
        )
        self._pace.count(len(works))
        if works[0].alone or self._one_by_one:
            self._one_by_one = max(0, self._one_by_one - 1)
            self._wait_for(under_way)

    def _next_batch(self, most: int) -> list[Work]:
        lined_up, works, size = self._sorter.lined_up, list[Work](), 0
        if self._one_by_one:
            most = 1
        while lined_up and len(works) < most and size < _BATCH_BYTES and not (works and lined_up[0].alone):
            work = lined_up.popleft()
            works.append(work)
            size += len(work.frame)
            if work.alone:
                break
        return works

    def _collect(self) -> None:
        """Take in what has been answered."""
        while self._open:
            first = self._open[0]
            sent = first.batch.wait(0) if first.batch is not None else None
            if sent is None:
                return
            self._take_in(first, sent)

    def _wait_for(self, under_way: UnderWay) -> None:
        """Wait for a batch; a broker that takes no publishes is waited for as long as it takes.

        Raises:
            _LeftOpen: it was told to stop, and there is no answer.
        """
        batch = under_way.batch
        assert batch is not None
        asked_at: float | None = None
        while (sent := batch.wait(_SLICE_S)) is None:
            if self.stopping.is_set():
                asked_at = asked_at or time.monotonic()
                if time.monotonic() - asked_at > _STOP_PATIENCE_S:
                    raise _LeftOpen
        self._take_in(under_way, sent)

    def _take_in(self, under_way: UnderWay, sent: Sent) -> None:
        """Write down what became of a batch."""
        if under_way in self._open:
            self._open.remove(under_way)
        places = [place for place, work in enumerate(under_way.works) if work.frame]
        if len(places) < len(under_way.works):  # what is discarded was not published
            returned = {places[place]: reason for place, reason in sent.returned.items()}
            sent = Sent(sent.outcome, sent.reason, returned, [places[place] for place in sent.unknown])
        outcome = sent.outcome
        if outcome in (Outcome.NEVER_SENT, Outcome.REFUSED):
            self._nothing_happened(under_way, sent)
        elif outcome is Outcome.NACKED and len(under_way.works) == 1 and under_way.works[0].sole:
            self._refused(under_way)
        elif self._exact and outcome is Outcome.CONFIRMED and sent.returned and self._request.takes:
            self._put_back(under_way, sent.returned)
        else:
            self._close(under_way, self._verdicts(under_way, sent))

    def _refused(self, under_way: UnderWay) -> None:
        """A lone message was refused by its only queue: its ack has happened, where it was to leave its own."""
        reason = "the queue refused it (is it full?)"
        self._again = True
        if self._request.takes:
            self._put_back(under_way, {0: reason})
        else:
            work = under_way.works[0]
            self._close(under_way, [Verdict(work.intent, "returned", reason_for(work.envelope, reason))])

    def _nothing_happened(self, under_way: UnderWay, sent: Sent) -> None:
        self._again = True
        if sent.outcome is Outcome.REFUSED and len(under_way.works) == 1:
            reason = reason_for(under_way.works[0].envelope, sent.reason)
            self._close(under_way, [Verdict(under_way.works[0].intent, "failed", reason)])
            return
        if sent.outcome is Outcome.REFUSED:
            self._one_by_one = len(under_way.works)  # they come again: which one was it?
        self._books.drop(under_way.number)

    def _verdicts(self, under_way: UnderWay, sent: Sent) -> list[Verdict]:
        """By what the broker said; a transaction is known as a whole, confirms one by one."""
        confirmed, unknown = sent.outcome is Outcome.CONFIRMED, set(sent.unknown)
        whole = not confirmed and (self._exact or not unknown)
        verdicts: list[Verdict] = []
        for place, work in enumerate(under_way.works):
            if whole or place in unknown:
                verdicts.append(Verdict(work.intent, "unknown", sent.reason))
            elif place in sent.returned:
                verdicts.append(Verdict(work.intent, "returned", reason_for(work.envelope, sent.returned[place])))
            else:
                verdicts.append(work.arrived())
                if not self._exact and self._request.takes:
                    self._confirmed.append(work)
        return verdicts

    def _close(self, under_way: UnderWay, verdicts: list[Verdict]) -> None:
        self._books.close(under_way.number, verdicts)
        if not self._request.takes:
            self._sorter.hold(len(verdicts))
        elif not self._exact:
            self._sorter.hold(sum(verdict.outcome == "returned" for verdict in verdicts))

    def _put_back(self, under_way: UnderWay, returned: dict[int, str]) -> None:
        """Messages were taken from their queue and reached none: they go back at once.

        Until that is known they stand in the journal as unknown, with their bodies.
        """
        works = under_way.works
        verdicts = [
            Verdict(work.intent, "unknown", returned[place]) if place in returned else work.arrived()
            for place, work in enumerate(works)
        ]
        self._close(under_way, verdicts)
        places = sorted(returned)
        envelopes = [self._sorter.to_own_tail(works[place].delivery) for place in places]
        sent = publish(self._mover, envelopes, _PUT_BACK_PATIENCE_S)
        if sent is not None and sent.outcome is Outcome.CONFIRMED and not sent.returned:
            reasons = [reason_for(works[place].envelope, returned[place]) for place in places]
            self._books.put_back(
                [
                    Verdict(works[place].intent, "returned", reason)
                    for place, reason in zip(places, reasons, strict=True)
                ]
            )

    def _settle_all(self) -> Iterator[Progress]:
        """Wait for what is under way."""
        while self._open:
            first = self._open[0]
            assert first.batch is not None
            if first.batch.wait(_SLICE_S) is None and not self.stopping.is_set():
                yield self._progress(None if self._mover.ready else self._mover.says)
                continue
            self._wait_for(first)

    def _settle_quickly(self) -> None:
        """Something went wrong: settle what is answered soon, and leave the rest open in the journal."""
        deadline = time.monotonic() + _STOP_PATIENCE_S
        try:
            while self._open and time.monotonic() < deadline:
                first = self._open[0]
                if first.batch is None:  # it was never sent
                    self._open.popleft()
                    continue
                sent = first.batch.wait(min(_SLICE_S, max(0.0, deadline - time.monotonic())))
                if sent is not None:
                    self._take_in(first, sent)
        except BusError:
            return  # the journal itself is what went wrong: the batch stays open in it

    # -- telling

    def _progress(self, waiting: str | None = None) -> Progress:
        self._told_at = time.monotonic()
        operation, rate = self._books.operation, self._pace.rate
        return Progress.of(
            operation,
            rate=round(rate, 1),
            left_s=self._books.left() / rate if rate > 0 else None,
            waiting=waiting,
            phase="paused" if self._paused.is_set() else "moving",
        )
