"""Dead letters of one queue: groups of one cause; then the messages of a group; then the plan to replay them."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from busctl.tui.feed import Feed
from busctl.tui.messages import OpenGroup, OpenQueue, OpenTopology, OpenTransfer, Triaged
from busctl.tui.refusals import hint_of
from busctl.tui.screens.table_place import TablePlace
from busctl.tui.widgets.hanging_text import HangingText
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views import formats
from busctl.views.dead import GROUPS, how_it_came
from busctl.views.formats import safe_text
from busctl.views.plans import parking
from busctl_lib.deadletters import Group
from busctl_lib.errors import BusError, GuardRefused

if TYPE_CHECKING:
    from busctl_lib.deadletters import Triage
    from busctl_lib.envelope import Delivery
    from busctl_lib.transfers.requests import Kind

_FIRST = ("cause", "count", "last_seen", "queue", "arrivals", "first_seen", "replayed", "id", "routing_key")
_LEAST = {"cause": 46, "queue": 12, "first_seen": 9, "last_seen": 9, "arrivals": 12, "id": 10, "routing_key": 10}


class DeadScreen(TablePlace[Group]):
    """The groups of a queue, from one look. Another costs another, so it must be asked for.

    Args:
        feed: The bus.
        queue: Whose dead letters.
    """

    CSS_PATH = "dead.tcss"
    clock = staticmethod(time.monotonic)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "transfer('replay')", "replay", id="dead.replay", tooltip="Plan to replay the group."),
        Binding("a", "replay_all", "replay all", id="dead.replay-all", tooltip="Plan to replay all dead letters here."),
        Binding("P", "transfer('park')", "park", id="dead.park", tooltip="Plan to put the group aside."),
        Binding("ctrl+x", "transfer('discard')", "discard", id="dead.discard", tooltip="Plan to throw the group away."),
        Binding("f", "source", "source", id="dead.source", tooltip="Go to the queue the group died in."),
        Binding("T", "topology", "topology", id="dead.topology", show=False, tooltip="What leads to the queue."),
        Binding("p", "look", "look again", id="dead.look", tooltip="Read the queue again, within its peek budget."),
        Binding(
            "D",
            "look_delaying",
            "look and delay",
            id="dead.delay",
            show=False,
            tooltip="Read also where delayed retry hides for a while what is given back.",
        ),
    ]

    def __init__(self, feed: Feed, queue: str) -> None:
        super().__init__(feed, GROUPS)
        self.queue = queue
        self._found: Triage | None = None
        self._messages: Sequence[Delivery] = ()
        self._error: BusError | None = None
        self._looked_at = 0.0
        self._read_at = 0.0
        self._looking = self._accept_delay = False

    # --- what a table place asks

    @property
    def crumb(self) -> str:
        """Dead and the queue."""
        return f"dead {safe_text(self.queue, 60)}"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("dead", self.queue, *["--accept-delay"] * self._accept_delay)

    @property
    def empty(self) -> str:
        """Why there is nothing."""
        if self._error is not None:
            return "Nothing was read."  # why, stands above
        return "No dead letters. Good."

    @property
    def first_sort(self) -> str:
        """The largest first."""
        return "-count"

    def slots(self, *, wide: bool) -> list[Slot[Group]]:
        """The columns."""
        columns = list(GROUPS.select(wide=wide))
        columns.sort(key=lambda column: column.name != "cause")  # what one reads first stands first
        rank = {name: place for place, name in enumerate(_FIRST)}
        return [
            Slot(
                column=column,
                least=_LEAST.get(column.name, max(len(column.title) + 1, 7)),
                most=0 if column.align == "right" else 70 if column.name == "cause" else 30,
                rank=rank.get(column.name, 20),
            )
            for column in columns
        ]

    def key(self, row: Group) -> Hashable:
        """Its id."""
        return row.id

    def label(self, row: Group) -> str:
        """The cause and where from."""
        return f"{row.cause} {row.queue or ''} {row.routing_key or ''} {row.id}"

    def known_rows(self) -> Sequence[Group] | None:
        """The groups of the last look."""
        return None if self._found is None else self._found.groups

    def compose_place(self) -> ComposeResult:
        """What looking did, the groups, the newest message of one."""
        yield Static("", id="dead-account", markup=False)
        yield from super().compose_place()
        with VerticalScroll(id="dead-example", classes="panel", can_focus=False) as example:
            example.border_title = "The newest of the group"
            yield HangingText(9, id="dead-example-text")

    # --- looking: the worker never touches a widget

    def on_mount(self) -> None:
        """Look once."""
        self.set_interval(1.0, self._grow_older)
        self.action_look()

    def _grow_older(self) -> None:
        self._say_account()
        self.table.refresh()

    def action_look(self) -> None:
        """Read the queue, unless that is under way."""
        if not self._looking:
            self._looking = True
            self._look()
            self._say_account()

    def action_look_delaying(self) -> None:
        """Read although that hides messages for a while."""
        self._accept_delay = True
        self.refresh_way()
        self.action_look()

    @work(thread=True, exclusive=True, exit_on_error=False, group="dead")
    def _look(self) -> None:
        from busctl_lib.deadletters import triage

        session = self.feed.session
        with self.feed.held:
            try:
                session.broker.connect()
                found, messages = triage(
                    session.broker, session.management, session.vhost, self.queue, accept_delay=self._accept_delay
                )
            except BusError as error:
                self.post_message(Triaged(None, (), error))
            else:
                self.post_message(Triaged(found, messages, None))

    @on(Triaged)
    def _take(self, message: Triaged) -> None:
        self._looking = False
        self._error = message.error
        if message.found is not None:
            self._found, self._messages = message.found, message.messages
            self._looked_at, self._read_at = self.clock(), time.time()
            self.show_filtered()
        elif self._found is None:
            self.table.empty = self.empty
            self.table.set_rows(())
        self._say_account()
        self._show_example()

    def _moved_since(self) -> int:
        """How many messages were taken from here, or put back, by this console since the queue was read."""
        from busctl.tui.working import Working

        jobs = self.app.jobs if isinstance(self.app, Working) else []
        operations = [job.account.operation for job in jobs if job.account is not None and job.source == self.queue]
        return sum(each.moved for each in operations if each.ended_at and each.ended_at > self._read_at)

    def _say_account(self) -> None:
        found = self._found
        if self._looking:
            text = Content.styled("○ reading the queue …", "$muted")
        elif self._error is not None:
            word = "refused: " if isinstance(self._error, GuardRefused) else ""
            hint = f"  {safe_text(hint_of(self._error))}" if self._error.hint else ""
            said = f"{word}{safe_text(str(self._error))}"
            text = Content.assemble(("✖ ", "bold $text-error"), said, (hint, "$muted"))
        elif found is not None:
            causes = formats.counted(len(found.groups), "cause")
            age = formats.age(self.clock() - self._looked_at)
            moved = self._moved_since()
            since = f"  ▲ {formats.counted(moved, 'message')} moved since: p looks again" if moved else ""
            text = Content.assemble(
                (f"{causes} in {found.sample}", "bold"),
                f"  {safe_text(found.looking)}",
                (f"  · {age}", "$muted"),
                (since, "bold $text-warning"),
            )
        else:
            text = Content("")
        self.query_one("#dead-account", Static).update(text)

    # --- one group

    @on(LiveTable.Moved)
    def _show_example(self) -> None:
        group = self.table.row
        text = Content("") if group is None else group_text(group)
        self.query_one("#dead-example-text", HangingText).show(text)
        self.query_one("#dead-example").display = group is not None

    @on(LiveTable.Opened)
    def _open(self, event: LiveTable.Opened) -> None:
        group: Group = event.row
        if self._found is not None:
            chosen = self._found.of(group, self._messages)
            self.post_message(OpenGroup(self.queue, group, chosen, self._found.grounds))

    def action_transfer(self, kind: Kind) -> None:
        """Plan something for the group under the cursor."""
        from busctl_lib.transfers import Request

        if (group := self.table.row) is not None:
            target = parking(self.queue) if kind == "park" else None
            request = Request(kind=kind, source=self.queue, target=target, group=group.id)
            self.post_message(OpenTransfer(request=request))

    def action_source(self) -> None:
        """Go to the queue the group under the cursor died in."""
        if (group := self.table.row) is not None and group.queue:
            self.post_message(OpenQueue(self.feed.session.vhost, group.queue))

    def action_topology(self) -> None:
        """Show what leads to the queue."""
        self.post_message(OpenTopology(self.queue))

    def action_replay_all(self) -> None:
        """Plan to replay all that waits here."""
        from busctl_lib.transfers import Request

        self.post_message(OpenTransfer(request=Request(kind="replay", source=self.queue)))


def group_text(group: Group) -> Content:
    """Show a group: its cause in full, where its messages came from, the newest of them."""
    route = f"exchange {group.exchange}, key {group.routing_key}" if group.exchange else f"queue {group.routing_key}"
    facts = [
        ("cause", group.cause),
        ("died in", group.queue or formats.UNKNOWN),
        ("sent to", route if group.routing_key is not None else formats.UNKNOWN),
        ("came", how_it_came(group.queue, moved=group.moved > 0, shovelled=False) or ""),
        ("in code", group.frame or ""),
        ("body", str(group.example.get("text") or group.example.get("base64") or "")),
    ]
    parts: list[str | tuple[str, str]] = []
    for label, text in facts:
        if text:
            parts += [(f"{label:<8} ", "$muted"), f"{safe_text(text, 1000)}\n"]
    return Content.assemble(*parts)
