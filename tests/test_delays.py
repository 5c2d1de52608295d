"""Delayed delivery: never early, nobody waits behind a longer delay, a destination that is gone jams nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from waiting import wait_until

from busctl_lib import Delivery, MessageBroker, MessagePublisher, PrivateBroker
from busctl_lib.delays import LONGEST_S, PARKING, Delays
from busctl_lib.envelope import Envelope, Properties
from busctl_lib.errors import NotFound, PublishRefused


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        yield broker


def depth(broker: MessageBroker, queue: str) -> int:
    return broker.declare_queue(queue, passive=True).message_count


def plain(routing_key: str = "q", **properties: Any) -> Envelope:
    return Envelope(exchange="", routing_key=routing_key, properties=Properties(**properties), body=b"{}")


def test_delays_mixed_in_one_run_are_never_early_and_never_behind_a_longer_one(broker: MessageBroker) -> None:
    delays = [1.6, 0.1, 3600.0, 0.8, 0.3, 2.5, 0.2, 600.0, 1.1, 0.4, 40 * 86400.0]
    arrived: list[tuple[float, Delivery]] = []
    subscription = broker.subscribe("q", lambda delivery: arrived.append((time.time(), delivery)), auto_ack=True)
    publisher = MessagePublisher(broker)
    publisher.put_off(plain(), 40 * 86400.0)  # the ladder is made
    for delay in delays:
        publisher.publish("q", {"delay": delay, "due": time.time() + delay}, delay=delay)
    short = sorted(delay for delay in delays if delay < 10)
    wait_until(lambda: len(arrived) == len(short), 60)
    subscription.cancel()
    found = [(at, json.loads(delivery.body)) for at, delivery in arrived]
    assert sorted(message["delay"] for _, message in found) == short
    for at, message in found:
        assert at > message["due"] - 0.1
    # the long ones wait at the highest level of their delay: 3600 s is 36,000 units, the highest bit is 15
    for level, units in ((12, 6000), (15, 36_000), (25, 40 * 864_000)):
        assert units.bit_length() - 1 == level
        wait_until(lambda level=level: depth(broker, f"busctl.delay.{level:02}") == 1, 30)


def test_the_key_is_the_delay_in_binary(broker: MessageBroker) -> None:
    delays = Delays(broker)
    sent = delays.delayed(plain(), 0.5)
    assert sent.exchange == "busctl.delay.02"
    assert sent.routing_key == "0." * 25 + "1.0.1.q"
    assert delays.delayed(plain(), 0.41).routing_key.endswith("1.0.1.q")  # rounded up
    assert delays.delayed(plain(), 0.7).routing_key.endswith("1.1.1.q")  # 0.7 s is 7 units, not 7.000001
    assert delays.delayed(plain(), 0).exchange == ""


@pytest.mark.parametrize(
    ("bad", "told"), [(-1.0, "-1"), (LONGEST_S + 1, "26,843,546.5"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_an_impossible_delay_is_refused(broker: MessageBroker, bad: float, told: str) -> None:
    with pytest.raises(PublishRefused, match=rf"\(310 days\), found {told}"):
        MessagePublisher(broker).publish("q", {}, delay=bad)


def test_what_cannot_be_delayed_is_refused_with_the_reason(broker: MessageBroker) -> None:
    with pytest.raises(PublishRefused, match="expiration"):
        MessagePublisher(broker).publish("q", {}, delay=1, expiration=5000)
    with pytest.raises(NotFound, match="nowhere"):
        MessagePublisher(broker).publish(None, {}, exchange="nowhere", routing_key="k", delay=1)
    broker.declare_queue("n" * 220)
    with pytest.raises(PublishRefused, match="21 bytes too long"):
        MessagePublisher(broker).publish("n" * 220, {}, delay=1)


@pytest.mark.parametrize("fixed", [False, True])
def test_names_that_end_alike_or_look_like_patterns_are_told_apart(broker: MessageBroker, fixed: bool) -> None:
    for name in ("b", "a.b", "#", "*", "a.#", "a.*"):
        broker.declare_queue(name)
    publisher = MessagePublisher(broker)
    for name in ("b", "#", "*", "a.#", "a.*", "a.b"):
        publisher.publish(name, {}, delay=0.1, fixed_delay=fixed)
    for name in ("b", "a.b", "#", "*", "a.#", "a.*"):
        wait_until(lambda name=name: depth(broker, name) >= 1, 30)
    publisher.publish("q", {}, delay=0.3)
    wait_until(lambda: depth(broker, "q") == 1, 30)
    assert [depth(broker, name) for name in ("b", "a.b", "#", "*", "a.#", "a.*")] == [1] * 6


def test_a_delay_may_end_at_an_exchange_with_the_messages_own_key(broker: MessageBroker) -> None:
    broker.declare_exchange("events", "topic")
    broker.bind_queue("q", "events", "orders.*")
    MessagePublisher(broker).publish(None, {"n": 1}, exchange="events", routing_key="orders.new", delay=0.2)
    got: list[Delivery] = []
    broker.subscribe("q", got.append, auto_ack=True)
    wait_until(lambda: got, 30)
    assert (got[0].exchange, got[0].routing_key, got[0].body) == ("events", "orders.new", b'{"n":1}')


@pytest.mark.parametrize("fixed", [False, True])
def test_a_destination_deleted_meanwhile_is_parked_and_jams_nobody(broker: MessageBroker, fixed: bool) -> None:
    broker.declare_queue("gone")
    publisher = MessagePublisher(broker)
    publisher.put_off(plain("gone"), 0.3, fixed=fixed)  # bound from now on
    broker.delete_queue("gone")
    for n in range(40):  # more than a dead-lettering queue has in flight
        publisher.publish("gone", {"n": n}, delay=0.3, fixed_delay=fixed)
    publisher.publish("q", {}, delay=0.3, fixed_delay=fixed)
    wait_until(lambda: depth(broker, "q") == 1, 60)
    wait_until(lambda: depth(broker, PARKING) == 40, 60)


def test_a_ladder_that_was_taken_away_is_made_again(broker: MessageBroker) -> None:
    publisher = MessagePublisher(broker)
    publisher.publish("q", {}, delay=0.2)
    wait_until(lambda: depth(broker, "q") == 1, 30)
    for level in ("00", "01"):
        broker.delete_exchange(f"busctl.delay.{level}")
    publisher.publish("q", {}, delay=0.2)
    wait_until(lambda: depth(broker, "q") == 2, 30)


@pytest.mark.faults
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_delayed_messages_survive_a_broker_that_goes_down(how: str) -> None:
    with (
        PrivateBroker(root=os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")) as node,
        MessageBroker(url=node.amqp_url) as broker,
    ):
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        for n in range(200):
            publisher.publish("q", {"n": n, "due": time.time() + n / 10}, delay=n / 10)
        node.ctl("eval", "mnesia:sync_log().")
        if how == "kill":
            node.kill()
            node.start()
        else:
            node.restart()
        found: list[tuple[float, Any]] = []
        broker.subscribe("q", lambda d: found.append((time.time(), json.loads(d.body))), auto_ack=True)
        wait_until(lambda: len({message["n"] for _, message in found}) == 200, 90)
        assert min(at - message["due"] for at, message in found) > -0.1
