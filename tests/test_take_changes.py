"""A tap that takes from a queue ends when that is gone or another: nothing is taken that it was not planned for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from tap_bus import Bus, note, seen
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.errors import GuardRefused, NotFound
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import Tap, TapPlan, open_tap
from busctl_lib.taps.tap import Gone

NEVER_S = 600.0
WAYS = ("hold", "consume", "stream")
WORN = {"x-queue-type": "quorum", "x-delivery-limit": 0}
"""A queue that loses what is given back once."""


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path / "leases")
    yield bus
    bus.close()


def declare(bus: Bus, way: str, count: int, first: int = 0, **arguments: Any) -> None:
    """Queue `q`, with so many messages."""
    bus.broker.declare_queue("q", arguments={"x-queue-type": "stream"} if way == "stream" else arguments)
    publish(bus, count, first)


def publish(bus: Bus, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        bus.publisher.publish("q", {"n": number})


def planned(bus: Bus, way: str) -> TapPlan:
    return bus.plan("q", via=way, since="first" if way == "stream" else "next")


def numbers(tap: Tap, count: int) -> list[int]:
    found = seen(tap, count)
    tap.settle(found)
    return [int(delivery.body[5:-1]) for delivery in found]


def untouched(bus: Bus, count: int) -> bool:
    """Whether so many messages wait, none of which was ever taken."""
    taken: list[Delivery] = []
    wait_until(lambda: bus.ready("q") == count)
    subscription = bus.broker.subscribe("q", taken.append, prefetch=count)
    wait_until(lambda: len(taken) == count)
    subscription.cancel()
    return not any(delivery.redelivered for delivery in taken)


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_with_its_queue(bus: Bus, way: str) -> None:
    declare(bus, way, 3)
    with bus.open(planned(bus, way)) as tap:
        assert numbers(tap, 3) == [0, 1, 2]
        bus.broker.delete_queue("q")
        with pytest.raises(Gone, match="q was deleted"):
            seen(tap, 1)
    held = "3 messages of q that were held went with it: it was deleted"
    assert tap.account == (held if way == "hold" else None)


@pytest.mark.parametrize("way", ["hold", "consume"])
@pytest.mark.parametrize("new", [{}, {"x-max-length": 9}, WORN], ids=["same", "argument", "type"])
def test_it_takes_nothing_from_another_queue_of_that_name(bus: Bus, way: str, new: dict[str, Any]) -> None:
    declare(bus, way, 3)
    with bus.open(planned(bus, way)) as tap:
        assert numbers(tap, 3) == [0, 1, 2]
        bus.broker.delete_queue("q")
        declare(bus, way, 4, 10, **new)
        with pytest.raises((GuardRefused, NotFound)) as ended:
            seen(tap, 1)
    if isinstance(ended.value, GuardRefused):  # else a look fell between the two
        said = ("another queue", "its counters began anew", "it was deleted and declared again")
        assert any(each in str(ended.value) for each in said)
    if way == "hold":
        assert tap.account is not None
        assert "given back" not in tap.account
        assert "went with it" in tap.account
    assert untouched(bus, 4)


def test_another_stream_is_not_read_on(bus: Bus) -> None:
    declare(bus, "stream", 3)
    with bus.open(planned(bus, "stream")) as tap:
        assert numbers(tap, 3) == [0, 1, 2]
        bus.broker.delete_queue("q")
        declare(bus, "stream", 6, 10)
        with pytest.raises((GuardRefused, NotFound)):
            seen(tap, 1)


class Broken:
    """A tap over a line that can be lost, and what happens to its queue meanwhile."""

    def __init__(self, bus: Bus, proxy: Proxy) -> None:
        self.bus, self.proxy = bus, proxy
        self.broker = MessageBroker(url=proxy.url(bus.vhost.amqp_url)).connect()

    def open(self, plan: TapPlan) -> Tap:
        return open_tap(plan, self.broker, self.bus.management, lease_folder=self.bus.folder, watch_s=0.2)

    def meanwhile(self, happens: Callable[[], object]) -> None:
        self.broker.declare_queue("q", passive=True)  # behind it what was settled has been sent
        self.proxy.refuse()
        self.proxy.cut()
        wait_until(lambda: self.broker.state.value != "open")
        happens()
        self.proxy.refuse(False)
        self.broker.connect_now()


@pytest.fixture
def broken(bus: Bus) -> Iterator[Broken]:
    with Proxy(bus.vhost.host, bus.vhost.port) as proxy:
        broken = Broken(bus, proxy)
        yield broken
        broken.broker.close()


@pytest.mark.parametrize("way", WAYS)
def test_after_a_lost_link_it_goes_on_with_the_same_queue(bus: Bus, broken: Broken, way: str) -> None:
    declare(bus, way, 3)
    with broken.open(planned(bus, way)) as tap:
        assert numbers(tap, 3) == [0, 1, 2]
        broken.meanwhile(lambda: publish(bus, 2, 3))
        assert note(tap, "gap").seconds is not None
        again = {"hold": [0, 1, 2, 3, 4], "consume": [3, 4], "stream": [3, 4]}[way]
        assert numbers(tap, len(again)) == again
        assert seen(tap, 1, 0.5) == []
    if way == "hold":
        assert tap.account == "5 messages of q were given back, marked redelivered"
    if way == "consume":
        wait_until(lambda: bus.ready("q") == 0)


@pytest.mark.parametrize("way", ["hold", "consume"])
def test_after_a_lost_link_it_takes_nothing_from_another_queue(bus: Bus, broken: Broken, way: str) -> None:
    declare(bus, way, 3)

    def another() -> None:
        bus.broker.delete_queue("q")
        declare(bus, way, 4, 10, **WORN)

    with broken.open(planned(bus, way)) as tap:
        assert numbers(tap, 3) == [0, 1, 2]
        broken.meanwhile(another)
        with pytest.raises(GuardRefused, match="its type is quorum now"):
            seen(tap, 9)
    assert untouched(bus, 4)


@pytest.mark.parametrize("way", WAYS)
def test_after_a_lost_link_a_queue_made_anew_is_known_by_its_counters(bus: Bus, broken: Broken, way: str) -> None:
    declare(bus, way, 3)
    wait_until(lambda: planned(bus, way).built_on.counted, what="statistics of the queue")

    def another() -> None:
        bus.broker.delete_queue("q")
        declare(bus, way, 1, 10)

    with broken.open(planned(bus, way)) as tap:
        assert numbers(tap, 3) == [0, 1, 2]
        broken.meanwhile(another)
        with pytest.raises(GuardRefused, match="its counters began anew"):
            seen(tap, 9)
    assert way == "stream" or untouched(bus, 1)


def test_a_policy_ends_a_hold_and_all_is_given_back(bus: Bus) -> None:
    declare(bus, "hold", 3)
    with bus.open(planned(bus, "hold")) as tap:
        assert numbers(tap, 3) == [0, 1, 2]
        bus.policy("short", "^q$", "queues", **{"max-length": 5})
        with pytest.raises(GuardRefused, match="policy max-length is 5 now, was not set"):
            seen(tap, 1)
    assert tap.account == "3 messages of q were given back, marked redelivered"
    wait_until(lambda: bus.ready("q") == 3)


@pytest.mark.parametrize("way", ["consume", "stream"])
def test_a_policy_is_told_where_it_changes_nothing_that_is_seen(bus: Bus, way: str) -> None:
    declare(bus, way, 1)
    with bus.open(planned(bus, way)) as tap:
        assert numbers(tap, 1) == [0]
        bus.policy("short", "^q$", "all", **{"max-length-bytes": 5_000_000})
        assert "policy max-length-bytes is 5000000 now" in note(tap, "changed").text
        publish(bus, 1, 1)
        assert numbers(tap, 1) == [1]


def test_a_queue_that_was_deleted_at_the_last_moment_is_in_the_account(bus: Bus) -> None:
    declare(bus, "hold", 2)
    tap = bus.open(planned(bus, "hold"), watch_s=NEVER_S)
    assert numbers(tap, 2) == [0, 1]
    tap._wake.clear()
    tap._closing.set()  # the watch looks no more
    bus.broker.delete_queue("q")
    tap.close()
    assert tap.account == "2 messages of q that were held went with it: it was deleted"


@pytest.mark.parametrize("way", WAYS)
def test_a_plan_that_is_old_takes_nothing_from_another_queue(bus: Bus, way: str) -> None:
    declare(bus, way, 3)
    plan = planned(bus, way)
    bus.broker.delete_queue("q")
    bus.broker.declare_queue("q", arguments=WORN)
    publish(bus, 4)
    with pytest.raises(GuardRefused, match="its type is quorum now"):
        bus.open(plan)
    assert untouched(bus, 4)
