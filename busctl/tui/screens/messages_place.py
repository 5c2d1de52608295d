"""MessagesPlace: messages on a screen: a log, one of them in full, filters, copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from busctl.tui import sieve
from busctl.tui.feed import Feed
from busctl.tui.filters import Filter
from busctl.tui.messages import OpenPublish, Sifted
from busctl.tui.screens.place import Place
from busctl.tui.widgets.body_text import body_text
from busctl.tui.widgets.hanging_text import HangingText
from busctl.tui.widgets.message_log import MessageLog, matched_text
from busctl.views import formats
from busctl.views.formats import safe_text
from busctl_lib.documents import body_of, headers_to_json, question, to_json
from busctl_lib.envelope import PROPERTY_NAMES, Delivery
from busctl_lib.moments import as_datetime
from busctl_lib.questions import Question

if TYPE_CHECKING:
    from busctl_lib.taps import TapEvent


class MessagesPlace(Place):
    """A place that shows messages; what fills the log is for each to say."""

    CSS_PATH = "messages.tcss"
    AUTO_FOCUS = "MessageLog"
    FILTERS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy_body", "copy", id="messages.copy", tooltip="Copy the body of the message under the cursor."),
        Binding(
            "C",
            "copy_document",
            "copy as JSON",
            id="messages.copy-document",
            show=False,
            tooltip="Copy the whole message as JSON, as `-o jsonl` prints it.",
        ),
        Binding(
            "b", "publish_like", "publish like it", id="messages.publish", show=False, tooltip="Edit and send anew."
        ),
        Binding(
            "r",
            "related",
            "related",
            id="messages.related",
            tooltip="Only messages with the same correlation id, else of the same trace.",
        ),
        Binding("T", "trace", "trace", id="messages.trace", show=False, tooltip="Only messages of the same trace."),
    ]

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._sieve: sieve.Sieve[TapEvent] = sieve.Sieve(matched_text, _ask, self._tell_sifted, "messages")
        self.filter_trouble = ""
        """Why the filter was stopped; "" while it runs."""
        self._filter_told: Sequence[str] = ()

    # --- for each

    def compose_head(self) -> ComposeResult:
        """Give what stands above the messages."""
        yield from ()

    def show_mode(self) -> None:
        """Say how it goes; called when something about the log changed."""

    def facts_of(self, delivery: Delivery) -> Content:
        """Give what stands beside the body."""
        return message_facts(delivery)

    # --- shared

    def compose_place(self) -> ComposeResult:
        """What stands above, the messages, one of them."""
        yield from self.compose_head()
        yield MessageLog(id="messages-log")
        with Horizontal(id="messages-detail"):
            with VerticalScroll(id="messages-body", classes="panel") as body:
                body.border_title = "Message"
                yield Static("", id="messages-body-text", markup=False)
            with VerticalScroll(id="messages-facts", classes="panel") as facts:
                facts.border_title = "Properties and headers"
                yield HangingText(4, id="messages-facts-text")

    def on_unmount(self) -> None:
        """End what runs elsewhere."""
        self._sieve.close()

    @property
    def log_rows(self) -> MessageLog:
        """The messages."""
        return self.query_one("#messages-log", MessageLog)

    # --- one message

    @on(MessageLog.Opened)
    def _open(self, event: MessageLog.Opened) -> None:
        self.add_class("-detail")
        self.show_detail(event.delivery)
        self.refresh_bindings()

    @on(MessageLog.Moved)
    def _moved(self, event: MessageLog.Moved) -> None:
        if self.has_class("-detail"):
            self.show_detail(event.delivery)

    @on(MessageLog.FollowChanged)
    def _follow_changed(self) -> None:
        if self.log_rows.following:
            self.remove_class("-detail")
        self.show_mode()

    def show_detail(self, delivery: Delivery) -> None:
        """Show one message in full."""
        self.query_one("#messages-body-text", Static).update(body_text(body_of(delivery)))
        self.query_one("#messages-facts-text", HangingText).show(self.facts_of(delivery))
        self.query_one("#messages-body").scroll_home(animate=False)
        self.query_one("#messages-facts").scroll_home(animate=False)

    # --- the filter

    def filter_said(self) -> Content:
        """Why the filter was stopped, or what it could not decide, in a line that has more before it."""
        if self.filter_trouble:
            return Content.styled(f"  the filter {safe_text(self.filter_trouble, 80)}", "bold $text-warning")
        if not self._filter_told:
            return Content("")
        hint = "" if self.filter.shows_undecided else " (=? shows them)"
        return Content.styled(f"  ▲ {safe_text('; '.join(self._filter_told), 100)}{hint}", "$text-warning")

    def show_filtered(self) -> None:
        """Show the messages that pass; a filter that runs elsewhere tells later."""
        self.filter_trouble, self._filter_told = "", ()
        self._sieve.choose(self.filter if self.filter.guarded else None)
        self.log_rows.set_filter(self.filter)
        self.show_mode()

    @on(MessageLog.Unsifted)
    def _sift(self, event: MessageLog.Unsifted) -> None:
        if event.passing is self.filter:
            self._sieve.put(event.rows)

    @on(Sifted)
    def _take_sifted(self, message: Sifted) -> None:
        result = message.result
        if result.filter is self.filter:
            self.log_rows.pass_rows(result.passed)
            self._filter_told = result.told
            if result.stopped:
                self.filter_trouble = result.trouble
            self.show_mode()

    def _tell_sifted(self, result: sieve.Sifted[TapEvent]) -> None:
        """Runs on the sieve's thread."""
        self.post_message(Sifted(result))

    # --- keys

    def action_copy_body(self) -> None:
        """Copy the body of the message under the cursor."""
        if (delivery := self.log_rows.delivery) is not None:
            self.app.copy_to_clipboard(body_of(delivery).printed)
            self.notify(f"{formats.size(len(delivery.body))} copied", markup=False)

    def action_copy_document(self) -> None:
        """Copy the whole message under the cursor as JSON."""
        if (delivery := self.log_rows.delivery) is not None:
            self.app.copy_to_clipboard(to_json(delivery).decode())
            self.notify("message copied as JSON", markup=False)

    def action_publish_like(self) -> None:
        """Write a message that begins as the one under the cursor."""
        if (delivery := self.log_rows.delivery) is not None:
            self.post_message(OpenPublish(like=delivery))

    def action_related(self) -> None:
        """Show only messages that belong to the one under the cursor."""
        self._show_those_like(related, "no correlation id and no trace in this message")

    def action_trace(self) -> None:
        """Show only messages of the trace of the one under the cursor."""
        self._show_those_like(traced, "no trace in this message: it has no header traceparent")

    def _show_those_like(self, like: Callable[[Delivery], str | None], none: str) -> None:
        delivery = self.log_rows.delivery
        if delivery is None:
            return
        wanted = like(delivery)
        if wanted is None:
            self.notify(none, severity="warning", markup=False)
        else:
            self.set_filter(Filter(wanted))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape closes the message first."""
        if action == "up" and self.has_class("-detail"):
            return True
        return super().check_action(action, parameters)

    def action_up(self) -> None:
        """Close the message, else go up."""
        if self.has_class("-detail"):
            self.remove_class("-detail")
            self.log_rows.focus()
        else:
            super().action_up()


def related(delivery: Delivery) -> str | None:
    """Write the filter for messages that belong to this one: its correlation id, else its trace; None without both."""
    correlation_id = delivery.properties.correlation_id
    if correlation_id:
        return f"=.properties.correlation_id == {msgspec.json.encode(correlation_id).decode()}"
    return traced(delivery)


def traced(delivery: Delivery) -> str | None:
    """Write the filter for messages of its trace; None without one."""
    parent = delivery.headers.get("traceparent")
    if isinstance(parent, str) and parent.count("-") == 3:
        trace = msgspec.json.encode(parent.split("-")[1]).decode()
        return f'=(.headers.traceparent // "") | contains({trace})'
    return None


def _ask(event: TapEvent) -> Question:
    """What jq looks at: the document of a message."""
    return question(event) if isinstance(event, Delivery) else Question(msgspec.json.encode({"note": event.text}))


def _as_json(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _fact(name: str, value: object) -> str:
    """A property; a moment also as a date."""
    moment = as_datetime(value) if name == "timestamp" and isinstance(value, int) else None
    return str(value) if moment is None else f"{value}  {moment:%Y-%m-%d %H:%M:%SZ}"


def message_facts(delivery: Delivery) -> Content:
    """Show route, properties, headers and deaths of a message."""
    facts: list[tuple[str, object]] = [("exchange", delivery.exchange or "(default)"), ("key", delivery.routing_key)]
    facts += [
        (name, value)
        for name in PROPERTY_NAMES
        if name != "headers" and (value := getattr(delivery.properties, name)) is not None
    ]
    headers = headers_to_json(delivery.headers)
    width = min(max((len(name) for name, _ in [*facts, *headers.items()]), default=0), 28)
    parts: list[str | tuple[str, str]] = []
    for name, value in facts:
        parts += [(f"{name:<{width}}  ", "$muted"), f"{safe_text(_fact(name, value))}\n"]
    if headers:
        parts.append(("headers\n", "bold"))
    for name, value in headers.items():
        parts += [(f"{safe_text(name):<{width}}  ", "$muted"), f"{safe_text(_as_json(value))}\n"]
    for death in delivery.deaths:
        parts += [
            ("✖ died  ", "$text-error"),
            safe_text(f"{death.reason} in {death.queue}, {death.count or 1} times\n"),
        ]
    return Content.assemble(*parts)
