"""The sample bus: its order book, its flow, its topology, and the whole of it end to end."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trying import ROOT, command_lines, try_out
from waiting import wait_until

from busctl.cli import main
from busctl.config import Flags, resolve
from busctl.demo import registry
from busctl.demo.accounts import Accounts
from busctl.demo.flow import BASE_PRICES, OPENING, UNKNOWN_SYMBOLS, OrderFlow, pulse
from busctl.demo.orderbook import Order, OrderBook
from busctl.demo.runner import SERVICES, Demo, has_market
from busctl.demo.topology import EXCHANGES, QUEUES, dead
from busctl.demo.venue import InvalidLot, InvalidTick, UnknownOrder, UnknownSymbol, Venue
from busctl_lib.broker import MessageBroker
from busctl_lib.consumers import RPCConsumer
from busctl_lib.documents import document
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, InvalidMessage, RemoteError
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import own_vhost
from busctl_lib.schemas import METHODS, SCHEMAS, OrderMessage, TradeMessage, validate

# --- The order book -------------------------------------------------------------------

_ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from(["buy", "sell"]),
            st.integers(1, 12),
            st.integers(1, 20),
            st.booleans(),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
    ),
    max_size=60,
)


def order(number: int, side: Literal["buy", "sell"], price: int, quantity: int) -> Order:
    return Order(str(number), 1, side, price, quantity, quantity)


@given(_ACTIONS)
@settings(max_examples=300)
def test_orders_meet_by_price_then_time_and_no_quantity_is_made_or_lost(actions: list[Any]) -> None:
    book = OrderBook("AAPL")
    submitted = cancelled = filled = dropped = 0
    for number, action in enumerate(actions):
        if action[0] == "cancel":
            gone = book.cancel(str(action[1]))
            cancelled += gone.remaining if gone else 0
            continue
        _, side, price, quantity, rest = action
        incoming = order(number, side, price, quantity)
        other: Literal["buy", "sell"] = "sell" if side == "buy" else "buy"
        # Who must be met, in this order: the best price first, at a price the oldest first.
        line = [waiting for level, _ in book.depth(other, 99) for waiting in book.queue(other, level)]
        fills = book.submit(incoming, rest=rest)
        submitted += quantity
        filled += 2 * sum(fill.quantity for fill in fills)
        dropped += 0 if rest else incoming.remaining
        assert [fill.resting for fill in fills] == line[: len(fills)]
        assert all(fill.price == fill.resting.price for fill in fills)
        assert all(fill.price <= price if side == "buy" else fill.price >= price for fill in fills)
        assert incoming.quantity == incoming.remaining + sum(fill.quantity for fill in fills)
        if fills[:-1]:
            assert all(fill.resting.remaining == 0 for fill in fills[:-1])
        # What is left of it found nobody any more.
        best = book.best_ask if side == "buy" else book.best_bid
        if incoming.remaining and best is not None:
            assert best > price if side == "buy" else best < price
        if book.best_bid is not None and book.best_ask is not None:
            assert book.best_bid < book.best_ask
    left = sum(quantity for side in ("buy", "sell") for _, quantity in book.depth(side, 99))
    assert submitted == filled + cancelled + dropped + left
    assert left == sum(waiting.remaining for waiting in book.orders.values())


def test_depth_lists_the_best_price_first() -> None:
    book = OrderBook("AAPL")
    for number, (side, price) in enumerate([("buy", 5), ("buy", 7), ("buy", 7), ("sell", 9), ("sell", 12)]):
        book.submit(order(number, side, price, 10))  # type: ignore[arg-type]
    assert book.depth("buy", 5) == [(7, 20), (5, 10)]
    assert book.depth("sell", 1) == [(9, 10)]


def test_an_order_expires_once_and_only_while_it_waits() -> None:
    venue = Venue({"AAPL": 10.0})
    for order_id in ("waits", "fills"):
        venue.submit(ORDER | {"order_id": order_id}, now=1.0)
    venue.submit(ORDER | {"order_id": "taker", "side": "sell", "user_id": 2}, now=2.0)
    assert [venue.expire(order_id) for order_id in ("waits", "fills", "fills", "absent")] == [None, "AAPL", None, None]
    assert [venue.order(order_id)["status"] for order_id in ("waits", "fills")] == ["filled", "cancelled"]


def test_an_order_id_is_taken_once() -> None:
    book = OrderBook("AAPL")
    book.submit(order(1, "buy", 5, 1))
    with pytest.raises(ValueError, match="already"):
        book.submit(order(1, "buy", 5, 1))


# --- The venue and the accounts -------------------------------------------------------------------


def submit(venue: Venue, order_id: str, side: str, quantity: float, price: float, **more: Any) -> Any:
    return venue.submit(
        {
            "order_id": order_id,
            "user_id": 1,
            "symbol": "AAPL",
            "side": side,
            "quantity": quantity,
            "price": price,
            **more,
        },
        now=1.0,
    )


def test_a_fill_shows_in_both_orders_in_the_tape_and_in_the_book() -> None:
    venue = Venue({"AAPL": 150.0})
    assert submit(venue, "a", "sell", 100, 150.25)[0]["status"] == "open"
    reply, trades = submit(venue, "b", "buy", 40, 151.0)
    assert (reply["status"], reply["filled"], reply["average_price"]) == ("filled", 40, 150.25)
    assert (venue.order("a")["status"], venue.order("a")["filled"]) == ("partial", 40)
    assert venue.orderbook("AAPL", 5, 1.0)["asks"] == [(150.25, 60)]
    assert venue.trades("AAPL", 5)["trades"] == trades
    validate(trades[0], TradeMessage)
    validate(venue.quote("AAPL", 1.0), SCHEMAS["quote"])
    for method, answer in (("get_orderbook", venue.orderbook("AAPL", 5, 1.0)), ("get_order", venue.order("a"))):
        validate(answer, METHODS[method].reply)


def test_what_is_left_of_a_market_order_does_not_wait() -> None:
    venue = Venue({"AAPL": 150.0})
    reply, _ = submit(venue, "a", "buy", 10, 150, order_type="market")
    assert (reply["status"], reply["reason"]) == ("cancelled", "nobody sells at that price")
    assert venue.orderbook("AAPL", 5, 1.0)["bids"] == []


def test_the_same_order_again_changes_nothing() -> None:
    venue = Venue({"AAPL": 150.0})
    first = submit(venue, "a", "buy", 10, 150)
    assert submit(venue, "a", "buy", 10, 150) == first
    assert venue.orderbook("AAPL", 5, 1.0)["bids"] == [(150.0, 10)]


def test_the_venue_refuses_by_name() -> None:
    venue = Venue({"AAPL": 150.0})
    with pytest.raises(UnknownSymbol, match="AAPL"):
        venue.orderbook("APPL", 5, 1.0)
    with pytest.raises(InvalidTick):
        submit(venue, "a", "buy", 10, 150.005)
    with pytest.raises(InvalidLot):
        submit(venue, "a", "buy", 0.5, 150)
    submit(venue, "a", "buy", 10, 150)
    with pytest.raises(UnknownOrder):
        venue.withdraw({"order_id": "a", "user_id": 2})


def test_accounts_follow_the_trades() -> None:
    accounts = Accounts()
    for buyer, seller, quantity, price in [(1, 2, 100, 10.0), (1, 2, 100, 12.0), (2, 1, 250, 15.0)]:
        accounts.trade({"buyer_id": buyer, "seller_id": seller, "symbol": "A", "quantity": quantity, "price": price})
    (first,), (second,) = accounts.reply(1)["positions"], accounts.reply(2, "A")["positions"]
    assert (first["quantity"], first["average_price"], first["realized"]) == (-50, 15.0, 800.0)
    assert (second["quantity"], second["average_price"], second["realized"]) == (50, 15.0, -800.0)
    assert accounts.reply(3) == {"user_id": 3, "positions": []}


# --- The flow -------------------------------------------------------------------


def test_a_seed_makes_the_flow() -> None:
    first, second, other = (list(itertools.islice(OrderFlow(seed), 2000)) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_what_is_not_meant_to_fail_is_valid_and_what_is_meant_to_is_not() -> None:
    faults = set()
    for intent in itertools.islice(OrderFlow(1), 20_000):
        if intent.kind == "order":
            good = True
            try:
                validate(intent.message, OrderMessage)
                Venue(BASE_PRICES).submit({**intent.message, "order_id": "x"}, now=0)
            except (InvalidMessage, UnknownSymbol, InvalidTick):
                good = False
            assert good == (intent.fault is None), intent
        elif intent.kind == "garbage":
            with pytest.raises(ValueError, match=r"."):
                json.loads(intent.body)
        faults.add(intent.fault)
    assert {None, "garbage", "quantity", "symbol", "misspelt", "missing"} <= faults
    assert not set(UNKNOWN_SYMBOLS) & set(BASE_PRICES)


@pytest.mark.parametrize("seed", range(20))
def test_a_market_that_is_there_is_still_there_at_the_next_look(seed: int) -> None:
    venue = Venue(BASE_PRICES)
    ready = False
    for number, intent in enumerate(itertools.islice(OrderFlow(seed), OPENING)):
        venue.submit({**intent.message, "order_id": str(number)}, now=0)
        books = [venue.orderbook(symbol, 1, now=0) for symbol in BASE_PRICES]
        ready = ready or has_market(books[0])
        assert not ready or all(map(has_market, books)), number
    assert ready


def test_the_market_breathes_around_its_rate() -> None:
    beats = [pulse(second) for second in range(3600)]
    assert 0.9 < sum(beats) / len(beats) < 1.2
    assert min(beats) > 0.2
    assert max(beats) > 2


# --- The topology -------------------------------------------------------------------


def test_every_queue_is_bounded_and_every_dead_letter_has_a_place_to_go() -> None:
    names = {queue.name for queue in QUEUES}
    for queue in QUEUES:
        assert {"x-max-length", "x-max-length-bytes"} & set(queue.arguments), queue.name
        assert queue.arguments.get("x-dead-letter-routing-key", queue.name) in names
        assert {exchange for exchange, _ in queue.bindings} <= set(EXCHANGES)
    assert {"tes_requests", "tes_responses", "obs_requests", "obs_responses", "trade_events"} <= names
    assert {queue.arguments.get("x-queue-type", "classic") for queue in QUEUES} == {"classic", "quorum", "stream"}


# --- The context of a running demo -------------------------------------------------------------------


def test_a_running_demo_is_a_context_and_a_second_one_has_a_name_of_its_own() -> None:
    assert registry.running() == []
    with registry.registered("amqp://one", "http://one") as first:
        with registry.registered("amqp://two", "http://two") as second:
            assert (first, second) == ("demo", "demo-2")
            assert [(demo.name, demo.amqp_url) for demo in registry.running()] == [
                ("demo", "amqp://one"),
                ("demo-2", "amqp://two"),
            ]
        assert [demo.name for demo in registry.running()] == ["demo"]
        assert resolve(Flags(context="demo")).amqp_url.startswith("amqp://guest:guest@one:5672/")
        assert stat.S_IMODE((registry.folder() / "demo.json").stat().st_mode) == 0o600
    assert registry.running() == []
    assert list(registry.folder().iterdir()) == []


def test_the_console_of_a_demo_reads_the_bus_file_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "mine.toml"
    named.write_text("[filters]\nlarge = '.body.quantity > 100'\n")
    read: list[Any] = []
    monkeypatch.setattr("busctl.tui.app.run_console", lambda session: read.extend(session.bus.filters) or [])
    running = contextlib.ExitStack()
    vars(running).update(amqp_url="amqp://one", api_url="http://one")
    monkeypatch.setattr("busctl.demo.runner.Demo", lambda **_: running)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main.run(["demo", "--bus-file", str(named)]) == 0
    assert read == ["large"]


def test_what_a_killed_demo_left_behind_is_no_context_and_its_name_is_free() -> None:
    registry.folder().mkdir(parents=True)
    (registry.folder() / "demo.json").write_text('{"amqp_url": "amqp://gone", "api_url": "http://gone"}')
    (registry.folder() / "demo-2.json").write_text("{")
    assert registry.running() == []
    with registry.registered("amqp://one", "http://one") as name:
        assert name == "demo"


# --- The command -------------------------------------------------------------------


def test_the_command_runs_headless_and_leaves_nothing_behind(tmp_path: Path) -> None:
    process, first = started("--for", "2s", "--rate", "30", "--seed", "1")
    assert set(first) >= {"amqp_url", "api_url"}
    with MessageBroker(url=first["amqp_url"]) as broker:
        call(broker, "get_orderbook", symbol="AAPL")
    family = offspring(process.pid)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == b""
    assert b"BUSCTL_AMQP_URL" in err
    assert registry.running() == []
    wait_until(lambda: not alive(family), 10)


@pytest.mark.faults
def test_a_killed_command_leaves_nothing_behind() -> None:
    process, first = started("--headless")
    assert [demo.amqp_url for demo in registry.running()] == [first["amqp_url"]]
    family = offspring(process.pid)
    assert len(family) > len(SERVICES)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not alive(family), 20)
    assert registry.running() == []


def started(*flags: str) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Start `busctl demo` and read its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "busctl", "demo", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.stderr.read().decode())
    return process, json.loads(line)


def offspring(pid: int) -> set[int]:
    """The processes below a process."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in table.splitlines())}
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    states = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    return pids & {int(pid) for pid, state in (line.split() for line in states.splitlines()) if state[0] not in "Z"}


# --- The whole of it -------------------------------------------------------------------


@pytest.fixture(scope="module")
def bus(node: Any) -> Iterator[Demo]:
    """One sample bus for the tests below, in a virtual host of its own, on the broker of this run."""
    with own_vhost(node) as place, Demo(rate=20, seed=5, amqp_url=place.amqp_url, api_url=place.api_url) as demo:
        yield demo


@pytest.fixture
def broker(bus: Demo) -> Iterator[MessageBroker]:
    with MessageBroker(url=bus.amqp_url) as broker:
        yield broker


ORDER = {"action": "place_order", "user_id": 99, "symbol": "AAPL", "side": "buy", "quantity": 10, "price": 1.0}


def call(broker: MessageBroker, action: str, **arguments: Any) -> Any:
    reply = RPCConsumer(broker).call(METHODS[action].queue, {"action": action, **arguments})
    validate(reply, METHODS[action].reply)
    return reply


def taken(broker: MessageBroker, queue: str) -> list[Delivery]:
    """What comes from a queue, as it comes; acknowledged."""
    found: list[Delivery] = []
    broker.subscribe(queue, found.append, auto_ack=True)
    return found


def test_every_method_answers_in_its_form(broker: MessageBroker) -> None:
    book = wait_until(lambda: with_both_sides(call(broker, "get_orderbook", symbol="AAPL", depth=3)), 20)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(book["bids"]) <= 3
    wait_until(lambda: call(broker, "get_trades", symbol="AAPL", limit=5)["trades"], 20)
    assert len(call(broker, "get_symbols")["symbols"]) == len(BASE_PRICES)
    placed = call(broker, **ORDER)
    assert placed["status"] == "open"
    order_id = placed["order_id"]
    assert call(broker, "get_order", order_id=order_id)["status"] == "open"
    assert call(broker, "cancel_order", user_id=99, order_id=order_id)["status"] == "cancelled"
    assert call(broker, "get_order", order_id=order_id)["reason"] == "cancelled by its owner"


def with_both_sides(book: Any) -> Any:
    """A book, where somebody buys and somebody sells: it is so but for moments."""
    return book if book["bids"] and book["asks"] else None


def test_a_fill_reaches_the_position(broker: MessageBroker) -> None:
    bought = call(broker, **(ORDER | {"user_id": 98, "price": 500.0}))
    assert bought["status"] == "filled"
    wait_until(lambda: [held["quantity"] for held in call(broker, "get_position", user_id=98)["positions"]] == [10], 10)


def test_an_order_beyond_the_limit_is_answered_with_the_reason(broker: MessageBroker) -> None:
    answer = call(broker, **(ORDER | {"quantity": 1_000_000}))
    assert answer["status"] == "rejected"
    assert "above the limit" in answer["reason"]


def test_an_error_comes_back_by_its_name(broker: MessageBroker) -> None:
    with pytest.raises(RemoteError, match="UnknownSymbol"):
        call(broker, "get_orderbook", symbol="APPL")
    with pytest.raises(RemoteError, match=r"InvalidMessage.*depth"):
        call(broker, "get_orderbook", symbol="AAPL", depth=0)
    with pytest.raises(RemoteError, match="UnknownOrder"):
        call(broker, "cancel_order", user_id=1, order_id="none")
    with pytest.raises(RemoteError, match="InvalidTick"):
        call(broker, **(ORDER | {"price": 1.001}))


def test_failures_are_buried_with_their_cause(broker: MessageBroker) -> None:
    execution, book = taken(broker, dead("tes_requests")), taken(broker, dead("obs_requests"))
    publisher = MessagePublisher(broker)
    publisher.publish("tes_requests", ORDER | {"quantity": -3}, correlation_id="mine-1", headers={"busctl-replays": 1})
    publisher.publish("tes_requests", ORDER | {"symbol": "XYZ", "user_id": 97})
    garbage = publisher.envelope("tes_requests", None, message_id="mine-3")
    garbage.body = b'{"action": "place_or'
    publisher.publish_envelope(garbage)

    invalid = wait_until(lambda: [one for one in execution if one.properties.correlation_id == "mine-1"], 10)
    assert len(invalid) == 1
    assert invalid[0].headers["busctl-error-type"] == "InvalidMessage"
    assert "quantity: expected a number > 0, found -3" in invalid[0].headers["busctl-error-message"]
    assert invalid[0].headers["busctl-error-queue"] == "tes_requests"
    assert invalid[0].headers["busctl-replays"] == 1
    rejected = wait_until(lambda: [one for one in execution if one.properties.message_id == "mine-3"], 10)
    assert rejected[0].headers["busctl-error-type"] == "CodecError"
    unknown = wait_until(lambda: [one for one in book if json.loads(one.body)["user_id"] == 97], 10)
    assert unknown[0].headers["busctl-error-type"] == "UnknownSymbol"
    for delivery in (*execution, *book):
        own = {name for name in delivery.headers if name.startswith("busctl-")}
        assert own or delivery.deaths


def test_replies_events_and_market_data_flow_on_the_queues_of_the_seed(broker: MessageBroker) -> None:
    broker.declare_queue("copy", exclusive=True)
    for exchange, key in (("trade_events", ""), ("market_data", "quotes.AAPL"), ("market_data", "trades.#")):
        broker.bind_queue("copy", exchange, key)
    seen = taken(broker, "copy")
    wait_until(lambda: {"trade", "quote"} <= {str(one.properties.type) for one in seen}, 20)
    for delivery in seen:
        message = json.loads(delivery.body)
        validate(message, SCHEMAS[message["action"]])
    # Replies go through the default exchange to the queue of the seed: TES consumes what OBS answers.
    for queue in ("tes_requests", "tes_responses", "obs_requests", "obs_responses", "trade_events", "tes_fills"):
        assert broker.declare_queue(queue, passive=True).consumer_count == 1


def test_trades_that_cannot_be_counted_are_tried_again_and_then_given_up(broker: MessageBroker) -> None:
    given_up = taken(broker, dead("trade_events"))
    # The crc32 of an id decides; this one never finds its reference data.
    trade_id = next(name for name in map(str, itertools.count()) if zlib.crc32(name.encode()) % 300 == 2)
    trade = {
        "action": "trade", "trade_id": trade_id, "symbol": "AAPL", "side": "buy", "quantity": 1, "price": 1,
        "buy_order_id": "a", "sell_order_id": "b", "buyer_id": 1, "seller_id": 2, "timestamp": 0,
    }  # fmt: skip
    MessagePublisher(broker).publish("trade_events", trade, headers={"busctl-attempt": 2})
    mine = wait_until(lambda: [one for one in given_up if json.loads(one.body)["trade_id"] == trade_id], 30)
    assert mine[0].headers["busctl-error-type"] == "ReferenceDataMissing"
    assert mine[0].headers["busctl-attempt"] == 3


def test_snapshots_travel_compressed_statements_encrypted_and_orders_expire_by_a_delay(broker: MessageBroker) -> None:
    call(broker, **(ORDER | {"price": 2.0}))
    wait_until(lambda: depth_of(broker, "busctl.delay.fixed.120000"), 20)
    broker.declare_queue("snapshots", exclusive=True)
    broker.bind_queue("snapshots", "market_data", "snapshots")
    snapshots = taken(broker, "snapshots")
    # The desk reads statements as they come; this one takes its turn beside it.
    statements = taken(broker, "account_statements")
    wait_until(lambda: snapshots and statements, 30)
    shown = document(snapshots[0])
    assert shown["decoded"] == ["zstd"]
    assert [book["symbol"] for book in shown["body"]["books"]] == ["AAPL", "MSFT", "GOOG", "AMZN", "NVDA", "TSLA"]
    assert document(statements[0])["undecoded"] == "encrypted, key 'demo-1' not held"


def test_a_trace_goes_from_the_trader_over_both_services_to_the_trades(broker: MessageBroker) -> None:
    broker.declare_queue("trace-copy", exclusive=True)
    broker.bind_queue("trace-copy", "trade_events", "")
    trades = taken(broker, "trace-copy")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    for side, price, user in (("sell", 1.0, 98), ("buy", 1000.0, 99)):
        order = ORDER | {"side": side, "price": price, "user_id": user}
        MessagePublisher(broker).publish("tes_requests", order, headers=headers)
    wait_until(lambda: [one for one in trades if trace in str(one.headers.get("traceparent"))], 20)


NOT_RUN = {
    "make demo", "make test", "pipx install .", "uv tool install .", "python3 -m pip install .",
    "source .venv/bin/activate",
}  # fmt: skip
"""Of the pages: what would install the program that is being tested, or is this test."""
LONG = [
    pytest.param(page.name, marks=pytest.mark.faults)
    for page in sorted((ROOT / "docs").glob("*.md"))
    if page.name != "cli.md"
]


@pytest.mark.parametrize("page", ["README.md", *LONG])
def test_every_command_of_a_page_does_what_it_says(
    page: str,
    bus: Demo,
    broker: MessageBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MQ_PASSWORD", "secret")
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    for _ in range(8):  # dead letters come by themselves as well, only not at once
        MessagePublisher(broker).publish("tes_requests", ORDER | {"quantity": -3})
    wait_until(lambda: depth_of(broker, dead("tes_requests")) >= 8, 60)
    with registry.registered(bus.amqp_url, bus.api_url):
        for printed in command_lines(path.read_text()):
            if printed.line in NOT_RUN:
                continue
            code, said = try_out(printed.line, capfd)
            assert (printed.line, code) == (printed.line, printed.code), said
            if printed.line.startswith("busctl contexts use"):
                monkeypatch.setenv("BUSCTL_CONTEXT", "demo")  # there is no broker of that name


def depth_of(broker: MessageBroker, queue: str) -> int:
    return broker.declare_queue(queue, passive=True).message_count


def test_a_service_that_ends_is_started_again(bus: Demo, broker: MessageBroker) -> None:
    before = bus.pids["obs"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: bus.pids["obs"] not in (before, None), 20)
    wait_until(lambda: answers(broker), 20)
    assert set(bus.pids) == set(SERVICES)


def answers(broker: MessageBroker) -> bool:
    try:
        return bool(call(broker, "get_symbols"))
    except BusError:
        return False
