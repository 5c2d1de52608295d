"""A beat that fails in part: what came is shown, and what did not is said to be missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_at_socket import Passed, answering, reverse_proxy
from consoles import on_loop, opened
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher, parts, poller
from busctl_lib.errors import ApiError, ApiUnreachable, GuardRefused
from busctl_lib.management import ManagementClient, infos_cluster
from busctl_lib.poller import Poller, Snapshot
from busctl_lib.pytest_plugin import TestBroker

NODES, OVERVIEW = "/api/nodes", "/api/overview"
FAULT = (500, b'{"error":"bad_request","reason":"function_clause"}')


class Gate:
    """Stands in the way of some questions: it refuses them, or does not answer."""

    def __init__(self) -> None:
        self.closed: tuple[str, ...] = ()
        """Questions with one of these in them are refused."""
        self.jammed: tuple[str, ...] = ()
        self.free = threading.Event()

    def __call__(self, question: str, status: int) -> tuple[int, bytes] | None:
        if any(part in question for part in self.jammed):
            self.free.wait(30)
        return FAULT if any(part in question for part in self.closed) else None


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.free.set()


@pytest.fixture
def proxy(vhost: Any, gate: Gate) -> Iterator[Passed]:
    with reverse_proxy(vhost.api_url, instead=gate) as proxy:
        yield proxy


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


class Watched:
    """A poller and all its snapshots."""

    def __init__(self, url: str, vhost: str) -> None:
        self.snapshots: list[Snapshot] = []
        self.client = ManagementClient(url, timeout_s=(1, 1.5))
        self.poller = Poller(self.client, self.snapshots.append, vhost=vhost, interval_s=0.5)

    @property
    def last(self) -> Snapshot:
        return self.snapshots[-1]

    def until(self, holds: Callable[[Snapshot], object], what: str) -> Snapshot:
        """The first snapshot from now on that is so."""
        begin = len(self.snapshots)
        return wait_until(
            lambda: next((each for each in self.snapshots[begin:] if holds(each)), None), timeout=30, what=what
        )


@pytest.fixture
def watched(vhost: Any, proxy: Passed) -> Iterator[Watched]:
    watched = Watched(proxy.url, vhost.name)
    yield watched
    watched.poller.stop()
    watched.client.close()


def whole(snapshot: Snapshot) -> bool:
    return snapshot.error is None and not snapshot.missing and snapshot.listed_at is not None


@pytest.mark.parametrize("way", ["closed", "jammed"])
def test_nodes_that_do_not_come_leave_the_queues_new(
    vhost: Any, broker: MessageBroker, gate: Gate, watched: Watched, way: str
) -> None:
    watched.poller.start()
    before = watched.until(whole, "a first beat")
    setattr(gate, way, (NODES,))
    broker.declare_queue("fresh")
    during = watched.until(lambda each: each.missing and (vhost.name, "fresh") in each.queues, "the new queue")
    assert list(during.missing) == ["nodes"]
    assert isinstance(during.missing["nodes"], ApiUnreachable if way == "jammed" else ApiError)
    assert (during.error, during.nodes) == (None, before.nodes)
    assert (during.taken_at or 0) > (before.taken_at or 0)
    gate.jammed = gate.closed = ()
    gate.free.set()
    watched.poller.refresh()
    watched.until(whole, "all of it again")


def test_a_list_that_is_refused_leaves_what_was_known_with_its_age(
    vhost: Any, broker: MessageBroker, gate: Gate, watched: Watched
) -> None:
    broker.declare_queue("orders")
    watched.poller.start()
    before = watched.until(lambda each: whole(each) and each.queues, "a first beat")
    gate.closed = (f"/api/queues/{vhost.name}?",)
    broker.declare_queue("fresh")
    during = watched.until(lambda each: each.missing, "a part missing")
    later = watched.until(lambda each: each.missing, "another beat")
    for each in (during, later):
        assert list(each.missing) == ["queues"]
        assert each.error is None
        assert each.queues.keys() == before.queues.keys()
        assert each.listed_at == before.listed_at or each.listed_at is not None
    assert later.listed_at == during.listed_at
    assert (later.taken_at or 0) > (during.taken_at or 0)


def test_a_list_that_never_came_is_not_an_empty_one(vhost: Any, gate: Gate, watched: Watched) -> None:
    gate.closed = (f"/api/queues/{vhost.name}?",)
    watched.poller.start()
    first = watched.until(lambda each: each, "a first beat")
    assert (first.error, first.listed_at, dict(first.queues)) == (None, None, {})
    assert first.overview is not None
    assert list(first.missing) == ["queues"]


@pytest.mark.parametrize("way", ["closed", "jammed"])
def test_one_queue_that_is_not_told_of_leaves_the_others_their_rates(
    vhost: Any, broker: MessageBroker, gate: Gate, watched: Watched, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(infos_cluster, "LIST_WITH_RATES_MAX", 0)
    monkeypatch.setattr(poller, "SAMPLE_EVERY_S", 0.5)
    names = ("a", "b", "c")
    for name in names:
        broker.declare_queue(name)
        MessagePublisher(broker).publish(name, {"n": 1})
    setattr(gate, way, (f"/api/queues/{vhost.name}/a?",))
    watched.poller.show_queues([(vhost.name, name) for name in names])
    watched.poller.start()
    keys = {(vhost.name, name) for name in ("b", "c")}
    seen = watched.until(
        lambda each: all(key in each.queues and each.queues[key].memory for key in keys), "figures of the others"
    )
    assert list(seen.missing) == ["rates"]
    assert seen.queues[vhost.name, "a"].memory is None
    if way == "jammed":
        pause_s = (seen.next_at or 0) - (seen.taken_at or 0)
        assert pause_s < parts.SHARE * 1.5, "waiting in vain does not slow the beat"
    gate.jammed = gate.closed = ()
    gate.free.set()
    watched.poller.refresh()
    watched.until(lambda each: whole(each) and each.queues[vhost.name, "a"].memory, "all of it again")


def test_a_beat_waits_in_vain_for_one_queue_alone(
    vhost: Any, broker: MessageBroker, gate: Gate, proxy: Passed, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infos_cluster, "LIST_WITH_RATES_MAX", 0)
    monkeypatch.setattr(poller, "SAMPLE_EVERY_S", 0.5)
    names = ("a", "b", "c")
    for name in names:
        broker.declare_queue(name)
    gate.jammed = tuple(f"/api/queues/{vhost.name}/{name}?" for name in ("a", "b"))
    watched.poller.show_queues([(vhost.name, name) for name in names])
    watched.poller.start()
    watched.until(lambda each: each.missing, "a part missing")
    assert len([line for line in proxy if f"/{vhost.name}/" in line]) == 1
    watched.until(lambda each: each.queues[vhost.name, "c"].memory, "who comes after those that hang")


def test_details_that_do_not_come_stay_as_they_were(
    vhost: Any, broker: MessageBroker, gate: Gate, watched: Watched
) -> None:
    broker.declare_queue("orders")
    key = (vhost.name, "orders")
    watched.poller.watch_queue(*key)
    watched.poller.start()
    before = watched.until(lambda each: key in each.details, "the details")
    gate.closed = (f"/api/queues/{vhost.name}/orders/bindings",)
    during = watched.until(lambda each: each.missing, "a part missing")
    assert list(during.missing) == ["details"]
    assert during.bindings[key] == before.bindings[key]
    assert key in during.details
    broker.delete_queue("orders")
    gate.closed = ()
    watched.until(lambda each: whole(each) and key not in each.details, "that it is gone")


def test_an_api_that_answers_nothing_is_away_after_two_questions(gate: Gate, proxy: Passed, watched: Watched) -> None:
    watched.poller.start()
    watched.until(whole, "a first beat")
    gate.jammed = ("/api/",)
    proxy.clear()
    lost = watched.until(lambda each: each.error, "that it is away")
    assert isinstance(lost.error, ApiUnreachable)
    assert dict(lost.missing) == {}
    assert len(proxy) <= 4, "the end of a beat, and two more"


def test_who_is_asked_too_often_is_left_alone_as_long_as_it_wants(vhost: Any) -> None:
    with answering(b"", "429 Too Many Requests", Retry_After="40") as url:
        watched = Watched(url, vhost.name)
        watched.poller.start()
        lost = watched.until(lambda each: each.error, "the error")
        watched.poller.stop()
    assert (lost.next_at or 0) - time.monotonic() > 30


def test_a_proxy_that_changes_names_is_an_error_and_no_list(vhost: Any, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    with reverse_proxy(vhost.api_url, lambda path: path.replace("%2F", "")) as proxy:
        watched = Watched(proxy.url, "/")
        watched.poller.start()
        lost = watched.until(lambda each: each.error, "the error")
        watched.poller.stop()
    assert isinstance(lost.error, GuardRefused)
    assert "proxy_pass" in str(lost.error.hint)
    assert dict(lost.queues) == {}


@on_loop
async def test_the_console_says_what_is_missing_and_why(
    vhost: Any, broker: MessageBroker, gate: Gate, proxy: Passed
) -> None:
    broker.declare_queue("orders")
    gate.closed = (f"/api/queues/{vhost.name}?",)
    async with opened(TestBroker(vhost.amqp_url, proxy.url), (140, 30)) as console:
        await console.shows("● local", "no news of queues", "function_clause", "in what is known", "not known")
        await console.command("queues")
        await console.shows("nothing is known yet", "function_clause")
        assert "No queues here yet" not in console.text()
        gate.closed = ()
        assert "no news" not in await console.shows("orders")
        gate.closed = (f"/api/queues/{vhost.name}?",)
        await console.shows("no news of queues", "orders")
        place = console.app.screen.query_one("#place")
        await console.until(lambda: place.has_class("-stale"), "greyed")
        await console.command("overview")
        await console.shows("news again, of queues", "no news of queues: ")
