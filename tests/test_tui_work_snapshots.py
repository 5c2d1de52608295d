"""How looks what changes the bus, from fixed data: plan, progress and account; peek, publish, operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import msgspec
import pytest
from consoles import on_loop
from pictures import LEAST, WALL, picture, pictures, stand_still
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.image import SVGImageSnapshotExtension
from textual.message import Message

from busctl.tui.jobs import Job
from busctl.tui.messages import (
    Listed,
    PeekEnded,
    Published,
)
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import GuardRefused, Unroutable
from busctl_lib.journal import Operation
from busctl_lib.taps.budget import PeekBudget
from busctl_lib.taps.peek import Peeked
from busctl_lib.transfers import Account, Plan, Progress, Request
from busctl_lib.transfers.plans import Target
from busctl_lib.transfers.requests import CameBack


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(SVGImageSnapshotExtension)


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)


REPLAY = ":replay tes_requests.dead --group 9001b40d6a --canary 5 --watch 30s"
PLAN = Plan(
    operation="7c1e02aa94",
    request=Request(kind="replay", source="tes_requests.dead", group="9001b40d6a", canary=5, watch_s=30.0),
    vhost="/",
    broker="bus",
    source="tes_requests.dead",
    source_type="quorum",
    waiting=318,
    examined=318,
    selected=201,
    targets=[
        Target(exchange="trading", routing_key="order.new", count=180, queues=["tes_requests"]),
        Target(exchange="trading", routing_key="order.evil\x1b[31m", count=21, problem="no queue is bound to it"),
    ],
    stays={"it was sent by nobody that is known": 3},
    strips=804,
    removes={
        "busctl-attempt": 201,
        "busctl-error-type": 201,
        "user_id": 201,
        "x-death": 201,
        "x-first-death-queue": 201,
    },
    counters={"x-retry-count": 40},
    adds=["busctl-operation", "busctl-replays"],
    replayed_before=12,
    most_replays=2,
    warnings=["tes_requests has 3 consumers: they begin at once"],
    made_at=WALL,
)
DISCARD = msgspec.structs.replace(
    PLAN,
    request=Request(kind="discard", source="obs_requests"),
    source="obs_requests",
    waiting=12_110,
    selected=12_110,
    targets=[Target(exchange="", routing_key="", count=12_110)],
    strips=0,
    removes={},
    counters={},
    adds=[],
    stays={},
    replayed_before=0,
    warnings=[],
)
OPERATIONS = [
    Operation(
        id=f"7c1e02aa9{at}", kind=kind, source=source, target=target, state=state, broker="bus", started_at=WALL - at,
        planned=201, moved=moved, returned=201 - moved,
    )
    for at, (kind, source, target, state, moved) in enumerate([
        ("replay", "tes_requests.dead", None, "partial", 180), ("discard", "obs_requests", None, "done", 201),
        ("undo", "trash", "obs_requests", "done", 201), ("move", "evil\x1b[31m", "obs_requests", "interrupted", 40),
    ])
]  # fmt: skip


def reading(job: Job) -> None:
    job.progress = Progress(operation=PLAN.operation, planned=318, moved=120, phase="reading")


def asking(job: Job) -> None:
    job.phase, job.id, job.plan = "asking", PLAN.operation, PLAN if job.kind == "replay" else DISCARD


def asking_in_vain(job: Job) -> None:
    asking(job)
    stuck = [msgspec.structs.replace(target, problem="no queue is bound to it") for target in PLAN.targets]
    job.plan = msgspec.structs.replace(PLAN, targets=stuck)


def running(job: Job) -> None:
    asking(job)
    job.phase, job.paused = "running", True
    job.progress = Progress(
        operation=PLAN.operation, planned=201, moved=64, returned=2, rate=48.2, left_s=2.8, phase="paused"
    )


def ended(job: Job) -> None:
    asking(job)
    job.phase = "ended"
    cause = "InvalidMessage: place_order: quantity: expected a number > <n>, found <n>"
    job.account = Account(
        operation=OPERATIONS[0],
        reasons={"exchange trading, key order.evil\x1b[31m: no queue is bound to it": 21},
        came_back=[CameBack(group="9001b40d6a", cause=cause, count=4)],
        gone=2,
    )


def emptied(job: Job) -> None:
    asking(job)
    job.phase, job.account = "ended", Account(operation=OPERATIONS[1])


def late(job: Job) -> None:
    asking(job)
    job.phase = "ended"


def refused(job: Job) -> None:
    job.phase = "ended"
    job.error = GuardRefused("peeks left: 2 of 20 in tes_requests.dead", hint="--accept-loss takes them")


@on_loop
async def test_a_plan(snapshot: SnapshotAssertion) -> None:
    for size, shown in await pictures(REPLAY, stands=asking):
        assert shown == snapshot(name=size)


@pytest.mark.parametrize("stands", [reading, asking_in_vain, running, ended, refused, late])
@on_loop
async def test_a_replay(stands: Callable[[Job], None], snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, REPLAY, stands=stands) == snapshot


@pytest.mark.parametrize(("stands", "production"), [(asking, False), (asking, True), (emptied, False)])
@on_loop
async def test_an_emptied_queue(stands: Callable[[Job], None], production: bool, snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, ":purge obs_requests", stands=stands, production=production) == snapshot


@on_loop
async def test_other_flags_for_a_plan(snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, REPLAY, stands=asking, then=["e"]) == snapshot


@on_loop
async def test_operations(snapshot: SnapshotAssertion) -> None:
    for size, shown in await pictures(":operations", told=[Listed(OPERATIONS)]):
        assert shown == snapshot(name=size)


PEEKED = Peeked(
    taken=3,
    messages=[
        Delivery(
            exchange="market",
            routing_key=f"book.{symbol}",
            properties=Properties(
                content_type="application/json", type="orderbook", message_id=f"m{at}", delivery_mode=2
            ),
            body=json.dumps({"symbol": symbol, "text": "\x1b[31m[bold]", "bids": [[149.98, 300]]}).encode(),
            queue="obs_requests",
            received_at=WALL + at * 0.01,
            via="hold",
        )
        for at, symbol in enumerate(("AAPL", "MSFT", "NVDA"))
    ],
    ready=12_110,
    consumers=1,
    budget=PeekBudget(vhost="/", queue="obs_requests", type="quorum", version="4.0.5", delivery_limit=20, used=2),
)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([], PeekEnded(PEEKED, None)),
        (["enter"], PeekEnded(PEEKED, None)),
        ([], PeekEnded(None, GuardRefused("peeks left: 2 of 20", hint="--accept-loss takes them"))),
    ],
    ids=["messages", "one in full", "refused"],
)
@on_loop
async def test_a_peek(keys: Sequence[str], told: Message, snapshot: SnapshotAssertion) -> None:
    assert await picture(LEAST, ":peek obs_requests", told=[told], then=keys) == snapshot


@pytest.mark.parametrize(
    "told",
    [[], [Published(0.0042, None)], [Published(None, Unroutable("no queue got it", hint="declare it first"))]],
    ids=["written", "confirmed", "returned"],
)
@on_loop
async def test_publish(told: Sequence[Message], snapshot: SnapshotAssertion) -> None:
    written = [*"{}"]
    assert await picture(LEAST, ":publish obs_requests", *written, told=told) == snapshot
