"""Consumers: nothing lost, nothing settled twice, and back again after whatever happens to the link or the queue."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from proxy import Proxy
from waiting import wait_until

from busctl_lib import Envelope, MessageBroker, MessageConsumer, MessagePublisher, Properties
from busctl_lib.consumers import Reject
from busctl_lib.consumers.running import Running
from busctl_lib.errors import ConfigError, LoginRefused, NotFound, ResourceLocked


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q.dead")
        broker.declare_queue("q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q.dead"})
        yield broker


def depth(broker: MessageBroker, queue: str = "q") -> int:
    return broker.declare_queue(queue, passive=True).message_count


def test_consuming_a_queue_that_is_not_there_says_so(broker: MessageBroker) -> None:
    with pytest.raises(NotFound, match="no queue 'absent'"):
        MessageConsumer(broker).start_consuming("absent")


def test_a_line_break_in_a_queue_name_is_refused_not_waited_for(broker: MessageBroker) -> None:
    for passive in (True, False):
        with pytest.raises(ConfigError, match="line break"):
            broker.declare_queue("two\nlines", passive=passive)


def test_an_exclusive_queue_of_another_is_told(broker: MessageBroker, vhost: Any) -> None:
    broker.declare_queue("mine", exclusive=True)
    with MessageBroker(url=vhost.amqp_url) as other, pytest.raises(ResourceLocked):
        other.subscribe("mine", lambda _delivery: None)


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[1, 2]", b'{"action": "unheard of"}', b'{"action": "reject"}', b'{"action": "fail"}', b"\xff\x00"],
)
def test_what_cannot_be_handled_is_dead_lettered_not_lost(broker: MessageBroker, body: bytes) -> None:
    def reject(_message: Any, _properties: Any) -> None:
        raise Reject("no thanks")

    consumer = MessageConsumer(broker)
    consumer.register_handler("reject", reject)
    consumer.register_handler("fail", lambda _message, _properties: 1 / 0)
    consumer.start_consuming("q", background=True)
    MessagePublisher(broker).publish_envelope(
        Envelope(exchange="", routing_key="q", properties=Properties(), body=body)
    )
    wait_until(lambda: depth(broker, "q.dead") == 1)
    consumer.stop()
    assert depth(broker) == 0


def test_stop_finishes_what_is_handled_and_gives_back_the_rest(broker: MessageBroker) -> None:
    MessagePublisher(broker).publish_many(("q", {"action": "work", "n": n}) for n in range(50))
    busy, may_end = threading.Event(), threading.Event()
    handled: list[int] = []

    def work(message: dict[str, Any], _properties: Any) -> None:
        busy.set()
        may_end.wait(10)
        handled.append(message["n"])

    consumer = MessageConsumer(broker, prefetch=20)
    consumer.register_handler("work", work)
    consumer.start_consuming("q", background=True)
    assert busy.wait(10)
    stopper = threading.Thread(target=consumer.stop)
    stopper.start()
    wait_until(lambda: broker.declare_queue("q", passive=True).consumer_count == 0)
    may_end.set()
    stopper.join(10)
    assert handled == [0]
    assert depth(broker) == 49


def test_a_handler_may_stop_its_consumer(broker: MessageBroker) -> None:
    consumer = MessageConsumer(broker)
    consumer.register_handler("end", lambda _message, _properties: consumer.stop())
    MessagePublisher(broker).publish("q", {"action": "end"})
    consumer.start_consuming("q")
    wait_until(lambda: depth(broker) == 0)


def test_a_cut_link_redelivers_and_late_acks_do_no_harm(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        received: list[Any] = []
        subscription = broker.subscribe("q", received.append, prefetch=100)
        with MessageBroker(url=vhost.amqp_url) as direct:
            MessagePublisher(direct).publish_many(("q", {"n": n}) for n in range(10))
            wait_until(lambda: len(received) == 10)
            proxy.cut()
            wait_until(lambda: len(received) == 20, timeout=20)
            for delivery in received[:10]:
                subscription.ack(delivery)
            wait_until(lambda: broker.stats().stale_settlements == 10)
            assert all(delivery.redelivered for delivery in received[10:])
            for delivery in received[10:]:
                subscription.ack(delivery)
            wait_until(lambda: broker.stats().acked == 10)
            subscription.cancel()
            assert depth(direct) == 0


def test_settling_twice_does_not_close_the_channel(broker: MessageBroker) -> None:
    received: list[Any] = []
    subscription = broker.subscribe("q", received.append)
    publisher = MessagePublisher(broker)
    publisher.publish("q", {"n": 1})
    wait_until(lambda: received)
    subscription.ack(received[0])
    subscription.ack(received[0])
    wait_until(lambda: broker.stats().stale_settlements == 1)
    publisher.publish("q", {"n": 2})
    wait_until(lambda: len(received) == 2)
    assert subscription.epoch == 1


def test_acks_in_any_order_and_rejections_between_settle_each_message_once(broker: MessageBroker) -> None:
    received: list[Any] = []
    subscription = broker.subscribe("q", received.append, prefetch=1000)
    MessagePublisher(broker).publish_many(("q", {"n": n}) for n in range(300))
    wait_until(lambda: len(received) == 300)
    for delivery in received[::-1]:
        if delivery.delivery_tag % 5 == 0:
            subscription.dead_letter(delivery)
        else:
            subscription.ack(delivery)
        if delivery.delivery_tag % 7 == 0:
            wait_until(lambda: not subscription._scheduled, every_s=0.0005)
    wait_until(lambda: depth(broker, "q.dead") == 60)
    subscription.cancel()
    assert (depth(broker), subscription.epoch, broker.stats().stale_settlements) == (0, 1, 0)


def test_a_deleted_queue_is_consumed_again_once_it_is_back(broker: MessageBroker, vhost: Any) -> None:
    received: list[Any] = []
    lost: list[str] = []
    with MessageBroker(url=vhost.amqp_url) as other:
        other.declare_queue("comes and goes")
        broker.subscribe("comes and goes", received.append, auto_ack=True, on_cancelled=lost.append)
        other.delete_queue("comes and goes")
        wait_until(lambda: lost)
        other.declare_queue("comes and goes")
        MessagePublisher(other).publish("comes and goes", {"n": 1})
        wait_until(lambda: received, timeout=20)


def test_exclusive_and_server_named_queues_come_back_with_their_bindings(vhost: Any) -> None:
    with (
        Proxy(vhost.host, vhost.port) as proxy,
        MessageBroker(url=proxy.url(vhost.amqp_url)) as broker,
        MessageBroker(url=vhost.amqp_url) as direct,
    ):
        received: list[Any] = []
        for name in ("", "own"):
            queue = broker.declare_queue(name, exclusive=True).queue
            broker.bind_queue(queue, "amq.topic", "a.#")
            broker.subscribe(queue, received.append, auto_ack=True)
        proxy.cut()
        wait_until(lambda: broker.links.consume.reconnects == 1 and broker.state.value == "open", timeout=20)
        MessagePublisher(direct).publish(None, {"n": 1}, exchange="amq.topic", routing_key="a.b")
        wait_until(lambda: len(received) == 2)


def test_a_silent_peer_is_noticed_by_its_missing_heartbeats(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url), heartbeat_s=1) as broker:
        broker.declare_queue("q")
        proxy.stall()
        wait_until(lambda: broker.state.value == "recovering", timeout=20)
        proxy.cut()
        proxy.resume()
        wait_until(lambda: broker.state.value == "open", timeout=20)
        assert broker.declare_queue("q", passive=True).message_count == 0


def test_state_changes_are_told_in_order(vhost: Any) -> None:
    events: list[Any] = []
    with Proxy(vhost.host, vhost.port) as proxy:
        broker = MessageBroker(url=proxy.url(vhost.amqp_url))
        broker.add_listener(events.append)
        broker.connect()
        proxy.cut()
        wait_until(lambda: broker.links.consume.reconnects == 1 and broker.state.value == "open", timeout=20)
        broker.close()
        wait_until(lambda: events[-1].new.value == "closed")
    assert [event.new.value for event in events] == [
        "connecting", "replaying", "open", "recovering", "replaying", "open", "closing", "closed",
    ]  # fmt: skip


def test_an_ack_lost_with_the_link_does_not_run_the_handler_again(vhost: Any) -> None:
    handled: list[int] = []
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        consumer = MessageConsumer(broker)

        def work(message: dict[str, Any], _properties: Any) -> None:
            handled.append(message["n"])
            if message["n"] == 1 and len(handled) == 1:
                proxy.cut()
                wait_until(lambda: broker.links.consume.reconnects == 1)

        consumer.register_handler("work", work)
        consumer.start_consuming("q", background=True)
        with MessageBroker(url=vhost.amqp_url) as direct:
            publisher = MessagePublisher(direct)
            publisher.publish("q", {"action": "work", "n": 1})
            publisher.publish("q", {"action": "work", "n": 2})
            wait_until(lambda: 2 in handled and depth(direct) == 0 and broker.stats().acked == 2, timeout=20)
            consumer.stop()
            assert depth(direct) == 0
    assert sorted(handled) == [1, 2]


@pytest.mark.parametrize(("ordering", "workers"), [("queue", 4), ("key", 4)])
def test_order_is_kept_where_it_is_asked_for(broker: MessageBroker, ordering: Any, workers: int) -> None:
    handled: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    consumer = MessageConsumer(
        broker,
        prefetch=100,
        workers=workers,
        ordering=ordering,
        key=lambda delivery: (delivery.properties.headers or {}).get("k"),
    )
    consumer.register_handler("work", lambda message, properties: handled[properties.headers["k"]].append(message["n"]))
    publisher = MessagePublisher(broker)
    for n in range(300):
        publisher.publish_nowait("q", {"action": "work", "n": n}, headers={"k": "abc"[n % 3]})
    consumer.start_consuming("q", background=True)
    wait_until(lambda: sum(map(len, handled.values())) == 300)
    consumer.stop()
    assert all(numbers == sorted(numbers) for numbers in handled.values())


def test_another_message_of_the_same_id_is_handled_though_it_comes_redelivered(vhost: Any) -> None:
    handled: list[int] = []
    at_it, go_on = threading.Event(), threading.Event()

    def handle(message: dict[str, Any], _properties: Properties) -> None:
        if message["n"] == 2 and not go_on.is_set():
            at_it.set()
            go_on.wait(60)
        handled.append(message["n"])

    with (
        MessageBroker(url=vhost.amqp_url) as direct,
        Proxy(vhost.host, vhost.port) as proxy,
        MessageBroker(url=proxy.url(vhost.amqp_url)) as broker,
    ):
        direct.declare_queue("q")
        consumer = MessageConsumer(broker, workers=1)
        consumer.register_handler("work", handle)
        consumer.start_consuming("q", background=True)
        for number, message_id in [(1, "same"), (2, "other"), (3, "same")]:
            MessagePublisher(direct).publish("q", {"action": "work", "n": number}, message_id=message_id)
        assert at_it.wait(30)
        wait_until(lambda: consumer._running[0]._lanes[0].qsize() == 1)  # the third waits in this process
        proxy.cut()
        wait_until(lambda: depth(direct) == 0 and consumer._running[0].subscription.epoch == 2, timeout=30)
        go_on.set()
        wait_until(lambda: 3 in handled, timeout=10)
        consumer.stop()


def test_a_handler_near_the_consumer_timeout_is_told(broker: MessageBroker, caplog: pytest.LogCaptureFixture) -> None:
    may_end = threading.Event()
    consumer = MessageConsumer(broker, consumer_timeout_s=0.2)
    consumer.register_handler("slow", lambda _message, _properties: may_end.wait(20) and None)
    consumer.start_consuming("q", background=True)
    MessagePublisher(broker).publish("q", {"action": "slow"}, message_id="the slow one")
    wait_until(lambda: "'the slow one'" in caplog.text)
    may_end.set()
    consumer.stop()


def once_nobody_consumes(vhost: Any, go_on: threading.Event) -> threading.Thread:
    """Let handlers go on once the broker has been told that nothing more is taken."""

    def wait() -> None:
        with MessageBroker(url=vhost.amqp_url, client_name="looks on") as other:
            wait_until(lambda: other.declare_queue("q", passive=True).consumer_count == 0)
        go_on.set()

    looking = threading.Thread(target=wait)
    looking.start()
    return looking


def test_close_drains_and_gives_an_account(vhost: Any) -> None:
    broker = MessageBroker(url=vhost.amqp_url)
    broker.declare_queue("q")
    MessagePublisher(broker).publish_many(("q", {"action": "work", "n": n}) for n in range(30))
    busy, may_end = threading.Event(), threading.Event()
    consumer = MessageConsumer(broker, prefetch=10)
    consumer.register_handler("work", lambda _message, _properties: busy.set() or may_end.wait(60))
    consumer.start_consuming("q", background=True)
    assert busy.wait(30)
    looking = once_nobody_consumes(vhost, may_end)
    report = broker.close()
    looking.join(30)
    assert (report.acked, report.given_back, report.unknown, report.forced) == (1, 9, 0, False)
    with MessageBroker(url=vhost.amqp_url) as again:
        assert depth(again) == 29
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("busctl-link")]


def test_a_consumer_that_nobody_holds_is_forgotten_unless_it_still_works(vhost: Any) -> None:
    handled, go_on = threading.Event(), threading.Event()

    def handle(_message: Any, _properties: Any) -> None:
        handled.set()
        go_on.wait(60)

    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        MessagePublisher(broker).publish("q", {"n": 1})
        idle, busy = MessageConsumer(broker), MessageConsumer(broker)
        busy.register_default(handle)
        busy.start_consuming("q", background=True)
        gone, works = weakref.ref(idle), weakref.ref(busy)
        del idle, busy
        gc.collect()
        assert handled.wait(30)
        assert (gone(), works() is not None) == (None, True)
        once_nobody_consumes(vhost, go_on)
        assert broker.close().acked == 1


def test_what_cannot_be_restored_is_told_and_the_rest_comes_back(vhost: Any) -> None:
    events: list[Any] = []
    with (
        Proxy(vhost.host, vhost.port) as proxy,
        MessageBroker(url=proxy.url(vhost.amqp_url)) as broker,
        MessageBroker(url=vhost.amqp_url) as other,
    ):
        broker.add_listener(events.append)
        for name in ("taken", "free"):
            broker.declare_queue(name, exclusive=True)
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: broker.state.value == "recovering")
        taken = wait_until(lambda: declared_by(other, "taken"))
        proxy.refuse(False)
        wait_until(lambda: broker.state.value == "open", timeout=30)
        assert taken.queue == "taken"
        told = wait_until(lambda: [event for event in events if event.old is event.new])
        assert "queue 'taken' could not be declared again" in told[0].reason
        assert broker.declare_queue("free", passive=True).queue == "free"


def declared_by(broker: MessageBroker, queue: str) -> Any:
    """Declare an exclusive queue once its former owner's connection is gone."""
    try:
        return broker.declare_queue(queue, exclusive=True)
    except ResourceLocked:
        return None


def test_no_password_in_any_repr_or_log(vhost: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        MessagePublisher(broker).publish("q", {"n": 1})
        proxy.cut()
        wait_until(lambda: broker.stats().reconnects == 2 and broker.state.value == "open", timeout=20)
        shown = "".join(map(repr, [broker, broker.links, broker.links.consume, broker.endpoints, broker.stats()]))
    wrong = MessageBroker(url=vhost.amqp_url.replace(f":{vhost.password}@", ":the-wrong-secret@"))
    with pytest.raises(LoginRefused) as refused:
        wrong.connect()
    assert "the-wrong-secret" not in f"{refused.value!r} {refused.value.hint} {refused.value.facts} {wrong!r}"
    assert "the-wrong-secret" not in caplog.text
    if vhost.password != vhost.username:  # guest's password is its name
        assert vhost.password not in caplog.text + shown


def test_the_time_of_a_stop_is_for_all_queues_together(broker: MessageBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    genuine = Running.stop

    def noted(self: Running, timeout: float) -> None:
        given.append(timeout)
        genuine(self, timeout)

    monkeypatch.setattr(Running, "stop", noted)
    busy, let_go = threading.Semaphore(0), threading.Event()
    consumer = MessageConsumer(broker)
    consumer.register_default(lambda _message, _properties: (busy.release(), let_go.wait(60), None)[-1])
    for queue in ("one", "two"):
        broker.declare_queue(queue)
        MessagePublisher(broker).publish(queue, {"n": 1})
        consumer.start_consuming(queue, background=True)
    assert busy.acquire(timeout=30)
    assert busy.acquire(timeout=30)
    consumer.stop(2.0)
    let_go.set()
    assert given[1] < given[0]
