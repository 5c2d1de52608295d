"""The engine: takes messages from a queue's head, sends each where it belongs, and loses none.

What happens to a message when the process dies at any line:

    taken                 | it is unsettled: the broker puts it back
    batch in the journal  | as before; whoever resumes finds an open batch and looks whether the queue has its messages
    exact: commit sent    | the broker does all of it or nothing: publishes and acks are one transaction
    fast: publish sent    | the ack follows the confirm: it is in its queue, or confirmed at its target, or both
    outcome in the journal| nothing is left to do

What is not known is written down as unknown, and such a message is not touched again without being told to.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from busctl_lib.amqp.movers import Mode, Mover, Sent
from busctl_lib.amqp.tables import Unencodable
from busctl_lib.envelope import Delivery, Envelope, Outcome
from busctl_lib.errors import ApiError, BusError, GuardRefused
from busctl_lib.journal import Journal, Operation, Verdict, steady
from busctl_lib.taps.budget import RESERVE, PeekBudget, given_back_before
from busctl_lib.transfers.fixed import FixedSet, View
from busctl_lib.transfers.requests import Progress, Request
from busctl_lib.transfers.routes import Reach, RouteMap
from busctl_lib.transfers.targets import Aim, Aimer, Stays, reason_for
from busctl_lib.transfers.works import Pace, UnderWay, Work, identity, intent_of

EXACT_BATCH = 500
FAST_BATCH = 250
_EXACT_OPEN = 2
_FAST_OPEN = 4
_BATCH_BYTES = 8 << 20
WINDOW = 2000
_SLICE_S = 0.25
_STOP_PATIENCE_S = 5.0
"""How long a batch under way is waited for when somebody wants to stop; after that it is left open in the journal."""
_PUT_BACK_PATIENCE_S = 60.0
_GHOSTS = 8
QUORUM_HELD = 2000
Match = Callable[[Sequence[Delivery]], list[bool]]
Trash = Callable[[Sequence[Delivery]], None]


class _LeftOpen(Exception):
    """A batch was not answered in time, and stays open in the journal."""


class Session:
    """One reading from the queue's head: what comes is of one epoch."""

    def __init__(self, epoch: int, view: View, stays: Counter[bytes], unknown: Counter[bytes]) -> None:
        self.epoch = epoch
        self.view = view
        self.stays = stays
        """Known to stay, still to be met."""
        self.unknown = unknown
        self.held = 0
        """Unsettled and kept so."""
        self.held_of_window = 0
        self.idle = 0


class Engine:
    """One run of an operation.

    Args:
        mover: Open, on the source.
        journal: Where every step is written first.
        operation: In the journal already.
        request: What shall happen.
        aimer: Where each message goes.
        routes: For the check before each batch; None where the bindings cannot be read.
        fixed: Which messages.
        match: For a set that is only a number: which of them; what does not match is written anew.
        trash: Takes what is discarded, before it is.
        budget: Of a quorum queue.

    Thread: `run` on one; `pause`, `go_on` and `stop` from any.
    """

    def __init__(
        self,
        mover: Mover,
        journal: Journal,
        operation: Operation,
        request: Request,
        aimer: Aimer,
        fixed: FixedSet,
        *,
        routes: RouteMap | None = None,
        match: Match | None = None,
        trash: Trash | None = None,
        budget: PeekBudget | None = None,
    ) -> None:
        self.operation = operation
        self.reasons: Counter[str] = Counter()
        self.gone = 0
        self.stopped: str | None = None
        """Why it was told to stop: cancelled or interrupted."""
        self._mover, self._journal, self._request = mover, journal, request
        self._aimer, self._routes, self._fixed = aimer, routes, fixed
        self._match, self._trash, self._budget = match, trash, budget
        self._exact = mover.mode is Mode.EXACT
        self._pace = Pace(request.rate)
        self._paused = threading.Event()
        self._stop = self.stopping = threading.Event()
        self._seq = journal.next_seq(operation.id)
        batches = journal.open_batches(operation.id)
        self._number = max((batch.number for batch in batches), default=0)
        self._away = journal.identities(operation.id, "moved", "skipped") if request.takes else Counter()
        self._stays = journal.identities(operation.id, "returned", "failed", *([] if request.takes else ["moved"]))
        self._unknown = journal.identities(operation.id, "unknown")
        self._beyond = 0
        self._one_by_one = 0
        self._lined_up: deque[Work] = deque()
        self._open: deque[UnderWay] = deque()
        self._ghosts: deque[Work] = deque(maxlen=_GHOSTS * FAST_BATCH)
        self._session = Session(-1, View(None, 0), Counter(), Counter())
        self._ghost_check: Counter[bytes] = Counter()
        self._again = False
        """Whether something that was lined up has to come again."""
        self._left: list[Verdict] = []
        self._told_at = 0.0
        self._quota: int | None = None

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
        self._stop.set()

    # -- the run

    def run(self, quota: int | None = None) -> Iterator[Progress]:
        """Send what is to be sent; ends when all is done, it was stopped, or (quota) so many were handled.

        Raises:
            BusError: it cannot go on; what is under way is settled first where that can be known.
        """
        self._quota = quota
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
            while not self._stop.is_set() and not self._finished():
                if self._mover.failure is not None:
                    raise self._mover.failure
                progress = self._step()
                if progress is not None:
                    yield progress
            yield from self._settle_all()
            if self._stop.is_set() or self._finished():
                return

    def _finished(self) -> bool:
        if self._lined_up or self._again:
            return False
        if self._quota is not None and self._quota <= 0:
            return True
        return self._session.epoch == self._mover.epoch and self._session.view.count <= 0

    def _step(self) -> Progress | None:
        mover, session = self._mover, self._session
        if session.epoch != mover.epoch:
            self._begin_session()
        if not mover.ready or self._paused.is_set():
            self._collect()
            self._stop.wait(_SLICE_S)
            return self._progress(None if self._paused.is_set() else mover.says)
        self._collect()
        if session.held_of_window >= WINDOW // 2:
            mover.renew()
            session.held_of_window = 0
        self._fetch()
        self._guard_held()
        if self._lined_up:
            self._send_next()
        return self._progress_now_and_then()

    def _begin_session(self) -> None:
        """Read from the head again: what is under way will be heard of, what was lined up comes again."""
        for under_way in list(self._open):
            self._wait_for(under_way)
        self._lined_up.clear()
        self._ghost_check = Counter(work.intent.identity for work in self._ghosts)
        away = self._away + self._unknown
        view = self._fixed.view(away, self._beyond)
        self._again = False
        self._session = Session(self._mover.epoch, view, Counter(self._stays), Counter(self._unknown))

    # -- taking and sorting

    def _fetch(self) -> None:
        """Line up about a batch of messages."""
        session = self._session
        most = EXACT_BATCH if self._exact else FAST_BATCH
        if self._quota is not None:
            most = min(most, self._quota)
        deadline = time.monotonic() + 0.05
        while len(self._lined_up) < most and session.view.count > 0 and session.held_of_window < WINDOW:
            timeout = _SLICE_S if not self._lined_up and not self._open else max(0.0, deadline - time.monotonic())
            deliveries = self._mover.take(most - len(self._lined_up), timeout, session.epoch)
            if not deliveries:
                if not self._lined_up and not self._open:
                    self._look_whether_drained()
                return
            session.idle = 0
            self._sort(deliveries)

    def _look_whether_drained(self) -> None:
        """Nothing came: the set may have been taken by others."""
        session = self._session
        if not self._mover.ready or session.epoch != self._mover.epoch:
            return
        session.idle += 1
        if session.idle < 3:
            return
        session.idle = 0
        if self._mover.count_ready() == 0:
            self.gone = session.view.count
            session.view.count = 0
        else:
            self._mover.renew()

    def _sort(self, deliveries: list[Delivery]) -> None:
        chosen = self._match(deliveries) if self._match is not None else [True] * len(deliveries)
        for delivery, wanted in zip(deliveries, chosen, strict=True):
            self._guard_budget(delivery)
            known_as = identity(delivery)
            if self._is_known(delivery, known_as):
                self._hold(1)
                continue
            if self._quota is not None:
                self._quota -= 1
            self._line_up(delivery, known_as, wanted)
        if self._left:
            left, self._left = self._left, []
            self._journal.close_batch(self.operation.id, None, left)
            for verdict in left:
                self._note(verdict)

    def _is_known(self, delivery: Delivery, known_as: bytes) -> bool:
        """Whether there is nothing to do for a message: not of the set, or dealt with before."""
        session = self._session
        if session.unknown[known_as] > 0:
            session.unknown[known_as] -= 1
            return True
        if delivery.redelivered and not self._exact and self._is_ghost(known_as):
            return True
        if not session.view.admits(known_as):
            return True
        if session.stays[known_as] > 0:
            session.stays[known_as] -= 1
            return True
        return False

    def _is_ghost(self, known_as: bytes) -> bool:
        """Whether it was confirmed at its target and its ack got lost with the link: it is in both places now."""
        if not self._request.takes or self._ghost_check[known_as] <= 0:
            return False
        self._ghost_check[known_as] -= 1
        work = next(work for work in self._ghosts if work.intent.identity == known_as)
        self._ghosts.remove(work)
        reason = "it is at its target; that it was taken out of its queue was not heard of"
        self._away[known_as] -= 1
        self._unknown[known_as] += 1
        self.operation.moved -= 1
        self.operation.unknown += 1
        self._journal.close_batch(self.operation.id, None, [Verdict(work.intent, "unknown", reason)])
        return True

    def _line_up(self, delivery: Delivery, known_as: bytes, wanted: bool) -> None:
        seq, self._seq = self._seq, self._seq + 1
        if not wanted:
            self._add(delivery, Aim(self._to_own_tail(delivery)), seq, known_as, None, rewrites=True)
            return
        aim: Aim | None = None
        try:
            aim = self._aimer.aim(delivery)
            reach = self._check_route(aim)
            self._add(delivery, aim, seq, known_as, reach)
        except (Stays, Unencodable) as error:
            intent = intent_of(delivery, aim, seq, known_as, keep=False)
            self._left.append(Verdict(intent, "returned" if aim is not None else "failed", str(error)))
            self._hold(1)

    def _to_own_tail(self, delivery: Delivery) -> Envelope:
        properties = steady(delivery.properties)
        return Envelope(exchange="", routing_key=self._mover.queue, properties=properties, body=delivery.body)

    def _add(
        self, delivery: Delivery, aim: Aim, seq: int, known_as: bytes, reach: Reach | None, *, rewrites: bool = False
    ) -> None:
        discards = self._trash is not None and not rewrites
        frame = b"" if discards else self._mover.encode(aim.envelope)
        intent = intent_of(delivery, aim, seq, known_as, keep=self._exact)
        work = Work(delivery, aim.envelope, frame, intent, rewrites=rewrites)
        if reach is not None and self._exact and reach.refuses:
            work.alone, work.sole = True, reach.sure and len(reach.queues) == 1
        self._lined_up.append(work)

    def _check_route(self, aim: Aim) -> Reach | None:
        """Refuse what would not be taken; a queue on the way that may refuse it makes it go alone."""
        if self._trash is not None or self._routes is None:
            return None
        try:
            reach = self._routes.reach(aim.envelope)
        except ApiError:
            return None  # the broker's return will tell
        if reach.problem is not None:
            raise Stays(reason_for(aim.envelope, reach.problem))
        return reach

    def _guard_budget(self, delivery: Delivery) -> None:
        budget = self._budget
        if budget is None or budget.delivery_limit is None or self._request.accept_loss:
            return
        count = given_back_before(delivery)
        if count >= budget.delivery_limit - RESERVE:
            raise GuardRefused(
                f"stopped: a message of {self._mover.queue} was given back {count} times, and at "
                f"{budget.delivery_limit} the queue drops or dead-letters it",
                hint="raise the queue's delivery limit by a policy, or --accept-loss",
            )

    def _hold(self, messages: int) -> None:
        self._session.held += messages
        self._session.held_of_window += messages

    def _guard_held(self) -> None:
        quorum = self._budget is not None and self._budget.type == "quorum"
        if quorum and self._session.held >= QUORUM_HELD and self._session.view.count > 0:
            raise GuardRefused(
                f"stopped: {self._session.held:,} messages of {self._mover.queue} would have to be held, and a quorum "
                "queue gives no consumer more",
                hint="--rewrite writes them anew behind the others instead",
            )

    def _note(self, verdict: Verdict) -> None:
        """Count a verdict that is in the journal."""
        known_as, outcome = verdict.intent.identity, verdict.outcome
        if outcome == "moved":
            self.operation.moved += 1
            (self._away if self._request.takes else self._stays)[known_as] += 1
        elif outcome == "skipped":
            self._away[known_as] += 1
        elif outcome == "unknown":
            self.operation.unknown += 1
            self._unknown[known_as] += 1
        else:
            self._stays[known_as] += 1
            if outcome == "returned":
                self.operation.returned += 1
            else:
                self.operation.failed += 1
            self.reasons[verdict.reason or outcome] += 1

    # -- sending

    def _send_next(self) -> None:
        """Write the next batch into the journal, then send it once there is room."""
        may = self._pace.may(EXACT_BATCH if self._exact else FAST_BATCH)
        if may == 0:
            self._stop.wait(0.02)
            return
        works = self._next_batch(may)
        epoch = works[0].delivery.epoch
        self._number += 1
        if self._trash is not None:
            self._trash([work.delivery for work in works if not work.rewrites])
        intents = [work.intent for work in works]
        self._journal.open_batch(self.operation.id, self._number, intents, exact=self._exact)
        under_way = UnderWay(self._number, works, epoch)
        while len(self._open) >= (_EXACT_OPEN if self._exact else _FAST_OPEN):
            self._wait_for(self._open[0])
        self._open.append(under_way)
        sent = [work for work in works if work.frame]
        tags = [work.delivery.delivery_tag for work in works] if self._request.takes else []
        under_way.batch = self._mover.send([work.envelope for work in sent], [work.frame for work in sent], tags, epoch)
        self._pace.count(len(works))
        if works[0].alone or self._one_by_one:
            self._one_by_one = max(0, self._one_by_one - 1)
            self._wait_for(under_way)

    def _next_batch(self, most: int) -> list[Work]:
        works: list[Work] = []
        size = 0
        if self._one_by_one:
            most = 1
        while self._lined_up and len(works) < most and size < _BATCH_BYTES:
            if self._lined_up[0].alone and works:
                break
            work = self._lined_up.popleft()
            works.append(work)
            size += len(work.frame)
            if work.alone:
                break
        return works

    def _collect(self) -> None:
        """Take in what has been answered."""
        while self._open:
            first = self._open[0]
            assert first.batch is not None
            sent = first.batch.wait(0)
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
            if self._stop.is_set():
                asked_at = asked_at or time.monotonic()
                if time.monotonic() - asked_at > _STOP_PATIENCE_S:
                    raise _LeftOpen
        self._take_in(under_way, sent)

    def _take_in(self, under_way: UnderWay, sent: Sent) -> None:
        """Write down what became of a batch."""
        if under_way in self._open:
            self._open.remove(under_way)
        outcome = sent.outcome
        if outcome in (Outcome.NEVER_SENT, Outcome.REFUSED):
            self._nothing_happened(under_way, sent)
        elif outcome is Outcome.NACKED and len(under_way.works) == 1 and under_way.works[0].sole:
            self._refused(under_way, sent)
        elif self._exact and outcome is Outcome.CONFIRMED and sent.returned and self._request.takes:
            self._put_back(under_way, sent.returned)
        else:
            self._close(under_way, self._verdicts(under_way, sent))

    def _refused(self, under_way: UnderWay, sent: Sent) -> None:
        """A lone message was refused by its only queue: its ack has happened, where it was to leave its own."""
        reason = "the queue refused it (is it full?)"
        if self._request.takes:
            self._put_back(under_way, {0: reason})
        else:
            work = under_way.works[0]
            self._close(under_way, [Verdict(work.intent, "returned", reason_for(work.envelope, reason))])
        self._again = self._again or self._mover.epoch == under_way.epoch

    def _nothing_happened(self, under_way: UnderWay, sent: Sent) -> None:
        if sent.outcome is Outcome.REFUSED and len(under_way.works) == 1:
            reason = reason_for(under_way.works[0].envelope, sent.reason)
            self._close(under_way, [Verdict(under_way.works[0].intent, "failed", reason)])
            return
        self._again = True
        if sent.outcome is Outcome.REFUSED:
            self._one_by_one = len(under_way.works)  # they come again: which one was it?
        self._journal.drop_batch(self.operation.id, under_way.number)

    def _verdicts(self, under_way: UnderWay, sent: Sent) -> list[Verdict]:
        """By what the broker said; a transaction is known as a whole, confirms one by one."""
        whole = self._exact and sent.outcome is not Outcome.CONFIRMED
        unknown = set(sent.unknown)
        verdicts: list[Verdict] = []
        for place, work in enumerate(under_way.works):
            if whole or place in unknown or (sent.outcome is not Outcome.CONFIRMED and not unknown):
                verdicts.append(Verdict(work.intent, "unknown", sent.reason))
            elif place in sent.returned:
                verdicts.append(Verdict(work.intent, "returned", reason_for(work.envelope, sent.returned[place])))
            else:
                verdicts.append(Verdict(work.intent, "skipped" if work.rewrites else "moved"))
                if not self._exact:
                    self._ghosts.append(work)
        return verdicts

    def _close(self, under_way: UnderWay, verdicts: list[Verdict]) -> None:
        self._journal.close_batch(self.operation.id, under_way.number, verdicts)
        for verdict in verdicts:
            self._note(verdict)
        if not self._request.takes:
            self._hold(len(verdicts))
        elif not self._exact:
            self._hold(sum(verdict.outcome == "returned" for verdict in verdicts))

    def _put_back(self, under_way: UnderWay, returned: dict[int, str]) -> None:
        """Messages were taken from their queue and reached none: they go back at once.

        Until that is known they stand in the journal as unknown, with their bodies.
        """
        works = under_way.works
        first = [
            Verdict(work.intent, "unknown", returned[place])
            if place in returned
            else Verdict(work.intent, "skipped" if work.rewrites else "moved")
            for place, work in enumerate(works)
        ]
        self._close(under_way, first)
        back = [works[place] for place in sorted(returned)]
        envelopes = [self._to_own_tail(work.delivery) for work in back]
        frames = [self._mover.encode(envelope) for envelope in envelopes]
        if not self._publish_only(envelopes, frames):
            return
        verdicts = []
        for work, place in zip(back, sorted(returned), strict=True):
            self.operation.unknown -= 1
            self._unknown[work.intent.identity] -= 1
            verdicts.append(Verdict(work.intent, "returned", reason_for(work.envelope, returned[place])))
        self._journal.close_batch(self.operation.id, None, verdicts)
        self._journal.forget_bodies(self.operation.id, [work.intent.seq for work in back])
        for verdict in verdicts:
            self._note(verdict)
        self._beyond += len(back)

    def _publish_only(self, envelopes: list[Envelope], frames: list[bytes]) -> bool:
        """Publish in a transaction of its own, once there is a channel; whether that is known to have happened."""
        deadline = time.monotonic() + _PUT_BACK_PATIENCE_S
        while time.monotonic() < deadline and self._mover.failure is None:
            if not self._mover.ready:
                time.sleep(0.05)
                continue
            batch = self._mover.send(envelopes, frames, [], self._mover.epoch)
            while (sent := batch.wait(_SLICE_S)) is None and time.monotonic() < deadline:
                pass
            if sent is None or sent.outcome is not Outcome.NEVER_SENT:
                return sent is not None and sent.outcome is Outcome.CONFIRMED and not sent.returned
        return False

    def _settle_all(self) -> Iterator[Progress]:
        """Wait for what is under way."""
        while self._open:
            assert self._open[0].batch is not None
            if self._open[0].batch.wait(_SLICE_S) is None and not self._stop.is_set():
                yield self._progress(None if self._mover.ready else self._mover.says)
                continue
            self._wait_for(self._open[0])

    def _settle_quickly(self) -> None:
        """Something went wrong: settle what is answered soon, and leave the rest open in the journal."""
        deadline = time.monotonic() + 5
        try:
            while self._open and time.monotonic() < deadline:
                first = self._open[0]
                if first.batch is None:  # never sent
                    self._open.popleft()
                    continue
                sent = first.batch.wait(min(_SLICE_S, max(0.0, deadline - time.monotonic())))
                if sent is not None:
                    self._take_in(first, sent)
        except BusError:
            return  # the journal itself is what went wrong: the batch stays open in it

    # -- telling

    def _progress_now_and_then(self) -> Progress | None:
        now = time.monotonic()
        if now - self._told_at < 0.1:
            return None
        return self._progress()

    def _progress(self, waiting: str | None = None) -> Progress:
        self._told_at = time.monotonic()
        operation, rate = self.operation, self._pace.rate
        left = operation.planned - operation.moved - operation.returned - operation.failed - operation.unknown
        return Progress(
            operation=operation.id,
            planned=operation.planned,
            moved=operation.moved,
            returned=operation.returned,
            failed=operation.failed,
            unknown=operation.unknown,
            rate=round(rate, 1),
            left_s=left / rate if rate > 0 else None,
            waiting=waiting,
            phase="paused" if self._paused.is_set() else "moving",
        )
