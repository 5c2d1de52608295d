"""The console's screens that watch what others do: events, calls, the topology, and the jumps between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from consoles import Console, on_loop, opened
from proxy import Proxy
from victims import Victim

from busctl.tui import hearing
from busctl.tui.hearing import BY_EXCHANGE, BY_SNAPSHOTS
from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher, RPCConsumer
from busctl_lib.events import ExchangeFeed, exchange
from busctl_lib.management import ManagementClient
from busctl_lib.management.transport import Transport
from busctl_lib.pytest_plugin import TestBroker


@pytest.fixture
def bus(vhost: TestBroker) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url, client_name="desk") as broker:
        broker.declare_queue("trades", dead_letter=True)
        broker.declare_queue("obs_requests")
        broker.declare_exchange("market", "topic")
        broker.bind_queue("trades", "market", "trade.#")
        yield broker


@on_loop
async def test_events_come_are_stopped_narrowed_and_lead_on(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost, (140, 40)) as console:
        await console.shows("no alarms", "Just happened", BY_EXCHANGE)
        await console.command("events")
        await console.shows("overview › events", "FOLLOWING", "$ busctl events", timeout=60)
        bus.declare_queue("orders")
        await console.shows("queue.created", " orders ", timeout=60)
        await console.press("s")
        bus.declare_exchange("news", "topic")
        text = await console.shows("PAUSED", " new", timeout=60)
        assert "exchange.created" not in text
        await console.press("s")
        await console.shows("FOLLOWING", "exchange.created", " news ")
        await console.press("/")
        await console.type("orders")
        await console.press("enter")
        await console.hides("exchange.created")
        await console.press("enter")
        await console.shows("› events › orders", "Depth, last 10 min")
        await console.command("events exchange.*")
        await console.shows("events exchange.*", "FOLLOWING", timeout=60)
        bus.delete_queue("orders")
        bus.delete_exchange("news")
        text = await console.shows("exchange.deleted", timeout=60)
        assert "queue.deleted" not in text
        await console.press("d")
        await console.shows("via", "esc close")
        await console.press("escape", "1")
        await console.shows("Just happened", "queue orders created", "queue orders deleted")


@on_loop
async def test_the_overview_misses_nothing_that_is_brief(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost, (140, 40)) as console:
        await console.shows("Just happened", BY_EXCHANGE)
        for _ in range(2):  # each between two beats
            bus.declare_queue("orders")
            bus.subscribe("orders", lambda delivery: None).cancel()
            bus.delete_queue("orders")
        who = vhost.username
        await console.shows(
            f"queue orders created, 2 times by {who}",
            "consumer joined orders, 2 times",
            "consumer left orders, 2 times",
            f"queue orders deleted, 2 times by {who}",
        )


@on_loop
async def test_what_happens_while_the_event_link_is_away_is_taken_from_snapshots(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    with Proxy(vhost.host, vhost.port) as proxy:
        async with opened(vhost, (140, 40), amqp_url=proxy.url(vhost.amqp_url)) as console:
            await console.shows("Just happened", BY_EXCHANGE)
            proxy.refuse()
            proxy.cut()
            await console.shows(BY_SNAPSHOTS)
            bus.declare_queue("orders")
            await console.shows("queue orders created")
            proxy.refuse(False)
            await console.shows(BY_EXCHANGE, timeout=60)
            bus.delete_queue("orders")
            text = await console.shows("queue orders deleted by")
            assert text.count("queue orders created") == 1


@on_loop
async def test_an_exchange_that_tells_nobody_anything_is_asked_again(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_PROOF_S", 0.5)
    monkeypatch.setattr(hearing, "MUTE_RETRY_S", 0.5)
    place = TestBroker(victim.amqp_url, victim.api_url)
    with MessageBroker(url=place.at_vhost("/").amqp_url) as own:
        first = ExchangeFeed(own)
        assert first.hears(30)
        victim.ctl("eval", "rabbit_event ! {event_exchange, removed_last_binding}.")
        async with opened(place, (140, 40)) as console:
            await console.shows("no alarms", "Just happened", BY_SNAPSHOTS)
            first.close()
            await console.shows(BY_EXCHANGE)


@on_loop
async def test_events_of_who_may_not_see_the_exchange_come_from_snapshots(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    name = f"{vhost.name}-reader"
    api = Transport(vhost.api_url, None, None, (10.0, 30.0), read_only=False)
    api.change("PUT", f"users/{name}", {"password": "secret", "tags": "management"})
    api.change("PUT", f"permissions/{vhost.name}/{name}", {"configure": "", "write": "", "read": ".*"})
    amqp_url, api_url = (
        url.replace(f"{vhost.username}:{vhost.password}@", f"{name}:secret@") for url in (vhost.amqp_url, vhost.api_url)
    )
    try:
        async with opened(vhost, amqp_url=amqp_url, api_url=api_url) as console:
            await console.shows("Nothing needs attention", "Just happened", BY_SNAPSHOTS)
            bus.declare_queue("news")
            await console.shows("queue news created")
            await console.command("events")
            await console.shows("the event exchange cannot be used", "between snapshots", "user: node", "FOLLOWING")
            bus.declare_queue("orders")
            await console.shows("queue.created", "orders", timeout=60)
    finally:
        api.change("DELETE", f"users/{name}")
        api.close()


@on_loop
async def test_the_topology_is_drawn_and_leads_to_what_it_names(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost, (140, 40)) as console:
        await console.shows("no alarms")
        await console.command("topology")
        await console.shows("market (topic exchange)", "└─ 'trade.#' → trades", "dead letters with key 'trades.dead'")
        await console.command("queue trades")
        await console.shows("Depth, last 10 min")
        await console.press("T")
        await console.shows("topology of trades", "queue trades is fed by", "'trade.#' ← market", "leads to")
        await console.press("down", "down", "enter")
        await console.shows("› exchanges market", "1 exchange")
        await console.press("T")
        await console.shows("topology of market", "exchange market leads to")
        await console.press("G", "enter")
        await console.shows("› trades.dead", "Nobody consumes from here.")
        await console.command("topology trade")
        await console.shows("no queue or exchange 'trade'", "did you mean trades?")


@on_loop
async def test_a_tail_leads_to_the_calls_by_its_queue(vhost: TestBroker, bus: MessageBroker) -> None:
    consumer = MessageConsumer(bus)
    consumer.register_handler("get_orderbook", lambda message, _: {"symbol": message["symbol"], "bids": [[149.5, 3]]})
    consumer.start_consuming("obs_requests", background=True)
    async with opened(vhost, (140, 40)) as console:
        await console.command("tail obs_requests")
        await console.shows("FOLLOWING")
        await console.press("P")
        await console.shows("› calls obs_requests", "FOLLOWING", "costs tracing", "$ busctl rpc spy obs_requests")
        RPCConsumer(bus).call("obs_requests", {"action": "get_orderbook", "symbol": "AAPL"}, timeout=20)
        await console.shows("answered", " ms  get_orderbook", "1 call", "Methods")
        await console.press("enter")
        await console.shows("Request: get_orderbook by obs_requests", " later ", "[149.5, 3]", "PAUSED")
        await console.press("escape")
        await console.hides("Request: get_orderbook")
        await console.press("escape", "escape")
        await console.shows("Needs attention")
    consumer.stop()
    with ManagementClient(vhost.api_url) as management:
        assert not management.vhost(vhost.name).tracing


@on_loop
async def test_from_a_message_to_those_of_its_call_and_of_its_trace(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.command("tail trades")
        await console.shows("FOLLOWING")
        for number, correlation, trace in ((1, "x", "1"), (2, "y", "2"), (3, "x", "2")):
            publish(bus, number, correlation, trace)
        await console.shows('"n":3}')
        await console.press("up", "down", "r")  # the last one
        await shows_only(console, 1, 3)
        await console.press("escape", "T")
        await shows_only(console, 2, 3)


def publish(bus: MessageBroker, number: int, correlation: str, trace: str) -> None:
    MessagePublisher(bus).publish(
        "",
        {"n": number},
        exchange="market",
        routing_key="trade.AAPL",
        correlation_id=correlation,
        headers={"traceparent": f"00-{trace * 32}-{'b' * 16}-01"},
    )


async def shows_only(console: Console, *numbers: int) -> None:
    def shown() -> list[int]:
        return [number for number in (1, 2, 3) if f'"n":{number}}}' in console.text()]

    await console.until(lambda: shown() == list(numbers), f"only {numbers}")
