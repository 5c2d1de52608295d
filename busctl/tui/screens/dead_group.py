"""The messages of one group of dead letters: body and error side by side with where each came from; edit, replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from busctl.tui.feed import Feed
from busctl.tui.messages import OpenQueue, OpenTail, OpenTransfer
from busctl.tui.modals.edit import EditModal
from busctl.tui.screens.messages_place import MessagesPlace, message_facts
from busctl.views import formats
from busctl.views.dead import how_it_came
from busctl.views.formats import safe_text
from busctl_lib.deadletters import failure_of
from busctl_lib.envelope import Delivery
from busctl_lib.journal import identity
from busctl_lib.transfers import Request

if TYPE_CHECKING:
    from busctl_lib.deadletters import Grounds, Group


class GroupScreen(MessagesPlace):
    """What was read when the groups were made.

    Args:
        feed: The bus.
        queue: Where the messages are.
        group: Their cause.
        messages: As they were read.
        grounds: What tells where each died.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r,R", "replay_one", "replay it", id="group.replay-one", tooltip="Plan to replay this message alone."),
        Binding("e", "edit", "edit", id="group.edit", tooltip="Change its body, then plan to replay it."),
        Binding("a", "replay_all", "replay group", id="group.replay", tooltip="Plan to replay the whole group."),
        Binding("f", "source", "source", id="group.source", tooltip="Go to the queue the message died in."),
        Binding("t", "tail_source", "tail source", id="group.tail", show=False, tooltip="Watch the queue it died in."),
    ]

    def __init__(self, feed: Feed, queue: str, group: Group, messages: Sequence[Delivery], grounds: Grounds) -> None:
        super().__init__(feed)
        self._grounds = grounds
        self.queue, self.group, self._messages = queue, group, messages

    @property
    def crumb(self) -> str:
        """The group."""
        return f"group {safe_text(self.group.id)}"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("dead", self.queue, "--group", self.group.id)

    def compose_head(self) -> ComposeResult:
        """The cause."""
        yield Static("", id="peek-account", markup=False)

    def on_mount(self) -> None:
        """Show them, the first in full."""
        self.log_rows.following = False
        self.log_rows.replace(self._messages)
        self.query_one("#messages-facts").border_title = "Error and where it came from"
        self.show_mode()
        if (first := self.log_rows.delivery) is not None:
            self.add_class("-detail")
            self.show_detail(first)

    def show_mode(self) -> None:
        """Say what they have in common."""
        count = formats.counted(len(self._messages), "message")
        text = Content.assemble((safe_text(self.group.cause, 300), "bold $text-error"), f"  {count}")
        if self.filter and not self.filter_trouble:
            text += Content.styled(f"  {self.log_rows.shown:,} match", "$text-accent")
        text += self.filter_said()
        self.query_one("#peek-account", Static).update(text)

    def facts_of(self, delivery: Delivery) -> Content:
        """The error first, then the original route, then what every message has."""
        failure = failure_of(delivery, self._grounds)
        route = (
            f"exchange {failure.exchange}, key {failure.routing_key}"
            if failure.exchange
            else f"queue {failure.routing_key or failure.queue or formats.UNKNOWN}"
        )
        rows = [
            ("reason", failure.reason),
            ("error", ": ".join(part for part in (failure.error_type, failure.error) if part)),
            ("died in", failure.queue),
            ("sent to", route),
            ("failed at", failure.failed_at.isoformat(" ", "seconds") if failure.failed_at else None),
            ("deaths", formats.counted(failure.deaths, "time") if failure.deaths else None),
            ("came", how_it_came(failure.queue, moved=failure.moved, shovelled=failure.shovelled)),
            ("replayed", f"{failure.seen_again} times before" if failure.seen_again else None),
        ]
        parts: list[str | tuple[str, str]] = []
        for label, text in rows:
            if text:
                style = "$text-error" if label in ("error", "reason") else ""
                parts += [(f"{label:<10} ", "$muted"), (f"{safe_text(text, 1000)}\n", style)]
        found = Content.assemble(*parts, "\n") + message_facts(delivery)
        if failure.stack:
            found += Content.assemble("\n", ("stack\n", "bold"), safe_text(failure.stack, 8000, keep_lines=True))
        return found

    # --- keys

    def _request(self, delivery: Delivery) -> Request:
        name = delivery.properties.message_id
        known_as = name if name and "," not in name else identity(delivery).hex()
        return Request(kind="replay", source=self.queue, ids=[known_as])

    def action_replay_one(self) -> None:
        """Plan to replay the message under the cursor."""
        if (delivery := self.log_rows.delivery) is not None:
            self.post_message(OpenTransfer(request=self._request(delivery)))

    def action_replay_all(self) -> None:
        """Plan to replay the group."""
        self.post_message(OpenTransfer(request=Request(kind="replay", source=self.queue, group=self.group.id)))

    def action_edit(self) -> None:
        """Change the body of the message under the cursor, then plan."""
        delivery = self.log_rows.delivery
        if delivery is None:
            return

        def edited(text: str | None) -> None:
            if text is not None:
                request = self._request(delivery)
                # A JSON value is a jq expression that gives itself.
                request.edit = msgspec.json.format(text.encode(), indent=-1).decode()
                self.post_message(OpenTransfer(request=request))

        self.app.push_screen(EditModal(delivery.body), edited)

    def action_tail_source(self) -> None:
        """Watch the queue the message died in."""
        if source := self._source():
            self.post_message(OpenTail(source))

    def action_source(self) -> None:
        """Go to the queue the message died in."""
        if source := self._source():
            self.post_message(OpenQueue(self.feed.session.vhost, source))
        else:
            self.notify("the message does not tell in which queue it died", severity="warning", markup=False)

    def _source(self) -> str | None:
        delivery = self.log_rows.delivery
        return failure_of(delivery, self._grounds).queue if delivery is not None else None
