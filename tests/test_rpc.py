"""Calls: many at once, and each way to fail told apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from proxy import Proxy
from waiting import wait_until

from busctl_lib import Envelope, MessageBroker, MessageConsumer, MessagePublisher, Properties, RPCConsumer
from busctl_lib.errors import CodecError, NoResponder, OutcomeUnknown, RemoteError, ReplyTimeout


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("service")
        yield broker


@pytest.fixture
def service(broker: MessageBroker) -> Iterator[MessageConsumer]:
    consumer = MessageConsumer(broker, prefetch=200, workers=4)
    consumer.register_handler("echo", lambda message, _properties: message)
    consumer.register_handler("fail", lambda message, _properties: 1 / 0)
    consumer.start_consuming("service", background=True)
    yield consumer
    consumer.stop()


def test_concurrent_calls_each_get_their_own_reply(broker: MessageBroker, service: MessageConsumer) -> None:
    rpc = RPCConsumer(broker)
    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(lambda n: rpc.call("service", {"action": "echo", "n": n})["n"], range(500)))
    assert replies == list(range(500))
    assert broker.stats().late_replies == 0


def test_no_such_queue_is_known_at_once(broker: MessageBroker) -> None:
    started = time.monotonic()
    with pytest.raises(NoResponder, match="no such queue"):
        RPCConsumer(broker).call("absent", {"action": "echo"}, timeout=30)
    assert time.monotonic() - started < 20


def test_a_queue_without_consumer_is_told_at_the_deadline(broker: MessageBroker) -> None:
    with pytest.raises(NoResponder, match="no consumer"):
        RPCConsumer(broker).call("service", {"action": "echo"}, timeout=1)
    wait_until(lambda: broker.declare_queue("service", passive=True).message_count == 0)


def test_a_slow_service_is_a_timeout_and_its_reply_is_counted_as_late(broker: MessageBroker) -> None:
    may_answer = threading.Event()
    consumer = MessageConsumer(broker)
    consumer.register_handler("slow", lambda message, _properties: may_answer.wait(60) and message)
    consumer.start_consuming("service", background=True)
    rpc = RPCConsumer(broker)
    with pytest.raises(ReplyTimeout, match="within 2 s"):  # in which the service gets it
        rpc.call("service", {"action": "slow"}, timeout=2)
    may_answer.set()
    wait_until(lambda: broker.stats().late_replies == 1)
    consumer.stop()


def test_an_error_on_the_other_side_comes_back_as_one(broker: MessageBroker, service: MessageConsumer) -> None:
    with pytest.raises(RemoteError, match="ZeroDivisionError: division by zero") as caught:
        RPCConsumer(broker).call("service", {"action": "fail"})
    assert caught.value.type == "ZeroDivisionError"  # type: ignore[attr-defined]
    with pytest.raises(RemoteError, match="no handler for action 'unheard of'"):
        RPCConsumer(broker).call("service", {"action": "unheard of"})


def test_a_request_that_nobody_waits_for_is_not_worked_on(broker: MessageBroker) -> None:
    worked: list[Any] = []
    headers = {"busctl-deadline": int(time.time() * 1000) - 1}
    late = Properties(reply_to="amq.rabbitmq.reply-to.x", correlation_id="1", headers=headers)
    publisher = MessagePublisher(broker)
    publisher.publish_envelope(
        Envelope(exchange="", routing_key="service", properties=late, body=b'{"action": "work"}')
    )
    consumer = MessageConsumer(broker)
    consumer.register_handler("work", lambda message, _properties: worked.append(message))
    consumer.start_consuming("service", background=True)
    publisher.publish("service", {"action": "work", "n": 2})
    wait_until(lambda: worked)
    consumer.stop()
    assert [message.get("n") for message in worked] == [2]


def test_a_reply_that_is_not_json_is_told(broker: MessageBroker) -> None:
    publisher = MessagePublisher(broker)

    def answer(delivery: Any) -> None:
        properties = Properties(correlation_id=delivery.properties.correlation_id)
        reply = Envelope(exchange="", routing_key=delivery.properties.reply_to, properties=properties, body=b"\xff")
        publisher.send_envelope(reply, lambda _entry: None)

    broker.subscribe("service", answer, auto_ack=True)
    with pytest.raises(CodecError, match="not JSON"):
        RPCConsumer(broker).call("service", {"action": "x"})


def test_a_link_lost_while_waiting_is_told_at_once_and_the_next_call_works(vhost: Any, broker: MessageBroker) -> None:
    may_answer = threading.Event()
    consumer = MessageConsumer(broker)
    consumer.register_handler("slow", lambda message, _properties: may_answer.wait(60) and message)
    consumer.start_consuming("service", background=True)
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as caller:
        rpc = RPCConsumer(caller)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(rpc.call, "service", {"action": "slow"}, 30)
            wait_until(
                lambda: (
                    consumer._running[0].subscription.epoch
                    and broker.declare_queue("service", passive=True).message_count == 0
                )
            )
            wait_until(lambda: any(one.confirmed for one in list(rpc._calls.values())))
            proxy.cut()
            with pytest.raises(OutcomeUnknown, match="before the reply"):
                call.result(10)
        may_answer.set()
        assert rpc.call("service", {"action": "slow", "n": 1}, timeout=20) == {"action": "slow", "n": 1}
    consumer.stop()


def test_replies_may_come_by_a_queue_of_ones_own(vhost: Any, broker: MessageBroker, service: MessageConsumer) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as caller:
        rpc = RPCConsumer(caller, reply_mode="queue")
        assert rpc.call("service", {"action": "echo", "n": 1}) == {"action": "echo", "n": 1}
        proxy.cut()
        wait_until(lambda: caller.stats().reconnects == 2 and caller.state.value == "open", timeout=20)
        assert rpc.call("service", {"action": "echo", "n": 2}, timeout=20) == {"action": "echo", "n": 2}
