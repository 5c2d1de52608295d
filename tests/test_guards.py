"""The one question before a change, and the library's own refusal where a context is read-only."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from busctl.cli import confirm
from busctl.config import FLAG_CONTEXT, Settings
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.consumers import RPCConsumer
from busctl_lib.errors import GuardRefused
from busctl_lib.management import BindingInfo, ManagementClient

PURGE = confirm.Change(does="purge queue 'or\x1bders'", name="or\x1bders", hits=[("messages", "7\x1b[2J ready")])
PUBLISH = confirm.Change(does="publish to queue 'orders'", name="orders", destructive=False)


def settings(*, source: str = "`current` in config.toml", **guards: Any) -> Settings:
    return Settings(
        amqp_url="amqp://h", api_url="http://h", vhost="/", context="prod", sources={"context": source}, **guards
    )


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sit at a terminal and answer so; None is no terminal."""

    def type_(text: str | None) -> None:
        stdin = io.StringIO(text or "")
        monkeypatch.setattr(stdin, "isatty", lambda: text is not None, raising=False)
        monkeypatch.setattr(sys, "stdin", stdin)

    return type_


def refusal(at: Settings, change: confirm.Change, *, yes: bool = False) -> str:
    """Why it may not happen; empty when it may."""
    try:
        confirm.allow(at, change, yes=yes)
    except GuardRefused as error:
        return f"{error} ({error.hint})"
    return ""


@pytest.mark.parametrize("agreed", ["y\n", "yes\n", "Y\n"])
def test_a_destructive_change_shows_what_it_hits_and_asks(
    answers: Any, capsys: pytest.CaptureFixture[str], agreed: str
) -> None:
    answers(agreed)
    assert refusal(settings(), PURGE) == ""
    assert capsys.readouterr() == (
        "",
        "to purge queue 'or\\x1bders':\n  messages  7\\x1b[2J ready\n  undo      there is no way back\n"
        "Purge queue 'or\\x1bders'? [y/N] ",
    )


@pytest.mark.parametrize("answer", ["\n", "n\n", "", "or\x1bders\n"])
def test_any_other_answer_leaves_everything_as_it_is(answers: Any, answer: str) -> None:
    answers(answer)
    assert refusal(settings(), PURGE).startswith("nothing was done")


def test_without_a_terminal_it_says_what_to_add(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers(None)
    assert "add --yes to do it" in refusal(settings(), PURGE)
    assert refusal(settings(), PURGE, yes=True) == ""
    assert "7\\x1b[2J ready" in capsys.readouterr().err
    assert refusal(settings(), PUBLISH) == ""
    assert capsys.readouterr() == ("", "")


def test_production_wants_the_name_typed(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    prod = settings(production=True)
    for typed in ("y\n", "yes\n", "", "orders2\n"):
        answers(typed)
        assert refusal(prod, PURGE) != ""
        assert refusal(prod, PUBLISH) != ""
    answers("or\\x1bders\n")  # as it is shown
    assert refusal(prod, PURGE) == ""
    answers("orders\n")
    capsys.readouterr()
    assert refusal(prod, PUBLISH) == ""
    assert capsys.readouterr().err == "prod is production. Type orders to publish to queue 'orders': "


@pytest.mark.parametrize("change", [PURGE, PUBLISH])
def test_production_takes_yes_only_with_the_context_spelled_out(answers: Any, change: confirm.Change) -> None:
    answers("or\\x1bders\n")
    said = refusal(settings(production=True), change, yes=True)
    assert "-c prod --yes" in said
    assert refusal(settings(production=True, source="flag -c -, `previous` in x"), change, yes=True) != ""
    assert refusal(settings(production=True, source=FLAG_CONTEXT), change, yes=True) == ""
    answers(None)
    assert "add -c prod --yes" in refusal(settings(production=True, source=FLAG_CONTEXT), change)
    assert refusal(settings(production=True, source=FLAG_CONTEXT), change, yes=True) == ""


def test_read_only_refuses_before_anything_is_asked(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers("y\n")
    at = settings(read_only=True, source=FLAG_CONTEXT)
    assert "read-only" in refusal(at, PURGE)
    assert "read-only" in refusal(at, PUBLISH, yes=True)
    assert capsys.readouterr() == ("", "")


def test_the_library_refuses_every_change_when_it_is_read_only(vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("orders")
    with MessageBroker(url=vhost.amqp_url, read_only=True) as broker:
        own = broker.declare_queue(exclusive=True).queue
        broker.bind_queue(own, "amq.topic", "#")
        broker.subscribe(own, lambda delivery: None).cancel()
        assert broker.declare_queue("orders", passive=True).message_count == 0
        changes: list[Any] = [
            lambda: MessagePublisher(broker).publish("orders", {}),
            lambda: MessagePublisher(broker).publish_nowait("orders", {}),
            lambda: MessagePublisher(broker).publish_many([("orders", {})]),
            lambda: RPCConsumer(broker).call("orders", {}),
            lambda: broker.subscribe("orders", lambda delivery: None),
            lambda: broker.declare_queue("more"),
            lambda: broker.declare_exchange("more"),
            lambda: broker.bind_queue("orders", "amq.topic", "#"),
            lambda: broker.unbind_queue("orders", "amq.topic", "#"),
            lambda: broker.bind_exchange("amq.topic", "amq.fanout"),
            lambda: broker.purge_queue("orders"),
            lambda: broker.delete_queue("orders"),
            lambda: broker.delete_exchange("amq.topic"),
        ]
        for change in changes:
            with pytest.raises(GuardRefused, match="read-only"):
                change()
        broker.delete_queue(own)
    with ManagementClient(vhost.api_url, read_only=True) as api:
        binding = BindingInfo(source="a", vhost="/", destination="b", destination_type="queue", routing_key="")
        for change in (
            lambda: api.set_tracing(vhost.name, True),
            lambda: api.close_connection("x", "y"),
            lambda: api.put_policy(vhost.name, "p", "^x", {}),
            lambda: api.delete_policy(vhost.name, "p"),
            lambda: api.put_vhost("more"),
            lambda: api.delete_vhost(vhost.name),
            lambda: api.delete_binding(binding),
            lambda: api.import_definitions({}, vhost.name),
        ):
            with pytest.raises(GuardRefused, match="read-only"):
                change()
