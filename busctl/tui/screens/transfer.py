"""Transfer: the plan of an operation, the question, how far it is, and its account: one place for all four."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Input, ProgressBar, Static

from busctl.tui.feed import Feed
from busctl.tui.jobs import DECISION_S, UNDOABLE, Job
from busctl.tui.messages import OpenTransfer
from busctl.tui.requests import command_words, flags_for, flags_of, with_flags
from busctl.tui.screens.place import Place
from busctl.tui.widgets.hanging_text import HangingText
from busctl.views import plans
from busctl.views.formats import counted, duration, safe_text

DESTRUCTIVE = ("discard",)
CANARY = ("--canary", "5", "--watch", "30s")


class TransferScreen(Place):
    """One job.

    Args:
        feed: The bus.
        job: Started; it goes on when this place is left while it runs.
    """

    CSS_PATH = "transfer.tcss"
    AUTO_FOCUS = "#transfer-lines"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "start", id="transfer.start", tooltip="Do what the plan says."),
        Binding("e", "change", "change", id="transfer.change", tooltip="Change the flags; a new plan is made."),
        Binding("c", "canary", "canary", id="transfer.canary", tooltip="Replay a few first, and watch them."),
        Binding("space", "pause", "pause/go on", id="transfer.pause", tooltip="Send nothing more for now, or go on."),
        Binding("x", "stop", "stop", id="transfer.stop", tooltip="End after the batch under way, with an account."),
        Binding("u", "undo", "undo", id="transfer.undo", tooltip="Put back what this operation moved or took away."),
    ]

    def __init__(self, feed: Feed, job: Job) -> None:
        super().__init__(feed)
        self.job = job
        self._asked = ""
        """What the line is for: the queue's name, or flags."""

    @property
    def crumb(self) -> str:
        """The verb and the queue."""
        return f"{plans.verb(self.job.kind)} {safe_text(self.job.source, 60)}"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        job = self.job
        if job.request is not None:
            return self.feed.command(*command_words(job.request))
        return self.feed.command("ops", job.kind, job.undoes or job.resumes or "")

    def compose_place(self) -> ComposeResult:
        """The lines, the bar, the flags."""
        yield Static("", id="transfer-title", markup=False)
        with VerticalScroll(id="transfer-lines"):
            yield HangingText(10, id="transfer-text")
        yield ProgressBar(id="transfer-bar", show_eta=False)
        yield Static("", id="transfer-state", markup=False)
        yield Input(id="transfer-input", compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        """Show how it stands."""
        self.query_one("#transfer-input").display = False
        self.set_class(self.job.kind in DESTRUCTIVE, "-destructive")
        self.show_job()

    def on_unmount(self) -> None:
        """Give up a plan that nobody sees any more: it keeps messages from others."""
        if self.job.phase in ("planning", "asking"):
            self.job.leave()

    # --- showing

    def show_job(self) -> None:
        """Show the plan, how far it is, or its account."""
        job = self.job
        if not self.query("#transfer-input"):  # told while it is being built or taken down
            return
        self.refresh_way()
        self.query_one("#transfer-title", Static).update(self._title())
        self.query_one("#transfer-text", HangingText).show(self._lines())
        self._say_state()
        bar = self.query_one("#transfer-bar", ProgressBar)
        progress = job.progress
        bar.display = job.phase in ("planning", "running") and progress is not None
        if progress is not None:
            done = progress.moved if job.phase == "planning" else progress.done
            bar.update(total=max(progress.planned, 1), progress=done)
        self.refresh_bindings()

    def _title(self) -> Content:
        job = self.job
        if job.error is not None:
            return Content.assemble(("✖ ", "bold $text-error"), ("nothing more is done", "bold"))
        if job.account is not None:
            operation = job.account.operation
            good = operation.state == "done"
            style = "bold $text-success" if good else "bold $text-warning"
            return Content.assemble(("● " if good else "▲ ", style), (safe_text(plans.summary(operation)), "bold"))
        if job.plan is not None:
            lines = plans.plan_lines(job.plan)
            style = "bold $text-error" if job.kind in DESTRUCTIVE else "bold $text-primary"
            return Content.styled(safe_text(lines[0][1]), style)
        return Content.styled(f"○ reading {safe_text(job.source)} …", "$muted")

    def _lines(self) -> Content:
        job = self.job
        parts: list[str | tuple[str, str]] = []
        if job.error is not None:
            parts += [safe_text(str(job.error)), "\n", (safe_text(job.error.hint or ""), "$muted"), "\n\n"]
        if job.account is not None:
            parts += [f"{safe_text(line)}\n" for line in plans.account_lines(job.account)]
            if job.account.problem:
                parts += [("✖ ", "bold $text-error"), f"{safe_text(job.account.problem)}\n"]
            parts.append("\n")
        for label, text in plans.plan_lines(job.plan)[1:] if job.plan is not None else ():
            parts += [(f"{label:<9} ", "$muted"), f"{safe_text(text)}\n"]
        return Content.assemble(*parts)

    def _say_state(self) -> None:
        said = self._state()
        line = self.query_one("#transfer-state", Static)
        line.update(said)
        line.display = bool(said)

    def _state(self) -> Content:
        job = self.job
        if job.phase == "asking":
            return self._question()
        if job.phase == "running" and job.progress is not None:
            waiting = f"  waiting: {safe_text(job.progress.waiting)}" if job.progress.waiting else ""
            if job.paused:
                done = plans.done_line(job.progress)
                return Content.assemble(("‖ PAUSED  ", "bold $text-warning"), done)
            said = plans.progress_line(job.progress)
            return Content.assemble(("▶ ", "bold $text-success"), said, (waiting, "$text-warning"))
        if job.phase == "planning" and job.progress is not None:
            return Content.styled(f"reading: {job.progress.moved:,} of {job.progress.planned:,}", "$muted")
        if job.undoable:
            return Content.assemble(("u", "bold $text-accent"), " puts it back")
        if job.phase == "ended" and job.account is None and job.error is None:
            kept = duration(DECISION_S)
            return Content.styled(
                f"nothing was done: a plan is kept for {kept}, this one was given up", "$text-warning"
            )
        return Content("")

    @property
    def _going(self) -> int:
        """How many messages would move."""
        targets = self.job.plan.targets if self.job.plan is not None else ()
        return sum(target.count for target in targets if not target.problem)

    def _question(self) -> Content:
        job = self.job
        if not self._going:
            return Content.assemble("Nothing of it would move.  ", *self._other_keys())
        count = counted(self._going, "message")
        name = safe_text(job.source, 60)
        if self.feed.session.settings.production:
            context = safe_text(self.feed.context)
            text = f"{context} is production: enter, then type {name} to {plans.verb(job.kind)} {count}"
            return Content.styled(text, "bold $text-error")
        back = "" if job.kind not in UNDOABLE else "  (it can be undone)"
        style = "bold $text-error" if job.kind in DESTRUCTIVE else "bold"
        return Content.assemble(
            (f"{plans.verb(job.kind).capitalize()} {count} of {name}?{back}\n", style),
            ("enter", "bold $text-accent"), " start  ", *self._canary_key(), *self._other_keys(),
        )  # fmt: skip

    @staticmethod
    def _other_keys() -> Sequence[str | tuple[str, str]]:
        return (("e", "bold $text-accent"), " change  ", ("esc", "bold $text-accent"), " leave it")

    def _canary_key(self) -> Sequence[str | tuple[str, str]]:
        if not self.check_action("canary", ()):
            return ()
        return (("c", "bold $text-accent"), " canary first  ")

    # --- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Each key in its phase."""
        job = self.job
        allowed = {
            "start": job.phase == "asking" and self._going > 0,
            "change": job.request is not None and (job.phase == "asking" or (job.phase == "ended" and not job.account)),
            "canary": job.phase == "asking" and job.kind == "replay" and not (job.request and job.request.canary),
            "pause": job.phase == "running",
            "stop": job.phase == "running",
            "undo": job.undoable,
        }
        return allowed[action] if action in allowed else super().check_action(action, parameters)

    def action_start(self) -> None:
        """Do what the plan says; in production the queue's name has to be typed first."""
        if self.feed.session.settings.production:
            self._ask_line("name", "", f"type {safe_text(self.job.source)}")
        else:
            self.job.agree()

    def action_change(self) -> None:
        """Change the flags."""
        request = self.job.request
        if request is not None:
            self._ask_line("flags", shlex.join(flags_of(request)))

    def action_canary(self) -> None:
        """Begin to ask for a canary; its numbers can be changed."""
        if (request := self.job.request) is not None:
            self._ask_line("flags", shlex.join([*flags_of(request), *CANARY]))

    def _ask_line(self, name: str, text: str, placeholder: str = "") -> None:
        line = self.query_one("#transfer-input", Input)
        self._asked = name
        line.placeholder = placeholder
        if name == "flags" and self.job.request is not None:
            there_are = " ".join(flags_for(self.job.request))
            said = Content.assemble(("enter", "bold $text-accent"), " plan anew  ", (there_are, "$muted"))
            self.query_one("#transfer-state", Static).update(said)
        line.value = text
        line.cursor_position = len(text)
        line.display = True
        line.focus()

    @on(Input.Submitted, "#transfer-input")
    def _line_given(self, event: Input.Submitted) -> None:
        request = self.job.request
        if self._asked == "name":
            if event.value != self.job.source:
                self.notify("that is not its name: nothing was done", severity="warning", markup=False)
                return
            self._hide_line()
            self.job.agree()
        elif request is not None:
            try:
                changed = with_flags(request, event.value)
            except ValueError as error:
                self.notify(safe_text(str(error)), severity="error", markup=False)
                return
            self._hide_line()
            self.job.leave()
            self.app.pop_screen()
            self.app.post_message(OpenTransfer(request=changed))

    def _hide_line(self) -> None:
        self.query_one("#transfer-input").display = False
        self.query_one("#transfer-lines").focus()
        self._say_state()

    def action_pause(self) -> None:
        """Pause, or go on."""
        self.job.toggle_pause()

    def action_stop(self) -> None:
        """End with an account."""
        self.job.stop()

    def action_undo(self) -> None:
        """Plan the undo."""
        assert self.job.account is not None
        self.post_message(OpenTransfer(undo=self.job.account.operation.id))

    def action_up(self) -> None:
        """Close the line, else leave: what runs goes on."""
        if self.query_one("#transfer-input").display:
            self._hide_line()
            return
        if self.job.phase == "running":
            self.notify(f"operation {self.job.id} goes on; :operations leads back to it", markup=False)
        super().action_up()
