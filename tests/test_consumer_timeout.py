"""The broker's consumer timeout: who held a message for too long is told so, and what became of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from looking import QUORUM, Bus, bodies, numbers, seen
from waiting import wait_until

from busctl_lib import MessageConsumer
from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ConsumerTimedOut
from busctl_lib.journal import Journal
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.transfers import Request, Transfer

TIMEOUT_MS = 3000
LATE_S = 90
"""Up to 4.2 the broker looks once a minute."""


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path)
    yield bus
    bus.close()


@pytest.fixture
def timed(bus: Bus) -> Bus:
    """A queue `slow` with a consumer timeout, on a broker that acts on it at once."""
    if bus.release < (4, 3):
        pytest.skip("up to 4.2 a queue's own timeout is not there, or looked at once a minute: see the long tests")
    bus.fill("slow", 3, {**QUORUM, "x-consumer-timeout": TIMEOUT_MS})
    return bus


def test_a_hold_is_ended_by_it_in_its_own_words_and_counts_nothing(timed: Bus) -> None:
    plan = timed.plan("slow", via="hold")
    assert f"the queue's consumer timeout ends it after {TIMEOUT_MS / 1000:g} s" in plan.costs
    tap = timed.open(plan)
    assert len(seen(tap, 3)) == 3
    with pytest.raises(ConsumerTimedOut, match="consumer timeout of 3,000 ms of slow ended the hold") as told:
        seen(tap, 1, 30)
    assert told.value.facts["timeout_ms"] == TIMEOUT_MS
    tap.close()
    assert tap.account == "3 messages of slow were given back, marked redelivered"
    wait_until(lambda: timed.ready("slow") == 3, 20)
    assert timed.budget("slow").left == timed.budget("slow").delivery_limit
    assert numbers(messages := timed.drain("slow", 3)) == bodies(0, 1, 2)
    assert not any("x-delivery-count" in message.headers for message in messages)


def test_what_came_later_goes_back_by_name_as_well(timed: Bus) -> None:
    """The broker takes back what is too old and nothing else; the end of its channel would count for the rest."""
    tap = timed.open(timed.plan("slow", via="hold"))
    assert len(seen(tap, 3)) == 3
    later = threading.Timer(TIMEOUT_MS / 2000, lambda: timed.publisher.publish("slow", {"n": 3}))
    later.start()
    assert len(seen(tap, 1)) == 1
    with pytest.raises(ConsumerTimedOut):
        seen(tap, 1, 30)
    tap.close()
    wait_until(lambda: timed.ready("slow") == 4, 20)
    assert not any("x-delivery-count" in message.headers for message in timed.drain("slow", 4))


def test_a_consumer_is_told_of_it_and_goes_on(timed: Bus) -> None:
    told: list[str] = []
    came: list[Delivery] = []
    with MessageBroker(url=timed.vhost.amqp_url) as broker:
        subscription = broker.subscribe("slow", came.append, prefetch=1, on_cancelled=told.append)
        wait_until(lambda: told, 20)
        assert told[0].startswith("its consumer timeout: a message was held for ")
        assert told[0].endswith("; the queue is there")
        assert isinstance(subscription.lost, ConsumerTimedOut)
        wait_until(lambda: len(came) == 2, 20)
        assert came[1].body == came[0].body
        subscription.cancel()


def test_a_consumer_of_a_queue_that_is_gone_is_told_that(bus: Bus) -> None:
    bus.broker.declare_queue("brief")
    bus.publisher.publish("brief", {"n": 0})
    told: list[str] = []
    came: list[Delivery] = []
    with MessageBroker(url=bus.vhost.amqp_url) as broker:
        broker.subscribe("brief", came.append, on_cancelled=told.append)
        wait_until(lambda: came, 20)
        bus.broker.delete_queue("brief")
        wait_until(lambda: told, 20)
        assert told == ["the queue was deleted"]


def test_a_slow_handler_is_told_of_it(timed: Bus, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    with MessageBroker(url=timed.vhost.amqp_url) as broker:
        consumer = MessageConsumer(broker, prefetch=1)
        consumer.register_default(lambda _message, _properties: done.wait(TIMEOUT_MS / 1000 * 3))
        consumer.start_consuming("slow", background=True)
        wait_until(lambda: "consumer timeout" in caplog.text, 20)
        assert "the queue was deleted" not in caplog.text
        done.set()
        consumer.stop()


def test_a_plan_that_waited_for_its_answer_is_done_all_the_same(timed: Bus) -> None:
    """What was held comes again; nothing was counted."""
    timed.broker.declare_queue("elsewhere")
    request = Request(kind="move", source="slow", target="elsewhere")
    with (
        Journal(timed.folder / "journal.sqlite") as journal,
        Transfer(timed.broker, timed.management, journal, request) as transfer,
    ):
        for _ in transfer.planning():
            pass
        held = transfer._source.take().epoch
        timed.publisher.publish("slow", {"n": 3})
        wait_until(lambda: transfer._source.take().epoch > held, 20)
        for _ in transfer.running():
            pass
        assert transfer.account is not None
        assert (transfer.account.operation.state, transfer.account.operation.moved) == ("done", 3)
    assert numbers(timed.drain("elsewhere", 3)) == bodies(0, 1, 2)
    (left,) = timed.drain("slow", 1)
    assert (left.body, left.headers.get("x-delivery-count")) == (bodies(3)[0], None)


@pytest.mark.faults
def test_a_channel_that_the_broker_closes_for_it_ends_a_hold_with_a_true_account(bus: Bus) -> None:
    if not (4, 0) <= bus.release < (4, 3):
        pytest.skip("a queue's own timeout that closes the channel: RabbitMQ 4.0 to 4.2")
    bus.fill("slow", 3, {**QUORUM, "x-consumer-timeout": TIMEOUT_MS})
    tap = bus.open(bus.plan("slow", via="hold"))
    assert len(seen(tap, 3)) == 3
    with pytest.raises(ConsumerTimedOut, match="ended the hold"):
        seen(tap, 1, LATE_S)
    tap.close()
    went = "3 messages of slow went back with the channel that the broker closed, marked redelivered, and each counts"
    assert went in (tap.account or "")
    wait_until(lambda: bus.ready("slow") == 3, 20)
    assert bus.counts("slow", 3) == {1}
