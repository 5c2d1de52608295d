"""Jobs: operations under way. Each runs on a thread of its own, so that looking elsewhere does not end it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from busctl.keyfile import load_keys
from busctl_lib.errors import BusError

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl.tui.feed import Held
    from busctl_lib.journal import Journal
    from busctl_lib.transfers import Account, Plan, Progress, Request, Restore, Transfer

Phase = Literal["planning", "asking", "running", "ended"]
_LOG = logging.getLogger(__name__)
DECISION_S = 600.0
"""How long a plan is held: it holds the queue for itself, and on a quorum queue its messages."""
UNDOABLE = ("move", "park", "copy", "discard")


class Job:
    """One operation from its plan to its account: a request, or the undo or the resumption of another one.

    Args:
        session: Whose broker.
        tell: Called when something changed, on the job's thread.
        held: Where it says that it holds something at the broker.
        request: What shall happen.
        undo: Or: the id of the operation to undo.
        resume: Or: the id of the operation to go on with; there is no plan to agree to then.
        unasked: Agreed to already.

    Thread: the attributes are written on the job's thread; methods may be called from any.
    """

    def __init__(
        self,
        session: Session,
        tell: Callable[[Job], None],
        held: Held,
        *,
        request: Request | None = None,
        undo: str | None = None,
        resume: str | None = None,
        unasked: bool = False,
    ) -> None:
        self.session = session
        self.request = request
        self.undoes, self.resumes = undo, resume
        self.phase: Phase = "planning"
        self.id = resume or ""
        self.kind = request.kind if request is not None else "undo" if undo else "resume"
        self.source = request.source if request is not None else undo or resume or ""
        self.plan: Plan | None = None
        self.progress: Progress | None = None
        self.account: Account | None = None
        self.error: BusError | None = None
        self.paused = False
        self._unasked = unasked
        self._tell, self._held = tell, held
        self._decided = threading.Event()
        self._agreed = False
        self._transfer: Transfer | Restore | None = None
        self._thread = threading.Thread(target=self._run, name="busctl-job", daemon=True)

    def start(self) -> None:
        """Begin to plan."""
        self._thread.start()

    @property
    def undoable(self) -> bool:
        """Whether it did something that can be put back."""
        return self.account is not None and self.account.operation.kind in UNDOABLE and self.account.operation.moved > 0

    # --- what its user decides

    def agree(self) -> None:
        """Do what the plan says."""
        self._agreed = True
        self._decided.set()

    def leave(self) -> None:
        """Do nothing; what was read is given back. What was agreed to is not left."""
        if self._unasked:
            return
        self._decided.set()
        if self._transfer is not None and self.phase == "planning":
            self._transfer.stop("cancelled")

    def toggle_pause(self) -> None:
        """Send nothing more for now, or go on."""
        engine = getattr(self._transfer, "engine", None)
        if engine is None or not hasattr(engine, "pause"):
            return
        self.paused = not self.paused
        (engine.pause if self.paused else engine.go_on)()

    def stop(self, why: str = "cancelled") -> None:
        """End after the batch under way, with an account: "cancelled", or "interrupted" to be resumed."""
        self._decided.set()
        if self._transfer is not None:
            self._transfer.stop(why)

    # --- the thread

    def _run(self) -> None:
        with self._held:
            try:
                self._work()
            except BusError as error:
                self.error = error
            except Exception as error:  # noqa: BLE001 - the thread's boundary: whatever failed is shown, not lost
                _LOG.exception("a job failed")
                self.error = BusError(f"a fault of busctl: {error!r}", hint="the journal knows how far it came")
            self._become("ended")
            if self.account is not None and self.account.operation.state == "interrupted":
                self._held.told.append(f"go on with: busctl ops resume {self.account.operation.id}")

    def _work(self) -> None:
        from busctl_lib.journal import Journal
        from busctl_lib.transfers import Transfer, mark_undone

        self.session.broker.connect()
        with ExitStack() as stack:
            journal = stack.enter_context(Journal())
            transfer = self._transfer = self._opened(journal)
            stack.enter_context(transfer)
            self.id = transfer.operation.id
            self.source = transfer.request.source
            if self.resumes is not None:
                assert isinstance(transfer, Transfer)
                self._follow(transfer.resuming(None))
            else:
                self._follow(transfer.planning())
                self.plan = transfer.plan
                if not self._is_agreed():
                    return
                self._follow(transfer.running())
            self.account = transfer.account
            if self.undoes is not None and self.account is not None:
                mark_undone(journal, self.account)

    def _opened(self, journal: Journal) -> Transfer | Restore:
        from busctl_lib.transfers import Transfer, undo_of

        broker, management = self.session.broker, self.session.management
        if self.undoes is not None:
            return undo_of(broker, management, journal, self.undoes)
        if self.resumes is not None:
            return Transfer.resume(broker, management, journal, self.resumes, keys=load_keys())
        assert self.request is not None
        keys = load_keys() if self.request.where or self.request.edit else None
        return Transfer(broker, management, journal, self.request, keys=keys)

    def _is_agreed(self) -> bool:
        assert self.plan is not None
        self.plan.require_safe()
        if not self._unasked:
            self._become("asking")
            self._decided.wait(DECISION_S)
        if self._agreed or self._unasked:
            self._become("running")
            return True
        return False

    def _follow(self, steps: Iterator[Progress]) -> None:
        for progress in steps:
            self.progress = progress
            self._tell(self)

    def _become(self, phase: Phase) -> None:
        self.phase = phase
        self._tell(self)
