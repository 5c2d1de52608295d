"""Takes messages from the queue's head and says of each: to be sent, and how; to be left; or none of ours."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from busctl_lib.amqp import wire
from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.amqp.tables import Unencodable
from busctl_lib.envelope import Delivery, Envelope
from busctl_lib.errors import ApiError, GuardRefused
from busctl_lib.journal import Verdict, identity_of, steady
from busctl_lib.taps.budget import PeekBudget
from busctl_lib.transfers.books import Books
from busctl_lib.transfers.fixed import View
from busctl_lib.transfers.routes import Reach, RouteMap
from busctl_lib.transfers.targets import Aim, Aimer, Stays, reason_for
from busctl_lib.transfers.works import Work, header_of, intent_of

WINDOW = 2000
"""How many messages the broker hands out ahead."""
QUORUM_HELD = 2000
"""One consumer on a quorum queue is given no more."""
_SLICE_S = 0.25
_GATHER_S = 0.05
_GHOST = "it is at its target; that it was taken out of its queue was not heard of"
Match = Callable[[Sequence[Delivery]], list[bool | None]]


class Sorter:
    """One reading from the head after another: each connection begins a new one.

    Args:
        mover: Open, on the source.
        books: What is known of the messages.
        aimer: Where each goes.
        routes: For the check of each route; None where the bindings cannot be read.
        match: Which of a set that is only a number are meant; the others are written anew.
        discards: Nothing is published.
        budget: Of the source.
    """

    def __init__(
        self,
        mover: Mover,
        books: Books,
        aimer: Aimer,
        *,
        routes: RouteMap | None,
        match: Match | None,
        discards: bool,
        budget: PeekBudget | None,
    ) -> None:
        self.epoch = -1
        self.lined_up: deque[Work] = deque()
        """To be sent, in order."""
        self.quota: int | None = None
        """How many may still be lined up."""
        self._mover, self._books, self._aimer = mover, books, aimer
        self._routes, self._match, self._discards = routes, match, discards
        self._budget = budget
        self._exact = mover.mode is Mode.EXACT
        self._view = View(None, 0)
        self._stays: Counter[bytes] = Counter()
        self._unknown: Counter[bytes] = Counter()
        self._ghosts: dict[bytes, list[Work]] = {}
        self._held = self._held_of_window = self._idle = 0
        self._left: list[Verdict] = []

    @property
    def is_current(self) -> bool:
        """Whether what it has comes from the mover's present connection."""
        return self.epoch == self._mover.epoch

    @property
    def ended(self) -> bool:
        """Whether nothing of the set is still to come."""
        return self.is_current and self._view.count <= 0

    def begin(self, ghosts: Sequence[Work]) -> None:
        """Read from the head again; what was lined up comes again.

        Args:
            ghosts: What was confirmed a moment before the link was lost: its ack may not have arrived.
        """
        self.lined_up.clear()
        self.epoch = self._mover.epoch
        self._view = self._books.view()
        self._stays, self._unknown = Counter(self._books.stays), Counter(self._books.unknown)
        self._ghosts = {}
        for work in ghosts:
            self._ghosts.setdefault(work.intent.identity, []).append(work)
        self._held = self._held_of_window = self._idle = 0

    def fetch(self, most: int, *, patiently: bool) -> None:
        """Line up about so many messages.

        Args:
            most: How many at most.
            patiently: Wait for the first, because nothing else is to be done.

        Raises:
            GuardRefused: going on would cost messages.
        """
        if self._held_of_window >= WINDOW // 2:
            self._mover.renew()
            self._held_of_window = 0
        if self.quota is not None:
            most = min(most, self.quota)
        deadline = time.monotonic() + _GATHER_S
        while len(self.lined_up) < most and self._view.count > 0 and self._held_of_window < WINDOW:
            waits = patiently and not self.lined_up
            timeout = _SLICE_S if waits else max(0.0, deadline - time.monotonic())
            deliveries = self._mover.take(most - len(self.lined_up), timeout, self.epoch)
            if not deliveries:
                if waits:
                    self._look_whether_drained()
                break
            self._idle = 0
            self._sort(deliveries)
        self._guard_held()

    def hold(self, messages: int) -> None:
        """So many more stay unsettled."""
        self._held += messages
        self._held_of_window += messages

    def to_own_tail(self, delivery: Delivery) -> Envelope:
        """A message as it goes back behind the others of its queue."""
        properties = steady(delivery.properties)
        return Envelope(exchange="", routing_key=self._mover.queue, properties=properties, body=delivery.body)

    def _look_whether_drained(self) -> None:
        """Nothing came: the set may have been taken by others."""
        if not self._mover.ready or not self.is_current:
            return
        self._idle += 1
        if self._idle < 3:
            return
        self._idle = 0
        if self._mover.count()[0] == 0:
            self._books.gone = max(0, self._view.count - self._stays.total())  # what was to stay is told as such
            self._view.count = 0
        else:
            self._mover.renew()

    def _sort(self, deliveries: list[Delivery]) -> None:
        chosen: list[bool | None] = [True] * len(deliveries) if self._match is None else self._match(deliveries)
        for delivery, wanted in zip(deliveries, chosen, strict=True):
            header = header_of(delivery)
            known_as = identity_of(header, delivery.body)
            if self._is_known(delivery, known_as):
                self.hold(1)
                continue
            if self.quota is not None:
                self.quota -= 1
            if wanted:
                self._line_up(delivery, known_as, header)
            else:
                aim = Aim(self.to_own_tail(delivery))
                self._add(delivery, aim, self._books.next_seq(), known_as, header, None, rewrites=True)
                self.lined_up[-1].undecided = wanted is None
        if self._left:
            left, self._left = self._left, []
            self._books.close(None, left)

    def _is_known(self, delivery: Delivery, known_as: bytes) -> bool:
        """Whether there is nothing to do for a message: not of the set, or dealt with before."""
        if self._unknown[known_as] > 0:
            self._unknown[known_as] -= 1
            return True
        if delivery.redelivered and self._view.by_count and known_as in self._ghosts:
            self._books.doubt(self._ghosts[known_as].pop().intent, _GHOST)
            if not self._ghosts[known_as]:
                del self._ghosts[known_as]
            return True
        if not self._view.admits(known_as):
            if delivery.redelivered and not self._view.by_count:
                self._doubt(known_as)
            return True
        if self._stays[known_as] > 0:
            self._stays[known_as] -= 1
            return True
        return False

    def _doubt(self, known_as: bytes) -> None:
        """Tell of a message that was moved, and that its queue gives again: a broker that died forgot the ack."""
        intent = self._books.moved(known_as)
        if intent is not None:
            self._books.doubt(intent, _GHOST)

    def _line_up(self, delivery: Delivery, known_as: bytes, header: bytes) -> None:
        seq = self._books.next_seq()
        aim: Aim | None = None
        try:
            aim = self._aimer.aim(delivery)
            reach = self._check_route(aim)
            self._add(delivery, aim, seq, known_as, header, reach)
        except (Stays, Unencodable) as error:
            intent = intent_of(delivery, aim, seq, known_as)
            self._left.append(Verdict(intent, "returned" if aim is not None else "failed", str(error)))
            self.hold(1)

    def _add(
        self,
        delivery: Delivery,
        aim: Aim,
        seq: int,
        known_as: bytes,
        header: bytes,
        reach: Reach | None,
        *,
        rewrites: bool = False,
    ) -> None:
        envelope = aim.envelope
        if not aim.as_it_is:
            header = wire.encode_properties(envelope.properties)
        self._mover.require_fits(header)  # of what is discarded too: it could not be put back
        frame = b"" if self._discards and not rewrites else self._mover.encode(envelope, header)
        intent = intent_of(delivery, aim, seq, known_as)
        if self._exact:
            intent.properties, intent.body = header, envelope.body
        work = Work(delivery, envelope, frame, intent, rewrites=rewrites)
        if reach is not None and self._exact and reach.refuses:
            work.alone, work.sole = True, reach.sure and len(reach.queues) == 1
        self.lined_up.append(work)

    def _check_route(self, aim: Aim) -> Reach | None:
        """Refuse what would not be taken; a queue on the way that may refuse it makes it go alone."""
        if self._discards or self._routes is None:
            return None
        try:
            reach = self._routes.reach(aim.envelope)
        except ApiError:
            return None  # the broker's return will tell
        obstacle = reach.obstacle(exact=self._exact)
        if obstacle is not None:
            raise Stays(reason_for(aim.envelope, obstacle))
        return reach

    def _guard_held(self) -> None:
        quorum = self._budget is not None and self._budget.type == "quorum"
        if quorum and self._held >= QUORUM_HELD and self._view.count > 0:
            raise GuardRefused(
                f"stopped: {self._held:,} messages of {self._mover.queue} would have to be held, and a quorum queue "
                "gives no consumer more",
                hint="--rewrite writes them anew behind the others instead",
            )
