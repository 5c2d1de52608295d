"""What becomes of a publish, told exactly."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from proxy import Proxy
from waiting import wait_until

from busctl_lib import Envelope, MessageBroker, MessagePublisher, OrderPublisher, Outcome, Properties
from busctl_lib.errors import (
    ConfigError,
    GuardRefused,
    InvalidMessage,
    Nacked,
    NeverSent,
    OutcomeUnknown,
    PublishRefused,
    Unroutable,
)


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        yield broker


def depth(broker: MessageBroker, queue: str = "q") -> int:
    return broker.declare_queue(queue, passive=True).message_count


def test_a_confirmed_publish_has_a_receipt(broker: MessageBroker) -> None:
    receipt = MessagePublisher(broker).publish("q", {"n": 1}, message_id="mine")
    assert (receipt.message_id, receipt.outcome) == ("mine", Outcome.CONFIRMED)
    assert depth(broker) == 1


def test_a_publish_never_declares_and_says_how_to(broker: MessageBroker) -> None:
    with pytest.raises(Unroutable, match="'absent'") as caught:
        MessagePublisher(broker).publish("absent", {"n": 1})
    assert "declare the queue" in str(caught.value.hint)
    assert caught.value.outcome is Outcome.RETURNED  # type: ignore[attr-defined]


def test_a_full_queue_nacks(broker: MessageBroker) -> None:
    broker.declare_queue("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publisher = MessagePublisher(broker)
    publisher.publish("full", {"n": 1})
    with pytest.raises(Nacked):
        publisher.publish("full", {"n": 2})


def test_a_publish_that_kills_the_channel_fails_alone(broker: MessageBroker) -> None:
    publisher = MessagePublisher(broker)
    results: list[Any] = []

    def settled(entry: Any) -> None:
        results.append((entry.envelope.body, entry.outcome))

    def envelope(n: int, exchange: str = "") -> Envelope:
        return Envelope(exchange=exchange, routing_key="q", properties=Properties(), body=b"%d" % n)

    for n in range(200):
        publisher.send_envelope(envelope(n, "no such exchange" if n == 100 else ""), settled)
    wait_until(lambda: len(results) == 200)
    assert [(body, outcome) for body, outcome in results if outcome is not Outcome.CONFIRMED] == [
        (b"100", Outcome.REFUSED)
    ]
    assert depth(broker) == 199


def test_an_exchange_deleted_under_way_leaves_the_others_whole(broker: MessageBroker) -> None:
    broker.declare_exchange("x", "fanout")
    broker.bind_queue("q", "x")
    publisher = MessagePublisher(broker)
    publisher.publish(None, {"n": 0}, exchange="x", routing_key="")
    broker.delete_exchange("x")
    with pytest.raises(PublishRefused, match="no exchange 'x'"):
        publisher.publish(None, {"n": 1}, exchange="x", routing_key="")
    publisher.publish("q", {"n": 2})
    assert depth(broker) == 2


def test_what_the_broker_complains_of_is_refused_not_unknown(broker: MessageBroker) -> None:
    publisher = MessagePublisher(broker)
    publisher.publish("q", {"n": 1})
    with pytest.raises(PublishRefused, match="CC"):
        publisher.publish("q", {"n": 2}, headers={"CC": "not a list"})
    publisher.publish("q", {"n": 3})
    assert depth(broker) == 2


def test_a_user_id_of_another_is_refused_by_the_broker(broker: MessageBroker) -> None:
    publisher = MessagePublisher(broker)
    with pytest.raises(PublishRefused, match="user_id"):
        publisher.publish("q", {"n": 1}, user_id="somebody else")
    publisher.publish("q", {"n": 2})


def test_returns_and_confirms_are_paired_in_a_crowd(broker: MessageBroker) -> None:
    report = MessagePublisher(broker).publish_many(("q" if n % 3 else "absent", {"n": n}) for n in range(3000))
    assert report.counts == {Outcome.CONFIRMED: 2000, Outcome.RETURNED: 1000}
    assert [entry.index for entry in report.unconfirmed] == list(range(0, 3000, 3))
    assert depth(broker) == 2000


def test_returns_without_a_message_id_are_paired_by_their_content(broker: MessageBroker) -> None:
    outcomes: dict[bytes, Outcome | None] = {}
    done = threading.Semaphore(0)

    def settled(entry: Any) -> None:
        outcomes[entry.envelope.body] = entry.outcome
        done.release()

    publisher = MessagePublisher(broker)
    for n in range(50):
        key = "absent" if n == 17 else "q"
        publisher.send_envelope(
            Envelope(exchange="", routing_key=key, properties=Properties(), body=b"%d" % n), settled
        )
    for _ in range(50):
        assert done.acquire(timeout=10)
    assert [body for body, outcome in outcomes.items() if outcome is Outcome.RETURNED] == [b"17"]


def test_publish_many_tells_a_bad_entry_and_sends_the_rest(broker: MessageBroker) -> None:
    report = MessagePublisher(broker).publish_many(
        [("q", {"n": 1}), ("q", {"n": float("nan")}), ("x" * 300, {"n": 3}), ("q", {"n": 4})]
    )
    assert report.confirmed == 2
    assert [(entry.index, entry.outcome) for entry in report.unconfirmed] == [
        (1, Outcome.REFUSED),
        (2, Outcome.REFUSED),
    ]
    assert "'n' is nan" in str(report.unconfirmed[0].reason)


def test_many_threads_share_one_broker(broker: MessageBroker) -> None:
    publisher = MessagePublisher(broker)
    threads = [threading.Thread(target=lambda: [publisher.publish("q", {"n": n}) for n in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert depth(broker) == 400


def test_a_body_larger_than_a_frame_arrives_whole(broker: MessageBroker) -> None:
    received: list[Any] = []
    broker.subscribe("q", received.append, auto_ack=True)
    body = bytes(range(256)) * 12_000
    MessagePublisher(broker).publish_envelope(
        Envelope(exchange="", routing_key="q", properties=Properties(), body=body)
    )
    wait_until(lambda: received)
    assert received[0].body == body


def test_an_order_is_checked_before_it_is_sent(broker: MessageBroker) -> None:
    broker.declare_queue("tes_requests")
    orders = OrderPublisher(broker)
    with pytest.raises(InvalidMessage, match="quantity"):
        orders.publish_order({"user_id": 1, "symbol": "AAPL", "side": "buy", "quantity": -1, "price": 1.0})
    assert depth(broker, "tes_requests") == 0


def test_an_action_that_is_no_text_has_no_schema(broker: MessageBroker) -> None:
    OrderPublisher(broker).publish("q", {"action": {"kind": "place_order"}})
    assert depth(broker) == 1


def test_an_unknown_property_is_refused_with_the_known_ones(broker: MessageBroker) -> None:
    with pytest.raises(PublishRefused) as caught:
        MessagePublisher(broker).publish("q", {}, prioritty=5)
    assert "priority" in str(caught.value.hint)


def test_a_read_only_broker_publishes_and_declares_nothing(vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url, read_only=True) as broker:
        mine = broker.declare_queue("", exclusive=True).queue
        broker.bind_queue(mine, "amq.topic", "#")
        broker.subscribe(mine, lambda _delivery: None, auto_ack=True)
        for change in (
            lambda: MessagePublisher(broker).publish(mine, {}),
            lambda: broker.declare_queue("q"),
            lambda: broker.bind_queue("q", "amq.topic"),
            lambda: broker.purge_queue("q"),
            lambda: broker.delete_queue("q"),
            lambda: broker.subscribe("q", lambda _delivery: None),
        ):
            with pytest.raises(GuardRefused, match="read-only"):
                change()


def test_a_queue_that_4_3_would_answer_by_closing_the_connection_is_refused_here(broker: MessageBroker) -> None:
    with pytest.raises(ConfigError, match="neither durable nor exclusive"):
        broker.declare_queue("t", durable=False)


def test_a_link_cut_under_publishes_loses_nothing_confirmed_and_doubles_only_what_is_unknown(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        cuts = iter([1500, 4000, 7000])
        following = next(cuts)

        def messages() -> Iterator[tuple[str, Any]]:
            nonlocal following
            for n in range(10_000):
                if n == following:
                    proxy.cut()
                    following = next(cuts, 0)
                yield "q", {"n": n}

        report = publisher.publish_many(messages())
    assert set(report.counts) <= {Outcome.CONFIRMED, Outcome.UNKNOWN}
    assert sum(report.counts.values()) == 10_000
    unknown = {entry.index for entry in report.unconfirmed}
    with MessageBroker(url=vhost.amqp_url) as direct:
        seen: list[int] = []
        subscription = direct.subscribe("q", lambda delivery: seen.append(int(delivery.body[5:-1])), auto_ack=True)
        wait_until(lambda: depth(direct) == 0)
        wait_until(lambda: len(seen) >= report.confirmed)
        subscription.cancel()
    assert len(seen) == len(set(seen)), "nothing is doubled: what was unknown was not sent again"
    missing = set(range(10_000)) - set(seen)
    assert missing <= unknown, "everything confirmed is there"


def test_a_publish_waits_for_the_link_to_come_back(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: broker.links.publish.state.value == "recovering")
        threading.Timer(0.3, lambda: proxy.refuse(False)).start()
        publisher.publish("q", {"n": 2}, timeout=20)
        assert depth(broker) == 2


def test_a_publish_that_never_left_says_so_at_its_deadline(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: broker.links.publish.state.value == "recovering")
        started = time.monotonic()
        told = r"the message was not sent \(queue 'q'\): its deadline came first, the link is recovering"
        with pytest.raises(NeverSent, match=told):
            publisher.publish("q", {"n": 2}, timeout=0.5)
        assert time.monotonic() - started < 20
        proxy.refuse(False)


def test_a_stalled_link_makes_the_outcome_unknown_not_a_hang(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        proxy.stall()
        with pytest.raises(OutcomeUnknown):
            publisher.publish("q", {"n": 2}, timeout=2)
        proxy.resume()
        publisher.publish("q", {"n": 3})
        assert depth(broker) == 3


def test_a_connection_closed_by_an_operator_comes_back(vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url, client_name=f"victim {vhost.name}") as broker:
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})

        def mine() -> list[str]:
            answer = requests.get(f"{vhost.api_url}/api/vhosts/{vhost.name}/connections", timeout=5).json()
            return [one["name"] for one in answer]

        names = wait_until(lambda: len(found := mine()) == 2 and found, timeout=20)
        for name in names:
            requests.delete(f"{vhost.api_url}/api/connections/{requests.utils.quote(name, safe='')}", timeout=5)
        wait_until(lambda: broker.links.publish.reconnects >= 1 and broker.links.consume.reconnects >= 1)
        publisher.publish("q", {"n": 2})
        assert depth(broker) == 2


def test_a_handle_brings_the_receipt_or_the_error(broker: MessageBroker) -> None:
    publisher = MessagePublisher(broker)
    good, bad = publisher.publish_nowait("q", {"n": 1}, message_id="m"), publisher.publish_nowait("absent", {"n": 2})
    assert good.wait(10).message_id == "m"
    assert good.future().result(0).outcome is Outcome.CONFIRMED
    with pytest.raises(Unroutable):
        bad.wait(10)


def test_an_unknown_outcome_is_sent_again_only_when_asked(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        proxy.stall()

        def cut_when_sent() -> None:
            wait_until(lambda: broker.stats().unconfirmed == 1)
            proxy.cut()
            proxy.resume()

        threading.Thread(target=cut_when_sent).start()
        publisher.publish("q", {"n": 2}, on_unknown="retry", message_id="again", timeout=20)
        received: list[Any] = []
        with MessageBroker(url=vhost.amqp_url) as direct:
            direct.subscribe("q", received.append, auto_ack=True)
            wait_until(lambda: len(received) >= 2)
    assert received[-1].properties.message_id == "again"
    assert received[-1].headers["busctl-republished"] == 1


def test_a_rotated_password_is_asked_for_at_each_dial(vhost: Any) -> None:
    user, api = f"rotating-{vhost.name}", f"{vhost.api_url}/api"
    passwords = ["first"]

    def set_password(password: str) -> None:
        requests.put(f"{api}/users/{user}", json={"password": password, "tags": ""}, timeout=5).raise_for_status()

    set_password("first")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    requests.put(f"{api}/permissions/{vhost.name}/{user}", json=everything, timeout=5).raise_for_status()
    try:
        with (
            Proxy(vhost.host, vhost.port) as proxy,
            MessageBroker(
                host="127.0.0.1",
                port=proxy.port,
                username=user,
                password=lambda: passwords[-1],
                virtual_host=vhost.name,
            ) as broker,
        ):
            set_password("second")
            proxy.cut()
            wait_until(lambda: "refused the login" in str(broker.links.consume.reason), timeout=20)
            passwords.append("second")
            broker.connect_now()
            wait_until(lambda: broker.state.value == "open", timeout=30)
    finally:
        requests.delete(f"{api}/users/{user}", timeout=5)


def test_several_hosts_are_tried_and_a_name_that_does_not_resolve_skips_only_itself(vhost: Any) -> None:
    hosts = ["no-such-host.invalid", "127.0.0.1:1", f"{vhost.host}:{vhost.port}"]
    with MessageBroker(
        hosts=hosts, username=vhost.username, password=vhost.password, virtual_host=vhost.name
    ) as broker:
        assert broker.state.value == "open"


def test_fifty_reconnects_leak_nothing(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        broker.subscribe("q", lambda _delivery: None, auto_ack=True)
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 0})

        def round_trip(times: int) -> tuple[int, int, int]:
            for _ in range(times):
                before = broker.stats().reconnects
                proxy.cut()
                wait_until(lambda before=before: broker.stats().reconnects == before + 2, every_s=0.002)  # type: ignore[misc]
                wait_until(lambda: (broker.connect_now(), broker.state.value == "open")[1], every_s=0.01, timeout=20)
                publisher.publish("q", {"n": 1}, timeout=20)
            loop = broker.links.publish._io.loop
            assert loop is not None
            timers = sum(timer.callback is not None for timer in loop._timer._timeout_heap)
            return len(os.listdir("/proc/self/fd")), timers, len(our_threads())

        def our_threads() -> list[str]:
            return [t.name for t in threading.enumerate() if t.name.startswith(("busctl", "pika"))]

        first = round_trip(5)
        last = round_trip(45)
    assert last[0] <= first[0] + 4, "file descriptors (the proxy's own pair of each link may be closing)"
    assert last[1] <= first[1] + 2
    assert last[2] == first[2]
