"""Names of any length and any number: lists, chosen queues, dead letters and the console's rows are right."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from consoles import on_loop, opened
from hypothesis import given
from hypothesis import strategies as st
from trying import Busctl
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher, poller
from busctl_lib.deadletters import DeadLetterQueue, dead_letter_queues
from busctl_lib.management import History, ManagementClient, infos_cluster, queue_reading
from busctl_lib.poller import Poller, Snapshot
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.sandbox import PrivateBroker

MANY = 10_000
KINDS = {
    "short": [f"q{number}" for number in range(300)],
    "of 36 letters": [f"billing.invoices.region-{number:03}.overdue"[:36] for number in range(90)],
    "as long as can be": [f"{number:03}{'x' * 252}" for number in range(30)],
    "all to be escaped": [f"{number:03}{'.' * 252}" for number in range(30)],
    "brackets and bars": [f"a|b(c)[d]{{e}}^f$g*h+i?j{number}" for number in range(60)],
    "backslashes and quotes": [f"\\d\\\\\"'`{number}\\" for number in range(60)],
    "slashes and percent signs": [f"/%2F%252F//{number}%" for number in range(60)],
    "not of ASCII": [f"очередь-€-\U0001f407-{number:03}-{'ü' * 90}" for number in range(30)],
    "alike but for capitals": ["".join(letters) for letters in itertools.product(*(("a", "A"),) * 6)],
    "what no path can hold": [".", "..", "...", "plain"],
    "blanks and signs": [f" {number} ?&=#;,+~ " for number in range(60)],
}


@pytest.fixture
def api(vhost: Any) -> Iterator[ManagementClient]:
    with ManagementClient(vhost.api_url) as client:
        yield client


def declare(api: ManagementClient, vhost: str, names: list[str], **arguments: object) -> None:
    queues = [{"name": name, "durable": True, "auto_delete": False, "arguments": arguments} for name in names]
    api.import_definitions({"queues": queues}, vhost)


@pytest.mark.parametrize("names", KINDS.values(), ids=KINDS)
def test_chosen_queues_are_found_by_whatever_name(vhost: Any, api: ManagementClient, names: list[str]) -> None:
    declare(api, vhost.name, [*names, "another"])
    keys = {(vhost.name, name) for name in names}
    absent = {(vhost.name, f"{name[:-1]}!") for name in names[:3]}
    wait_until(lambda: api.queues_named(keys | absent, history=History(60, 5)).keys() == keys, timeout=30)
    assert api.queues_one_by_one(keys | absent).keys() == keys
    assert all((found := api._listed(*key)) is not None and found.key == key for key in sorted(keys)[-3:])
    assert all(api._listed(*key) is None for key in absent)


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=60), unique=True, max_size=80))
def test_no_pattern_is_longer_than_a_broker_takes_and_none_leaves_a_name_out(names: list[str]) -> None:
    patterns = list(queue_reading._name_patterns(names))
    assert all(len(pattern.encode()) <= 1024 for pattern in patterns)
    for name in names:
        assert [bool(re.match(pattern, name)) for pattern in patterns].count(True) == 1


@pytest.mark.parametrize("large", [False, True], ids=["small bus", "large bus"])
def test_what_is_on_the_screen_gets_its_rates_by_whatever_name(
    vhost: Any, api: ManagementClient, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    names = [name for kind in KINDS.values() for name in kind[:4]]
    declare(api, vhost.name, names)
    monkeypatch.setattr(poller, "LIST_WITH_HISTORY_MAX", 0)
    if large:
        monkeypatch.setattr(infos_cluster, "LIST_WITH_RATES_MAX", 0)
    snapshots: list[Snapshot] = []
    running = Poller(api, snapshots.append, vhost=vhost.name, interval_s=0.5)
    running.show_queues([(vhost.name, name) for name in names])
    running.start()
    try:
        wait_until(lambda: snapshots and all((vhost.name, name) in snapshots[-1].history for name in names), timeout=30)
        assert (snapshots[-1].error, dict(snapshots[-1].missing)) == (None, {})
    finally:
        running.stop()


@pytest.mark.parametrize("large", [False, True], ids=["small bus", "large bus"])
def test_dead_letters_are_found_by_whatever_name(
    vhost: Any, api: ManagementClient, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(infos_cluster, "LIST_WITH_RATES_MAX", 0)
    names = [f"{name[:160]}.dead" for kind in KINDS.values() for name in kind[:12]]
    declare(api, vhost.name, [*names, "work", "lost"])
    api.put_policy(vhost.name, "dying", "^work$", {"dead-letter-exchange": "", "dead-letter-routing-key": "lost"})
    found: dict[str, DeadLetterQueue] = {}

    def all_told() -> bool:
        found.update((each.name, each) for each in dead_letter_queues(api, vhost.name))
        return "lost" in found and all(each.history for each in found.values())

    wait_until(all_told, timeout=30)
    assert found.keys() == {*names, "lost"}
    assert (found["lost"].sources, found["lost"].messages) == (["work"], 0)


# --- ten thousand


@pytest.fixture(scope="module")
def crowd() -> Iterator[TestBroker]:
    """A node with 10,000 queues whose names have 120 bytes; each hundredth holds dead letters."""
    root = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")
    with PrivateBroker(root=root) as node, ManagementClient(node.api_url, timeout_s=(10, 300)) as api:
        for begin in range(0, MANY, 2000):
            declare(api, "/", CROWD[begin : begin + 2000])
        yield TestBroker(node.amqp_url, node.api_url)


CROWD = [
    f"{number:05}.{'long/name|' * 12}"[:115] + (".dead" if number % 100 == 0 else ".live") for number in range(MANY)
]


@pytest.mark.faults
def test_lists_of_ten_thousand_long_names_are_whole(crowd: TestBroker, busctl: Busctl) -> None:
    assert {len(name.encode()) for name in CROWD} == {120}
    where = {"BUSCTL_AMQP_URL": crowd.amqp_url, "BUSCTL_API_URL": crowd.api_url}
    with ManagementClient(crowd.api_url) as api:
        overview = api.overview()
        assert {info.name for info in api.queues("/")} == set(CROWD)
        assert {info.name for info in api.queues_counted("/", overview)} == set(CROWD)
        some = [("/", name) for name in CROWD[::33]]
        assert set(api.queues_one_by_one(some)) == set(some)
        assert set(api.queues_named(some[:40])) == set(some[:40])
    listed = busctl("queues", "-o", "json", **where)
    assert listed.returncode == 0, listed.stderr
    assert {each["name"] for each in json.loads(listed.stdout)} == set(CROWD)
    dead = busctl("dead", "-o", "json", **where)
    assert dead.returncode == 0, dead.stderr
    assert {each["name"] for each in json.loads(dead.stdout)} == set(CROWD[::100])


@pytest.mark.faults
@on_loop
async def test_the_console_over_ten_thousand_long_names_is_current(crowd: TestBroker) -> None:
    async with opened(crowd, (200, 60)) as console:
        await console.command("queues")
        await console.shows(
            "10,00", " queues", CROWD[0][:12], timeout=60
        )  # and one by which the console hears of what happens
        with MessageBroker(url=crowd.amqp_url) as broker:
            for place in (1, 5, 40):
                MessagePublisher(broker).publish(CROWD[place], {"n": 1})
        feed = console.app.feed
        await console.until(lambda: feed.snapshot.queues["/", CROWD[1]].messages == 1, "what was published", 120)
        for _ in range(3):
            await console.press("pagedown")
            await console.until(
                lambda: {info.key for info in console.app.screen.table.visible_rows} <= feed.snapshot.history.keys(),  # type: ignore[attr-defined]
                "what is on the screen",
                60,
            )
        ages = []
        until = time.monotonic() + 60
        while time.monotonic() < until:
            ages.append(feed.snapshot.age_s or 0.0)
            assert (feed.snapshot.error, dict(feed.snapshot.missing)) == (None, {})
            await console.pilot.pause(0.5)
        assert max(ages) < 30, "never long out of date"
        assert len({each for each in ages if each < 2}) > 3
