"""A queue that deletes itself when its last consumer goes: no look is its last consumer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from looking import Bus, bodies, numbers

from busctl_lib.pytest_plugin import TestBroker


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path)
    bus.broker.declare_queue("brief", auto_delete=True)
    bus.publisher.publish_many(("brief", {"n": number}) for number in range(3))
    bus.broker.declare_queue("other")
    yield bus
    bus.close()


@pytest.mark.parametrize(
    "words",
    [
        ("peek", "brief"),
        ("tail", "brief", "--via", "hold", "-n", "2"),
        ("tail", "brief", "--via", "consume", "-n", "2", "--yes"),
        ("dead", "brief"),
        ("move", "brief", "other", "--dry-run"),
        ("copy", "brief", "other", "--yes"),
        ("replay", "brief", "--dry-run"),
        ("discard", "brief", "--limit", "1", "--yes"),
        ("purge", "brief", "--yes"),
    ],
    ids=lambda words: " ".join(words),
)
def test_what_would_delete_the_queue_at_its_end_is_refused(bus: Bus, busctl: Any, words: tuple[str, ...]) -> None:
    done = busctl(*words, BUSCTL_AMQP_URL=bus.vhost.amqp_url, BUSCTL_API_URL=bus.vhost.api_url)
    assert (done.returncode, done.stdout) == (9, ""), done.stderr
    assert "brief deletes itself when its last consumer goes" in done.stderr
    assert bus.ready("brief") == 3


def test_a_search_by_content_leaves_the_queue_alone(bus: Bus, busctl: Any) -> None:
    done = busctl("dead", "--content", BUSCTL_AMQP_URL=bus.vhost.amqp_url, BUSCTL_API_URL=bus.vhost.api_url)
    assert done.returncode == 0
    assert bus.ready("brief") == 3


def test_beside_a_consumer_of_its_own_it_can_be_looked_at(bus: Bus) -> None:
    own = bus.broker.subscribe("brief", lambda delivery: None, prefetch=1)
    assert numbers(bus.peek("brief", 2).messages) == bodies(1, 2)
    assert own.is_open
    assert bus.broker.declare_queue("brief", passive=True).consumer_count == 1
