"""The broker is killed while a screen is open: the state line says so, what was seen stays, and all comes back.

Long: a stack of screens over one kill, and a kill below each screen there is. With every run of the tests the console
in a real terminal has its broker killed (test_tui_terminal.py).
"""

from __future__ import annotations

import asyncio

import pytest
from consoles import Console, on_loop, opened
from victims import Victim

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.pytest_plugin import TestBroker

BACK_S = 90
SCREENS = {
    "overview": "Needs attention",
    "queues": "orders",
    "queue orders": "Depth, last 10 min",
    "tail orders": "FOLLOWING",
    "calls orders": "FOLLOWING",
    "events": "FOLLOWING",
    "topology": "orders",
    "topology orders": "is fed by",
    "peek orders": "1 of 1 waited",
    "publish orders": "publish",
    "dead": "orders.dead",
    "dead orders.dead": "cause",
    "replay orders.dead": "orders.dead",
    "operations": "operations",
    "rpc get_orderbook AAPL": "get_orderbook",
    "exchanges": "amq.topic",
    "bindings": "orders",
    "connections": "busctl",
    "channels": "channels",
    "consumers": "consumers",
    "nodes": "MEM",
    "vhosts": "vhosts",
    "policies": "policies",
    "users": "administrator",
    "permissions": "permissions",
    "shovels": "shovels",
    "contexts": "contexts",
}


@pytest.fixture(scope="module", autouse=True)
def _messages(victim: Victim) -> None:
    """One that waits and one that died."""
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.declare_queue("orders")
        broker.declare_queue("orders.dead")
        broker.bind_queue("orders", "amq.topic", "order.#")
        MessagePublisher(broker).publish("orders", {"n": 1})
        MessagePublisher(broker).publish("orders.dead", {"n": 2})
    victim.keep()


async def killed(console: Console, victim: Victim) -> str:
    """Kill the node, and wait until the screen says so; the console lives on meanwhile."""
    await asyncio.to_thread(victim.kill)
    return await console.shows("✖ local", "last seen", timeout=BACK_S)


async def back(console: Console, victim: Victim) -> None:
    """Start the node again, and wait until the console has found it."""
    await asyncio.to_thread(victim.start, 2 * BACK_S)
    await console.shows("● local", timeout=BACK_S)


@pytest.mark.faults
@on_loop
async def test_a_broker_killed_below_a_stack_of_screens(victim: Victim) -> None:
    async with opened(TestBroker(victim.amqp_url, victim.api_url), (140, 40)) as console:
        await console.command("events")
        await console.shows("FOLLOWING", timeout=BACK_S)
        await console.command("queues")
        await console.shows("orders.dead")
        await console.press("g", "/")
        await console.type("orders")
        await console.press("enter", "N", "g", "enter")
        await console.shows("queues › orders", "Depth, last 10 min")
        await console.press("T")
        await console.shows("is fed by", "'order.#' ← amq.topic")
        await console.press("escape", "t")
        await console.shows("FOLLOWING", "via ")
        await killed(console, victim)
        await console.shows("✖ LINK RECOVERING", timeout=BACK_S)
        await console.press("escape")
        await console.shows("queues › orders", "last seen", "1 ready")
        await console.press("T")
        await console.shows("topology of orders", "cannot be asked")
        await console.press("escape", "p")
        await console.shows("peek orders", "✖ ", timeout=BACK_S)
        await console.press("escape", "escape", "escape")
        assert "orders.dead" in await console.shows("overview › queues", "last seen")
        await console.command("events")
        await console.shows("next try in", timeout=BACK_S)
        await back(console, victim)
        await console.shows("FOLLOWING", timeout=BACK_S)
        await console.press("1")
        await console.shows("Needs attention", "the API answers again", "the API is away")
        await console.command("tail orders")
        await console.shows("FOLLOWING", timeout=BACK_S)
        with MessageBroker(url=victim.amqp_url) as broker:
            MessagePublisher(broker).publish("", {"n": 3}, exchange="amq.topic", routing_key="order.new")
            await console.shows('{"n":3}', timeout=BACK_S)
            broker.purge_queue("orders")
            MessagePublisher(broker).publish("orders", {"n": 1})


@pytest.mark.faults
@pytest.mark.parametrize("line", SCREENS)
@on_loop
async def test_a_broker_killed_below_each_screen(victim: Victim, line: str) -> None:
    async with opened(TestBroker(victim.amqp_url, victim.api_url), (140, 40)) as console:
        await console.shows("no alarms", timeout=BACK_S)
        await console.command(line)
        await console.shows(SCREENS[line], timeout=BACK_S)
        screen = console.app.screen
        await killed(console, victim)
        assert console.app.screen is screen
        await back(console, victim)
        if SCREENS[line] != "FOLLOWING" and not line.startswith("replay"):
            await console.until(lambda: not screen.query_one("#place").has_class("-stale"), "fresh again", BACK_S)
        await console.shows(SCREENS[line], timeout=BACK_S)
        await console.press("escape")
        await console.command("overview")
        await console.shows("Needs attention")
