"""One queue in detail: who holds its messages and since when, its members, its deaths."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waiting import wait_until

from busctl.cli import main
from busctl.views import queue_detail as view
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.management import BindingInfo, ChannelInfo, ConsumerInfo, Details, QueueInfo, Sample
from busctl_lib.management.infos import ChannelDetails, ConnectionDetails, QueueName
from busctl_lib.queue_detail import Holder, QueueDetail, holders, unacked_times

HOSTILE = "x\x1b[31m\u202ey"
SHOWN = "x\\x1b[31m\\u202ey"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


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


def test_who_holds_messages_and_where_they_die_is_shown(run: Run, broker: MessageBroker) -> None:
    broker.declare_exchange("dlx", "fanout")
    broker.declare_queue("orders.dead")
    broker.bind_queue("orders.dead", "dlx", "")
    broker.declare_queue("orders", arguments={"x-dead-letter-exchange": "dlx"})
    broker.declare_queue("retry", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders"})
    for number in range(5):
        MessagePublisher(broker).publish("orders", {"n": number})
    broker.subscribe("orders", lambda delivery: None, prefetch=3)

    def answer() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("queues", "orders", "-o", "json")[1])
        return found

    # Statistics come every few seconds, those of the queue and those of the channel each for itself.
    wait_until(lambda: [each.get("unacked") for each in answer().get("holders", [])] == [3], timeout=30)
    wait_until(lambda: answer().get("consumer_details"), timeout=30)
    found = answer()
    [holder] = found["holders"]
    assert holder["consumers"] == [found["consumer_details"][0]["consumer_tag"]]
    assert holder["channel"] == found["consumer_details"][0]["channel_details"]["name"]
    assert found["dead_letters_to"] == ["orders.dead"]
    assert found["dead_letters_from"] == ["retry"]
    assert found["dead_letter_exchange"] == "dlx"
    assert "dead_letter_exchange_missing" not in found
    shown = run("queues", "orders")[1]
    for text in ("unacked by", f"3 by consumer {holder['consumers'][0]}", "deaths from retry", "prefetch 3, ack"):
        assert text in shown
    assert "deaths to   orders.dead, by exchange dlx with their own key" in shown
    assert json.loads(run("queues", "orders.dead", "-o", "json")[1])["dead_letters_from"] == ["orders"]


def test_dead_letters_into_nothing_are_said(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("a", arguments={"x-dead-letter-exchange": "nope"})
    broker.declare_exchange("dlx", "fanout")
    broker.declare_queue("b", arguments={"x-dead-letter-exchange": "dlx"})
    assert json.loads(run("queues", "a", "-o", "json")[1])["dead_letter_exchange_missing"] is True
    assert "there is no such exchange, they are lost" in run("queues", "a")[1]
    assert "no queue: they are lost, by exchange dlx" in run("queues", "b")[1]


def test_members_of_a_real_quorum_queue_and_stream(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("q", arguments={"x-queue-type": "quorum"})
    broker.declare_queue("s", arguments={"x-queue-type": "stream"})
    for name in ("q", "s"):
        wait_until(lambda name=name: "1/1 online" in run("queues", name)[1], timeout=30)
    assert "(leader)" in run("queues", "q")[1]
    assert "offsets: the management API does not tell" in run("queues", "s")[1]
    assert run("queues", "--at-risk", "-o", "json") == (0, "[]\n", "")


# --- what a broker gives only under load


def consumer(tag: str, channel: str) -> ConsumerInfo:
    details = ChannelDetails(name=channel, connection_name=f"c-{channel}")
    return ConsumerInfo(consumer_tag=tag, queue=QueueName(name="q", vhost="/"), channel_details=details)


def channel(name: str, unacked: int | None, consumers: int = 1, **more: Any) -> ChannelInfo:
    connection = ConnectionDetails(name=f"c-{name}")
    return ChannelInfo(
        name=name, messages_unacknowledged=unacked, consumer_count=consumers, connection_details=connection, **more
    )


def queue(unacked: int, **more: Any) -> QueueInfo:
    return QueueInfo(name="q", vhost="/", messages_unacknowledged=unacked, **more)


def test_holders_are_the_channels_of_its_consumers_and_who_took_by_get() -> None:
    info = queue(9, consumer_details=[consumer("a", "1"), consumer("b", "2"), consumer("c", "3"), consumer("d", "3")])
    channels = [
        channel("1", 2),
        channel("2", 4, consumers=5),
        channel("3", None, consumers=2),
        channel("other", 50),  # it consumes, but not from here
        channel("get", 3, consumers=0),
    ]
    found = holders(info, channels)
    assert [(each.channel, each.unacked, each.consumers, each.shared) for each in found] == [
        ("2", 4, ["b"], True),
        ("1", 2, ["a"], False),
        ("get", 3, [], False),
    ]
    assert [each.channel for each in holders(queue(6, consumer_details=info.consumer_details), channels)] == ["2", "1"]


def samples(*counts: float) -> Details:
    return Details(samples=[Sample(count, 1000 * (1000 + 20 * index)) for index, count in enumerate(counts)][::-1])


def test_since_when_is_said_as_far_as_samples_tell() -> None:
    after, since = unacked_times(queue(1, messages_unacknowledged_details=samples(3, 0, 0, 2, 1)))
    assert after is not None
    assert after <= 1040.0, "what a sample shows may be older than the sample"
    assert since is None
    assert unacked_times(queue(1, messages_unacknowledged_details=samples(3, 1, 2))) == (None, 1000.0)
    assert unacked_times(queue(1)) == (None, None)
    detail = QueueDetail(bindings=[], holders=[])
    assert view.unacked_times(detail, 600) == "since when is not known"
    detail.unacked_since = 1000.0
    assert "whether the same ones is not known" in view.unacked_times(detail, 600)
    held = Holder(channel="ch", unacked=2, consumers=["t"], shared=True, idle_since="2026-01-02T03:04:05.678+00:00")
    assert view.holder(held) == (
        "2 by consumer t, channel ch, of all the queues it consumes, "
        "since 2026-01-02 03:04:05 or longer (the channel is idle)"
    )


def test_a_lost_member_and_a_policy_are_told() -> None:
    info = queue(
        0,
        type="quorum",
        members=["a", "b", "c"],
        online=["a", "b"],
        leader="b",
        policy="cap",
        operator_policy="ops",
        effective_policy_definition={"max-length": 5},
        delivery_limit=20,
    )
    shown = {line.label: line.text for line in view.lines(info, QueueDetail(bindings=[]), 600)}
    assert shown["members"] == "2/3 online, one from stopping: a, b (leader), c (offline)"
    assert shown["policy"] == "cap and operator policy ops"
    assert "sets max-length=5" in shown[""]
    assert shown["limit"] == "20 failed deliveries of one message"


def test_names_from_the_bus_are_made_safe() -> None:
    info = queue(
        1,
        arguments={HOSTILE: HOSTILE},
        policy=HOSTILE,
        members=[HOSTILE],
        consumer_details=[consumer(HOSTILE, HOSTILE)],
    )
    info.name = info.vhost = info.type = info.state = HOSTILE
    binding = BindingInfo(
        source=HOSTILE,
        vhost="/",
        destination="q",
        destination_type="queue",
        routing_key=HOSTILE,
        arguments={HOSTILE: HOSTILE},
    )
    detail = QueueDetail(
        bindings=[binding],
        dead_letters_to=[HOSTILE],
        dead_letters_from=[HOSTILE],
        dead_letter_exchange=HOSTILE,
        dead_letter_routing_key=HOSTILE,
        holders=[Holder(channel=HOSTILE, user=HOSTILE, unacked=1, consumers=[HOSTILE], idle_since=HOSTILE)],
    )
    text = "\n".join(line.text for line in view.lines(info, detail, 600))
    assert SHOWN in text
    assert not {"\x1b", "\u202e"} & set(text)
