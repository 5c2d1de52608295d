"""The tail screen on a real broker: follow and pause, a flood, a lost link, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from consoles import Console, on_loop, opened
from proxy import Proxy
from waiting import wait_until

from busctl.tui.screens.tail import TailScreen
from busctl.tui.widgets.message_log import KEPT_BYTES, KEPT_ROWS, MessageLog
from busctl_lib import Delivery, MessageBroker, MessagePublisher, Properties
from busctl_lib.management import ManagementClient
from busctl_lib.pytest_plugin import TestBroker


@pytest.fixture
def bus(vhost: TestBroker) -> Iterator[MessageBroker]:
    """A queue bound to an exchange: its tap is a copy, nothing else in the vhost changes."""
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("trades")
        broker.declare_exchange("market", "topic")
        broker.bind_queue("trades", "market", "trade.#")
        yield broker


async def tail(console: Console, queue: str = "trades") -> MessageLog:
    await console.command(f"tail {queue}")
    await console.shows("FOLLOWING")
    return console.app.screen.query_one("#messages-log", MessageLog)


def publish(bus: MessageBroker, first: int, count: int) -> None:
    publisher = MessagePublisher(bus)
    for number in range(first, first + count):
        publisher.publish("", {"action": "trade", "n": number}, exchange="market", routing_key="trade.AAPL")


def publish_unrouted(bus: MessageBroker) -> None:
    MessagePublisher(bus).publish("", {"unseen": 1}, exchange="market", routing_key="trade.X", mandatory=False)


@on_loop
async def test_messages_appear_and_the_bus_keeps_them(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost, (160, 40)) as console:
        await tail(console)
        await console.shows("via copy", "not: ", "$ busctl tail trades")
        publish(bus, 0, 5)
        await console.shows('{"action":"trade","n":4}', "market:trade.AAPL", "5 seen")
        assert bus.declare_queue("trades", passive=True).message_count == 5


def test_what_comes_while_paused_is_bounded_in_bytes_too() -> None:
    log = MessageLog()
    log.set_reactive(MessageLog.following, False)
    large = b"x" * 2**20
    for _ in range(KEPT_BYTES // len(large) + 20):
        came = {"queue": "trades", "received_at": 0.0, "exchange": "", "routing_key": "k"}
        log.add([Delivery(**came, properties=Properties(), body=large)])  # type: ignore[arg-type]
    assert log.waiting == KEPT_BYTES // len(large)


@on_loop
async def test_paused_nothing_moves_and_following_catches_up(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        log = await tail(console)
        publish(bus, 0, 3)
        await console.shows('"n":2}')
        await console.press("s")
        await console.shows("PAUSED  0 new")
        publish(bus, 3, 4)
        text = await console.shows("PAUSED  4 new")
        assert '"n":3}' not in text
        await console.press("s")
        await console.shows("FOLLOWING", '"n":6}')
        await console.press("up")
        await console.shows("PAUSED")
        assert not log.following
        await console.press("G")
        await console.shows("FOLLOWING")


@on_loop
async def test_a_message_in_full_and_escape_closes_it_first(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await tail(console)
        publish(bus, 7, 1)
        await console.shows('"n":7}')
        await console.press("enter")
        await console.shows("Properties and headers", '"n": 7', "content_type", "message_id")
        await console.press("escape")
        await console.hides("Properties and headers")
        await console.press("escape")
        await console.shows("Needs attention")


@on_loop
async def test_the_filter_applies_to_what_is_there_and_to_what_comes(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await tail(console)
        publish(bus, 10, 3)
        await console.shows('"n":12}')
        await console.press("/")
        await console.type("!n.*:11")
        await console.press("enter")
        await console.hides('"n":11}')
        publish(bus, 11, 1)
        publish(bus, 13, 1)
        text = await console.shows('"n":13}', "3 of 5 kept match")
        assert '"n":11}' not in text


FLOOD = """
import sys
from busctl_lib import MessageBroker, MessagePublisher
with MessageBroker(url=sys.argv[1]) as broker:
    publisher = MessagePublisher(broker)
    while True:
        publisher.publish_many(("flooded", {"action": "trade", "n": n}) for n in range(1000))
"""


@pytest.fixture
def flood(vhost: TestBroker) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a publisher that sends as fast as it can, in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", FLOOD, vhost.amqp_url]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@on_loop
async def test_a_flood_costs_rows_and_never_the_keyboard(
    vhost: TestBroker, bus: MessageBroker, flood: Callable[[], subprocess.Popen[bytes]]
) -> None:
    bus.declare_queue("flooded", arguments={"x-max-length": 1000})
    async with opened(vhost) as console:
        log = await tail(console, "flooded")
        process = flood()
        screen = console.app.screen
        assert isinstance(screen, TailScreen)
        await console.until(lambda: screen.seen > 5_000, "the flood runs", 30)
        console.app.simulate_key("s")
        await console.until(lambda: not log.following, "the key was heard", 10)
        seen = screen.seen
        await console.until(lambda: screen.seen > seen, "and the flood goes on")
        assert process.poll() is None
        await console.shows("PAUSED")
        assert log.kept <= KEPT_ROWS
        assert log.waiting <= KEPT_ROWS


@on_loop
async def test_leaving_gives_everything_back(vhost: TestBroker, bus: MessageBroker) -> None:
    bus.declare_queue("obs_responses")
    with ManagementClient(vhost.api_url) as management:
        async with opened(vhost) as console:
            await tail(console, "obs_responses")
            assert management.vhost(vhost.name).tracing
            await console.press("escape")
            await console.shows("Needs attention")
            await console.until(lambda: not management.vhost(vhost.name).tracing, "tracing off", 15)
            await tail(console)
            await console.until(lambda: len(management.queues(vhost.name)) == 3, "the copy is there")
        wait_until(lambda: len(management.queues(vhost.name)) == 2, 15, what="no queue of ours is left")


@on_loop
async def test_a_queue_that_is_not_there_is_said_so(vhost: TestBroker) -> None:
    async with opened(vhost) as console:
        await console.command("tail nowhere")
        await console.shows("no queue 'nowhere'")
        await console.press("escape")
        await console.shows("Needs attention")


@on_loop
async def test_what_is_seen_follows_the_queue_and_ends_with_it(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost, (160, 40)) as console:
        await tail(console)
        await console.shows("what 1 binding brings")
        bus.bind_queue("trades", "market", "order.#")
        await console.shows("bound now: market 'order.#'", "what 2 bindings bring", timeout=20)
        publish(bus, 0, 1)
        await console.shows('"n":0}')
        bus.delete_queue("trades")
        await console.shows("✖", "trades was deleted", timeout=20)
        publish_unrouted(bus)
        bus.declare_queue("trades", arguments={"x-queue-type": "quorum"})
        bus.bind_queue("trades", "market", "trade.#")
        await console.press("ctrl+r")
        await console.shows("FOLLOWING", timeout=20)
        publish(bus, 1, 1)
        await console.shows('"n":1}')
        assert "unseen" not in console.text()


@on_loop
async def test_a_lost_link_shows_and_messages_come_again(vhost: TestBroker, bus: MessageBroker) -> None:
    with Proxy(vhost.host, vhost.port) as proxy:
        async with opened(vhost, amqp_url=proxy.url(vhost.amqp_url)) as console:
            await tail(console)
            publish(bus, 0, 1)
            await console.shows('"n":0}')
            proxy.refuse()
            proxy.cut()
            await console.shows("✖ LINK RECOVERING", "nothing can be seen")
            proxy.refuse(False)
            await console.shows("link to the broker was lost", "FOLLOWING", timeout=20)
            publish(bus, 1, 1)
            await console.shows('"n":1}', timeout=20)
