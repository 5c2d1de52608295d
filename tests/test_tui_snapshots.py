"""How the screens look, from fixed data: each at three sizes, its other states at the least."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import pytest
from consoles import on_loop
from pictures import AWAY, LEAST, NEVER_SEEN, NOTHING_YET, QUEUES, TAP, WALL, picture, pictures, recorded, stand_still
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.image import SVGImageSnapshotExtension
from textual.message import Message

from busctl.tui.messages import (
    CallsCounted,
    FlowBatch,
    FlowOpened,
    Listed,
    TapEnded,
    TapOpened,
    Triaged,
)
from busctl.tui.topologies import around
from busctl.views.topology import Line
from busctl_lib.deadletters import Group, Triage
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import ApiForbidden, ApiUnreachable, GuardRefused, LinkLost
from busctl_lib.events import Event
from busctl_lib.management import BindingInfo
from busctl_lib.management.infos import ExchangeInfo
from busctl_lib.rpc.pairs import MethodFigures, SpiedCall
from busctl_lib.topology_map import TopologyMap


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(SVGImageSnapshotExtension)


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)


@pytest.mark.parametrize(
    "keys",
    [(), ("2",), (":queue obs_requests",), (":tail obs_responses",)],
    ids=["overview", "queues", "queue", "tail"],
)
@on_loop
async def test_screens(keys: tuple[str, ...], snapshot: SnapshotAssertion) -> None:
    for size, shown in await pictures(*keys):
        assert shown == snapshot(name=size)


@on_loop
async def test_dead_letters(snapshot: SnapshotAssertion) -> None:
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
    for size, shown in await pictures(":dead tes_requests.dead", told=[Triaged(found, (), None)]):
        assert shown == snapshot(name=size)


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
async def test_what_others_do(line: str, told: Sequence[Message], snapshot: SnapshotAssertion) -> None:
    for size, shown in await pictures(line, told=told):
        assert shown == snapshot(name=size)


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


SLOW = ApiUnreachable("x does not answer", reason="no answer within 15 s")


@pytest.mark.parametrize("line", ["overview", "queues"])
@on_loop
async def test_what_a_beat_did_not_bring(line: str, snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, f":{line}", state=recorded(sequence=2, missing={"queues": SLOW})) == snapshot


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


@pytest.mark.parametrize("line", ["overview", "queue obs_requests", "rpc get_orderbook AAPL"])
@on_loop
async def test_a_pane_of_a_few_lines_shows_what_matters_most(line: str, snapshot: SnapshotAssertion) -> None:
    assert await picture((80, 12), f":{line}") == snapshot


@on_loop
async def test_help(snapshot: SnapshotAssertion) -> None:
    assert await picture((120, 60), "2", "?") == snapshot
