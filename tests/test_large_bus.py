"""What a large bus is asked for, on a small one: counts from the Prometheus listener, few lists, single queues."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from api_at_socket import answering
from waiting import wait_until

from busctl.cli import main
from busctl_lib import MessageBroker, MessagePublisher, poller
from busctl_lib.management import ManagementClient, OverviewInfo, QueueInfo, infos_cluster, queue_reading
from busctl_lib.management.infos import Details, MessageStats
from busctl_lib.management.infos_cluster import Listener
from busctl_lib.management.metrics import Listener as Source
from busctl_lib.management.metrics import fill_counts, listener_of, read_counts
from busctl_lib.management.roll import Roll
from busctl_lib.poller import Poller, Snapshot
from busctl_lib.turns import Turns

ODD = 'q"\\\t{}é'


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@pytest.fixture
def api(vhost: Any) -> Iterator[ManagementClient]:
    with ManagementClient(vhost.api_url) as client:
        yield client


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any bus for a large one."""
    monkeypatch.setattr(infos_cluster, "LIST_WITH_RATES_MAX", 0)


def listening(*listeners: tuple[str, str]) -> OverviewInfo:
    found = [Listener(node=node, protocol=protocol, port=15692) for node, protocol in listeners]
    return OverviewInfo(node="rabbit@a", cluster_name="c", listeners=found)


def test_all_queues_are_counted_by_the_prometheus_listener(
    vhost: Any, api: ManagementClient, broker: MessageBroker
) -> None:
    for name in ("orders", ODD):
        broker.declare_queue(name)
        broker.subscribe(name, lambda delivery: None)
    broker.declare_queue("full")
    MessagePublisher(broker).publish("full", {"n": 1})

    def counted() -> dict[str, tuple[int | None, int | None]]:
        found = api.queues_counted(vhost.name, api.overview())
        assert {info.state for info in found} == {"running"}
        return {info.name: (info.messages_ready, info.consumers) for info in found}

    wait_until(lambda: counted() == {"orders": (0, 1), ODD: (0, 1), "full": (1, 0)}, timeout=30)


def test_queues_are_named_once_and_those_that_come_and_go_are_told_by_the_counts(
    vhost: Any, api: ManagementClient, broker: MessageBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str | None] = []
    name_all = api.queues_known
    monkeypatch.setattr(api, "queues_known", lambda vhost: [named.append(vhost), name_all(vhost)][1])
    roll = Roll(api)

    def called() -> dict[str, tuple[str | None, int | None]]:
        return {info.name: (info.type, info.messages) for info in roll.call(vhost.name, api.overview())}

    def counted(*names: str) -> bool:
        text = api._http.get_open(listener_of(api.overview(), api.url).url)  # type: ignore[union-attr]
        return {name for name in names if f'vhost="{vhost.name}",queue="{name}"'.encode() in text} == set(names)

    broker.declare_queue("stays")
    broker.declare_queue("goes")
    wait_until(lambda: counted("stays", "goes"), timeout=30)
    assert called() == {"stays": ("classic", 0), "goes": ("classic", 0)}
    assert called() == {"stays": ("classic", 0), "goes": ("classic", 0)}
    broker.delete_queue("goes")
    broker.declare_queue("comes", arguments={"x-queue-type": "quorum"})
    MessagePublisher(broker).publish("stays", {"n": 1})
    wait_until(lambda: called() == {"stays": ("classic", 1), "comes": ("quorum", 0)}, timeout=30)
    assert named == [vhost.name], "who came was asked for, who went is left out"
    broker.declare_queue(ODD)
    wait_until(lambda: called().keys() == {"stays", "comes", ODD}, timeout=30)
    assert named == [vhost.name] * 2, "a name that reads two ways takes a list"
    broker.delete_queue(ODD)
    wait_until(lambda: called().keys() == {"stays", "comes"}, timeout=30)
    roll.forget()
    called()
    assert named == [vhost.name] * 4
    assert called().keys() == {"stays", "comes"}


@pytest.mark.parametrize("costs", [0, 1_000_000], ids=["listed by the API", "counted by the listener"])
def test_consumers_are_counted_in_the_cheaper_way(
    vhost: Any, api: ManagementClient, broker: MessageBroker, monkeypatch: pytest.MonkeyPatch, costs: int
) -> None:
    monkeypatch.setattr(queue_reading, "_CONSUMER_COSTS", costs)
    for name in ("two", "none"):
        broker.declare_queue(name)
    for _ in range(2):
        broker.subscribe("two", lambda delivery: None)

    def counted() -> dict[str, int | None]:
        counts = api.queue_counts(api.overview()) or {}
        infos = [QueueInfo(name=name, vhost=vhost.name) for name in ("two", "none")]
        fill_counts(infos, counts)
        return {info.name: info.consumers for info in infos}

    wait_until(lambda: counted() == {"two": 2, "none": 0}, timeout=30)


def test_the_members_of_quorum_queues_are_known_on_a_large_bus(
    vhost: Any, api: ManagementClient, broker: MessageBroker
) -> None:
    broker.declare_queue("safe", arguments={"x-queue-type": "quorum"})
    overview = api.overview()
    [info] = api.queues_counted(vhost.name, overview)
    assert info.members == info.online == [overview.node]


@pytest.mark.usefixtures("large")
def test_the_overview_of_a_large_bus_knows_consumers_and_says_what_it_does_not_know(
    vhost: Any, broker: MessageBroker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    broker.declare_queue("full")
    MessagePublisher(broker).publish("full", {"n": 1})

    def shown() -> str:
        capfd.readouterr()
        assert main.run(["overview"]) == 0
        return capfd.readouterr().out

    wait_until(lambda: "full  no consumer, 1 ready" in shown(), timeout=30)
    assert "whether queues grow is not looked at" in shown()


def test_a_listener_that_knows_some_of_the_queues_only_is_not_asked() -> None:
    one = listening(("rabbit@a", "http"), ("rabbit@a", "http/prometheus"))
    assert listener_of(one, "https://[::1]:15671/x") == Source(
        "http://[::1]:15692/metrics/detailed?family=queue_coarse_metrics", "rabbit@a", "c"
    )
    assert listener_of(listening(("rabbit@a", "http/prometheus"), ("rabbit@b", "amqp")), "http://h") is None
    assert listener_of(listening(("rabbit@a", "http")), "http://h") is None
    assert listener_of(OverviewInfo(), "http://h") is None


def test_another_broker_behind_that_port_is_not_believed() -> None:
    text = (
        b'\nrabbitmq_detailed_queue_messages{vhost="/",queue="q"} 7\n'
        b'rabbitmq_identity_info{rabbitmq_node="rabbit@b",rabbitmq_cluster="c",rabbitmq_cluster_permanent_id="x"} 1\n'
    )
    assert read_counts(text, Source("", "rabbit@a", "c")) is None
    info = QueueInfo(name="q", vhost="/")
    fill_counts([info], read_counts(text, Source("", "rabbit@b", "c")) or {})
    assert info.messages == 7


def test_our_login_is_not_told_to_another_port(vhost: Any, api: ManagementClient) -> None:
    heard: list[bytes] = []
    with answering(b"rabbitmq_identity_info", heard=heard) as url:
        api._http.get_open(url)
    assert heard
    assert b"uthorization" not in b"".join(heard)


@pytest.mark.usefixtures("large")
def test_the_list_of_a_large_bus_has_consumers_and_asks_for_more_when_it_is_looked_at(
    vhost: Any, broker: MessageBroker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    broker.declare_queue("orders")
    broker.subscribe("orders", lambda delivery: None)

    def listed(*arguments: str) -> list[dict[str, Any]]:
        capfd.readouterr()
        assert main.run(["queues", "-o", "json", *arguments]) == 0
        return list(json.loads(capfd.readouterr().out))

    wait_until(lambda: listed()[0].get("consumers") == 1, timeout=30)
    assert "memory" not in listed()[0]
    wait_until(lambda: listed("--where", ".memory > 0"), timeout=30)
    assert "memory" in listed("--sort", "memory")[0]


def test_what_rests_is_asked_about_seldomer_than_what_moves() -> None:
    turns = Turns()

    def told(name: str, messages: int, rate: float = 0.0) -> QueueInfo:
        stats = MessageStats(publish_details=Details(rate=rate))
        info = QueueInfo(name=name, vhost="/", messages_ready=messages, message_stats=stats)
        turns.told(info)
        return info

    def due(*infos: QueueInfo) -> set[str]:
        queues = {info.key: info for info in infos}
        return {name for _, name in turns.due(queues, [("/", name) for name in ("busy", "idle", "passing", "new")])}

    first = [told("busy", 1), told("idle", 1), told("passing", 1, rate=5.0)]
    assert due(*first) == {"busy", "idle", "passing", "new"}, "nothing is known of how they move"
    again = [told("busy", 2), told("idle", 1), told("passing", 1, rate=5.0)]
    assert due(*again) == {"busy", "passing", "new"}
    again[1].messages_ready = 7  # what a list of all tells
    assert "idle" in due(*again)
    turns.forget()
    assert due(*again) == {"busy", "idle", "passing", "new"}


@pytest.mark.usefixtures("large")
def test_a_beat_on_a_large_bus_lists_seldom_and_shows_what_is_on_the_screen(
    vhost: Any, broker: MessageBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "SAMPLE_EVERY_S", 0.5)
    monkeypatch.setattr(poller, "LIST_EVERY_S", 3600.0)
    for name in ("seen", "unseen", "kept"):
        broker.declare_queue(name)
    snapshots: list[Snapshot] = []
    running = Poller(ManagementClient(vhost.api_url), snapshots.append, vhost=vhost.name, interval_s=0.5)
    running.show_queues([(vhost.name, "seen")])
    running.start()
    try:
        first = wait_until(lambda: snapshots, timeout=30)[0]
        assert first.listed_at is not None
        assert first.queues.keys() == {(vhost.name, name) for name in ("seen", "unseen", "kept")}
        broker.delete_queue("seen")
        broker.delete_queue("unseen")
        wait_until(lambda: (vhost.name, "seen") not in snapshots[-1].queues, timeout=30)
        assert (vhost.name, "unseen") in snapshots[-1].queues, "listed again only when that is due"
        assert snapshots[-1].listed_at == first.listed_at
        assert (snapshots[-1].taken_at or 0) > (first.taken_at or 0)
        running.refresh()
        wait_until(lambda: snapshots[-1].queues.keys() == {(vhost.name, "kept")}, timeout=30)
    finally:
        running.stop()
