"""A tap ends, or plans anew, when what it taps is gone or another; nothing is shown under a name that it never had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from tap_bus import Bus, note, seen
from waiting import wait_until

from busctl_lib.errors import GuardRefused, NotFound, VhostNotFound
from busctl_lib.management import ManagementClient
from busctl_lib.pytest_plugin import TestBroker, own_vhost
from busctl_lib.rights import Rights
from busctl_lib.taps import Note, Tap, plan_tap
from busctl_lib.taps import tap as taps_tap
from busctl_lib.taps.tap import Gone

NEVER_S = 600.0
"""A look that does not come by itself within a test."""


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    """Queue `q`, bound to the exchange `feed` by all keys."""
    bus = Bus(vhost, tmp_path / "leases")
    bus.broker.declare_exchange("feed", "topic")
    declare(bus)
    yield bus
    bus.close()


def declare(bus: Bus, kind: str = "classic", **arguments: object) -> None:
    bus.broker.declare_queue("q", arguments={"x-queue-type": kind, **arguments})
    bus.broker.bind_queue("q", "feed", "#")


def publish(bus: Bus, number: int, key: str = "k", exchange: str = "feed") -> None:
    bus.publisher.publish("", {"n": number}, exchange=exchange, routing_key=key, mandatory=False)


def look(tap: Tap) -> None:
    """Let the watch look now."""
    tap._wake.set()


def look_behind_the_reader(tap: Tap, waiting: int) -> None:
    """Look while nobody reads, once so many messages have come; wait until there is something to say."""
    wait_until(lambda: len(tap.buffer.rest()) == waiting)
    look(tap)
    wait_until(lambda: any(isinstance(each, Note) for each in tap.buffer._items))


def be_sure(tap: Tap) -> None:
    """Look, and wait until all is known to be as planned."""
    now = time.time()
    look(tap)
    wait_until(lambda: tap._sure_until >= now)


def numbers(tap: Tap, count: int) -> list[bytes]:
    return [delivery.body for delivery in seen(tap, count)]


def said_until_the_end(tap: Tap) -> str:
    """All notes to the error that ends a tap."""
    with pytest.raises((NotFound, GuardRefused)) as ended:  # noqa: PT012 - what is said before it is what matters
        said = []
        for event in tap.follow(for_s=20):
            said.append(getattr(event, "text", f"shown {getattr(event, 'body', b'')!r}"))
    return "\n".join([*said, str(ended.value)])


# --- copies


def test_a_copy_ends_with_its_queue_and_tells_what_never_reached_it(bus: Bus) -> None:
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        publish(bus, 1)
        assert len(numbers(tap, 1)) == 1
        be_sure(tap)
        bus.broker.delete_queue("q")
        for number in (2, 3, 4):
            publish(bus, number)
        assert len(numbers(tap, 2)) == 2
        look_behind_the_reader(tap, 1)
        said = said_until_the_end(tap)
    assert "2 may never have reached q" in said
    assert "1 that came" in said
    assert "q was deleted" in said
    assert "shown b" not in said


def test_a_copy_ends_when_nothing_is_bound_any_more(bus: Bus) -> None:
    with bus.open(bus.plan("q")) as tap:
        bus.broker.unbind_queue("q", "feed", "#")
        said = said_until_the_end(tap)
    assert "no longer bound: feed '#'" in said
    assert "copy" in said
    assert bus.taps() == []


def test_what_came_by_a_binding_that_is_gone_is_not_shown(bus: Bus) -> None:
    bus.broker.declare_exchange("other", "fanout")
    bus.broker.bind_queue("q", "other")
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.unbind_queue("q", "other")
        publish(bus, 1, exchange="other")
        look_behind_the_reader(tap, 1)
        changed = note(tap, "changed").text
        assert "no longer bound: other" in changed
        assert "1 that came" in changed
        publish(bus, 2, exchange="other")
        publish(bus, 3)
        assert numbers(tap, 1) == [b'{"n":3}']


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        ("quorum", {}, "its type is quorum now, was classic"),
        ("classic", {"x-max-length": 7}, "its argument x-max-length is 7 now, was not set"),
    ],
)
def test_a_copy_goes_on_with_another_queue_of_that_name_and_says_so(
    bus: Bus, kind: str, arguments: dict[str, int], told: str
) -> None:
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_queue("q")
        declare(bus, kind, **arguments)
        look(tap)
        changed = note(tap, "changed").text
        assert "it is another queue now" in changed
        assert told in changed
        publish(bus, 1)
        assert numbers(tap, 1) == [b'{"n":1}']


def test_a_queue_that_was_made_anew_as_it_was_is_noticed_by_its_counters(bus: Bus) -> None:
    publish(bus, 1)
    wait_until(lambda: bus.plan("q").built_on.counted, what="statistics of the queue")
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_queue("q")
        publish(bus, 2)
        declare(bus)
        look_behind_the_reader(tap, 1)
        changed = note(tap, "changed").text
        assert "its counters began anew" in changed
        assert "1 that came" in changed
        publish(bus, 3)
        assert numbers(tap, 1) == [b'{"n":3}']


def test_a_copy_is_bound_again_to_an_exchange_that_was_made_anew(bus: Bus) -> None:
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_exchange("feed")
        bus.broker.declare_exchange("feed", "topic")
        bus.broker.bind_queue("q", "feed", "#")
        publish(bus, 1)
        look(tap)
        assert "feed was deleted and declared again" in note(tap, "gap").text
        publish(bus, 2)
        assert numbers(tap, 1) == [b'{"n":2}']


def test_a_copy_says_that_its_exchange_is_of_another_type(bus: Bus) -> None:
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_exchange("feed")
        bus.broker.declare_exchange("feed", "fanout")
        bus.broker.bind_queue("q", "feed", "#")
        look(tap)
        assert "exchange feed is fanout now, was topic" in note(tap, "changed").text
        publish(bus, 2, key="anything")
        assert numbers(tap, 1) == [b'{"n":2}']


def test_a_copy_ends_where_a_policy_makes_it_harmful(bus: Bus) -> None:
    """What has an alternate exchange would route to the copy what the alternate should get."""
    with bus.open(bus.plan("q")) as tap:
        publish(bus, 1)
        assert numbers(tap, 1) == [b'{"n":1}']
        bus.policy("ae", "^feed$", "exchanges", **{"alternate-exchange": "amq.fanout"})
        said = said_until_the_end(tap)
    assert "with the alternate exchange amq.fanout" in said
    assert "may never have reached" not in said, "the queue gets all the same"
    assert bus.taps() == []


def test_a_policy_of_the_queue_is_told(bus: Bus) -> None:
    with bus.open(bus.plan("q")) as tap:
        bus.policy("short", "^q$", "queues", **{"max-length": 5})
        assert "policy max-length is 5 now, was not set" in note(tap, "changed").text
        publish(bus, 1)
        assert numbers(tap, 1) == [b'{"n":1}']


def test_an_exchange_that_is_watched_ends_its_tap_when_it_is_deleted(bus: Bus) -> None:
    for via in ("copy", "firehose"):
        with bus.open(bus.plan(exchange="feed", key="k", via=via)) as tap:
            assert "exchange feed" in tap.plan.target
            bus.broker.delete_exchange("feed")
            assert "exchange feed, key k was deleted" in said_until_the_end(tap)
        bus.broker.declare_exchange("feed", "topic")
        bus.broker.bind_queue("q", "feed", "#")


def test_an_exchange_that_is_made_anew_is_narrowed_by_its_new_type(bus: Bus) -> None:
    with bus.open(bus.plan(exchange="feed", key="*", via="firehose"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_exchange("feed")
        bus.broker.declare_exchange("feed", "direct")
        look(tap)
        assert "exchange feed is direct now, was topic" in note(tap, "changed").text
        publish(bus, 1, key="k")
        publish(bus, 2, key="*")
        assert numbers(tap, 1) == [b'{"n":2}']


# --- the firehose


def test_a_firehose_ends_with_its_queue_and_leaves_tracing_off(bus: Bus) -> None:
    with bus.open(bus.plan("q", via="firehose")) as tap:
        publish(bus, 1)
        assert numbers(tap, 1) == [b'{"n":1}']
        bus.broker.delete_queue("q")
        assert "q was deleted" in said_until_the_end(tap)
    assert not bus.tracing()


def test_a_firehose_follows_its_queue_to_another_of_that_name(bus: Bus) -> None:
    with bus.open(bus.plan("q", via="firehose"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_queue("q")
        declare(bus, "quorum")
        bus.broker.unbind_queue("q", "feed", "#")
        look(tap)
        changed = note(tap, "changed").text
        assert "its type is quorum now" in changed
        assert "feed leads to it no longer" in changed
        bus.publisher.publish("q", {"n": 1})
        assert numbers(tap, 1) == [b'{"n":1}']
        assert [each.routing_key for each in tap._queue.bindings] == ["publish."]  # type: ignore[attr-defined]


# --- what can be known


def test_what_is_found_at_the_last_look_is_in_the_account(bus: Bus) -> None:
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_queue("q")
        publish(bus, 1)
        assert len(numbers(tap, 1)) == 1
    assert tap.account is not None
    assert "q was deleted" in tap.account
    assert "1 may never have reached q" in tap.account


def test_an_end_without_a_change_has_no_account(bus: Bus) -> None:
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        publish(bus, 1)
        assert len(numbers(tap, 1)) == 1
    assert tap.account is None


def test_without_the_api_the_broker_itself_says_that_a_queue_is_gone(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps_tap, "_UNSEEN_S", 0.5)
    with bus.open(bus.plan("q")) as tap:
        tap._management = ManagementClient("http://127.0.0.1:1", username="u", password="p", timeout_s=(0.2, 0.2))
        assert "whether q is still as it was cannot be seen" in note(tap, "changed").text
        bus.broker.delete_queue("q")
        with pytest.raises(Gone):
            seen(tap, 1)


def test_a_queue_that_both_doors_do_not_know_at_once_is_gone_at_once(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only after the patience for a broker that is going down or coming up."""
    monkeypatch.setattr(taps_tap, "_PATIENCE_S", NEVER_S)
    with bus.open(bus.plan("q"), watch_s=NEVER_S) as tap:
        be_sure(tap)
        bus.broker.delete_queue("q")
        look(tap)
        with pytest.raises(Gone):
            seen(tap, 1)


def test_no_way_is_planned_that_takes_a_right_the_user_does_not_have(bus: Bus) -> None:
    theirs = bus.user("monitoring")
    permission = f"{bus.api}/permissions/{bus.name}/{theirs.username}"
    requests.put(permission, json={"configure": "^$", "write": ".*", "read": ".*"}, timeout=10).raise_for_status()
    with bus.as_user(theirs) as broker:
        rights = Rights(bus.name, management=theirs, broker=broker)
        plan = plan_tap(theirs, bus.name, "q", rights=rights)
        assert plan.way == "hold"
        assert "may not configure queue busctl.tap.*" in plan.reason
        with pytest.raises(GuardRefused, match="may not configure"):
            plan_tap(theirs, bus.name, "q", via="copy", rights=rights)
        requests.put(permission, json={"configure": "", "write": "", "read": ""}, timeout=10).raise_for_status()
        with pytest.raises(GuardRefused, match=r"may not .*read queue q") as refused:
            plan_tap(theirs, bus.name, "q", rights=Rights(bus.name, management=theirs, broker=broker))
        assert "possible" not in (refused.value.hint or "")


@pytest.mark.parametrize("via", ["copy", "firehose", "hold"])
def test_a_tap_ends_with_its_virtual_host(node: TestBroker, tmp_path: Path, via: str) -> None:
    with own_vhost(node) as vhost:
        bus = Bus(vhost, tmp_path / "leases")
        bus.broker.declare_queue("q")
        bus.broker.bind_queue("q", "amq.topic", "#")
        with bus.open(bus.plan("q", via=via)) as tap:
            requests.delete(f"{bus.api}/vhosts/{bus.name}", timeout=10).raise_for_status()
            # Its queues go first. Where the link was back before the rest went, a broker that comes up is waited for.
            with pytest.raises((VhostNotFound, Gone), match=r"does not exist|was deleted"):
                seen(tap, 1, 90)
        bus.close()
        requests.put(f"{bus.api}/vhosts/{bus.name}", timeout=10).raise_for_status()  # for `own_vhost` to delete
