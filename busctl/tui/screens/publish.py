"""Publish: one message, written or taken over from another one, and what became of it."""

from __future__ import annotations

import shlex
import time
import uuid
from typing import Any, ClassVar

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Label, Static, TextArea

from busctl.tui.feed import Feed
from busctl.tui.messages import Published
from busctl.tui.screens.place import Place
from busctl.views import formats
from busctl.views.formats import safe_text
from busctl_lib.codecs import without_steps, write_text
from busctl_lib.documents import body_of, headers_to_json
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.errors import BusError, ConfigError
from busctl_lib.methods import content_type_of
from busctl_lib.pairs import object_of

_TIMEOUT_S = 10.0


class PublishScreen(Place):
    """A message to be sent.

    Args:
        feed: The bus.
        queue: Where it goes at first; by the default exchange.
        like: A message to begin with: its route, headers, content type and body.
    """

    CSS_PATH = "publish.tcss"
    AUTO_FOCUS = "#publish-body"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5,ctrl+enter", "send", "send", id="publish.send", priority=True, tooltip="Publish, and wait."),
        Binding("f6,ctrl+f", "lay_out", "lay out", id="publish.lay-out", priority=True, tooltip="Lay the JSON out."),
        Binding("ctrl+y", "copy_command", "copy command", id="publish.copy-command", priority=True),
    ]

    def __init__(self, feed: Feed, queue: str = "", like: Delivery | None = None) -> None:
        super().__init__(feed)
        self._queue = queue
        self._like = like
        self._body = body_of(like) if like is not None else None

    @property
    def crumb(self) -> str:
        """Publish."""
        return "publish"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        if not self.query("#publish-key"):
            return ""
        exchange, key = self._text("exchange"), self._text("key")
        route = ["-x", exchange, "-k", key] if exchange else [key]
        headers = [word for pair in _split(self._text("headers")) for word in ("-H", pair)]
        return self.feed.command("publish", *route, *headers, "--raw", self.query_one(TextArea).text)

    def compose_place(self) -> ComposeResult:
        """Where, what with, what, and what became of it."""
        like = self._like
        key = like.routing_key if like is not None else self._queue
        headers = shlex.join(_pairs(like)) if like is not None else ""
        with Vertical(id="publish-route"):
            for name, value, hint in (
                ("exchange", like.exchange if like is not None else "", "empty: the default one, straight to a queue"),
                ("key", key, "the routing key; of the default exchange the queue"),
                ("headers", headers, "NAME=TEXT NAME:=JSON"),
            ):
                with Horizontal():
                    yield Label(name, markup=False)
                    yield Input(value, placeholder=hint, compact=True, select_on_focus=False, id=f"publish-{name}")
        text = self._body.text or "" if self._body is not None else ""
        yield TextArea(text, id="publish-body", soft_wrap=True, tab_behavior="focus")
        yield Static(self._lacking() or self._hint(), id="publish-state", markup=False)

    def _hint(self) -> Content:
        return Content.assemble(("f5", "bold $text-accent"), " sends  ", ("f6", "bold $text-accent"), " lays JSON out")

    def _lacking(self) -> Content | None:
        """Say that the body of the other message is no text to begin with."""
        if self._body is None or self._body.text is not None:
            return None
        return Content.assemble(("▲ its body is not here: ", "bold $text-warning"), safe_text(self._body.why or ""))

    def _text(self, name: str) -> str:
        return self.query_one(f"#publish-{name}", Input).value

    # --- keys

    def action_lay_out(self) -> None:
        """Lay the body out as JSON."""
        area = self.query_one(TextArea)
        try:
            area.text = msgspec.json.format(area.text.encode(), indent=2).decode()
        except (msgspec.MsgspecError, RecursionError) as error:
            self._say(("✖ not JSON: ", "bold $text-error"), safe_text(str(error)))

    def action_send(self) -> None:
        """Publish."""
        try:
            headers = object_of(_split(self._text("headers")))
        except ConfigError as error:
            self._say(("✖ headers: ", "bold $text-error"), safe_text(str(error)))
            return
        if not self._text("key") and not self._text("exchange"):
            self._say(("✖ where to? ", "bold $text-error"), "name a queue as the key, or an exchange")
            return
        if self.feed.session.settings.production:
            self._ask(headers)
        else:
            self._begin(headers)

    def _ask(self, headers: dict[str, Any]) -> None:
        from busctl.tui.modals.question import QuestionModal

        target = self._text("exchange") or self._text("key")
        question = QuestionModal(f"publish 1 message to {target}?", [(target, "")], word=target)
        self.app.push_screen(question, lambda yes: self._begin(headers) if yes else None)

    def _begin(self, headers: dict[str, Any]) -> None:
        self._say(("… ", "bold $text-primary"), "waiting for the confirm")
        kept = without_steps(self._like.properties) if self._like is not None else None
        charset = self._body.charset if self._body is not None else None
        try:
            body = write_text(self.query_one(TextArea).text, charset or "utf-8")
        except UnicodeEncodeError as error:
            self._say(("✖ ", "bold $text-error"), f"{charset} cannot write {error.object[error.start]!r}")
            return
        content_type = kept.content_type if kept is not None and kept.content_type else content_type_of(body)
        properties: dict[str, Any] = {"content_type": content_type}
        if kept is not None:
            names = ("content_encoding", "type", "correlation_id", "priority", "delivery_mode")
            properties |= {name: value for name in names if (value := getattr(kept, name)) is not None}
        self._send(self._text("exchange"), self._text("key"), body, headers, properties)

    @work(thread=True, exclusive=True, exit_on_error=False, group="publish")
    def _send(self, exchange: str, key: str, body: bytes, headers: dict[str, Any], properties: dict[str, Any]) -> None:
        from busctl_lib.publishers import MessagePublisher

        filled = {"delivery_mode": 2, **properties, "message_id": uuid.uuid4().hex, "timestamp": int(time.time())}
        envelope = Envelope(
            exchange=exchange, routing_key=key, properties=Properties(headers=headers or None, **filled), body=body
        )
        try:
            receipt = MessagePublisher(self.feed.session.broker).publish_envelope(envelope, timeout=_TIMEOUT_S)
        except BusError as error:
            self.post_message(Published(None, error))
        else:
            self.post_message(Published(receipt.elapsed_s, None))

    @on(Published)
    def _done(self, message: Published) -> None:
        error = message.error
        if error is None:
            self._say(("● confirmed ", "bold $text-success"), f"in {formats.duration(message.took_s)}")
        else:
            hint = f"  {safe_text(error.hint)}" if error.hint else ""
            self._say(("✖ ", "bold $text-error"), safe_text(str(error)), (hint, "$muted"))

    def _say(self, *parts: str | tuple[str, str]) -> None:
        self.query_one("#publish-state", Static).update(Content.assemble(*parts))

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _changed(self) -> None:
        self.refresh_way()


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _pairs(like: Delivery) -> list[str]:
    """Its headers, but those that the broker writes, and what tells of a body that is compressed or encrypted."""
    headers = without_steps(like.properties).headers or {}
    shown = headers_to_json({name: value for name, value in headers.items() if not name.startswith("x-")})
    return [
        f"{name}={value}" if isinstance(value, str) else f"{name}:={msgspec.json.encode(value).decode()}"
        for name, value in shown.items()
    ]
