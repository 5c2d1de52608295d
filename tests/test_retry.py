"""Failed messages: tried again after a delay, given up into the dead-letter queue with what failed, lost never."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from waiting import wait_until

from busctl_lib import Delivery, Envelope, MessageBroker, MessageConsumer, MessagePublisher, Properties
from busctl_lib.codecs import Keyring, new_key
from busctl_lib.consumers import Reject
from busctl_lib.dedup import MemorySeenStore
from busctl_lib.errors import ConfigError
from busctl_lib.retry import RetryPolicy, failed_copy

SOON = RetryPolicy(max_attempts=3, first_delay_s=0.2, factor=1.0)


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q", dead_letter=True)
        yield broker


def taken(broker: MessageBroker, queue: str, count: int = 1, timeout: float = 30) -> list[Delivery]:
    """Take so many messages from a queue."""
    found: list[Delivery] = []
    subscription = broker.subscribe(queue, found.append)
    wait_until(lambda: len(found) >= count, timeout, what=f"{count} messages in {queue}")
    for delivery in found:
        subscription.ack(delivery)
    subscription.cancel()
    return found


def depth(broker: MessageBroker, queue: str) -> int:
    return broker.declare_queue(queue, passive=True).message_count


def test_a_policy_grows_to_its_limit_and_draws_below_it() -> None:
    policy = RetryPolicy(max_attempts=9, first_delay_s=1, factor=2, max_delay_s=10)
    assert [policy.longest_delay_s(attempt) for attempt in (1, 2, 3, 4, 5, 9999)] == [1, 2, 4, 8, 10, 10]
    drawn = [policy.delay_s(3) for _ in range(200)]
    assert min(drawn) >= 0.1
    assert max(drawn) <= 4
    assert len(set(drawn)) > 100
    with pytest.raises(ConfigError, match="max_attempts"):
        RetryPolicy(max_attempts=0)


def test_a_failing_message_is_tried_again_and_succeeds(broker: MessageBroker) -> None:
    seen: list[tuple[Any, Any, Any]] = []
    done = threading.Event()

    def handle(message: dict[str, Any], properties: Properties) -> None:
        seen.append((message, properties.message_id, (properties.headers or {}).get("busctl-attempt")))
        if len(seen) < 3:
            raise RuntimeError("not yet")
        done.set()

    consumer = MessageConsumer(broker, retry=SOON)
    consumer.register_handler("work", handle)
    consumer.start_consuming("q", background=True)
    MessagePublisher(broker).publish("q", {"action": "work"}, message_id="m-1", headers={"mine": 1})
    assert done.wait(30)
    consumer.stop()
    assert seen == [({"action": "work"}, "m-1", None), ({"action": "work"}, "m-1", 1), ({"action": "work"}, "m-1", 2)]
    assert (depth(broker, "q"), depth(broker, "q.dead")) == (0, 0)


def test_after_the_last_attempt_it_is_dead_with_everything_that_is_known(broker: MessageBroker) -> None:
    broker.declare_exchange("events", "topic")
    broker.bind_queue("q", "events", "orders.#")
    broker.declare_queue("copies")
    broker.bind_queue("copies", "events", "copy")
    attempts: list[Any] = []

    def handle(_message: dict[str, Any], properties: Properties) -> None:
        attempts.append((properties.headers or {}).get("busctl-attempt", 0))
        raise LookupError(f"no account {'x' * 5000}")

    consumer = MessageConsumer(broker, retry=SOON)
    consumer.register_handler("work", handle)
    consumer.start_consuming("q", background=True)
    MessagePublisher(broker).publish(
        None, {"action": "work"}, exchange="events", routing_key="orders.new", headers={"mine": 1, "CC": ["copy"]},
        priority=3, expiration=600_000,
    )  # fmt: skip
    (dead,) = taken(broker, "q.dead")
    consumer.stop()
    assert depth(broker, "copies") == 1
    assert attempts == [0, 1, 2]
    headers = dead.headers
    assert headers["mine"] == 1
    assert headers["busctl-attempt"] == 3
    assert headers["busctl-error-type"] == "LookupError"
    assert headers["busctl-error-message"].startswith("no account xxx")
    assert len(headers["busctl-error-message"]) == 1000
    assert [headers[f"busctl-error-{name}"] for name in ("exchange", "routing-key", "queue")] == [
        "events", "orders.new", "q",
    ]  # fmt: skip
    assert headers["busctl-error-first-time"] < headers["busctl-error-time"]
    assert not {"CC", "x-death", "x-first-death-queue"} & set(headers)
    assert (dead.properties.expiration, dead.properties.priority) == (None, 3)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"not json", "CodecError"),
        (b'{"action": "unheard of"}', "InvalidMessage"),
        (b'{"action": "reject"}', "Reject"),
    ],
)
def test_what_can_never_be_handled_is_dead_at_once_and_says_why(broker: MessageBroker, body: bytes, kind: str) -> None:
    def reject(_message: Any, _properties: Any) -> None:
        raise Reject("no thanks")

    consumer = MessageConsumer(broker, retry=SOON)
    consumer.register_handler("reject", reject)
    consumer.start_consuming("q", background=True)
    MessagePublisher(broker).publish_envelope(
        Envelope(exchange="", routing_key="q", properties=Properties(message_id="m"), body=body)
    )
    (dead,) = taken(broker, "q.dead")
    consumer.stop()
    assert dead.headers["busctl-error-type"] == kind
    assert dead.headers["busctl-attempt"] == 1
    assert dead.body == body


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


def test_nothing_a_handler_raises_stops_its_worker(broker: MessageBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="busctl_lib")  # a report with a lone surrogate in it cannot be sent
    raised = [Mute(), SystemExit(3), KeyboardInterrupt(), ValueError("\ud800")]

    def handle(message: dict[str, Any], _properties: Properties) -> None:
        raise raised[message["n"]]

    consumer = MessageConsumer(
        broker,
        dedup=MemorySeenStore(),
        dedup_key=lambda delivery: (delivery.headers or {})["order"],
        ordering="key",
        key=lambda delivery: delivery.headers["order"],
    )
    consumer.register_handler("work", handle)
    consumer.start_consuming("q", background=True)
    publisher = MessagePublisher(broker)
    for n in range(len(raised)):
        publisher.publish("q", {"action": "work", "n": n}, headers={"order": f"o-{n}"})
    publisher.publish("q", {"action": "work", "n": 0})  # its key cannot be had either
    types = [each.headers["busctl-error-type"] for each in taken(broker, "q.dead", 5)]
    consumer.stop()
    assert sorted(types) == ["KeyError", "KeyboardInterrupt", "Mute", "SystemExit", "ValueError"]


def test_an_encrypted_body_whose_key_is_not_held_is_dead_and_stays_readable(broker: MessageBroker) -> None:
    keys = Keyring({"k2": new_key()})
    consumer = MessageConsumer(broker, retry=SOON)
    consumer.register_default(lambda _message, _properties: None)
    consumer.start_consuming("q", background=True)
    MessagePublisher(broker, compress="zstd", keys=keys).publish("q", {"iban": "DE02" * 500})
    wait_until(lambda: depth(broker, "q.dead") == 1, 30)
    consumer.stop()
    got: list[Any] = []
    reader = MessageConsumer(broker, keys=keys)
    reader.register_default(lambda message, properties: got.append((message, properties.headers)))
    reader.start_consuming("q.dead", background=True)
    wait_until(lambda: got, 30)
    reader.stop()
    assert got[0][0] == {"iban": "DE02" * 500}
    assert got[0][1]["busctl-error-message"] == "encrypted, key 'k2' not held"


def test_a_message_that_claims_endless_attempts_is_buried_all_the_same(broker: MessageBroker) -> None:
    consumer = MessageConsumer(broker, retry=SOON)
    consumer.register_handler("work", lambda _message, _properties: 1 / 0)
    consumer.start_consuming("q", background=True)
    claim = {"busctl-attempt": 2**63 - 1}
    MessagePublisher(broker).publish("q", {"action": "work"}, headers=claim)
    (dead,) = taken(broker, "q.dead")
    consumer.stop()
    assert dead.headers["busctl-error-type"] == "ZeroDivisionError"
    assert "x-death" not in dead.headers, "put there by us, not rejected"


def test_without_a_dead_letter_queue_the_queues_own_way_is_taken(broker: MessageBroker) -> None:
    broker.declare_queue("grave")
    broker.declare_queue("old", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "grave"})
    consumer = MessageConsumer(broker)
    consumer.register_handler("work", lambda _message, _properties: 1 / 0)
    consumer.start_consuming("old", background=True)
    MessagePublisher(broker).publish("old", {"action": "work"})
    (dead,) = taken(broker, "grave")
    consumer.stop()
    assert [death.reason for death in dead.deaths] == ["rejected"]


def test_what_the_broker_gives_up_goes_to_the_pair_as_well(broker: MessageBroker) -> None:
    MessagePublisher(broker).publish("q", {"action": "work"}, expiration=1)
    (dead,) = taken(broker, "q.dead")
    assert dead.deaths[0].reason == "expired"


def test_the_pair_is_of_one_type(broker: MessageBroker) -> None:
    broker.declare_queue("qq", dead_letter=True, arguments={"x-queue-type": "quorum"})
    broker.declare_queue("qq.dead", arguments={"x-queue-type": "quorum"})
    with pytest.raises(ConfigError, match="named by the broker"):
        broker.declare_queue("", dead_letter=True)


def test_a_full_dead_letter_queue_keeps_the_message_where_it_is(broker: MessageBroker) -> None:
    broker.delete_queue("q.dead")
    broker.declare_queue("q.dead", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publisher = MessagePublisher(broker)
    publisher.publish("q.dead", {})
    consumer = MessageConsumer(broker)
    tried = threading.Event()

    def handle(_message: Any, _properties: Any) -> None:
        tried.set()
        raise RuntimeError("no")

    consumer.register_handler("work", handle)
    consumer.start_consuming("q", background=True)
    publisher.publish("q", {"action": "work"})
    assert tried.wait(30)
    consumer.stop()
    wait_until(lambda: depth(broker, "q") == 1, 30)
    broker.purge_queue("q.dead")
    consumer.start_consuming("q", background=True)
    assert taken(broker, "q.dead")[0].headers["busctl-error-message"] == "no"
    consumer.stop()


def test_headers_of_a_failure_stay_small_whatever_failed() -> None:
    delivery = Delivery(
        exchange="x", routing_key="k", properties=Properties(headers={"x-death": [], "keep": 1}), body=b"",
        queue="q", received_at=0.0,
    )  # fmt: skip
    try:
        deep(900)
    except RuntimeError as error:
        copy = failed_copy(delivery, error, 1, stack=True)
    assert sum(len(str(value)) for value in copy.headers.values()) < 10_000
    assert copy.headers["busctl-error-stack"].rstrip().endswith("\\udc80")
    assert "x-death" not in copy.headers
    assert delivery.headers == {"x-death": [], "keep": 1}


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1)
    raise RuntimeError("y" * 20_000 + "\udc80")
