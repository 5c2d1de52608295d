"""The promise of tail: it shows what was sent, the queue's consumer gets all of it once, nothing is left behind.

The table is queue type x feeding x consumer; `make test` holds a row of each kind, `make faults` all of it.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.management import ManagementClient
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import open_tap, plan_tap
from busctl_lib.taps.budget import delivered_in_vain

COUNT = 12
TYPES = ("classic", "quorum", "stream")
FEEDINGS = ("default", "direct", "topic", "fanout", "headers", "e2e")
SHORT = {
    ("classic", "default", True),
    ("quorum", "topic", True),
    ("quorum", "default", False),
    ("classic", "headers", False),
    ("classic", "e2e", True),
    ("stream", "fanout", True),
}
TABLE = [
    pytest.param(*row, id="-".join(map(str, row)), marks=[] if row in SHORT else [pytest.mark.faults])
    for row in itertools.product(TYPES, FEEDINGS, (True, False))
]


class Bus:
    """One test's vhost, with both doors open."""

    def __init__(self, vhost: TestBroker) -> None:
        self.vhost, self.name = vhost, vhost.name
        self.broker = MessageBroker(url=vhost.amqp_url).connect()
        self.publisher = MessagePublisher(self.broker)
        self.management = ManagementClient(vhost.api_url)
        self.consumer = MessageBroker(url=vhost.amqp_url)
        self.consumed: list[Delivery] = []

    def feed(self, feeding: str) -> dict[str, Any]:
        """Lay the way to the queue `q`; returns how to publish onto it."""
        if feeding == "default":
            return {"exchange": "", "routing_key": "q"}
        kind = "topic" if feeding == "e2e" else feeding
        self.broker.declare_exchange("x", kind)
        arguments = {"x-match": "all", "region": "eu"} if feeding == "headers" else None
        self.broker.bind_queue("q", "x", {"topic": "order.*", "e2e": "order.#"}.get(feeding, "order.new"), arguments)
        way = {"exchange": "x", "routing_key": "order.new", "headers": {"region": "eu"}}
        if feeding == "e2e":
            self.broker.declare_exchange("front", "fanout")
            self.broker.bind_exchange("x", "front")
            way["exchange"] = "front"
        return way

    def consume(self, stream: bool) -> None:
        """Be the queue's own consumer."""
        offset = {"x-stream-offset": "first"} if stream else None
        self.consumer.subscribe("q", self.consumed.append, prefetch=50, auto_ack=not stream, arguments=offset)

    def state(self) -> tuple[int, int]:
        found = self.broker.declare_queue("q", passive=True)
        return found.message_count, found.consumer_count


@pytest.fixture
def bus(vhost: TestBroker) -> Iterator[Bus]:
    bus = Bus(vhost)
    yield bus
    bus.consumer.close()
    bus.broker.close()
    bus.management.close()


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


@pytest.mark.parametrize(("kind", "feeding", "consumer"), TABLE)
def test_tail_shows_what_was_sent_and_the_consumer_gets_all_of_it_once(
    bus: Bus, kind: str, feeding: str, consumer: bool, tmp_path: Path
) -> None:
    bus.broker.declare_queue("q", arguments={"x-queue-type": kind})
    way = bus.feed(feeding)
    if consumer:
        bus.consume(kind == "stream")
    before = bus.state()[1]
    plan = plan_tap(bus.management, bus.name, "q")
    assert plan.way == ("stream" if kind == "stream" else "firehose" if feeding == "default" else "copy")
    with open_tap(plan, bus.broker, bus.management, lease_folder=tmp_path) as tap:
        for number in range(COUNT):
            bus.publisher.publish("", {"n": number}, **way)
        shown = [event for event in tap.follow(limit=COUNT, for_s=30) if isinstance(event, Delivery)]
    sent = [b'{"n":%d}' % number for number in range(COUNT)]
    assert bodies(shown) == sent
    assert {delivery.queue for delivery in shown} == {"q"}
    if not consumer:
        if kind != "stream":
            wait_until(lambda: bus.state() == (COUNT, before), 30)
        bus.consume(kind == "stream")
    wait_until(lambda: len(bus.consumed) >= COUNT, 30)
    assert bodies(bus.consumed) == sent
    if kind != "stream":
        assert not any(delivery.redelivered or delivered_in_vain(delivery) for delivery in bus.consumed)
        wait_until(lambda: bus.state() == (0, 1), 30)


def test_what_the_coverage_says_is_missed_is_what_is_missed(bus: Bus, tmp_path: Path) -> None:
    """A copy cannot see what is sent straight to the queue, and says so."""
    bus.broker.declare_queue("q")
    way = bus.feed("topic")
    plan = plan_tap(bus.management, bus.name, "q", via="copy")
    assert "by the default exchange" in plan.coverage
    with open_tap(plan, bus.broker, bus.management, lease_folder=tmp_path) as tap:
        bus.publisher.publish("q", {"n": "unseen"})
        bus.publisher.publish("", {"n": "seen"}, **way)
        shown = [event for event in tap.follow(limit=1, for_s=30) if isinstance(event, Delivery)]
    assert bodies(shown) == [b'{"n":"seen"}']
    wait_until(lambda: bus.state()[0] == 2, 30)


def left_behind(bus: Bus, exchanges: set[str]) -> list[str]:
    """What of a tap is still there."""
    found = [info.name for info in bus.management.queues(bus.name) if info.name.startswith("busctl")]
    found += [info.name for info in bus.management.exchanges(bus.name) if info.name not in exchanges]
    found += [info.destination for info in bus.management.bindings(bus.name) if info.destination.startswith("busctl")]
    found += ["tracing"] * bool(bus.management.vhost(bus.name).tracing)
    return found + [path.name for path in Path(os.environ["XDG_STATE_HOME"]).rglob("busctl.tap.*")]


@pytest.mark.parametrize("kills", [pytest.param(3, id="short"), pytest.param(50, id="long", marks=pytest.mark.faults)])
def test_tails_killed_at_random_moments_leave_nothing_after_the_next_run(bus: Bus, kills: int) -> None:
    bus.broker.declare_queue("q")
    bus.broker.declare_queue("bound")
    bus.broker.bind_queue("bound", "amq.topic", "#")
    exchanges = {info.name for info in bus.management.exchanges(bus.name)}
    env = {**os.environ, "BUSCTL_AMQP_URL": bus.vhost.amqp_url, "BUSCTL_API_URL": bus.vhost.api_url}
    chance = random.Random(7)
    command = [sys.executable, "-m", "busctl", "tail"]
    for index in range(kills):
        tail = subprocess.Popen([*command, ("q", "bound")[index % 2]], env=env, stderr=subprocess.DEVNULL)
        until = time.monotonic() + chance.uniform(0.3, 1.6)
        wait_until(lambda until=until: time.monotonic() > until)
        tail.kill()
        tail.wait(10)
    done = subprocess.run([*command, "bound", "--for", "200ms"], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    wait_until(lambda: not left_behind(bus, exchanges), 30)
