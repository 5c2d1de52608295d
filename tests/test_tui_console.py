"""The console on a real broker: keys, ways, what each screen shows, and a broker that goes away."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from api_at_socket import Road
from consoles import KEYS, Console, on_loop, opened
from textual import events
from textual.widgets import Input

from busctl.tui import feed
from busctl.tui.screens import rpc
from busctl.tui.widgets.table import LiveTable
from busctl.views import overview
from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher
from busctl_lib.pytest_plugin import TestBroker

HOSTILE = "evil\x1b[31m[bold red]x[/]\u202ename"


@pytest.fixture
def bus(vhost: TestBroker) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        for name in ("obs_requests", "obs_responses", "tes_requests"):
            broker.declare_queue(name)
        yield broker


def rows(console: Console, table: str = "#queues-table") -> list[str]:
    return [info.name for info in console.app.screen.query_one(table, LiveTable).rows]


@on_loop
async def test_the_overview_says_where_one_is_and_what_is_wrong(vhost: TestBroker, bus: MessageBroker) -> None:
    bus.declare_queue("obs_requests.dead")
    MessagePublisher(bus).publish("obs_requests.dead", {"n": 1})
    async with opened(vhost) as console:
        text = await console.shows("1 dead letter", "no alarms", "1/1 node", "s ago")
        assert "local" in text.splitlines()[0]
        assert "overview" in text.splitlines()[1]
        await console.press("enter")
        await console.shows("overview › obs_requests.dead", "Nobody consumes from here.")
        await console.press("escape")
        await console.shows("Needs attention")


@on_loop
async def test_queues_are_judged_away_from_the_thread_that_draws(
    vhost: TestBroker, bus: MessageBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges: list[threading.Thread] = []

    def judged(*arguments: Any) -> Sequence[overview.Attention]:
        judges.append(threading.current_thread())
        return overview.attention(*arguments)

    monkeypatch.setattr(feed, "attention", judged)
    bus.declare_queue("obs_requests.dead")
    MessagePublisher(bus).publish("obs_requests.dead", {"n": 1})
    async with opened(vhost) as console:
        await console.shows("1 dead letter")
    assert judges
    assert threading.current_thread() not in judges


@on_loop
async def test_the_command_bar_completes_goes_and_filters(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.shows("no alarms")
        await console.press(":")
        await console.type("queues obs_*")
        await console.press("enter")
        await console.until(lambda: rows(console) == ["obs_requests", "obs_responses"], "two queues")
        await console.shows("overview › queues /obs_*", "2 of 3", "$ busctl queues 'obs_*'")
        await console.press("escape")
        await console.until(lambda: len(rows(console)) == 3, "all queues")
        await console.press(":")
        await console.type("queue obs_req")
        await console.press("tab", "enter")
        await console.shows("queues › obs_requests")


@on_loop
@pytest.mark.parametrize(("key", "box"), [("d", "c copy · esc close"), ("?", "This screen")])
async def test_a_box_gives_way_to_the_command_bar(vhost: TestBroker, bus: MessageBroker, key: str, box: str) -> None:
    async with opened(vhost) as console:
        await console.press("2")
        await console.until(lambda: len(rows(console)) == 3, "all queues")
        await console.press(key)
        await console.shows(box)
        await console.press(":")
        await console.type("queues obs_*")
        await console.press("enter")
        await console.shows("overview › queues /obs_*")
        await console.press(key)
        await console.shows(box)
        await console.press("/")
        await console.type("resp")
        await console.press("enter")
        await console.until(lambda: rows(console) == ["obs_responses"], "one queue")


@on_loop
async def test_a_command_that_is_none_is_said_so_where_it_was_typed(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.shows("no alarms")
        await console.press(":")
        await console.type("overveiw")
        await console.press("enter")
        await console.shows("no command 'overveiw', did you mean overview?")
        await console.press("escape")
        await console.hides("no command")


@on_loop
async def test_the_filter_narrows_while_typing_and_escape_clears_it(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.press("2")
        await console.until(lambda: len(rows(console)) == 3, "all queues")
        await console.press("/")
        await console.type("^obs.*es$")
        await console.until(lambda: rows(console) == ["obs_responses"], "a regular expression")
        await console.press("escape", "/")
        await console.type("!obs")
        await console.press("enter")
        await console.until(lambda: rows(console) == ["tes_requests"], "inverse")
        await console.shows("queues /!obs")
        await console.press("escape")
        await console.until(lambda: len(rows(console)) == 3, "all again")
        await console.press("/")
        await console.type("obs")
        await console.press("left_square_bracket", "enter")  # what is no expression stays open, and says so
        await console.shows("not a regular expression")
        await console.press("backspace", "enter")
        await console.shows("queues /obs")


@on_loop
async def test_the_cursor_goes_to_the_first_row_when_its_own_is_filtered_away(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    async with opened(vhost) as console:
        await console.press("2")
        await console.shows("obs_requests", "tes_requests")
        await console.press("end", "/")
        await console.type("obs")
        await console.press("enter")
        table = console.app.screen.query_one(LiveTable)
        await console.until(lambda: table.rows and all("obs" in row.name for row in table.rows), "narrowed")
        assert table.row is table.rows[0]


@on_loop
async def test_a_filter_typed_at_the_overview_finds_queues(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.shows("Needs attention", "no alarms")
        await console.press("/")
        await console.type("obs")
        assert "overview" not in console.text().splitlines()[1]  # typed, not taken for keys
        await console.press("enter")
        await console.shows("queues /obs", "obs_requests")


@on_loop
async def test_a_colon_in_an_empty_line_of_the_workbench_opens_the_command_bar(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    async with opened(vhost) as console:
        await console.press("3")
        await console.shows("enter calls it")
        await console.press(":")
        await console.type("queues")
        await console.press("enter")
        await console.shows("overview › queues", "obs_requests")


@on_loop
async def test_what_another_screen_covers_is_not_drawn(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        overview = await console.until(lambda: console.app.place, "the overview")
        assert overview.is_current
        await console.press("2")
        await console.shows("obs_requests")
        assert not overview.is_current
        await console.press("escape", "?")
        await console.shows("This screen")  # a question leaves it in sight
        assert overview.is_current


@on_loop
async def test_sorting_shows_its_column_and_keeps_the_cursor_on_its_row(vhost: TestBroker, bus: MessageBroker) -> None:
    publisher = MessagePublisher(bus)
    for _ in range(3):
        publisher.publish("tes_requests", {})
    async with opened(vhost) as console:
        await console.press("2")
        await console.until(lambda: rows(console)[:1] == ["tes_requests"], "fullest first")
        await console.shows("READY▾")
        table = console.app.screen.query_one("#queues-table", LiveTable)
        await console.press("home")
        await console.until(lambda: table.row.name == "tes_requests", "on the fullest")
        await console.press("N")
        await console.shows("NAME▴")
        assert rows(console) == ["obs_requests", "obs_responses", "tes_requests"]
        assert table.row.name == "tes_requests"
        await console.press("S")
        await console.until(lambda: rows(console)[0] == "tes_requests", "turned around")
        await console.press("R")
        in_order = ["tes_requests", "obs_requests", "obs_responses"]  # equals by name, whatever was before
        await console.until(lambda: rows(console) == in_order, "the fullest first again")


@on_loop
async def test_hostile_names_are_shown_and_never_acted_on(vhost: TestBroker, bus: MessageBroker) -> None:
    bus.declare_queue(HOSTILE)
    MessagePublisher(bus).publish(HOSTILE, {"text": "\x1b]0;owned\x07 [blink]"})
    async with opened(vhost) as console:
        shown = r"evil\x1b[31m[bold red]x[/]\u202ename"
        await console.press("2")
        text = await console.shows(shown)
        await console.press("enter")
        text += await console.shows(f"› {shown}", "Depth")
        await console.press("t")
        text += await console.shows("FOLLOWING")
        MessagePublisher(bus).publish(HOSTILE, {"text": "\x1b]0;owned\x07 [blink]"})
        text += await console.shows(r"\u001b]0;owned")
        await console.press("enter")
        text += await console.shows("Properties and headers", '"text"')
        assert not any(sign in text for sign in ("\x1b", "\x07", "\u202e"))


@on_loop
async def test_a_queue_shows_its_consumers_bindings_and_arguments(vhost: TestBroker, bus: MessageBroker) -> None:
    bus.declare_queue("trades", arguments={"x-max-length": 7})
    bus.declare_exchange("market", "topic")
    bus.bind_queue("trades", "market", "trade.#")
    consumer = MessageConsumer(bus, prefetch=17)
    consumer.start_consuming("trades", background=True)
    async with opened(vhost, (160, 50)) as console:
        await console.command("queue trades")
        await console.shows("Depth, last 10 min", "trade.#", "market", "x-max-length", "of 17")
    consumer.stop()


@on_loop
async def test_a_consumer_that_holds_all_it_may_is_seen(vhost: TestBroker, bus: MessageBroker) -> None:
    for number in range(6):
        MessagePublisher(bus).publish("obs_requests", {"n": number})
    bus.subscribe("obs_requests", lambda delivery: None, prefetch=4)  # acknowledges nothing
    async with opened(vhost, (160, 50)) as console:
        await console.command("queue obs_requests")
        await console.shows("━━━━━━━━ 4 of 4 ▲", "hold 4 of 4 ▲ saturated")


@on_loop
async def test_help_is_made_of_the_keys_that_work_now(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.press("2", "?")
        await console.shows("Sort by the next column.", "Open the row under the cursor.", "esc close")
        await console.press("escape")
        await console.press("1", "?")
        text = await console.shows("This screen")
        assert "Sort by the next column." not in text


@on_loop
async def test_a_call_shows_its_reply_and_each_failure_its_own_way(vhost: TestBroker, bus: MessageBroker) -> None:
    consumer = MessageConsumer(bus)
    consumer.register_handler(
        "get_orderbook", lambda message, _: {"symbol": message["symbol"], "bids": [[149.98, 300]]}
    )
    consumer.register_handler("get_trades", lambda message, _: 1 / 0)
    consumer.start_consuming("obs_requests", background=True)
    async with opened(vhost) as console:
        await console.press("3")
        await console.type("get_orderbook AAPL")
        await console.press("enter")
        await console.shows("● replied in", "149.98", "$ busctl rpc get_orderbook AAPL")
        line = console.app.screen.query_one("#rpc-line")
        for text, failure in (
            ("get_trades AAPL", "✖ the other side failed: ZeroDivisionError"),
            ("get_orderbook", "✖ not sent: "),
            ("get_nothing", "✖ no such method: "),
        ):
            line.value = text  # type: ignore[attr-defined]
            await console.press("enter")
            await console.shows(failure)
        bus.delete_queue("tes_requests")
        line.value = "get_position 1"  # type: ignore[attr-defined]
        await console.press("enter")
        await console.shows("✖ nobody answers: ", "such queue")
        await console.press("escape")
        await console.shows("Needs attention")
    consumer.stop()


@on_loop
async def test_the_methods_are_those_of_the_bus_file_that_was_named(vhost: TestBroker, tmp_path: Path) -> None:
    path = tmp_path / "bus.toml"
    path.write_text('[methods.fib]\nqueue = "rpc_queue"\n')
    async with opened(vhost, bus_file=path) as console:
        await console.press("3")
        assert "get_orderbook" not in await console.shows("fib", "rpc_queue")


@on_loop
async def test_the_end_of_an_earlier_call_is_not_shown_as_the_end_of_the_last(
    vhost: TestBroker, bus: MessageBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "TIMEOUT_S", 60.0)
    go_on = threading.Event()
    consumer = MessageConsumer(bus, workers=2)
    consumer.register_handler("get_orderbook", lambda message, _: {"answers": "call two"})
    consumer.register_handler("get_trades", lambda message, _: {"answers": "call one", "in time": go_on.wait(60)})
    consumer.start_consuming("obs_requests", background=True)
    async with opened(vhost) as console:
        await console.press("3")
        await console.type("get_trades AAPL")
        await console.press("enter")
        await console.shows("waiting")
        console.app.screen.query_one("#rpc-line", Input).value = "get_orderbook AAPL"
        await console.press("enter")
        await console.shows("call two")
        (consumer_of_calls,) = console.app.feed.session.caller._consumers.values()
        calls = consumer_of_calls._calls
        assert len(calls) == 1
        go_on.set()
        await console.until(lambda: not calls, "the first call has ended")
        await console.pilot.pause(0.2)
        assert "call two" in console.text()
    consumer.stop()


@on_loop
async def test_a_lost_api_is_a_state_and_the_console_comes_back(vhost: TestBroker, bus: MessageBroker) -> None:
    road = Road(vhost.api_url)
    async with opened(vhost, api_url=road.url) as console:
        await console.press("2")
        await console.until(lambda: len(rows(console)) == 3, "all queues")
        road.cut()
        text = await console.shows("✖ local", "last seen", "refused")
        assert "obs_requests" in text
        assert console.app.screen.query_one("#place").has_class("-stale")
        await console.press("enter")
        await console.shows("queues › obs_requests", "last seen")
        await console.press("escape")
        bus.declare_queue("new_one")
        road.mend()
        await console.shows("● local", "new_one", timeout=15)
        assert not console.app.screen.query_one("#place").has_class("-stale")
    road.cut()


@on_loop
async def test_nobody_there_at_the_start_is_a_state_too(vhost: TestBroker) -> None:
    road = Road(vhost.api_url)
    road.cut()
    async with opened(vhost, api_url=road.url) as console:
        await console.shows("never seen yet", "refused")
        road.mend()
        await console.shows("no alarms", timeout=15)
    road.cut()


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
@on_loop
async def test_every_screen_fits(vhost: TestBroker, bus: MessageBroker, size: tuple[int, int]) -> None:
    async with opened(vhost, size) as console:
        await console.shows("no alarms", "1/1 node", "s ago", "quit")
        await console.press("2")
        await console.shows("READY▾", "CONS", "STATE", "quit")
        await console.press("enter")
        await console.shows("Depth", "Rates", "Consumers", "Bindings")
        await console.press("t")
        await console.shows("FOLLOWING", "BODY")
        assert all(len(line) <= size[0] for line in console.text().splitlines())


@on_loop
async def test_the_mouse_sorts_and_opens(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.press("2")
        await console.until(lambda: len(rows(console)) == 3, "all queues")
        table = console.app.screen.query_one("#queues-table", LiveTable)
        await console.pilot.click(table, offset=(2, 0))
        await console.shows("NAME▴")
        await console.pilot.click(table, offset=(5, 2))
        assert table.row.name == "obs_responses"
        await console.pilot.click(table, offset=(5, 2), times=2)
        await console.shows("queues › obs_responses")


@on_loop
async def test_q_leaves(vhost: TestBroker) -> None:
    async with opened(vhost) as console:
        await console.press("q")
        await console.until(lambda: not console.app.is_running, "the console ended")


@on_loop
async def test_letters_typed_right_behind_the_sign_are_no_keys_of_the_screen(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    async with opened(vhost) as console:
        await console.press("2")
        await console.until(lambda: len(rows(console)) == 3, "all queues")
        for key, character in (("slash", "/"), *((letter, letter) for letter in "tes")):
            console.app.post_message(events.Key(key, character))  # all at once, as a paste or a fast hand does
        await console.until(lambda: rows(console) == ["tes_requests"], "the whole filter")
        await console.shows("/tes", "READY▾")


@on_loop
async def test_what_is_typed_behind_a_command_is_for_where_it_leads(vhost: TestBroker) -> None:
    """As over a slow line: all keys at once."""
    async with opened(vhost) as console:
        await console.shows("no alarms")
        for key in (*":queues", "enter", *"/dead", "enter", "N"):
            console.app.post_message(events.Key(KEYS.get(key, key), key if len(key) == 1 else None))
        await console.shows("overview › queues /dead", "NAME▴")
