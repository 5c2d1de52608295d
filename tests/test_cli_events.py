"""`busctl events`: from the event exchange where it is there, else from snapshots."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxy import Proxy
from victims import Victim
from waiting import wait_until

from busctl.cli import main
from busctl_lib import MessageBroker
from busctl_lib.events import (
    GAP,
    ExchangeFeed,
    MuteExchange,
    SnapshotFeed,
    exchange,
    exchange_vhost,
    masked,
    open_exchange,
    open_feed,
)
from busctl_lib.management import ManagementClient
from busctl_lib.pytest_plugin import TestBroker, own_vhost

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url, client_name="desk") as broker:
        yield broker


@pytest.fixture
def api(vhost: Any) -> Iterator[ManagementClient]:
    with ManagementClient(vhost.api_url) as api:
        yield api


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


@pytest.fixture
def needs_exchange(api: ManagementClient) -> None:
    if exchange_vhost(api) is None:
        pytest.skip("this broker has no event exchange")


def collect(feed: Any, vhost: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The events of a vhost (others may use the broker too) by what happened and to whom, once there is enough."""
    found: dict[str, Any] = {}

    def enough() -> bool:
        while (event := feed.next(0.1)) is not None:
            if event.vhost == vhost:
                found[f"{event.event} {event.name}"] = event
        assert until(found), sorted(found)
        return True

    wait_until(enough, 30)
    return found


def change(broker: MessageBroker, api: ManagementClient, vhost: str) -> None:
    broker.declare_queue("orders")
    broker.bind_queue("orders", "amq.topic", "a.#")
    api.put_policy(vhost, "limits", "^x", {"max-length": 1})


HAPPENED = {"queue.created orders", "binding.created amq.topic -> orders 'a.#'", "policy.set limits"}
UNDONE = {"queue.deleted orders", "policy.cleared limits"}


@pytest.mark.usefixtures("needs_exchange")
def test_following_ends_quietly_where_the_link_is_gone(api: ManagementClient, vhost: Any) -> None:
    with MessageBroker(url=vhost.at_vhost(exchange_vhost(api) or "/").amqp_url) as own:
        feed = ExchangeFeed(own, api)
        own.close()
        feed.close()


@pytest.mark.usefixtures("needs_exchange")
def test_the_event_exchange_tells_what_happened_to_what_and_by_whom(
    broker: MessageBroker, api: ManagementClient, vhost: Any
) -> None:
    with MessageBroker(url=vhost.at_vhost(exchange_vhost(api) or "/").amqp_url, read_only=True) as own:
        feed = ExchangeFeed(own, api)
        change(broker, api, vhost.name)
        broker.delete_queue("orders")
        api.delete_policy(vhost.name, "limits")
        found = collect(feed, vhost.name, lambda events: {*HAPPENED, *UNDONE} <= events.keys())
        event = found["queue.created orders"]
        assert (event.vhost, event.user, event.via) == (vhost.name, vhost.username, "exchange")
        assert event.details["durable"] is True
        assert not any("busctl.tap." in name for name in found), "our own queue is nobody's business"
        with own_vhost(vhost) as another:  # a vhost's own coming and going is of that vhost
            collect(feed, another.name, lambda events: f"vhost.created {another.name}" in events)
        with MessageBroker(url=vhost.amqp_url) as guest:
            guest.declare_queue(exclusive=True)
        # The broker does not say the vhost of a connection that ended: it is remembered.
        collect(feed, vhost.name, lambda events: any(name.startswith("connection.closed") for name in events))
        feed.close()


MUTE = "rabbit_event ! {event_exchange, removed_last_binding}."
"""What RabbitMQ 4.x believes when its first two listeners began at the same moment."""


@pytest.fixture
def shared(victim: Victim) -> TestBroker:
    """A broker whose event exchange may be told that nobody listens."""
    return TestBroker(victim.amqp_url, victim.api_url).at_vhost("/")


def test_an_exchange_that_tells_nobody_anything_is_not_taken_for_a_quiet_one(
    victim: Victim, shared: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_PROOF_S", 0.5)

    def connect(vhost: str) -> MessageBroker:
        return MessageBroker(url=shared.at_vhost(vhost).amqp_url)

    with ManagementClient(shared.api_url) as api:
        with connect("/") as own:
            first = ExchangeFeed(own, api)
            assert first.hears(30)
            victim.ctl("eval", MUTE)
            with pytest.raises(MuteExchange, match="until all who listen have ended"), open_exchange(api, connect):
                pass
            with open_feed(api, connect) as source:
                assert "tells nobody anything" in source.told[0]
                assert source.broker is None
            first.close()
        with open_exchange(api, connect) as (feed, _):
            assert feed.hears()


def test_a_feed_that_hears_nothing_after_a_reconnect_says_so(
    victim: Victim, shared: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_PROOF_S", 0.5)
    with (
        MessageBroker(url=shared.amqp_url) as other,
        Proxy(shared.host, shared.port) as proxy,
        MessageBroker(url=proxy.url(shared.amqp_url)) as own,
    ):
        listening, feed = ExchangeFeed(other), ExchangeFeed(own)
        assert listening.hears(30)
        assert feed.hears(30)
        victim.ctl("eval", MUTE)
        proxy.cut()
        told = wait_until(lambda: [event for event in gaps(feed) if "tells nobody anything" in event], 30)
        assert told
        assert not feed.hears()
        listening.close()
        feed.close()


def gaps(feed: ExchangeFeed) -> Iterator[str]:
    while (event := feed.next(0.1)) is not None:
        if event.event == GAP:
            yield event.details["reason"]


def test_snapshots_tell_what_came_and_went(broker: MessageBroker, api: ManagementClient, vhost: Any) -> None:
    feed = SnapshotFeed(api, vhost.name, every_s=0.1)
    assert feed.unseen == []
    change(broker, api, vhost.name)
    found = collect(feed, vhost.name, lambda events: events.keys() >= HAPPENED)
    assert found["policy.set limits"].details["definition"] == {"max-length": 1}
    broker.delete_queue("orders")
    api.put_policy(vhost.name, "limits", "^x", {"max-length": 2})
    found = collect(feed, vhost.name, lambda events: {"queue.deleted orders", "policy.set limits"} <= events.keys())
    api.delete_policy(vhost.name, "limits")
    collect(feed, vhost.name, lambda events: "policy.cleared limits" in events)


@pytest.mark.parametrize("via", ["exchange", "snapshots"])
def test_the_command_follows_until_it_has_enough(
    run: Run, broker: MessageBroker, api: ManagementClient, vhost: Any, via: str
) -> None:
    if via == "exchange" and exchange_vhost(api) is None:
        pytest.skip("this broker has no event exchange")
    stop = threading.Event()

    def again_and_again() -> None:
        number = 0
        while not stop.wait(0.05):
            broker.declare_queue(f"q{number}")
            number += 1

    doing = threading.Thread(target=again_and_again)
    doing.start()
    try:
        code, out, err = run("events", "queue.created", "-n", "2", "--for", "30s", "-o", "jsonl", "--via", via)
    finally:
        stop.set()
        doing.join()
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, len(found)) == (0, 2), err
    assert {(each["event"], each["vhost"], each["via"]) for each in found} == {("queue.created", vhost.name, via)}
    assert ("amq.rabbitmq.event" if via == "exchange" else "differences between snapshots") in err


def test_without_the_exchange_it_says_why_and_how_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("busctl_lib.events.exchange.exchange_vhost", lambda api: None)
    code, _, err = run("events", "--via", "exchange", "--for", "1s")
    assert (code, "--via snapshots" in err) == (9, True)
    code, out, err = run("events", "--for", "100ms")
    assert (code, out) == (0, "")
    assert "is off, or not for this user" in err
    assert "differences between snapshots" in err


def test_time_that_ends_too_early_is_exit_code_5(run: Run) -> None:
    code, _, err = run("events", "no.such.event", "-n", "1", "--for", "100ms")
    assert (code, "0 of 1 events" in err) == (5, True)


def test_a_password_in_an_events_address_is_blotted_out() -> None:
    value = {"src-uri": ["amqp://ann:s3cret@h/v"], "more": {"uri": "x amqps://bob:p@h"}, "count": 3, "on": True}
    shown = masked(value)
    assert shown == {"src-uri": ["amqp://ann:***@h/v"], "more": {"uri": "x amqps://bob:***@h"}, "count": 3, "on": True}


@pytest.mark.parametrize("text", ["'a' * 300_000", "'a://b:' * 50_000"], ids=["words", "addresses"])
def test_a_long_property_of_a_client_stops_no_events(text: str) -> None:
    code = f"from busctl_lib.events import masked\nprint(masked({text} + ' amqp://u:secret@h')[-12:])"
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True)
    assert ended.stdout.strip().endswith("u:***@h")
