"""What newer brokers tell of a queue: priorities, timeouts of its consumers, the readers of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_at_socket import answering
from waiting import wait_until

from busctl.cli import main
from busctl.views import consumers, takers
from busctl.views import queue_detail as view
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.management import ConsumerInfo, ManagementClient, QueueInfo, StreamTracking
from busctl_lib.management.infos import QueueName
from busctl_lib.queue_detail import QueueDetail, tracking_of

Run = Callable[..., tuple[int, str, str]]
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@pytest.fixture
def release(vhost: Any) -> tuple[int, ...]:
    with ManagementClient(vhost.api_url) as api:
        return api.overview().release or ()


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line on the test's vhost: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def consumer(own: int | None = None, of_queue: int | None = None) -> ConsumerInfo:
    arguments = {"x-consumer-timeout": own} if own is not None else {}
    queue = QueueName(name="q", vhost="/")
    return ConsumerInfo(consumer_tag="c", queue=queue, arguments=arguments, consumer_timeout=of_queue)


def test_how_many_wait_with_which_priority_is_shown_where_the_broker_tells(
    run: Run, broker: MessageBroker, release: tuple[int, ...]
) -> None:
    broker.declare_queue("orders", arguments=QUORUM)
    publisher = MessagePublisher(broker)
    for priority in (0, 9, 9, None):
        publisher.publish("orders", {"n": 1}, priority=priority)

    def told() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("queues", "orders", "-o", "json")[1])
        return found

    wait_until(lambda: told().get("messages_ready") == 4, timeout=30)
    if release >= (4, 3):
        wait_until(lambda: told().get("messages_by_priority") == {"0": 1, "4": 1, "9": 2}, timeout=30)
        assert "priorities 2 of 9, 1 of 4, 1 of 0 (without one: 4)\n" in run("queues", "orders")[1]
    else:
        assert "messages_by_priority" not in told()
        assert "priorities" not in run("queues", "orders")[1]


@pytest.mark.parametrize(
    ("info", "kind", "release", "said"),
    [
        (consumer(own=120_000), "quorum", (3, 10), None),
        (consumer(of_queue=1_800_000), "classic", (4, 0), "30 m"),
        (consumer(120_000, 80_000), "quorum", (4, 0), "1 m (the 2 m it asks for count from 4.3 on)"),
        (consumer(120_000, 80_000), "quorum", (4, 3), "2 m (its own; the queue has 1 m)"),
        (consumer(of_queue=80_000), "quorum", (4, 3), "1 m"),
        (consumer(of_queue=1_800_000), "classic", (4, 3), "none"),
        (consumer(of_queue=1_800_000), "stream", (4, 4), "none"),
        (consumer(of_queue=80_000), "quorum", None, "1 m"),
    ],
)
def test_the_timeout_in_force_depends_on_the_queue_and_on_the_release(
    info: ConsumerInfo, kind: str, release: tuple[int, ...] | None, said: str | None
) -> None:
    assert consumers.timeout(info, kind, release) == said
    shown = takers.TAKERS.column("timeout").cell(takers.Taker(info, None, said)).text
    assert shown == (said or "\u2013").partition(" (")[0], "there is little room"


def test_a_consumer_tells_its_timeout_and_its_queues_limit(
    run: Run, broker: MessageBroker, release: tuple[int, ...]
) -> None:
    broker.declare_queue("orders", arguments={**QUORUM, "x-delivery-limit": 7})
    subscription = broker.subscribe("orders", lambda delivery: None, arguments={"x-consumer-timeout": 120_000})
    tag = wait_until(
        lambda: next((each["consumer_tag"] for each in json.loads(run("consumers", "-o", "json")[1])), None), timeout=30
    )

    def its_own() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("consumers", tag, "-o", "json")[1])
        return found

    if release >= (4, 3):
        wait_until(lambda: "delivery_limit" in its_own(), timeout=30)  # of its queue, which tells after some seconds
        wait_until(lambda: "timeout 2 m" in run("queues", "orders")[1], timeout=30)
    listed = run("consumers", "--columns", "timeout", "-o", "table")[1]
    shown, told = run("consumers", tag)[1], its_own()
    assert told["arguments"] == {"x-consumer-timeout": 120_000}
    assert ("consumer_timeout" in told) is (release >= (4, 0))
    if release >= (4, 3):
        assert "30 m, asks for 2 m" in listed
        assert "timeout    2 m (its own; the queue has 30 m)" in shown
        assert told["delivery_limit"] == 7
        assert "timeout 2 m (its own; the queue has 30 m)" in run("queues", "orders")[1]
    elif release >= (4, 0):
        assert "timeout    30 m (the 2 m it asks for count from 4.3 on)" in shown
    else:
        assert "asks for 2 m" in listed
        assert "timeout    not known: this version does not tell" in shown
    del subscription


def test_readers_of_a_stream_are_told_or_why_they_are_not(
    run: Run, broker: MessageBroker, release: tuple[int, ...]
) -> None:
    broker.declare_queue("tape", arguments={"x-queue-type": "stream"})
    MessagePublisher(broker).publish("tape", {"n": 1})
    told, shown = json.loads(run("queues", "tape", "-o", "json")[1]), run("queues", "tape")[1]
    if "tracking" in told:
        assert told["tracking"].get("offsets") == {}
        assert "offsets    none stored by a reader\n" in shown
    else:
        assert "rabbitmq_stream_management is off" in told["tracking_unknown"]
        assert "offsets    not known: this broker does not tell where the readers of streams are" in shown
    assert told.get("first_timestamp") != 0, "0 is the broker's word for not known"


def test_stored_offsets_are_shown_and_a_stream_without_a_leader_is_not_known() -> None:
    info = QueueInfo(name="tape", vhost="/", type="stream", members=["a"], first_timestamp=1_767_348_000_000)
    body = b'{"offsets":{"audit":1200,"app\\u001b":3},"writers":{}}'
    with answering(body) as url, ManagementClient(url) as api:
        tracking, why = tracking_of(api, info)
    assert (tracking, why) == (StreamTracking(offsets={"audit": 1200, "app\x1b": 3}, writers={}), None)
    lines = {line.label: line.text for line in view.lines(info, QueueDetail(bindings=[], tracking=tracking), 600)}
    assert lines["offsets"] == "app\\x1b at 3, audit at 1,200"
    assert "first message 2026-01-02 10:00:00Z" in lines["stream"]
    body = b'{"error":"service_unavailable","reason":"The stream leader is not available"}'
    with answering(body, "503 Service Unavailable") as url, ManagementClient(url) as api:
        tracking, why = tracking_of(api, info)
    assert tracking is None
    assert "The stream leader is not available" in (why or "")


def test_0_is_the_brokers_word_for_a_first_message_that_is_not_known() -> None:
    info = QueueInfo(name="tape", vhost="/", type="stream", first_timestamp=0)
    assert info.first_timestamp is None


@pytest.mark.parametrize("name", ["orders", "odd (1)|[x]^$.*+?{2}\\d a/b%2Fc", "k\xe4se \u20ac", "x" * 255])
def test_a_queue_without_statistics_has_its_counts_without_a_list_of_all(
    vhost: Any, broker: MessageBroker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    broker.declare_queue(name)
    with ManagementClient(vhost.api_url) as api:
        monkeypatch.setattr(api, "queues", lambda vhost: pytest.fail("all were listed"))
        assert api.queue(vhost.name, name).messages == 0
