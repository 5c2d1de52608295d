"""The ways that read the queue itself, and peek: what they show, what they leave behind, and when they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from looking import QUORUM, STREAM, Bus, bodies, numbers, seen
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ConfigError, GuardRefused
from busctl_lib.management import ManagementClient
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import TapPlan, open_tap, plan_tap
from busctl_lib.taps.peek import peek


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path)
    yield bus
    bus.close()


# --- streams


def test_a_stream_is_read_from_an_offset_and_nothing_changes(bus: Bus) -> None:
    bus.fill("log", 5, STREAM)
    plan = bus.plan("log", since="first")
    assert (plan.way, plan.offset) == ("stream", "first")
    with bus.open(plan) as tap:
        messages = seen(tap, 5)
    assert numbers(messages) == bodies(0, 1, 2, 3, 4)
    assert {message.via for message in messages} == {"stream"}
    with bus.open(bus.plan("log", since=3)) as tap:
        assert numbers(seen(tap, 2)) == bodies(3, 4)
    with bus.open(bus.plan("log")) as tap:  # from now on
        bus.publisher.publish("log", {"n": 5})
        assert numbers(seen(tap, 1)) == bodies(5)
    with pytest.raises(GuardRefused, match="stream"):
        bus.plan("log", via="hold")
    bus.broker.declare_queue("plain")
    with pytest.raises(GuardRefused, match="classic"):
        bus.plan("plain", via="stream")
    with pytest.raises(ConfigError, match="--since"):
        bus.plan("plain", since="first")


def test_a_stream_is_read_in_a_read_only_session_and_beyond_the_buffer(bus: Bus) -> None:
    bus.fill("log", 3000, STREAM)
    with MessageBroker(url=bus.vhost.amqp_url, read_only=True) as broker:
        plan = bus.plan("log", since="first")
        with open_tap(plan, broker, bus.management, lease_folder=bus.folder) as tap:
            assert len(seen(tap, 3000, 60)) == 3000
        assert tap.dropped == 0


# --- hold


@pytest.mark.parametrize("arguments", [None, QUORUM], ids=["classic", "quorum"])
def test_hold_shows_what_waits_and_what_comes_and_gives_all_back_in_order(bus: Bus, arguments: Any) -> None:
    bus.fill("waiting", 5, arguments)
    plan = bus.plan("waiting", via="hold")
    with bus.open(plan) as tap:
        assert numbers(seen(tap, 5)) == bodies(0, 1, 2, 3, 4)
        bus.publisher.publish("waiting", {"n": 5})
        assert numbers(seen(tap, 1)) == bodies(5)
        wait_until(lambda: bus.ready("waiting") == 0, 20)
    assert tap.account is not None
    assert "6 messages of waiting were given back" in tap.account
    wait_until(lambda: bus.ready("waiting") == 6, 20)
    taken = bus.drain("waiting", 6)
    assert numbers(taken) == bodies(0, 1, 2, 3, 4, 5)
    assert all(message.redelivered for message in taken)


def test_hold_takes_no_more_than_asked(bus: Bus) -> None:
    bus.fill("waiting", 5)
    with bus.open(bus.plan("waiting", via="hold"), limit=2) as tap:
        assert len(seen(tap, 2)) == 2
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    wait_until(lambda: bus.ready("waiting") == 5, 20)


def test_hold_gives_way_to_a_consumer(bus: Bus) -> None:
    """With a consumer beside it, a hold would keep half of its messages from it."""
    bus.fill("waiting", 3)
    with bus.open(bus.plan("waiting", via="hold")) as tap:
        assert len(seen(tap, 3)) == 3
        consumer = MessageBroker(url=bus.vhost.amqp_url)
        got: list[Delivery] = []
        consumer.subscribe("waiting", got.append, auto_ack=True)
        with pytest.raises(GuardRefused, match="has a consumer"):
            seen(tap, 1, 20)
    wait_until(lambda: numbers(got) == bodies(0, 1, 2), 20)
    wait_until(lambda: refused(bus, "waiting", "consumer"), 20)
    with pytest.raises(GuardRefused, match="has a consumer"):  # the statistics may be behind: the tap looks again
        bus.open(plan_of_hold(bus.name, "waiting"))
    consumer.close()


def plan_of_hold(vhost: str, queue: str) -> TapPlan:
    return TapPlan(vhost=vhost, way="hold", reason="", sees="", misses=[], costs="", queue=queue)


def refused(bus: Bus, queue: str, why: str) -> bool:
    try:
        bus.plan(queue, via="hold")
    except GuardRefused as error:
        return why in str(error)
    return False


def test_hold_is_refused_where_it_would_keep_the_right_consumer_out_or_change_anything(bus: Bus) -> None:
    bus.broker.declare_queue("single", arguments={"x-single-active-consumer": True})
    assert refused(bus, "single", "one consumer be active")
    bus.broker.declare_queue("plain")
    with pytest.raises(GuardRefused, match="read-only"):
        plan_tap(ManagementClient(bus.vhost.api_url, read_only=True), bus.name, "plain", via="hold")


# --- consume


def test_consume_takes_exactly_what_was_asked_and_only_what_was_written(bus: Bus) -> None:
    bus.fill("work", 10)
    with bus.open(bus.plan("work", via="consume"), limit=4) as tap:
        messages = seen(tap, 4)
        tap.settle(messages[:3])  # the fourth was never written
    assert numbers(messages) == bodies(0, 1, 2, 3)
    wait_until(lambda: bus.ready("work") == 7, 20)
    assert numbers(bus.drain("work", 7)) == bodies(3, 4, 5, 6, 7, 8, 9)


def test_consume_is_never_chosen_and_never_read_only(bus: Bus) -> None:
    bus.broker.declare_queue("work")
    assert bus.plan("work").way == "firehose"
    with pytest.raises(GuardRefused, match="read-only"):
        plan_tap(ManagementClient(bus.vhost.api_url, read_only=True), bus.name, "work", via="consume")


# --- peek


@pytest.mark.parametrize("arguments", [None, QUORUM], ids=["classic", "quorum"])
def test_peek_shows_no_more_than_asked_and_keeps_the_order(bus: Bus, arguments: Any) -> None:
    bus.fill("waiting", 8, arguments)
    for _ in range(2):
        found = bus.peek("waiting", 3)
        assert numbers(found.messages) == bodies(0, 1, 2)
        assert found.ready == 8
        assert "3 messages taken and given back in order" in found.account
        wait_until(lambda: bus.ready("waiting") == 8, 20)
    assert numbers(bus.peek("waiting", 100).messages) == bodies(*range(8))
    wait_until(lambda: bus.ready("waiting") == 8, 20)
    assert numbers(bus.drain("waiting", 8)) == bodies(*range(8))
    assert bus.peek("waiting").messages == []


def test_a_look_at_fewer_than_came_back_before_keeps_their_order_or_says_that_they_go_first(bus: Bus) -> None:
    bus.fill("waiting", 8, QUORUM)
    first = bus.peek("waiting", 5)
    assert "behind any other" not in first.account
    wait_until(lambda: bus.ready("waiting") == 8, 20)
    told = bus.release >= (4, 0)
    if told:
        wait_until(lambda: bus.management.queue(bus.name, "waiting").messages_ready_returned == 5, 30)
    found = bus.peek("waiting", 2)
    assert numbers(found.messages) == bodies(0, 1)
    taken = 5 if told else 2
    assert f"{taken} messages taken and given back in order, behind any other that came back" in found.account
    wait_until(lambda: bus.ready("waiting") == 8, 20)
    turned = [0, 1, 2, 3, 4] if told else [2, 3, 4, 0, 1]
    assert numbers(bus.drain("waiting", 8)) == bodies(*turned, 5, 6, 7)


def test_no_more_are_taken_than_asked_where_that_may_cost_more(bus: Bus) -> None:
    bus.fill("waiting", 8, QUORUM)
    bus.peek("waiting", 5)
    wait_until(lambda: bus.ready("waiting") == 8, 20)
    if bus.release >= (4, 0):
        wait_until(lambda: bus.management.queue(bus.name, "waiting").messages_ready_returned == 5, 30)
    assert bus.peek("waiting", 2, accept_loss=True).taken == 2


def test_peek_of_a_stream_takes_nothing(bus: Bus) -> None:
    bus.fill("log", 5, STREAM)
    found = bus.peek("log", 2)
    assert numbers(found.messages) == bodies(0, 1)
    assert "does not change" in found.account


def test_peek_is_refused_read_only_and_beside_an_active_consumer(bus: Bus) -> None:
    bus.fill("waiting", 1)
    with MessageBroker(url=bus.vhost.amqp_url, read_only=True) as broker, pytest.raises(GuardRefused):
        peek(broker, bus.management, bus.name, "waiting", folder=bus.folder)
    bus.broker.declare_queue("single", arguments={"x-single-active-consumer": True})
    bus.broker.subscribe("single", lambda delivery: None)
    with pytest.raises(GuardRefused, match="one active consumer"):
        bus.peek("single")
