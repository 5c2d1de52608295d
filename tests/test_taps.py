"""Taps on a real broker: what is seen, what is said not to be seen, and that nothing on the bus changes by looking."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from tap_bus import Bus, note, seen
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.consumers import MessageConsumer
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.errors import BusError, GuardRefused, NotFound, Unroutable
from busctl_lib.management import ManagementClient
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.sandbox import PrivateBroker
from busctl_lib.taps import Note, Tap, clean_leases, keys, open_tap, plan_tap, queues
from busctl_lib.taps.buffers import Buffer
from busctl_lib.taps.firehose import published
from busctl_lib.taps.leases import MARK, TRACE_EXCHANGE


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path / "leases")
    yield bus
    bus.close()


# --- planning


def test_a_queue_fed_by_the_default_exchange_is_watched_by_firehose(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    plan = bus.plan("replies")
    assert plan.way == "firehose"
    assert plan.publishes_to == [""]
    assert [way.way for way in plan.refused] == ["copy"]
    assert "messages that wait in the queue already" in plan.coverage
    with pytest.raises(GuardRefused, match="default exchange") as caught:
        bus.plan("replies", via="copy")
    assert "--via firehose" in (caught.value.hint or "")


def test_a_bound_queue_is_watched_by_copy_and_the_plan_says_what_that_misses(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.declare_exchange("market", "topic")
    bus.broker.bind_queue("orders", "market", "order.*")
    plan = bus.plan("orders")
    assert plan.way == "copy"
    assert [(b.exchange, b.routing_key) for b in plan.bindings] == [("market", "order.*")]
    assert "by the default exchange" in plan.coverage


def test_the_plan_counts_what_came_by_the_default_exchange(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.declare_exchange("market", "topic")
    bus.broker.declare_exchange("front", "fanout")
    bus.broker.bind_exchange("market", "front")
    bus.broker.bind_queue("orders", "market", "#")
    for _ in range(3):
        bus.publisher.publish("orders", {"by": "default"})
    bus.publisher.publish("", {"by": "market"}, exchange="front", routing_key="a")

    def counted() -> bool:
        plan = bus.plan("orders")
        return plan.way == "copy" and "at least 3 of the 4 so far" in plan.coverage

    wait_until(counted, 20, what="the broker's counters")


def test_a_bound_queue_whose_exchange_brings_nothing_is_watched_by_firehose(bus: Bus) -> None:
    bus.broker.declare_queue("work")
    bus.broker.bind_queue("work", "amq.topic", "never.used")
    bus.publisher.publish("work", {})
    wait_until(lambda: bus.plan("work").way == "firehose", 20, what="the broker's counters")
    assert bus.plan("work").publishes_to == ["", "amq.topic"]


def test_the_firehose_is_asked_for_all_exchanges_that_lead_to_the_queue(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    for name in ("inner", "outer", "main", "by-policy"):
        bus.broker.declare_exchange(
            name, "fanout", arguments={"alternate-exchange": "inner"} if name == "main" else None
        )
    bus.policy("ae", "^by-policy$", "exchanges", **{"alternate-exchange": "outer"})
    bus.broker.bind_exchange("inner", "outer")
    bus.broker.bind_queue("orders", "inner")
    plan = bus.plan("orders", via="firehose")
    assert plan.publishes_to == ["", "by-policy", "inner", "main", "outer"]
    bus.broker.declare_exchange("late", "fanout")
    with bus.open(plan) as tap:
        bus.broker.bind_exchange("main", "late")
        assert "late leads to it as well now" in note(tap, "changed").text
        bus.publisher.publish("", {}, exchange="late")
        assert [message.exchange for message in seen(tap, 1)] == ["late"]
        bus.broker.delete_queue("orders")
        with pytest.raises(NotFound):
            seen(tap, 1)
    assert not bus.tracing()


def test_no_copy_where_an_alternate_exchange_or_auto_delete_is_concerned(bus: Bus) -> None:
    bus.broker.declare_exchange("plain", "topic")
    bus.broker.declare_exchange("with-argument", "topic", arguments={"alternate-exchange": "plain"})
    bus.broker.declare_exchange("with-policy", "topic")
    bus.policy("ae", "^with-policy$", "exchanges", **{"alternate-exchange": "plain"})
    bus.broker.declare_exchange("short-lived", "topic", auto_delete=True)
    for exchange, why in [("with-argument", "alternate"), ("with-policy", "alternate"), ("short-lived", "auto-delete")]:
        queue = f"q-{exchange}"
        bus.broker.declare_queue(queue)
        bus.broker.bind_queue(queue, exchange, "#")
        wait_until(lambda queue=queue: bus.plan(queue).way == "firehose", what=exchange)
        with pytest.raises(GuardRefused, match=why):
            bus.plan(queue, via="copy")
        with pytest.raises(GuardRefused, match=why):
            bus.plan(exchange=exchange, key="#", via="copy")


def test_no_copy_at_exchanges_that_share_messages_out(bus: Bus) -> None:
    types = {str(kind["name"]) for kind in bus.management.get_json("overview")["exchange_types"]}
    sharing = sorted(types & {"x-local-random", "x-random", "x-consistent-hash", "x-modulus-hash"})
    if not sharing:
        pytest.skip("this broker has no such exchange type")
    bus.broker.declare_queue("shard")
    bus.broker.declare_exchange("hash", sharing[0])
    bus.broker.bind_queue("shard", "hash", "" if "random" in sharing[0] else "1")
    with pytest.raises(GuardRefused, match="share"):
        bus.plan("shard", via="copy")
    assert bus.plan("shard").way == "firehose"


def test_a_key_that_no_binding_covers_is_not_copied(bus: Bus) -> None:
    """A copy there would take mandatory publishes that must come back to their publisher."""
    bus.broker.declare_queue("orders")
    bus.broker.declare_exchange("market", "topic")
    bus.broker.bind_queue("orders", "market", "order.*")
    bus.broker.bind_exchange("amq.fanout", "market", "quote.#")
    assert bus.plan(exchange="market", key="order.new").way == "copy"
    for key in ("quote.x", "order.#", "#"):
        with pytest.raises(GuardRefused, match="covers"):
            bus.plan(exchange="market", key=key, via="copy")
    assert bus.plan(exchange="market", key="quote.x").way == "firehose"


def test_an_exchange_without_a_key_is_copied_by_what_its_queues_take(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.declare_exchange("market", "direct")
    with pytest.raises(GuardRefused, match="no queue is bound"):
        bus.plan(exchange="market", via="copy")
    bus.broker.bind_queue("orders", "market", "a")
    with bus.open(bus.plan(exchange="market")) as tap:
        bus.publisher.publish("", {}, exchange="market", routing_key="a")
        with pytest.raises(Unroutable):
            bus.publisher.publish("", {}, exchange="market", routing_key="b")
        assert [(d.queue, d.routing_key) for d in seen(tap, 1)] == [(None, "a")]


def test_read_only_production_and_missing_rights_refuse_the_firehose(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    with pytest.raises(GuardRefused, match="read-only"):
        plan_tap(ManagementClient(bus.vhost.api_url, read_only=True), bus.name, "replies")
    with pytest.raises(GuardRefused, match="production") as caught:
        bus.plan("replies", production=True)
    assert caught.value.hint == "possible: --via firehose or --via hold or --via consume (takes them away)"
    assert bus.plan("replies", production=True, via="firehose").way == "firehose"
    with pytest.raises(GuardRefused, match=r"tag administrator, user 'watcher-.*' has: monitoring"):
        plan_tap(bus.user("monitoring"), bus.name, "replies", via="firehose")


def test_a_read_only_session_may_copy(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.bind_queue("orders", "amq.fanout")
    management = ManagementClient(bus.vhost.api_url, read_only=True)
    with MessageBroker(url=bus.vhost.amqp_url, read_only=True) as broker:
        plan = plan_tap(management, bus.name, "orders")
        with open_tap(plan, broker, management, lease_folder=bus.folder) as tap:
            bus.publisher.publish("", {}, exchange="amq.fanout", routing_key="k")
            assert len(seen(tap, 1)) == 1


def test_a_queue_of_dead_letters_only_is_not_watched_in_silence(bus: Bus) -> None:
    bus.broker.declare_queue("work.dead")
    bus.broker.declare_queue("work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work.dead"})
    plan = bus.plan("work.dead")
    assert plan.way == "hold"  # nobody consumes it
    assert "dead letters of work" in plan.reason
    with pytest.raises(GuardRefused, match="production"):
        bus.plan("work.dead", production=True)
    assert "dead letters from work" in bus.plan("work.dead", via="firehose").coverage


def test_an_unknown_queue_or_exchange_is_not_found(bus: Bus) -> None:
    with pytest.raises(NotFound):
        bus.plan("nowhere")
    with pytest.raises(NotFound):
        bus.plan(exchange="nowhere")


# --- copies


def test_a_copy_shows_each_message_and_the_consumer_gets_every_one(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.declare_exchange("market", "topic")
    bus.broker.bind_queue("orders", "market", "order.*")
    bus.broker.bind_queue("orders", "market", "#.new")
    with bus.open(bus.plan("orders")) as tap:
        assert len(bus.taps()) == 1
        for number in range(50):
            bus.publisher.publish("", {"n": number}, exchange="market", routing_key="order.new")
        bus.publisher.publish("", {"n": 50}, exchange="market", routing_key="order.old", headers={"h": [1.5, b"x"]})
        messages = seen(tap, 51)
    assert [m.body for m in messages] == [b'{"n":%d}' % n for n in range(51)]
    last = messages[-1]
    assert (last.queue, last.exchange, last.routing_key, last.via) == ("orders", "market", "order.old", "copy")
    assert last.redelivered is None
    assert last.headers == {"h": [1.5, b"x"]}
    assert bus.ready("orders") == 51
    assert bus.taps() == []
    assert not bus.tracing()


def test_a_copy_takes_over_the_arguments_of_header_bindings(bus: Bus) -> None:
    bus.broker.declare_queue("eu")
    bus.broker.bind_queue("eu", "amq.headers", "", {"x-match": "all", "region": "eu", "level": 3})
    with bus.open(bus.plan("eu")) as tap:
        right = {"region": "eu", "level": 3}
        for number, headers in enumerate([right, {**right, "level": 4}, right]):
            with suppress(Unroutable):
                bus.publisher.publish("", {"n": number}, exchange="amq.headers", routing_key="", headers=headers)
        assert [m.body for m in seen(tap, 2)] == [b'{"n":0}', b'{"n":2}']


def test_dropped_copies_do_not_reach_the_house_s_dead_letter_queue(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catch-all policy dead-letters whatever any queue drops; the tap's queue must be exempt."""
    monkeypatch.setattr(queues, "MAX_MESSAGES", 10)
    bus.broker.declare_queue("house.dead")
    bus.broker.declare_exchange("house.dlx", "fanout")
    bus.broker.bind_queue("house.dead", "house.dlx")
    bus.broker.declare_queue("orders")
    bus.broker.bind_queue("orders", "amq.fanout")
    bus.policy("catch-all", ".*", "queues", **{"dead-letter-exchange": "house.dlx"})
    queue = queues.TapQueue(bus.broker, lambda delivery: None, lambda: None)
    queue.declare()  # and nobody consumes, so it overflows
    queue.bind(queues.Binding(exchange="amq.fanout", routing_key="", arguments={}))
    witness = bus.broker.declare_queue("witness", exclusive=True, arguments={"x-max-length": 10}).queue
    bus.broker.bind_queue(witness, "amq.fanout")
    for _ in range(60):
        bus.publisher.publish("", {}, exchange="amq.fanout", routing_key="k")
    assert bus.ready(queue.name) == 10
    # The policy works: what the witness dropped is there. What the tap dropped is not.
    wait_until(lambda: bus.ready("house.dead") == 50)
    queue.remove()
    assert bus.ready("house.dead") == 50


def test_a_copy_follows_the_bindings_and_ends_with_the_queue(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.bind_queue("orders", "amq.topic", "a")
    with bus.open(bus.plan("orders")) as tap:
        bus.broker.bind_queue("orders", "amq.topic", "b")
        assert "amq.topic 'b'" in note(tap, "changed").text
        bus.publisher.publish("", {}, exchange="amq.topic", routing_key="b")
        assert [m.routing_key for m in seen(tap, 1)] == ["b"]
        bus.broker.unbind_queue("orders", "amq.topic", "b")
        note(tap, "changed")
        with pytest.raises(Unroutable):
            bus.publisher.publish("", {}, exchange="amq.topic", routing_key="b")
        bus.broker.delete_queue("orders")
        with pytest.raises(NotFound):
            seen(tap, 1)
    assert bus.taps() == []


def test_a_lost_link_is_a_gap_with_a_length_and_the_tap_goes_on(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.bind_queue("orders", "amq.topic", "a")
    watcher = MessageBroker(url=bus.vhost.amqp_url, client_name="watcher")
    with watcher, bus.open(bus.plan("orders"), watcher) as tap:
        cut(bus, "watcher (consume)")
        gap = note(tap, "gap", 30)
        assert gap.seconds is not None
        assert gap.seconds >= 0
        bus.publisher.publish("", {"after": True}, exchange="amq.topic", routing_key="a")
        assert [m.body for m in seen(tap, 1)] == [b'{"after":true}']
    wait_until(lambda: bus.taps() == [])


def cut(bus: Bus, name: str) -> None:
    """Close a connection from the broker's side."""

    def found() -> list[str]:
        return [c.name for c in bus.management.connections() if c.user_provided_name == name]

    (connection, *_) = wait_until(found, 15, what=f"connection {name}")
    path = requests.utils.quote(connection, safe="")
    requests.delete(f"{bus.api}/connections/{path}", timeout=10).raise_for_status()


def test_a_tap_whose_own_queue_is_deleted_declares_it_again(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.bind_queue("orders", "amq.topic", "a")
    with bus.open(bus.plan("orders")) as tap:
        (name,) = bus.taps()
        bus.broker.delete_queue(name)  # nobody else may: it is exclusive to this connection
        note(tap, "gap")

        def sees_again() -> bool:
            bus.publisher.publish("", {}, exchange="amq.topic", routing_key="a")
            return bool(seen(tap, 1, 0.2))

        wait_until(sees_again, 20)


@pytest.mark.faults
def test_both_taps_survive_a_restart_of_the_broker(tmp_path: Path) -> None:
    """It switches tracing off and takes the queues; the API is back later than AMQP."""
    with PrivateBroker(root=os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")) as node:
        bus = Bus(TestBroker(node.amqp_url, node.api_url), tmp_path)
        bus.broker.declare_queue("replies")
        bus.broker.declare_queue("orders")
        bus.broker.bind_queue("orders", "amq.topic", "#")
        with bus.open(bus.plan("replies")) as firehose, bus.open(bus.plan("orders")) as copy:
            node.restart()
            for tap in (firehose, copy):
                assert "link" in note(tap, "gap", 60).text
            assert "tracing was off" in note(firehose, "gap", 30).text
            bus.publisher.publish("replies", {})
            bus.publisher.publish("", {}, exchange="amq.topic", routing_key="k")
            assert len(seen(firehose, 1)) == 1
            assert len(seen(copy, 1)) == 1
        assert not bus.tracing()
        assert bus.taps() == []
        bus.broker.close()


# --- the firehose


def test_the_firehose_shows_the_message_as_it_was_published(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    bus.broker.declare_queue("others")
    now = int(time.time())
    headers = {
        "n": 2**40,
        "f": 1.5,
        "b": b"\xff",
        "t": datetime(2026, 1, 2, tzinfo=UTC),
        "d": Decimal("1.23"),
        "deep": {"list": [None, True, {"x": "y"}]},
    }
    properties = Properties(
        content_type="application/json",
        content_encoding="gzip",
        headers=headers,
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="m",
        timestamp=now,
        type="t",
        app_id="a",
    )
    with bus.open(bus.plan("replies")) as tap:
        bus.publisher.publish("others", {"not": "mine"})
        envelope = Envelope(exchange="", routing_key="replies", properties=properties, body=b"\x00body")
        bus.publisher.publish_envelope(envelope)
        (message,) = seen(tap, 1)
    assert message.properties == properties
    assert message.body == b"\x00body"
    assert (message.queue, message.exchange, message.routing_key, message.via) == ("replies", "", "replies", "firehose")
    assert message.redelivered is None
    assert bus.ready("replies") == 1


def test_the_vhost_is_afterwards_as_it_was(bus: Bus) -> None:
    bus.put(f"vhosts/{bus.name}", {"description": "the house", "tags": "one,two", "default_queue_type": "quorum"})
    before = bus.management.vhost(bus.name)
    bus.broker.declare_queue("replies", arguments={"x-queue-type": "classic"})
    with bus.open(bus.plan("replies")) as tap:
        during = bus.management.vhost(bus.name)
        assert during.tracing is True
        assert (during.description, during.tags) == ("the house", ["one", "two"])
        assert len(bus.leases()) == 1
        bus.publisher.publish("replies", {})
        assert len(seen(tap, 1)) == 1
    after = bus.management.vhost(bus.name)
    assert after.tracing is False
    for name in ("description", "tags", "default_queue_type", "metadata"):
        assert getattr(after, name) == getattr(before, name)
    assert bus.taps() == []
    assert bus.leases() == []
    assert tap.left_behind is None


def test_a_lease_file_is_private_and_without_secrets(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    with bus.open(bus.plan("replies")):
        (path,) = bus.folder.iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert bus.folder.stat().st_mode & 0o777 == 0o700
        assert "@" not in path.read_text().replace(bus.management.overview().cluster_name or "", "")


def test_tracing_that_somebody_else_switched_on_stays_on(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    bus.management.set_tracing(bus.name, True)
    with bus.open(bus.plan("replies")) as tap:
        assert bus.leases() == []
        bus.publisher.publish("replies", {})
        assert len(seen(tap, 1)) == 1
    assert bus.tracing()


def test_the_last_of_two_tails_switches_off_whoever_came_first(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    first, second = bus.open(bus.plan("replies")), bus.open(bus.plan("replies"))
    first.close()
    assert bus.tracing()
    bus.publisher.publish("replies", {})
    assert len(seen(second, 1)) == 1
    second.close()
    assert not bus.tracing()
    assert bus.leases() == []


def test_tracing_stays_off_where_a_lease_cannot_be_written_down(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    bus.folder.write_text("a file")
    with pytest.raises(BusError, match="cannot be written"):
        bus.open(bus.plan("replies"))
    assert not bus.tracing()


def test_tracing_stays_on_for_somebody_else_who_is_bound(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    bus.broker.declare_queue("audit")
    tap = bus.open(bus.plan("replies"))
    bus.broker.bind_queue("audit", TRACE_EXCHANGE, "publish.#")
    tap.close()
    assert bus.tracing()
    assert "somebody else" in (tap.left_behind or "")
    bus.broker.unbind_queue("audit", TRACE_EXCHANGE, "publish.#")
    assert len(clean_leases(bus.management, bus.folder)) == 1
    assert not bus.tracing()


def test_tracing_that_goes_off_meanwhile_is_switched_on_again(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    with bus.open(bus.plan("replies")) as tap:
        bus.management.set_tracing(bus.name, False)
        assert "switched off" in note(tap, "gap").text
        bus.publisher.publish("replies", {})
        assert len(seen(tap, 1)) == 1
    assert not bus.tracing()


def test_a_tail_that_finds_tracing_on_and_switches_it_on_again_later_leaves_it_off(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    bus.management.set_tracing(bus.name, True)
    with bus.open(bus.plan("replies")) as tap:
        bus.management.set_tracing(bus.name, False)
        note(tap, "gap")
        marked = [info.arguments for info in bus.management.exchange_bindings(bus.name, TRACE_EXCHANGE)]
        assert marked == [{MARK: True}]
        assert len(bus.leases()) == 1
    assert not bus.tracing()
    assert bus.leases() == []


def test_a_tail_gives_way_to_somebody_who_keeps_switching_tracing_off(bus: Bus) -> None:
    bus.broker.declare_queue("replies")

    def fight(tap: Tap) -> None:
        for event in tap.follow(for_s=20):
            assert isinstance(event, Note)
            bus.management.set_tracing(bus.name, False)

    with bus.open(bus.plan("replies")) as tap:
        bus.management.set_tracing(bus.name, False)
        with pytest.raises(GuardRefused, match="gives way"):
            fight(tap)


def test_an_interrupted_opening_takes_everything_back(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.broker.declare_queue("replies")
    plan = bus.plan("replies")

    def interrupted(*_args: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bus.broker, "subscribe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.open(plan)
    assert not bus.tracing()
    assert bus.leases() == []
    assert bus.taps() == []


KILLED = """
import os, sys
from pathlib import Path
from busctl_lib.broker import MessageBroker
from busctl_lib.management import ManagementClient
from busctl_lib.taps import leases, open_tap, plan_tap

amqp_url, api_url, vhost, folder, when = sys.argv[1:]
management = ManagementClient(api_url)
broker = MessageBroker(url=amqp_url).connect()
if when == "before switching on":
    ManagementClient.set_tracing = lambda *_: os.kill(os.getpid(), 9)
elif when == "while closing":
    leases.TracingLease.give_back = lambda *_: os.kill(os.getpid(), 9)
tap = open_tap(plan_tap(management, vhost, "replies"), broker, management, lease_folder=Path(folder))
if when == "while closing":
    tap.close()
print("open", flush=True)
sys.stdin.read()
"""


def start_killed(bus: Bus, when: str) -> subprocess.Popen[str]:
    arguments = [bus.vhost.amqp_url, bus.vhost.api_url, bus.name, str(bus.folder), when]
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("when", ["while following", "before switching on", "while closing"])
def test_after_a_kill_the_next_run_cleans(bus: Bus, when: str) -> None:
    bus.broker.declare_queue("replies")
    bus.broker.declare_queue("bound")
    bus.broker.bind_queue("bound", "amq.fanout")
    with start_killed(bus, when) as killed:
        assert killed.stdout is not None
        if when == "while following":
            assert killed.stdout.readline() == "open\n"
            os.kill(killed.pid, signal.SIGKILL)
        assert killed.wait(20) == -signal.SIGKILL
    assert bus.tracing() is (when != "before switching on")
    assert len(bus.leases()) == 1
    with bus.open(bus.plan("bound")) as tap:  # any tap, here a copy
        assert len(tap.cleaned) == (when != "before switching on")
    assert not bus.tracing()
    assert bus.leases() == []
    wait_until(lambda: bus.trace_bindings() == [])


def test_the_lease_of_a_living_tail_is_left_alone(bus: Bus) -> None:
    bus.broker.declare_queue("replies")
    with start_killed(bus, "never") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        assert clean_leases(bus.management, bus.folder) == []
        assert bus.tracing()
        os.kill(other.pid, signal.SIGKILL)
        other.wait(10)
    with bus.open(bus.plan("replies")) as tap:
        assert len(tap.cleaned) == 1
        assert bus.tracing()
        assert len(bus.leases()) == 1
    assert not bus.tracing()


def test_a_lease_of_another_cluster_is_kept_and_unfinished_ones_go(bus: Bus) -> None:
    bus.folder.mkdir()
    path = bus.folder / "busctl.tap.x.json"
    path.write_text('{"cluster": "another", "vhost": "/", "queue": "busctl.tap.x", "api_url": "http://h", "pid": 1}')
    (bus.folder / "broken.json").write_text("{")
    (bus.folder / "busctl.tap.y.draft").write_text("")
    assert clean_leases(bus.management, bus.folder) == []
    assert bus.leases() == [path.name]


def test_an_exchange_is_watched_by_firehose_with_its_unroutable_messages(bus: Bus) -> None:
    bus.broker.declare_exchange("market.data", "topic")
    with bus.open(bus.plan(exchange="market.data", key="quote.*")) as tap:
        for key in ("quote.a", "trade.a", "quote.b"):
            with pytest.raises(Unroutable):
                bus.publisher.publish("", {}, exchange="market.data", routing_key=key)
        assert [(m.routing_key, m.queue) for m in seen(tap, 2)] == [("quote.a", None), ("quote.b", None)]


def test_the_default_exchange_is_watched_as_a_whole_or_by_key(bus: Bus) -> None:
    for name in ("a", "b"):
        bus.broker.declare_queue(name)
    with bus.open(bus.plan(exchange="")) as everything, bus.open(bus.plan(exchange="", key="b")) as one:
        for name in ("a", "b"):
            bus.publisher.publish(name, {})
        assert [m.routing_key for m in seen(everything, 2)] == ["a", "b"]
        assert [m.routing_key for m in seen(one, 1)] == ["b"]


def test_both_kinds_of_feeding_are_seen_by_firehose_and_the_consumer_gets_all(bus: Bus) -> None:
    bus.broker.declare_queue("orders")
    bus.broker.bind_queue("orders", "amq.topic", "order.#")
    bus.broker.bind_queue("orders", "amq.fanout")
    got: list[int] = []
    consumer = MessageConsumer(bus.broker)
    consumer.register_handler("count", lambda message, _properties: got.append(message["n"]))
    consumer.start_consuming("orders", background=True)
    with bus.open(bus.plan("orders", via="firehose")) as tap:
        for number in range(30):
            exchange = ("", "amq.topic", "amq.fanout")[number % 3]
            key = "order.new" if exchange else "orders"
            bus.publisher.publish("", {"action": "count", "n": number}, exchange=exchange, routing_key=key)
        messages = seen(tap, 30)
    assert len(messages) == 30
    assert {m.exchange for m in messages} == {"", "amq.topic", "amq.fanout"}
    wait_until(lambda: len(got) == 30)
    consumer.stop()
    assert sorted(got) == list(range(30))


@pytest.mark.parametrize(
    ("seconds_ago", "shown"), [(0, True), (3600, True), (10**8, True), (-30, True), (-(10**8), False)]
)
def test_a_timestamp_is_shown_where_32_bits_tell_it(seconds_ago: int, shown: bool) -> None:
    now = 1_767_323_045.0
    stamp = int(now) - seconds_ago
    assert traced(stamp, now).properties.timestamp == (stamp if shown else None)


def test_a_cut_timestamp_is_absent() -> None:
    now = 1_767_323_045.0
    assert traced(int(now * 1000) - 20, now).properties.timestamp is None
    assert traced(3_000_000_000, 3_000_000_000.5).properties.timestamp == 3_000_000_000  # beyond 2038 it comes negative


def traced(timestamp: int, now: float) -> Delivery:
    """What the firehose makes of a timestamp: the lower 32 bits, with a sign."""
    cut = (timestamp + 2**31) % 2**32 - 2**31
    headers = {"exchange_name": "", "routing_keys": ["q"], "properties": {"timestamp": cut}}
    trace = Delivery(
        exchange=TRACE_EXCHANGE,
        routing_key="publish.",
        properties=Properties(headers=headers),
        body=b"",
        queue="tap",
        received_at=now,
    )
    return published(trace, "q")


# --- the buffer


def message(size: int = 0) -> Delivery:
    return Delivery(exchange="", routing_key="", properties=Properties(), body=b"x" * size, queue="q", received_at=0.0)


@pytest.mark.parametrize("limits", [{"max_messages": 5}, {"max_bytes": 500}])
def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(limits: dict[str, int]) -> None:
    buffer = Buffer(**limits)
    for number in range(20):
        buffer.put(msg := message(100))
        msg.delivery_tag = number
    first = buffer.get(0)
    assert isinstance(first, Note)
    assert first.count == 15
    rest = [buffer.get(0) for _ in range(5)]
    assert [event.delivery_tag for event in rest if isinstance(event, Delivery)] == [15, 16, 17, 18, 19]
    assert buffer.get(0) is None
    assert buffer.dropped == 15


def test_notes_are_not_dropped() -> None:
    buffer = Buffer(max_messages=2)
    buffer.put(Note(kind="gap", text="", at=0.0))
    for _ in range(5):
        buffer.put(message())
    kinds = [getattr(buffer.get(0), "kind", "message") for _ in range(4)]
    assert sorted(kinds) == ["dropped", "gap", "message", "message"]


def test_what_came_before_a_failure_is_still_read() -> None:
    buffer = Buffer()
    buffer.put(message())
    buffer.end(NotFound("gone"))
    assert isinstance(buffer.get(0), Delivery)
    with pytest.raises(NotFound):
        buffer.get(0)


def test_a_tap_counts_what_the_broker_dropped_from_its_queue(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_MESSAGES", 20)
    bus.broker.declare_queue("orders")
    bus.broker.bind_queue("orders", "amq.fanout")
    late: list[Callable[[], None]] = []
    subscribe = queues.TapQueue.subscribe
    monkeypatch.setattr(queues.TapQueue, "subscribe", lambda queue, **_: late.append(lambda: subscribe(queue)))
    with bus.open(bus.plan("orders")) as tap:
        for number in range(100):
            bus.publisher.publish("", {"n": number}, exchange="amq.fanout", routing_key="k")
        late[0]()  # as after a stopped terminal: 80 are gone by now
        assert [m.body for m in seen(tap, 20)] == [b'{"n":%d}' % n for n in range(80, 100)]
        told = 0
        while told < 80:  # in parts, where the broker's count came in parts
            told += note(tap, "dropped", 20).count or 0
        assert told == 80


# --- keys


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.#", "a", True),
        ("#", "", True),
        ("*", "", False),
        ("a.#.b", "a.x.y.b", True),
        ("a.*.b", "a.b", False),
        ("#.a.#", "b.a.c", True),
    ],
)
def test_topic_patterns_match_as_the_broker_matches(pattern: str, key: str, expected: bool) -> None:
    assert keys.matches(pattern, key) is expected


words = st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=4).map(".".join)
plain = st.lists(st.sampled_from(["a", "b", "c"]), max_size=5).map(".".join)


@given(words, words, plain)
def test_a_covering_pattern_matches_whatever_the_covered_one_matches(pattern: str, other: str, key: str) -> None:
    if keys.covers(pattern, other) and keys.matches(other, key):
        assert keys.matches(pattern, key)


@given(words)
def test_a_pattern_covers_itself_and_is_covered_by_all(pattern: str) -> None:
    assert keys.covers(pattern, pattern)
    assert keys.covers("#", pattern)
