"""The poller on a real broker behind a road that can be cut, jammed and made long."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
from api_at_socket import Road, refusing_port
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher, poller
from busctl_lib.errors import ApiUnreachable, VhostNotFound
from busctl_lib.management import History, ManagementClient, infos_cluster, rate_of
from busctl_lib.poller import Poller, Snapshot


class Seen:
    """All snapshots so far."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def __call__(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    @property
    def last(self) -> Snapshot:
        return wait_until(lambda: self.snapshots, what="a first snapshot")[-1]

    def good(self, timeout: float = 30) -> Snapshot:
        """The first snapshot without an error from now on."""
        begin = len(self.snapshots)
        return wait_until(lambda: next((s for s in self.snapshots[begin:] if s.error is None), None), timeout)

    def failed(self, timeout: float = 30) -> Snapshot:
        begin = len(self.snapshots)
        return wait_until(lambda: next((s for s in self.snapshots[begin:] if s.error is not None), None), timeout)


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@pytest.fixture
def road(vhost: Any) -> Iterator[Road]:
    road = Road(vhost.api_url)
    yield road
    road.cut()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def polling(vhost: Any, road: Road, seen: Seen) -> Iterator[Poller]:
    client = ManagementClient(road.url, timeout_s=(1, 5))
    running = Poller(client, seen, vhost=vhost.name, interval_s=0.5)
    yield running
    running.stop()
    client.close()


@pytest.fixture(scope="module")
def warm(node: Any) -> Iterator[Any]:
    """A vhost whose two queues, `seen` and `unseen`, have statistics already: the broker takes 5 s for them."""
    name = f"test-warm-{uuid.uuid4().hex[:8]}"
    requests.put(f"{node.api_url}/api/vhosts/{name}", timeout=10).raise_for_status()
    user = unquote(urlsplit(node.api_url).username or "guest")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    requests.put(f"{node.api_url}/api/permissions/{name}/{user}", json=everything, timeout=10).raise_for_status()
    warm = SimpleNamespace(name=name, api_url=node.api_url)
    with MessageBroker(url=urlsplit(node.amqp_url)._replace(path=f"/{name}").geturl()) as broker:
        for queue in ("seen", "unseen"):
            broker.declare_queue(queue)
            MessagePublisher(broker).publish(queue, {"n": 1})
        with ManagementClient(node.api_url) as api:
            seen = [(name, "seen")]
            wait_until(
                lambda: rate_of(api.queues_named(seen)[seen[0]].message_stats, "publish") is not None, timeout=15
            )
        wait_until(lambda: has_history(warm, "seen"), timeout=60)
        yield warm
    requests.delete(f"{node.api_url}/api/vhosts/{name}", timeout=10)


@pytest.fixture
def warm_polling(warm: Any, seen: Seen) -> Iterator[Poller]:
    client = ManagementClient(warm.api_url)
    running = Poller(client, seen, vhost=warm.name, interval_s=0.5)
    yield running
    running.stop()
    client.close()


def has_history(vhost: Any, name: str) -> bool:
    with ManagementClient(vhost.api_url) as api:
        info = api.queue(vhost.name, name, History(60, 5))
        return info.consumers is not None and bool(info.messages_details and info.messages_details.samples)


def test_the_first_snapshot_is_complete_with_history_from_the_broker(
    warm: Any, warm_polling: Poller, seen: Seen
) -> None:
    warm_polling.start()
    first = seen.last
    key = (warm.name, "seen")
    assert first.sequence == 1
    assert first.complete
    assert first.version == (first.overview.rabbitmq_version if first.overview else "")
    assert first.nodes
    assert first.queues[key].consumers == 0
    depths = first.history[key]
    assert len(depths) > 20
    assert depths == tuple(sorted(depths))
    assert time.time() - 620 < depths[0].at <= depths[-1].at <= time.time()


def test_depth_is_followed_and_queues_come_and_go(
    vhost: Any, broker: MessageBroker, polling: Poller, seen: Seen
) -> None:
    broker.declare_queue("orders")
    polling.start()
    key = (vhost.name, "orders")
    wait_until(lambda: key in seen.last.queues)
    MessagePublisher(broker).publish("orders", {"n": 1})
    wait_until(lambda: seen.last.history[key][-1].messages == 1, timeout=60)
    broker.delete_queue("orders")
    wait_until(lambda: key not in seen.last.queues and key not in seen.last.history)


def test_a_broken_api_is_a_state_and_heals_by_itself(vhost: Any, road: Road, polling: Poller, seen: Seen) -> None:
    polling.start()
    before = seen.good()
    road.cut()
    during = seen.failed()
    assert isinstance(during.error, ApiUnreachable)
    assert during.overview is not None
    assert during.queues == before.queues
    assert during.taken_at is not None
    assert during.next_at is not None
    later = seen.failed()
    assert later.taken_at == during.taken_at
    assert (later.age_s or 0) > 0.4
    road.mend()
    assert seen.good(timeout=60).error is None


def test_an_api_that_never_answered_leaves_nothing_known(seen: Seen) -> None:
    running = Poller(ManagementClient(f"http://127.0.0.1:{refusing_port()}"), seen)
    running.start()
    first = seen.last
    running.stop()
    assert isinstance(first.error, ApiUnreachable)
    assert (first.overview, first.taken_at, first.age_s, first.version) == (None, None, None, None)


def test_an_unknown_vhost_is_an_error_that_is_shown(road: Road, seen: Seen) -> None:
    running = Poller(ManagementClient(road.url), seen, vhost="nope")
    running.start()
    assert isinstance(seen.failed().error, VhostNotFound)
    running.stop()


def test_stop_does_not_wait_for_an_answer_that_does_not_come(road: Road, polling: Poller, seen: Seen) -> None:
    polling.start()
    seen.good()
    road.jammed = True
    wait_until(lambda: time.monotonic() > (seen.last.next_at or 0) + 0.1)  # a request is on the road now
    count = len(seen.snapshots)
    started = time.monotonic()
    polling.stop(timeout=0.3)
    assert time.monotonic() - started < 4  # a request may take 5
    road.cut()
    wait_until(lambda: "busctl-poller" not in [thread.name for thread in threading.enumerate()])
    assert len(seen.snapshots) == count


def test_a_slow_api_slows_the_beat(road: Road, polling: Poller, seen: Seen) -> None:
    road.delay_s = 0.1
    polling.start()
    slow = seen.good()
    assert slow.took_s is not None
    assert slow.took_s >= 0.3
    pause_s = (slow.next_at or 0) - (slow.taken_at or 0)
    assert pause_s >= poller.SHARE * slow.took_s * 0.95


def test_one_slow_answer_does_not_slow_the_beat(road: Road, polling: Poller, seen: Seen) -> None:
    polling.start()
    seen.good()
    road.delay_s = 0.3
    slow = wait_until(lambda: next((each for each in seen.snapshots if (each.took_s or 0) >= 0.9), None), timeout=60)
    road.delay_s = 0.0
    assert (slow.next_at or 0) - (slow.taken_at or 0) < poller.SHARE * 0.9 * 0.95


def test_a_refresh_comes_before_the_beat_but_not_without_measure(vhost: Any, road: Road, seen: Seen) -> None:
    running = Poller(ManagementClient(road.url), seen, vhost=vhost.name, interval_s=60)
    running.start()
    first = seen.last
    began = time.monotonic()
    for _ in range(50):
        running.refresh()
    second = wait_until(lambda: seen.snapshots[1:2])[0]
    running.stop()
    assert second.sequence == first.sequence + 1
    assert len(seen.snapshots) <= 2 + (time.monotonic() - began) / poller.MIN_INTERVAL_S


def test_a_watched_queue_comes_with_consumers_bindings_and_samples(
    vhost: Any, broker: MessageBroker, polling: Poller, seen: Seen
) -> None:
    broker.declare_queue("orders")
    broker.declare_exchange("trading", "topic")
    broker.bind_queue("orders", "trading", "order.#")
    broker.subscribe("orders", lambda delivery: None)
    polling.start()
    polling.watch_queue(vhost.name, "orders")
    key = (vhost.name, "orders")
    wait_until(lambda: key in seen.last.details and seen.last.details[key].consumer_details, timeout=60)
    assert ("trading", "order.#") in [(b.source, b.routing_key) for b in seen.last.bindings[key]]

    def samples() -> object:
        details = seen.last.details[key].messages_details
        return details is not None and details.samples

    wait_until(samples)

    broker.delete_queue("orders")
    wait_until(lambda: key not in seen.last.details)
    assert seen.last.error is None
    polling.unwatch_queue(vhost.name, "orders")


def test_in_a_large_bus_only_what_is_on_the_screen_gets_rates_and_history(
    warm: Any, warm_polling: Poller, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infos_cluster, "LIST_WITH_RATES_MAX", 0)
    warm_polling.start()
    first = seen.good()
    on_screen, off_screen = (warm.name, "seen"), (warm.name, "unseen")
    assert not first.complete
    assert {key: info.message_stats for key, info in first.queues.items()} == {on_screen: None, off_screen: None}
    assert not first.history

    warm_polling.show_queues([on_screen, (warm.name, "gone")])
    wait_until(lambda: on_screen in seen.last.history)
    last = seen.last
    assert last.queues[on_screen].consumers == 0
    assert rate_of(last.queues[on_screen].message_stats, "publish") is not None
    assert len(last.history[on_screen]) > 20
    assert last.queues[off_screen].message_stats is None
    assert off_screen not in last.history
    warm_polling.show_queues([off_screen])
    wait_until(lambda: off_screen in seen.last.history and on_screen not in seen.last.history)


def test_in_a_bus_of_middle_size_history_is_read_back_for_what_is_on_the_screen(
    warm: Any, warm_polling: Poller, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "LIST_WITH_HISTORY_MAX", 0)
    warm_polling.start()
    key = (warm.name, "seen")
    assert len(seen.good().history[key]) < 5
    warm_polling.show_queues([key])
    wait_until(lambda: len(seen.last.history[key]) > 20)
    assert seen.last.history[key] == tuple(sorted(seen.last.history[key]))


def test_a_listener_that_fails_does_not_stop_the_beat(vhost: Any, road: Road, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def faulty(snapshot: Snapshot) -> None:
        calls.append(snapshot.sequence)
        raise RuntimeError("a widget is gone")

    running = Poller(ManagementClient(road.url), faulty, vhost=vhost.name, interval_s=0.5)
    with caplog.at_level(logging.ERROR):
        running.start()
        wait_until(lambda: len(calls) >= 2)
        running.stop()
    assert "a widget is gone" in caplog.text


def test_what_comes_into_view_is_asked_for_at_once_and_alone(
    vhost: Any, broker: MessageBroker, road: Road, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infos_cluster, "LIST_WITH_RATES_MAX", 0)
    broker.declare_queue("orders")
    running = Poller(ManagementClient(road.url), seen, vhost=vhost.name, interval_s=60)
    running.start()
    first = seen.last
    key = (vhost.name, "orders")
    running.show_queues([key])
    wait_until(lambda: key in seen.last.history)
    running.watch_queue(*key)
    wait_until(lambda: key in seen.last.details)
    running.stop()
    assert seen.last.taken_at == first.taken_at, "no list was asked for again"
    assert seen.last.next_at == first.next_at
