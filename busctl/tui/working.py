"""The part of the console that changes the bus: operations under way, and the ways to them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from textual import on
from textual.app import App

from busctl.tui.jobs import Job
from busctl.tui.messages import Describe, JobChanged, OpenBulk, OpenOperation, OpenTransfer
from busctl.views import formats, plans
from busctl.views.formats import safe_text
from busctl.views.operations import OPERATIONS

if TYPE_CHECKING:
    from busctl.tui.feed import Feed
    from busctl.tui.screens.place import Place
    from busctl_lib.transfers import Request

VERBS = ("replay", "move", "copy", "park", "discard", "purge")


def request_of(verb: str, argument: str) -> Request:
    """Read `:replay QUEUE [FLAGS]` and its like.

    Raises:
        ValueError: what is missing, or wrong.
    """
    from busctl.tui.requests import with_flags
    from busctl_lib.transfers import Request

    words = shlex.split(argument)
    source = words.pop(0) if words else ""
    target = words.pop(0) if verb in ("move", "copy") and words and not words[0].startswith("-") else None
    if not source or (verb in ("move", "copy") and target is None):
        raise ValueError(f"{verb} needs {'SOURCE TARGET' if verb in ('move', 'copy') else 'QUEUE'}")
    kind = "discard" if verb == "purge" else verb  # what can be undone is what one wants at three in the morning
    request = with_flags(Request(kind=kind, source=source, target=target), shlex.join(words))  # type: ignore[arg-type]
    if kind == "park" and request.target is None:
        request.target = plans.parking(source)
    return request


class Working(App[None]):
    """Keeps the jobs of this run."""

    feed: Feed

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self.jobs: list[Job] = []

    @property
    def place(self) -> Place | None:
        """The place in front, below any question."""
        raise NotImplementedError

    def begin(self, wanted: OpenTransfer, *, unasked: bool = False) -> Job:
        """Begin to plan an operation."""
        job = Job(
            self.feed.session,
            self._tell_changed,
            self.feed.held,
            request=wanted.request,
            undo=wanted.undo,
            resume=wanted.resume,
            unasked=unasked,
        )
        self.jobs.append(job)
        job.start()
        return job

    def _tell_changed(self, job: Job) -> None:
        """Runs on the job's thread."""
        self.post_message(JobChanged(job))

    @on(OpenTransfer)
    def _open_transfer(self, message: OpenTransfer) -> None:
        self._show_job(self.begin(message))

    @on(OpenOperation)
    def _open_operation(self, message: OpenOperation) -> None:
        from busctl.tui.screens.table_place import described

        operation = message.operation
        job = next((job for job in self.jobs if job.id == operation.id), None)
        if job is not None:
            self._show_job(job)
        else:
            self.post_message(Describe(safe_text(f"{operation.kind} {operation.id}"), described(OPERATIONS, operation)))

    def _show_job(self, job: Job) -> None:
        from busctl.tui.screens.transfer import TransferScreen

        self.push_screen(TransferScreen(self.feed, job))

    @on(JobChanged)
    def _job_changed(self, message: JobChanged) -> None:
        from busctl.tui.screens.transfer import TransferScreen

        job, place = message.job, self.place
        if isinstance(place, TransferScreen) and place.job is job:
            place.show_job()
        elif job.phase == "ended":
            self._say_ended(job)
        if job.phase == "ended":
            self.feed.poller.refresh()

    def _say_ended(self, job: Job) -> None:
        if job.error is not None:
            title = safe_text(f"{job.kind} {job.source}", 80)
            self.notify(safe_text(str(job.error)), title=title, severity="error", markup=False)
        elif job.account is not None:
            undo = f"\n^z or :undo {job.id} puts it back" if job.undoable else ""
            self.notify(safe_text(plans.summary(job.account.operation)) + undo, timeout=10, markup=False)

    @property
    def last_undoable(self) -> Job | None:
        """The newest operation of this run that can be put back and was not."""
        undone = {job.undoes for job in self.jobs if job.account is not None}
        return next((job for job in reversed(self.jobs) if job.undoable and job.id not in undone), None)

    def action_undo_last(self) -> None:
        """Plan to put back what the last operation did."""
        if (job := self.last_undoable) is not None:
            self.post_message(OpenTransfer(undo=job.id))
        else:
            self.notify("nothing to undo in this run; :operations has all", severity="warning", markup=False)

    @on(OpenBulk)
    def _ask_bulk(self, message: OpenBulk) -> None:
        from busctl.tui.modals.question import QuestionModal

        requests = list(message.requests)
        total = sum(message.counts)
        lines = [
            (request.source, f"{formats.count(count)} messages")
            for request, count in zip(requests, message.counts, strict=True)
        ]
        back = "" if requests[0].kind == "replay" else "; it can be undone"
        total_of = f"{formats.counted(total, 'message')} of {formats.counted(len(requests), 'queue')}"
        question = f"{plans.verb(requests[0].kind)} {total_of}?{back}"

        def decided(yes: bool | None) -> None:
            if yes:
                message.agreed()
            for request in requests if yes else ():
                self.begin(OpenTransfer(request=request), unasked=True)

        word = self.feed.context if self.feed.session.settings.production else ""
        self.push_screen(QuestionModal(question, lines, word=word), decided)

    def stop_jobs(self) -> None:
        """End what runs; it can be gone on with."""
        for job in self.jobs:
            if job.phase != "ended":
                job.stop("interrupted")
