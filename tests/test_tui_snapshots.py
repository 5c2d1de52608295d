"""How the screens look, from fixed data: each at three sizes, its other states at the least."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from consoles import Console, on_loop
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.image import SVGImageSnapshotExtension
from textual.message import Message
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input

from busctl.config import Flags, resolve
from busctl.contexts import ConsoleConfig
from busctl.session import Session
from busctl.tui.app import ConsoleApp
from busctl.tui.messages import (
    CallsCounted,
    ChannelsAsked,
    FlowBatch,
    FlowOpened,
    Listed,
    SnapshotTaken,
    TapBatch,
    TapEnded,
    TapOpened,
    Triaged,
)
from busctl.tui.screens.dead import DeadScreen
from busctl.tui.screens.flow_place import FlowPlace
from busctl.tui.screens.listing import ListScreen
from busctl.tui.screens.queue import QueueScreen
from busctl.tui.screens.tail import TailScreen
from busctl.tui.topologies import around
from busctl.tui.widgets.state_line import StateLine
from busctl.views.topology import Line
from busctl_lib.deadletters import Group, Triage
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import ApiForbidden, ApiUnreachable, GuardRefused, LinkLost
from busctl_lib.events import Event
from busctl_lib.management import BindingInfo, ConsumerInfo, NodeInfo, OverviewInfo, QueueInfo
from busctl_lib.management.infos import ChannelInfo, ExchangeInfo
from busctl_lib.poller import Depth, Poller, Snapshot
from busctl_lib.rpc.pairs import MethodFigures, SpiedCall
from busctl_lib.taps import TapPlan
from busctl_lib.topology_map import TopologyMap

WALL = 1_767_348_000.0
"""2026-01-02 10:00:00 UTC."""
SIZES = [(80, 24), (120, 40), (160, 50)]
LEAST = SIZES[0]


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(SVGImageSnapshotExtension)


@pytest.fixture(autouse=True)
def _clocks_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(StateLine, "clock", staticmethod(lambda: 1000.4))
    monkeypatch.setattr(Poller, "start", lambda self: None)
    monkeypatch.setattr(TailScreen, "_watch", lambda self: None)
    monkeypatch.setattr(Input, "_toggle_cursor", lambda self: None)
    monkeypatch.setattr(FlowPlace, "_watch", lambda self: None)
    monkeypatch.setattr(ListScreen, "_ask", lambda self: None)
    monkeypatch.setattr(QueueScreen, "_ask_channels", lambda self: None)
    monkeypatch.setattr(DeadScreen, "_look", lambda self: None)
    monkeypatch.setattr(DeadScreen, "clock", staticmethod(lambda: 1000.4))


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


async def picture(
    size: tuple[int, int],
    *keys: str,
    begin: Snapshot | None = None,
    state: Snapshot | None = None,
    told: Sequence[Message] = (),
    theme: str | None = None,
    production: bool = False,
) -> str:
    """Press keys over the recorded bus, or as it is at the beginning; tell the screen something; take the picture."""
    settings = resolve(Flags(amqp_url="amqp://127.0.0.1:1", api_url="http://127.0.0.1:1"), {})
    if production:
        settings = replace(settings, production=True, color="crimson", context="live")
    with Session(settings) as session:
        app = ConsoleApp(session, ConsoleConfig(theme=theme))
        async with app.run_test(size=size) as pilot:
            console = Console(app, pilot)
            app.post_message(SnapshotTaken(begin or recorded()))
            await console.shows("○ local" if begin is NOTHING_YET else "✖ local" if begin else "s ago")
            for key in keys:
                if key.startswith(":"):
                    await console.command(key[1:])
                else:
                    await console.press(key)
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
            return await _settled(app, pilot)


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


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
@pytest.mark.parametrize(
    "keys",
    [(), ("2",), (":queue obs_requests",), (":tail obs_responses",)],
    ids=["overview", "queues", "queue", "tail"],
)
@on_loop
async def test_screens(size: tuple[int, int], keys: tuple[str, ...], snapshot: SnapshotAssertion) -> None:
    assert await picture(size, *keys) == snapshot


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
@on_loop
async def test_dead_letters(size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    groups = [
        Group(
            id="9001b40d6a",
            cause="InvalidMessage: place_order: quantity: expected a number > <n>, found <n>",
            count=201,
            queue="tes_requests",
            exchange="trading",
            routing_key="order.new",
            arrivals=[0, 0, 1, 2, 3, 5, 8, 8, 6, 5, 8, 9],
            example={"text": '{"action":"place_order","quantity":-10}'},
        ),
        Group(id="7862ab3f1b", cause="expired", count=19, queue="obs_requests", arrivals=[0] * 11 + [19], replayed=4),
    ]
    found = Triage(queue="tes_requests.dead", waiting=220, examined=220, groups=groups, looking="peeks left: 18 of 20")
    shown = await picture(size, ":dead tes_requests.dead", told=[Triaged(found, (), None)])
    assert shown == snapshot


TOLD = ["events as the broker tells them, by its exchange amq.rabbitmq.event"]
EVENTS = [
    Event(event="connection.created", at="2026-01-02T10:00:00.120Z", via="exchange", name="10.0.0.7:5012", user="obs"),
    Event(event="queue.created", at="2026-01-02T10:00:01.402Z", via="exchange", name="evil\x1b[31m", user="tes"),
    Event(
        event="policy.set",
        at="2026-01-02T10:00:02.000Z",
        via="exchange",
        name="limits",
        user="ops",
        details={"pattern": "^obs", "definition": {"max-length": 10_000}},
    ),
    Event(event="consumer.deleted", at="2026-01-02T10:00:04.700Z", via="exchange", name="obs-1 of obs_requests"),
]


def spied(number: int, state: str, latency_s: float | None) -> SpiedCall:
    def half(body: dict[str, object], key: str) -> Delivery:
        properties = Properties(correlation_id=f"7f3a{number:02}", reply_to="obs_responses")
        return Delivery(
            exchange="",
            routing_key=key,
            properties=properties,
            body=json.dumps(body).encode(),
            queue=key,
            received_at=WALL,
            via="firehose",
        )

    return SpiedCall(
        state=state,  # type: ignore[arg-type]
        method="get_orderbook",
        queue="obs_requests",
        at=WALL + number,
        latency_s=latency_s,
        request=half({"action": "get_orderbook", "symbol": "AAPL"}, "obs_requests"),
        reply=half({"symbol": "AAPL", "bids": [[149.98, 300]]}, "obs_responses") if latency_s is not None else None,
    )


CALLS = [spied(1, "answered", 0.0041), spied(2, "late", 31.2), spied(3, "orphan", None), spied(4, "answered", 0.012)]
FIGURES = [MethodFigures(method="get_orderbook", answered=2, orphans=1, late=1, latencies_s=[0.0041, 0.012, 31.2])]


def topology() -> list[Line]:
    """What is around a queue with dead letters."""
    info = msgspec.structs.replace(
        QUEUES[2], arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "tes_requests.dead"}
    )
    market = msgspec.convert({"name": "market", "vhost": "/", "type": "topic"}, ExchangeInfo)
    bound = BindingInfo(
        vhost="/", source="market", destination="tes_requests", destination_type="queue", routing_key="order.#"
    )
    return list(around(TopologyMap([market], [info, QUEUES[3]], [bound], []), "tes_requests"))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (":events", [FlowOpened(TOLD), FlowBatch(EVENTS)]),
        (":calls obs_requests", [FlowOpened(["via firehose, costs tracing"]), FlowBatch(CALLS), CallsCounted(FIGURES)]),
        (":topology tes_requests", [Listed(topology())]),
    ],
    ids=["events", "calls", "topology"],
)
@on_loop
async def test_what_others_do(
    size: tuple[int, int], line: str, told: Sequence[Message], snapshot: SnapshotAssertion
) -> None:
    assert await picture(size, line, told=told) == snapshot


@pytest.mark.parametrize("line", ["overview", "queues", "queue obs_requests", "tail obs_requests", "dead q.dead"])
@on_loop
async def test_loading(line: str, snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, f":{line}", begin=NOTHING_YET) == snapshot


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("overview", []),
        ("queues", []),
        ("tail obs_requests", [TapOpened(TAP)]),
        ("dead q.dead", [Triaged(Triage(queue="q.dead", waiting=0, examined=0, groups=[]), (), None)]),
        ("connections", [Listed([])]),
    ],
)
@on_loop
async def test_empty(line: str, told: Sequence[Message], snapshot: SnapshotAssertion) -> None:
    bare = recorded(queues={}, history={}, details={}, bindings={})
    assert await picture(LEAST, f":{line}", state=bare, told=told) == snapshot


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("queues", []),
        ("tail obs_requests", [TapEnded(LinkLost("the connection was refused", reason="connection refused"))]),
        ("dead q.dead", [Triaged(None, (), GuardRefused("peeks left: 2 of 20", hint="--accept-loss takes them"))]),
        ("connections", [Listed(None, AWAY)]),
    ],
)
@on_loop
async def test_what_never_was_seen(line: str, told: Sequence[Message], snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, f":{line}", begin=NEVER_SEEN, told=told) == snapshot


@pytest.mark.parametrize("line", ["overview", "queue obs_requests"])
@on_loop
async def test_stale(line: str, snapshot: SnapshotAssertion) -> None:
    lost = recorded(sequence=2, error=AWAY, taken_at=986.4, next_at=1003.4)
    assert await picture(LEAST, f":{line}", state=lost) == snapshot


@on_loop
async def test_what_was_seen_too_long_ago_is_said_to_be_old(snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, ":queues", state=recorded(sequence=2, taken_at=980.0)) == snapshot


@on_loop
async def test_a_tap_that_would_harm(snapshot: SnapshotAssertion) -> None:
    refused = GuardRefused("no way to look without harm", hint="--via hold takes messages for a while")
    assert await picture(LEAST, ":tail obs_requests", told=[TapEnded(refused)]) == snapshot


@on_loop
async def test_a_list_one_may_not_see(snapshot: SnapshotAssertion) -> None:
    assert await picture((80, 24), "8", told=[Listed(None, ApiForbidden("no"))]) == snapshot


@on_loop
async def test_calls_in_light_colours(snapshot: SnapshotAssertion) -> None:
    assert await picture((160, 50), ":rpc get_orderbook AAPL", theme="light") == snapshot


@on_loop
async def test_production_has_a_frame(snapshot: SnapshotAssertion) -> None:
    assert await picture((80, 24), "2", production=True) == snapshot


@on_loop
async def test_a_lost_broker(snapshot: SnapshotAssertion) -> None:
    lost = recorded(sequence=2, error=AWAY, taken_at=986.4, next_at=1003.4)
    assert await picture((120, 24), "2", state=lost) == snapshot


@on_loop
async def test_help(snapshot: SnapshotAssertion) -> None:
    assert await picture((120, 60), "2", "?") == snapshot
