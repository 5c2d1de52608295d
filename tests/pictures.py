"""Pictures of the console: a bus that was recorded, clocks that stand still, keys, and what is on the screen then."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from consoles import Console
from textual.message import Message
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input

from busctl.config import Flags, resolve
from busctl.contexts import ConsoleConfig
from busctl.session import Session
from busctl.tui.app import ConsoleApp
from busctl.tui.hearing import BY_EXCHANGE, Hearing
from busctl.tui.jobs import Job
from busctl.tui.messages import (
    ChannelsAsked,
    JobChanged,
    SnapshotTaken,
    TapBatch,
    TapOpened,
    Triaged,
)
from busctl.tui.screens.dead import DeadScreen
from busctl.tui.screens.flow_place import FlowPlace
from busctl.tui.screens.listing import ListScreen
from busctl.tui.screens.overview import OverviewScreen
from busctl.tui.screens.peek import PeekScreen
from busctl.tui.screens.queue import QueueScreen
from busctl.tui.screens.tail import TailScreen
from busctl.tui.widgets.state_line import StateLine
from busctl_lib.depths import Depth
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import ApiUnreachable
from busctl_lib.management import BindingInfo, ConsumerInfo, NodeInfo, OverviewInfo, QueueInfo
from busctl_lib.management.infos import ChannelInfo
from busctl_lib.poller import Poller, Snapshot
from busctl_lib.taps import TapPlan

WALL = 1_767_348_000.0
"""2026-01-02 10:00:00 UTC."""
LEAST = (80, 24)
SIZES = (LEAST, (120, 40), (160, 50))


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop all clocks, and all that would ask a broker."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(StateLine, "clock", staticmethod(lambda: 1000.4))
    monkeypatch.setattr(Poller, "start", lambda self: None)
    monkeypatch.setattr(Hearing, "start", lambda self: None)
    monkeypatch.setattr(Hearing, "told", BY_EXCHANGE)
    monkeypatch.setattr(TailScreen, "_watch", lambda self: None)
    monkeypatch.setattr(Input, "_toggle_cursor", lambda self: None)
    monkeypatch.setattr(FlowPlace, "_watch", lambda self: None)
    monkeypatch.setattr(ListScreen, "_ask", lambda self: None)
    monkeypatch.setattr(QueueScreen, "_ask_channels", lambda self: None)
    monkeypatch.setattr(OverviewScreen, "_ask_own", lambda self: None)
    monkeypatch.setattr(Job, "start", lambda self: None)
    for screen in (DeadScreen, PeekScreen):
        monkeypatch.setattr(screen, "_look", lambda self: None)
        monkeypatch.setattr(screen, "clock", staticmethod(lambda: 1000.4))


def details(rate: float, samples: list[float] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"rate": rate}
    if samples is not None:
        count = len(samples)
        found["samples"] = [
            {"sample": sample, "timestamp": int((WALL - 20 * (count - 1 - at)) * 1000)}
            for at, sample in enumerate(samples)
        ][::-1]
    return found


def counted(rates: list[float]) -> list[float]:
    """Samples of a count that grew by these rates a second."""
    total, samples = 0.0, [0.0]
    for rate in rates:
        samples.append(total := total + 20 * rate)
    return samples


def wave(low: float, high: float, beats: int) -> list[float]:
    return [low + (high - low) * (abs((at * 7) % 20 - 10) / 10) for at in range(beats)]


def queue(name: str, messages: int, consumers: int, rate_in: float, rate_out: float, **more: Any) -> QueueInfo:
    growth = more.pop("growth", 0.0)
    depths = [max(0.0, messages - growth * 20 * (30 - at)) for at in range(31)]
    raw = {
        "name": name,
        "vhost": "/",
        "type": "classic",
        "state": "running",
        "durable": True,
        "node": "rabbit@bus",
        "messages": messages,
        "messages_ready": messages - more.get("messages_unacknowledged", 0),
        "messages_unacknowledged": 0,
        "consumers": consumers,
        "memory": 34_000,
        "messages_details": details(growth, depths),
        "messages_ready_details": details(growth, depths),
        "message_stats": {
            "publish_details": details(rate_in, counted(wave(rate_in * 0.6, rate_in, 30))),
            "deliver_get_details": details(rate_out, counted(wave(rate_out * 0.6, rate_out, 30))),
        },
        **more,
    }
    return msgspec.convert(raw, QueueInfo)


QUEUES = [
    queue("obs_requests", 12_310, 1, 412, 371, type="quorum", growth=41.0, messages_unacknowledged=200),
    queue("obs_responses", 3, 2, 371, 371),
    queue("tes_requests", 12, 3, 96, 96, type="quorum"),
    queue("tes_requests.dead", 318, 0, 0.2, 0, type="quorum", growth=0.02),
    queue("trade_events", 5_120, 0, 44, 0, growth=8.5),
    queue("evil\x1b[31m[red]", 0, 1, 0, 0),
]
BOUND: dict[str, Any] = {"vhost": "/", "destination": "obs_requests", "destination_type": "queue"}
CONSUMER = {
    "consumer_tag": "obs-1",
    "queue": {"name": "obs_requests", "vhost": "/"},
    "channel_details": {"name": "127.0.0.1:50000 -> 127.0.0.1:5672 (1)", "connection_name": "obs"},
    "ack_required": True,
    "active": True,
    "activity_status": "up",
    "prefetch_count": 200,
}


CHANNEL = msgspec.convert(
    {"name": "127.0.0.1:50000 -> 127.0.0.1:5672 (1)", "consumer_count": 1, "messages_unacknowledged": 200}, ChannelInfo
)


def recorded(**changes: Any) -> Snapshot:
    overview = {
        "cluster_name": "bus",
        "node": "rabbit@bus",
        "rabbitmq_version": "4.0.5",
        "product_name": "RabbitMQ",
        "message_stats": {
            "publish_details": details(1210, counted(wave(700, 1300, 30))),
            "deliver_get_details": details(1105, counted(wave(600, 1150, 30))),
        },
        "queue_totals": {"messages_ready": 18_400, "messages_unacknowledged": 220},
        "object_totals": {"queues": len(QUEUES), "connections": 7, "consumers": 7, "exchanges": 9, "channels": 12},
    }
    node = {
        "name": "rabbit@bus",
        "running": True,
        "uptime": 345_600_000,
        "mem_used": 480,
        "mem_limit": 1000,
        "disk_free": 61_000_000_000,
        "fd_used": 31,
        "fd_total": 1024,
    }
    watched = msgspec.structs.replace(
        QUEUES[0],
        consumer_details=[msgspec.convert(CONSUMER, ConsumerInfo)],
        arguments={"x-queue-type": "quorum", "x-delivery-limit": 20},
    )
    facts: dict[str, Any] = {
        "sequence": 1,
        "overview": msgspec.convert(overview, OverviewInfo),
        "nodes": [msgspec.convert(node, NodeInfo)],
        "queues": {info.key: info for info in QUEUES},
        "complete": True,
        "history": {
            info.key: tuple(
                Depth(sample.timestamp / 1000, sample.sample)
                for sample in reversed(info.messages_details.samples or [])
            )
            for info in QUEUES
            if info.messages_details
        },
        "details": {watched.key: watched},
        "bindings": {
            watched.key: [
                BindingInfo(**BOUND, source="", routing_key="obs_requests"),
                BindingInfo(**BOUND, source="market", routing_key="book.#"),
            ]
        },
        "listed_at": 1000.0,
        "taken_at": 1000.0,
        "taken_wall": WALL,
        "took_s": 0.02,
        "next_at": 1002.0,
    }
    return Snapshot(**{**facts, **changes})


TAP = TapPlan(
    vhost="/",
    way="firehose",
    reason="",
    sees="every message published to the queue, by the default exchange",
    misses=["messages that wait in the queue already", "whether a message was redelivered"],
    costs="",
    queue="obs_responses",
)

NOTHING_YET = Snapshot(sequence=0)
AWAY = ApiUnreachable("the management API at http://x does not answer", reason="connection refused")
NEVER_SEEN = Snapshot(sequence=1, error=AWAY, next_at=1003.4)


async def picture(size: tuple[int, int], *keys: str, **how: Any) -> str:
    """Take the picture of what `_arranged` brings to the screen."""
    async with _arranged(size, *keys, **how) as (app, pilot):
        return await _settled(app, pilot)


async def pictures(*keys: str, **how: Any) -> list[tuple[str, str]]:
    """Take the picture at each size, by its name: of one console, in a terminal that is made larger."""
    taken = []
    async with _arranged(LEAST, *keys, **how) as (app, pilot):
        for size in SIZES:
            await pilot.resize_terminal(*size)
            taken.append(("{}x{}".format(*size), await _settled(app, pilot)))
    return taken


@contextlib.asynccontextmanager
async def _arranged(
    size: tuple[int, int],
    *keys: str,
    begin: Snapshot | None = None,
    state: Snapshot | None = None,
    told: Sequence[Message] = (),
    then: Sequence[str] = (),
    stands: Callable[[Job], None] | None = None,
    theme: str | None = None,
    production: bool = False,
) -> AsyncIterator[tuple[ConsoleApp, Pilot[None]]]:
    """Press keys over the recorded bus, or as it is at the beginning, and tell the screen something.

    `stands` brings the operation on the screen to where it is to be seen.
    """
    settings = resolve(Flags(amqp_url="amqp://127.0.0.1:1", api_url="http://127.0.0.1:1"), {})
    if production:
        settings = replace(settings, production=True, color="crimson", context="live")
    with Session(settings) as session:
        app = ConsoleApp(session, ConsoleConfig(theme=theme))
        async with app.run_test(size=size) as pilot:
            console = Console(app, pilot)
            app.post_message(SnapshotTaken(begin or recorded()))
            await console.shows("○ local" if begin is NOTHING_YET else "✖ local" if begin else "s ago")
            await _give(console, keys)
            if state is not None:
                app.post_message(SnapshotTaken(state))
                await console.until(lambda: app.feed.snapshot is state, "the state")
            if isinstance(app.screen, TailScreen) and begin is None and not told:
                _fill_tail(app.screen)
                await console.shows("PAUSED" if "s" in keys else "FOLLOWING")
            if isinstance(app.screen, QueueScreen) and begin is None:
                app.screen.post_message(ChannelsAsked({CHANNEL.name: CHANNEL}))
                await console.shows("200 of 200")
            for message in told:
                app.screen.post_message(message)
                if isinstance(message, Triaged) and message.found is not None and message.found.groups:
                    await console.shows("InvalidMessage")
            if stands is not None:
                stands(app.jobs[-1])
                app.post_message(JobChanged(app.jobs[-1]))
            if then:
                await _settled(app, pilot)
                await _give(console, then)
            yield app, pilot


async def _give(console: Console, keys: Sequence[str]) -> None:
    for key in keys:
        if key.startswith(":"):
            await console.command(key[1:])
        else:
            await console.press(key)


async def _settled(app: ConsoleApp, pilot: Pilot[None]) -> str:
    """The picture once three in a row are the same: what was told last may still be on its way to the screen."""
    before: list[Strip] = []
    same = 0
    for _ in range(300):
        await pilot.pause(0.05)
        now = app.screen._compositor.render_strips()
        same = same + 1 if now == before else 0
        before = now
        if same == 2:
            return app.export_screenshot(title="busctl")
    raise AssertionError("the screen does not come to rest")


def _fill_tail(screen: TailScreen) -> None:
    screen.post_message(TapOpened(TAP))
    books = [
        {"symbol": symbol, "bids": [[149.98, 300]], "text": "\x1b[31m[bold]"} for symbol in ("AAPL", "MSFT", "NVDA") * 4
    ]
    deliveries = [
        Delivery(
            exchange="",
            routing_key="obs_responses",
            properties=Properties(type="orderbook", correlation_id=f"7f3a{at:02}"),
            body=json.dumps(book).encode(),
            queue="obs_responses",
            received_at=WALL + at * 0.0275,
            via="firehose",
        )
        for at, book in enumerate(books)
    ]
    screen.post_message(TapBatch(deliveries, 48, 2.0))
