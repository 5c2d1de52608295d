"""The console's lists on a real broker: where they lead, how they are narrowed, what they say when they may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from consoles import Console, on_loop, opened
from textual.widgets import Input

from busctl.contexts import ConsoleConfig, config_path
from busctl.tui.screens.table_place import TablePlace
from busctl.tui.widgets.path_line import PathLine
from busctl.tui.widgets.table import LiveTable
from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher
from busctl_lib.journal import Journal, Operation
from busctl_lib.management.transport import Transport
from busctl_lib.pytest_plugin import TestBroker


@pytest.fixture
def bus(vhost: TestBroker) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url, client_name="analytics") as broker:
        for name in ("obs_requests", "obs_responses", "trades"):
            broker.declare_queue(name)
        broker.declare_exchange("market", "topic")
        broker.bind_queue("trades", "market", "trade.#")
        yield broker


def labels(console: Console) -> list[str]:
    screen = console.app.screen
    assert isinstance(screen, TablePlace)
    return [screen.label(row) for row in screen.query_one(LiveTable).rows]


@on_loop
async def test_lists_lead_into_each_other_and_back(vhost: TestBroker, bus: MessageBroker) -> None:
    consumer = MessageConsumer(bus, prefetch=7)
    consumer.start_consuming("trades", background=True)
    async with opened(vhost, (160, 40)) as console:
        await console.shows("no alarms")
        await console.command("exchanges /market")
        await console.until(lambda: labels(console) == ["market"], "one exchange")
        await console.shows("overview › exchanges /market", "topic")
        await console.press("enter")
        await console.shows("exchanges › bindings from market", "trade.#")
        await console.press("enter")
        await console.shows("› trades", "Depth, last 10 min", "hold 0 of 7")
        await console.press("escape", "escape", "escape", "escape")
        await console.shows("Needs attention")
        await console.press("7")
        await console.shows("overview › consumers", " 7 ")
        await console.press("c")
        await console.shows("connections 127.0.0.1", "analytics", timeout=20)  # its name takes the broker up to 5 s
        await console.pilot.click(PathLine, offset=(3, 0))
        await console.shows("Needs attention")
        await console.press("4")
        await console.shows("overview › dead-letter queues")
        await console.press("8")
        await console.shows("overview › nodes", "1 node", "MEM")
        await console.press("d")
        await console.shows("mem_used", "esc close")
    consumer.stop()


@on_loop
async def test_jq_narrows_a_list_and_what_is_no_jq_is_said(vhost: TestBroker, bus: MessageBroker) -> None:
    MessagePublisher(bus).publish("trades", {})
    async with opened(vhost) as console:
        await console.press("2")
        await console.until(lambda: len(labels(console)) == 3, "all queues")
        await console.press("/")
        prompt = console.app.screen.query_one("#prompt-text", Input)
        prompt.value = "=.messages_ready > "
        await console.press("enter")
        await console.shows("jq: ")
        prompt.value = "=.messages_ready > 0"
        await console.press("enter")
        await console.until(lambda: labels(console) == ["trades"], "by jq", 30)
        await console.press("escape")
        await console.until(lambda: len(labels(console)) == 3, "all again")


@on_loop
async def test_an_expression_that_never_ends_is_stopped_and_holds_no_key(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.press("2")
        await console.until(lambda: len(labels(console)) == 3, "all queues")
        await console.press("/")
        console.app.screen.query_one("#prompt-text", Input).value = "=last(repeat(1))"
        await console.press("enter")
        await console.press("N")  # heard while the expression runs
        await console.shows("NAME▴")
        await console.shows("the filter", "stopped", timeout=60)
        await console.press("escape", "s")
        await console.until(lambda: len(labels(console)) == 3, "all again")


@on_loop
async def test_marks_hold_rows_of_a_range_until_escape(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.press("2", "N")
        await console.until(lambda: len(labels(console)) == 3, "all queues")
        await console.press("g", "space", "G", "V")
        table = console.app.screen.query_one(LiveTable)
        await console.shows("3 marked")
        assert [info.name for info in table.chosen] == ["obs_requests", "obs_responses", "trades"]
        await console.press("/")
        await console.type("obs")
        await console.press("enter")
        await console.shows("2 marked")  # what cannot be seen is not marked
        await console.press("escape")
        await console.hides("marked")
        await console.shows("/obs")


@on_loop
async def test_who_may_not_see_nodes_is_told_what_to_ask_for(vhost: TestBroker, bus: MessageBroker) -> None:
    name = f"{vhost.name}-reader"
    api = Transport(vhost.api_url, None, None, (10.0, 30.0), read_only=False)
    api.change("PUT", f"users/{name}", {"password": "secret", "tags": "management"})
    api.change("PUT", f"permissions/{vhost.name}/{name}", {"configure": "", "write": "", "read": ".*"})
    amqp_url = vhost.amqp_url.replace(f"{vhost.username}:{vhost.password}@", f"{name}:secret@")
    api_url = vhost.api_url.replace(f"{vhost.username}:{vhost.password}@", f"{name}:secret@")
    try:
        async with opened(vhost, amqp_url=amqp_url, api_url=api_url) as console:
            await console.shows("needs the monitoring tag")
            await console.press("8")
            await console.shows(f"set_user_tags {name[:40]}"[:40])
    finally:
        api.change("DELETE", f"users/{name}")
        api.close()


@on_loop
async def test_operations_of_other_brokers_are_shown_when_asked_for(vhost: TestBroker) -> None:
    async with opened(vhost) as console:
        await console.shows("no alarms")
        here = console.app.feed.session.management.overview().cluster_name
        with Journal() as journal:
            for id, source, broker in (("a1", "near", here or ""), ("b2", "far", "elsewhere")):  # noqa: A001
                journal.begin(Operation(id=id, kind="move", source=source, target="there", broker=broker))
        await console.press("9")
        assert "far" not in await console.shows("operations", "near")
        await console.press("a")
        await console.shows("operations of all brokers", "near", "far")
        await console.press("a")
        await console.hides("of all brokers", "far")


@on_loop
async def test_commands_come_back_and_are_suggested(vhost: TestBroker, bus: MessageBroker) -> None:
    config = ConsoleConfig(aliases={"obs": "queues obs_*"}, keys={"queues.tail": "T", "queues.tial": "x"})
    async with opened(vhost, (120, 90), console=config) as console:
        await console.shows("queues.tial: no such key", "queues.tail?", "no alarms")
        await console.command("obs /!requests")
        await console.until(lambda: labels(console) == ["obs_responses"], "alias, glob and filter")
        await console.press("1", ":", "up")
        prompt = console.app.screen.query_one("#prompt-text", Input)
        assert prompt.value == "obs /!requests"
        prompt.value = "o"
        await console.until(lambda: prompt._suggestion == "obs /!requests", "the newest that begins so")
        await console.press("escape", "2", "?")
        await console.shows("T           Watch the queue's messages")


@on_loop
async def test_another_context_without_leaving_and_a_frame_in_production(vhost: TestBroker, bus: MessageBroker) -> None:
    there = f"amqp_url = '{vhost.amqp_url}'\napi_url = '{vhost.api_url}'\n"
    elsewhere = there.replace(f"/{vhost.name}'", "/%2F'")
    text = f"[contexts.mine]\n{there}[contexts.live]\n{elsewhere}production = true\ncolor = 'crimson'\n"
    path: Path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    async with opened(vhost, context="mine") as console:
        await console.press("2")
        await console.until(lambda: len(labels(console)) == 3, "all queues")
        await console.command("exchanges @live")
        await console.shows("live", "production", "overview › exchanges")
        assert console.app.screen.has_class("-production")
        await console.command("contexts")
        await console.shows("● ", "mine", "live")
        await console.press("/")
        await console.type("mine")
        await console.press("enter", "enter")
        await console.shows("mine", "Needs attention")
        assert not console.app.screen.has_class("-production")
        await console.press("2")
        await console.until(lambda: len(labels(console)) == 3, "these queues again")
        await console.command("context nowhere")
        await console.shows("no context 'nowhere'")
        await console.command("exchanges @live")
        await console.shows("live", "overview › exchanges")
        await console.press("minus")
        await console.shows("mine", "overview › queues")
        await console.press("minus")
        await console.shows("live", "overview › exchanges")
