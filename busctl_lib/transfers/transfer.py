"""Transfer: one operation from its plan to its account."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Literal, Self

import msgspec

from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import Keyring
from busctl_lib.deadletters.dialects import failure_of
from busctl_lib.deadletters.grounds import GroundsOf
from busctl_lib.errors import BusError, ConfigError, GuardRefused, NotFound
from busctl_lib.journal import Journal, Operation
from busctl_lib.management import ManagementClient, QueueInfo
from busctl_lib.transfers.books import Books
from busctl_lib.transfers.boomerangs import Watch
from busctl_lib.transfers.engine import Engine
from busctl_lib.transfers.fixed import FixedSet
from busctl_lib.transfers.plans import Plan, Sums, pack_set, require_same, special
from busctl_lib.transfers.reading import Reading, require_readable
from busctl_lib.transfers.requests import Account, CameBack, Progress, Request, plain
from busctl_lib.transfers.resume import Reconciler
from busctl_lib.transfers.routes import RouteMap
from busctl_lib.transfers.selection import Selection
from busctl_lib.transfers.sorter import Sorter
from busctl_lib.transfers.source import Source
from busctl_lib.transfers.targets import Aimer
from busctl_lib.transfers.trash import TRASH_MESSAGES, Trash

Unknown = Literal["resend", "skip"]


class Transfer:
    """Moves messages of one queue, exactly once where the broker allows, and never less.

    ::

        with Transfer(broker, management, journal, Request(kind="replay", source="orders.dead")) as transfer:
            for progress in transfer.planning():
                ...
            print(transfer.plan)                    # nothing has happened so far
            for progress in transfer.running():
                ...
            print(transfer.account)

    Args:
        broker: To the vhost.
        management: Of the same cluster.
        journal: Of this user.
        request: What shall happen.
        among: Only these messages, by identity.
        resumes: An operation of the journal to be gone on with; see `resume`.
        keys: To decrypt bodies with, for `where` and `edit`.

    Thread: one, but `engine`'s `pause`, `go_on` and `stop` from any.
    """

    def __init__(
        self,
        broker: MessageBroker,
        management: ManagementClient,
        journal: Journal,
        request: Request,
        *,
        among: Counter[bytes] | None = None,
        resumes: Operation | None = None,
        keys: Keyring | None = None,
    ) -> None:
        self.request = request
        self.plan: Plan | None = None
        self.account: Account | None = None
        self.engine: Engine | None = None
        self._broker, self._management, self._journal = broker, management, journal
        self._trash: Trash | None = None
        self._resources = ExitStack()
        self._stop_asked: str | None = None
        self._cluster = management.overview().cluster_name or broker.endpoints[0].address
        self.operation = resumes or Operation(
            id=secrets.token_hex(5),
            kind=request.kind,
            source=request.source,
            target=request.target,
            vhost=broker.virtual_host,
            broker=self._cluster,
            plan={"request": plain(request)},
        )
        if request.kind == "discard" or request.discard:
            self._trash = Trash(self.operation.id)
            self._resources.callback(self._trash.close)
            self.operation.trash = str(self._trash.path)
        self._routes = RouteMap(management, broker.virtual_host)
        grounds = GroundsOf(management, broker.virtual_host, request.source)
        self._died = lambda delivery: failure_of(delivery, grounds.value)
        user = broker.endpoints[0].username
        self._aimer = Aimer(request, self.operation.id, self._routes, died=self._died, user=user, keys=keys)
        self._resources.callback(self._aimer.close)
        self._among = among
        self._selection = Selection(request, among, died=self._died, keys=keys)
        self._resources.callback(self._selection.close)
        exact = self._trash is not None or not request.fast
        self._source = Source(broker, management, request, exact=exact)
        self._fixed: FixedSet | None = None
        self._books: Books | None = None
        self._came_back: list[CameBack] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back and let go of the queue."""
        self._source.close()
        self._resources.close()
        self._journal.release(self.operation.id)

    def stop(self, why: str = "cancelled") -> None:
        """End early, with an account: "cancelled", or "interrupted" to be resumed. Thread: any."""
        self._stop_asked = why
        if self.engine is not None:
            self.engine.stop(why)

    # -- the plan

    def planning(self, made: Plan | None = None) -> Iterator[Progress]:
        """Read the queue and make the plan; nothing changes but what a look changes.

        Args:
            made: A plan that was made before: refuse where the queue no longer fits it.

        Raises:
            GuardRefused: the queue cannot be read without harm, somebody else is at it, or the plan no longer fits.
            NotFound: no such queue. QueueAway: it cannot be reached now.
        """
        request = self.request
        info = self._management.queue_at_hand(self._broker.virtual_host, request.source)
        found = self._broker.declare_queue(request.source, passive=True)
        waiting = require_readable(info, found, request)
        self._source.count(info)
        sums = Sums(self._aimer, self._routes, request, fits=self._source.take().require_fits)
        reading = Reading(
            self._source.take(),
            sums,
            self._selection,
            waiting,
            limit=request.limit,
            again=info.type != "quorum",
            remembers=made is not None,
        )
        for read in reading.run():
            yield Progress(operation=self.operation.id, planned=reading.most, moved=read, phase="reading")
        self._conclude(info, waiting, sums, reading, made)

    def _conclude(self, info: QueueInfo, waiting: int, sums: Sums, reading: Reading, made: Plan | None) -> None:
        """Make the plan of what was read; one that was `made` before must still fit."""
        request = self.request
        total = sums.selected if reading.whole else min(waiting, request.limit or waiting)
        plan = sums.plan(
            operation=self.operation.id,
            vhost=self._broker.virtual_host,
            broker=self._cluster,
            source=request.source,
            source_type=info.type or "classic",
            waiting=waiting,
            messages=pack_set(sums.identities.elements()) if reading.whole else None,
            undecided=sum(self._selection.undecided.values()),
            undecided_why=self._selection.undecided,
        )
        self.operation.undecided = plan.undecided if reading.whole and request.undecided == "leave" else 0
        plan.warnings += self._selection.notes
        plan.warnings += special(
            plan,
            info,
            whole=reading.whole,
            budget=self._source.budget,
            trash_keeps=TRASH_MESSAGES if self._trash is not None else None,
        )
        plan.overfull = sums.room.overfull(self._broker, at_least=0 if reading.whole else total)
        plan.warnings += sums.room.buried
        if made is not None:
            require_same(made, plan, reading.seen)
            now = {name: getattr(plan, name) for name in ("operation", "request", "targets", "overfull")}
            plan = msgspec.structs.replace(made, **now)
            total = made.fixed.total() if made.fixed is not None else total
        known = sums.identities if made is None and reading.whole else plan.fixed
        self._fixed = FixedSet(total, known)
        self.operation.planned = total
        self.plan = plan.sign()

    # -- the run

    def running(self) -> Iterator[Progress]:
        """Do what the plan says; the account follows.

        Raises:
            GuardRefused: a route must be chosen first, or a queue would drop what arrives; nothing was done.
            BusError: it could not begin.
        """
        assert self.plan is not None
        assert self._fixed is not None
        self.plan.require_safe()
        if self.request.kind == "park":
            self._declare_parking()
        self.operation.state = "running"
        told = msgspec.structs.replace(self.plan, messages=None)
        self.operation.plan = {"request": plain(self.request), "plan": msgspec.to_builtins(told)}
        self._journal.begin(self.operation, self._fixed.copies)
        yield from self._run()

    def _declare_parking(self) -> None:
        """The queue that gets what is parked, of the source's type, where it is not there."""
        try:
            self._broker.declare_queue(self.request.target or "", passive=True)
        except NotFound:
            kind = self.plan.source_type if self.plan is not None else "classic"
            self._broker.declare_queue(self.request.target or "", arguments={"x-queue-type": kind})
            self._routes.forget()

    def _run(self) -> Iterator[Progress]:
        assert self._fixed is not None
        mover = self._source.take()
        by_count = self._fixed.copies is None and self.request.selects
        self._books = books = Books(self._journal, self.operation, self.request, self._fixed)
        sorter = Sorter(
            mover,
            books,
            self._aimer,
            routes=self._routes,
            match=self._selection.of if by_count else None,
            discards=self._trash is not None,
            budget=self._source.budget,
        )
        trash = self._trash.keep if self._trash is not None else None
        self.engine = engine = Engine(mover, books, sorter, trash=trash)
        if self._stop_asked:
            engine.stop(self._stop_asked)
        problem: str | None = None
        try:
            problem = yield from self._canary(engine)
            if problem is None:
                yield from engine.run()
                yield from self._watch(engine)
        except BusError as error:
            problem = f"{error} ({error.hint})" if error.hint else str(error)
            engine.stop("interrupted")
        except BaseException:
            with suppress(BusError):
                self._end(engine, None, "interrupted")
            raise
        self._end(engine, problem, None)

    def _canary(self, engine: Engine) -> Generator[Progress, None, str | None]:
        """Send the first few and watch; answers why to stop there, if so."""
        canary = self.request.canary
        if canary is None or self.operation.moved >= canary:
            return None
        yield from engine.run(quota=canary)
        yield from self._watch(engine)
        if not self._came_back:
            return None
        came = sum(each.count for each in self._came_back)
        engine.stop("interrupted")
        return f"stopped: {came:,} of the first {self.operation.moved:,} came back"

    def _watch(self, engine: Engine) -> Iterator[Progress]:
        """Look whether messages of this operation come back."""
        if self.request.watch_s is None or engine.stopped is not None:
            return
        source, operation = self._source, self.operation
        watch = Watch(source.take(), operation.id, again=source.again, stop=engine.stopping, died=self._died)
        for count in watch.run(self.request.watch_s):
            yield Progress.of(operation, phase="watching", came_back=count)
        self._came_back = watch.came_back
        if not watch.to_the_end:
            raise GuardRefused(
                f"{operation.source} could not be read to its end in {self.request.watch_s:g} s: what came back is "
                "not known",
                hint="watch longer",
            )

    def _end(self, engine: Engine, problem: str | None, state: str | None) -> None:
        """Write how it ended, as far as the journal can be written."""
        operation, books = self.operation, self._books
        assert books is not None
        left = operation.returned + operation.failed + operation.unknown + books.gone
        ended = state or engine.stopped or ("done" if not left else "partial")
        self.account = Account(
            operation=operation,
            reasons=dict(books.reasons.most_common(20)),
            came_back=self._came_back,
            gone=books.gone,
            problem=problem,
        )
        try:
            self._journal.set_state(operation, ended, problem)  # type: ignore[arg-type]
        except BusError as error:
            self.account.problem = problem or str(error)
            raise
        finally:
            self._journal.release(operation.id)

    # -- going on

    @classmethod
    def resume(
        cls,
        broker: MessageBroker,
        management: ManagementClient,
        journal: Journal,
        id: str,  # noqa: A002 - its name in JSON
        *,
        accept_loss: bool = False,
        accept_delay: bool = False,
        keys: Keyring | None = None,
    ) -> Transfer:
        """An operation that was interrupted, to be gone on with by `resuming`.

        Raises:
            ConfigError: no such operation, or of another broker. GuardRefused: there is nothing to go on with.
        """
        operation = journal.operation(id)
        if operation.state != "interrupted" and not operation.unknown:
            raise GuardRefused(f"operation {operation.id} is {operation.state}: there is nothing to go on with")
        if "restores" in operation.plan:
            raise GuardRefused(
                f"operation {operation.id} restores a trash", hint=f"go on with: busctl ops undo {operation.undoes}"
            )
        if "request" not in operation.plan:
            raise GuardRefused(f"operation {operation.id} ({operation.kind}) cannot be resumed")
        request = msgspec.convert(operation.plan["request"], Request)
        request.accept_loss = request.accept_loss or accept_loss
        request.accept_delay = request.accept_delay or accept_delay
        transfer = cls(broker, management, journal, request, resumes=operation, keys=keys)
        try:
            if (operation.broker, operation.vhost) != (transfer._cluster, broker.virtual_host):
                raise ConfigError(f"operation {operation.id} is of vhost {operation.vhost!r} at {operation.broker}")
            journal.claim(operation.id)
        except BusError:
            transfer.close()
            raise
        return transfer

    def resuming(self, unknown: Unknown | None = None) -> Iterator[Progress]:
        """Settle what was open, then go on.

        Args:
            unknown: What to do with messages that were told unknown before: send them again (they may be doubled), or
                leave them. None, and what is found unknown only now: it stays unknown, and is told.

        Raises:
            GuardRefused: the queue's peek budget is gone.
        """
        operation, journal = self.operation, self._journal
        self._source.count()
        mover = self._source.take()
        operation.note = operation.ended_at = None
        journal.set_state(operation, "running")
        reconciler = Reconciler(
            mover,
            journal,
            operation,
            self.request,
            self._management,
            self._routes,
            again=self._source.again,
        )
        told = {line.seq for line in journal.lines(operation.id, "unknown")}
        reconciler.settle_open()  # what it finds unknown nobody has decided about: it is told first
        if unknown == "resend":
            reconciler.resend(told)
        elif unknown == "skip":
            journal.leave_unknown(operation.id, told, "unknown, and left alone on request")
        counts = journal.counts(operation.id)
        operation.moved, operation.returned = counts["moved"], counts["returned"]
        operation.failed, operation.unknown = counts["failed"], counts["unknown"]
        self._fixed = FixedSet(operation.planned, journal.fixed_set(operation.id) or None)
        yield from self._run()
