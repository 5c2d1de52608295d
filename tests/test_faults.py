"""Real processes killed under traffic: a short form of each with every test run, the long one by `make faults`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from victims import Victim
from waiting import wait_until

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher, Outcome
from busctl_lib.errors import NeverSent, PublishFailed
from busctl_lib.publishers import PublishReport
from busctl_lib.sandbox import PrivateBroker

ROOT = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")

LONG = pytest.mark.faults


@pytest.fixture(params=["classic", pytest.param("quorum", marks=pytest.mark.faults)])
def queue_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Counting:
    """A consumer that counts what it handles, by number."""

    def __init__(self, broker: MessageBroker, queue: str) -> None:
        self.seen: Counter[int] = Counter()
        self.unmarked: set[int] = set()
        """Seen again without the broker's `redelivered` mark."""
        self._begun = threading.Event()  # what waits in the queue comes before the line below has ended
        self._subscription = broker.subscribe(queue, self._count, prefetch=200)
        self._begun.set()

    def _count(self, delivery: Any) -> None:
        self._begun.wait(30)
        number = json.loads(delivery.body)["n"]
        if number in self.seen and not delivery.redelivered:
            self.unmarked.add(number)
        self.seen[number] += 1
        self._subscription.ack(delivery)

    def stop(self) -> None:
        self._subscription.cancel()


def numbered(total: int, pace: threading.Semaphore | None = None) -> Iterator[tuple[str, dict[str, int]]]:
    for n in range(total):
        if pace is not None:
            pace.acquire()
        yield "q", {"n": n}


@pytest.mark.parametrize(("kills", "total"), [(1, 4_000), pytest.param(10, 100_000, marks=LONG)], ids=["short", "long"])
def test_a_broker_killed_under_confirmed_publishes_and_a_consumer(
    victim: Victim, queue_type: str, kills: int, total: int
) -> None:
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.delete_queue("q")
        broker.declare_queue("q", arguments={"x-queue-type": queue_type})
        victim.keep(queue_type)
        wait_until(lambda: broker.state.value == "open", timeout=60)
        counting = Counting(broker, "q")
        pace = threading.Semaphore(0)
        reports: list[PublishReport] = []
        publishing = threading.Thread(
            daemon=True,
            target=lambda: reports.append(MessagePublisher(broker).publish_many(numbered(total, pace), timeout=180)),
        )
        publishing.start()
        share = total // (kills + 1)
        for _ in range(kills):
            goal = sum(counting.seen.values()) + share // 2
            pace.release(share)
            wait_until(lambda goal=goal: sum(counting.seen.values()) >= goal, timeout=120)  # type: ignore[misc]
            victim.kill()
            victim.start()
        pace.release(total - share * kills)
        publishing.join(300)
        assert not publishing.is_alive()
        report = reports[0]
        unknown = {entry.index for entry in report.unconfirmed}
        assert set(report.counts) <= {Outcome.CONFIRMED, Outcome.UNKNOWN}
        assert sum(report.counts.values()) == total
        confirmed = set(range(total)) - unknown
        wait_until(lambda: confirmed <= set(counting.seen), timeout=120)
        wait_until(lambda: broker.declare_queue("q", passive=True).message_count == 0, timeout=60)
        counting.stop()
        # An ack that died with the node brings its message again, marked; only what was unknown may come unmarked.
        print(f"doubled {sum(times > 1 for times in counting.seen.values())}, unmarked {len(counting.unmarked)}")
        assert counting.unmarked <= unknown
        assert broker.stats().reconnects >= kills
        assert set(counting.seen) <= set(range(total))


@pytest.fixture
def cluster() -> Iterator[list[PrivateBroker]]:
    nodes: list[PrivateBroker] = []
    try:
        for _ in range(3):
            nodes.append(PrivateBroker(root=ROOT, peer=nodes[0] if nodes else None).start(120))
        yield nodes
    finally:
        for node in reversed(nodes):
            node.stop()


@LONG
def test_a_cluster_whose_leader_dies_loses_nothing_confirmed(cluster: list[PrivateBroker]) -> None:
    total = 20_000
    with MessageBroker(urls=[node.amqp_url for node in cluster]) as broker:
        broker.declare_queue("q", arguments={"x-queue-type": "quorum", "x-quorum-initial-group-size": 3})
        counting = Counting(broker, "q")
        pace = threading.Semaphore(0)
        reports: list[PublishReport] = []
        publishing = threading.Thread(
            daemon=True,
            target=lambda: reports.append(MessagePublisher(broker).publish_many(numbered(total, pace), timeout=120)),
        )
        publishing.start()
        pace.release(total // 2)
        wait_until(lambda: len(counting.seen) > total // 4, timeout=60)
        leader = leader_of(cluster)
        leader.kill()
        pace.release(total - total // 2)
        publishing.join(240)
        report = reports[0]
        unknown = {entry.index for entry in report.unconfirmed}
        assert set(report.counts) <= {Outcome.CONFIRMED, Outcome.UNKNOWN}
        wait_until(lambda: set(range(total)) - unknown <= set(counting.seen), timeout=60)
        assert broker.state.value == "open"
        counting.stop()
        leader.start(120)


def leader_of(cluster: list[PrivateBroker]) -> PrivateBroker:
    """The node that leads the queue, once the API knows."""

    def leads() -> str | None:
        leader: str | None = requests.get(f"{cluster[0].api_url}/api/queues/%2F/q", timeout=5).json().get("leader")
        return leader

    name = wait_until(leads, timeout=30)
    return next(node for node in cluster if node.node_name == name)


CONSUMER = """
import signal, sys, threading
from busctl_lib import MessageBroker, MessageConsumer
broker = MessageBroker(url=sys.argv[1]).connect()
consumer = MessageConsumer(broker, prefetch=50)
gate = threading.Event()
def work(message, properties):
    print("handled", message["n"], flush=True)
    gate.wait(0.02)
consumer.register_default(work)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=consumer.stop).start())
print("ready", flush=True)
consumer.start_consuming("q")
report = broker.close()
print("closed", report.forced, flush=True)
"""


def test_sigterm_on_a_consumer_loses_nothing_and_handles_nothing_twice(victim: Victim, queue_type: str) -> None:
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.delete_queue("q")
        broker.declare_queue("q", arguments={"x-queue-type": queue_type})
        MessagePublisher(broker).publish_many(numbered(200))
        handled: list[int] = []
        rounds = 0
        while len(handled) < 200 and rounds < 30:
            rounds += 1
            child = subprocess.Popen(
                [sys.executable, "-c", CONSUMER, victim.amqp_url], stdout=subprocess.PIPE, text=True
            )
            assert child.stdout is not None
            mine = 0
            for line in child.stdout:
                if line.startswith("handled"):
                    handled.append(int(line.split()[1]))
                    mine += 1
                    if mine == 20:
                        child.send_signal(signal.SIGTERM)
                    if len(handled) == 200:
                        child.send_signal(signal.SIGTERM)
                if line.startswith("closed"):
                    assert line.split()[1] == "False"
            assert child.wait(30) == 0
        assert sorted(handled) == list(range(200))
        wait_until(lambda: broker.declare_queue("q", passive=True).message_count == 0)


def test_a_memory_alarm_holds_publishers_to_their_deadline_and_consumers_go_on(victim: Victim) -> None:
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.delete_queue("q")
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish_many(numbered(100))
        victim.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            wait_until(lambda: blocked(publisher, broker), timeout=30)
            assert broker.stats().publish_state.value == "blocked"
            started = time.monotonic()
            with pytest.raises(NeverSent, match="blocked"):
                publisher.publish("q", {"n": -1}, timeout=0.5)
            assert time.monotonic() - started < 20
            counting = Counting(broker, "q")
            wait_until(lambda: len(counting.seen) >= 100)
            waiting = publisher.publish_nowait("q", {"n": 1000}, timeout=60)
        finally:
            victim.ctl("set_vm_memory_high_watermark", "0.6")
        waiting.wait(30)
        wait_until(lambda: 1000 in counting.seen)
        counting.stop()


def blocked(publisher: MessagePublisher, broker: MessageBroker) -> bool:
    """The broker tells a connection that it is blocked at its first publish after the alarm."""
    with contextlib.suppress(PublishFailed):
        publisher.publish("q", {"n": 0}, timeout=0.3)
    return broker.stats().publish_state.value == "blocked"


def test_a_handler_slower_than_the_heartbeat_keeps_its_connection(victim: Victim) -> None:
    with MessageBroker(url=victim.amqp_url, heartbeat_s=1) as broker:
        broker.delete_queue("q")
        broker.declare_queue("q")
        done = threading.Event()
        consumer = MessageConsumer(broker)
        started = threading.Event()

        def slow(_message: Any, _properties: Any) -> None:
            started.set()
            until = time.monotonic() + 3.5
            while time.monotonic() < until:  # busy, as a handler that computes is
                pass
            done.set()

        consumer.register_default(slow)
        consumer.start_consuming("q", background=True)
        MessagePublisher(broker).publish("q", {"n": 1})
        assert started.wait(10)
        assert done.wait(20)
        wait_until(lambda: broker.stats().acked == 1)
        assert broker.stats().reconnects == 0
        consumer.stop()
        assert broker.declare_queue("q", passive=True).message_count == 0
