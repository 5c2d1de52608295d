"""Delayed retry, of RabbitMQ 4.3: no look hides messages unless it is told to, and delayed ones are counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from consoles import on_loop, opened
from looking import BY_NAME, QUORUM, Bus, seen, somebody
from trying import Busctl
from waiting import wait_until

from busctl_lib.blast import of_queue
from busctl_lib.errors import GuardRefused
from busctl_lib.journal import Journal
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps.peek import peek
from busctl_lib.transfers import Request, Transfer

Run = Callable[..., Any]
HIDDEN_S = 60


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path)
    try:
        if bus.release < (4, 3):
            pytest.skip("delayed retry is new in RabbitMQ 4.3")
        yield bus
    finally:
        bus.close()


@pytest.fixture
def run(bus: Bus, busctl: Busctl) -> Run:
    def run(*words: str) -> Any:
        return busctl(*words, BUSCTL_AMQP_URL=bus.vhost.amqp_url, BUSCTL_API_URL=bus.vhost.api_url)

    return run


def retrying(kind: str, seconds: int = HIDDEN_S) -> dict[str, Any]:
    return {
        **QUORUM,
        "x-delayed-retry-type": kind,
        "x-delayed-retry-min": seconds * 1000,
        "x-delayed-retry-max": seconds * 1000,
    }


def delay(bus: Bus, queue: str, count: int) -> None:
    """Let the first messages of a queue wait for their retry."""
    with somebody(bus.vhost.amqp_url) as client:
        BY_NAME["nack"](client, queue, count)
    left = bus.ready(queue)

    def told() -> bool:
        info = bus.management.queue(bus.name, queue)
        return (info.delayed, info.messages_ready) == (count, left)

    wait_until(told, 20)


# --- what is refused


KINDS = (
    # argument, policy: whether what is given back by name is hidden
    ("all", None, True),
    ("returned", None, True),
    ("failed", None, False),
    ("disabled", None, False),
    (None, "all", True),
    ("all", "disabled", False),
    ("disabled", "returned", True),
)


def test_what_would_be_hidden_is_known_from_argument_and_policy(bus: Bus) -> None:
    """Of a queue that is new to the statistics, and of one that they know; and it is what the broker then does."""
    hides: dict[str, bool] = {}
    for number, (argument, policy, hidden) in enumerate(KINDS):
        hides[name := f"kind-{number}"] = hidden
        if policy is not None:
            bus.set_policy(name, {"delayed-retry-type": policy, "delayed-retry-min": HIDDEN_S * 1000})
        bus.fill(name, 2, retrying(argument) if argument is not None else QUORUM)
    for _ in range(2):
        for name, hidden in hides.items():
            if hidden:
                with pytest.raises(GuardRefused, match=f"delays what is given back .* hidden for {HIDDEN_S} s"):
                    bus.peek(name)
                with pytest.raises(GuardRefused, match="delays what is given back"):
                    bus.plan(name, via="hold")
            else:
                assert len(bus.peek(name).messages) == 2
        wait_until(lambda: {bus.ready(name) for name in hides} == {2}, 20)
        wait_until(lambda: all(bus.management.queue(bus.name, name).delayed_retry for name in hides), 20)
    accounts = {name: bus.peek(name, accept_delay=True).account for name in hides}
    assert {name: "hidden for 60 s" in account for name, account in accounts.items()} == hides
    wait_until(lambda: {name: bus.ready(name) == 0 for name in hides} == hides, 20)


def test_a_type_without_a_time_hides_nothing(bus: Bus) -> None:
    bus.fill("waiting", 3, {**QUORUM, "x-delayed-retry-type": "all"})
    assert bus.budget("waiting").retry is None
    assert len(bus.peek("waiting").messages) == 3
    wait_until(lambda: bus.ready("waiting") == 3, 20)


VERBS = (
    ("peek", "waiting"),
    ("tail", "waiting", "--via", "hold", "--for", "1s"),
    ("tail", "waiting", "--via", "consume", "-n", "1"),
    ("dead", "waiting"),
    ("replay", "waiting", "--to", "elsewhere", "--dry-run"),
    ("move", "waiting", "elsewhere", "--where", ".body.n == 1", "--yes"),
    ("copy", "waiting", "elsewhere", "--yes"),
    ("park", "waiting", "--limit", "1", "--yes"),
    ("discard", "waiting", "--limit", "1", "--yes"),
)


def test_every_verb_that_gives_back_refuses_and_leaves_all_as_it_was(bus: Bus, run: Run) -> None:
    bus.fill("waiting", 3, retrying("all"))
    bus.broker.declare_queue("elsewhere")
    for words in VERBS:
        done = run(*words)
        assert (words, done.returncode) == (words, 9)
        assert "--accept-delay" in done.stderr
        assert bus.ready("waiting") == 3
    with (
        Journal(bus.folder / "journal.sqlite") as journal,
        Transfer(bus.broker, bus.management, journal, Request(kind="move", source="waiting", target="x")) as transfer,
        pytest.raises(GuardRefused, match="delays what is given back"),
    ):
        next(transfer.planning())


@pytest.mark.parametrize("words", VERBS, ids=lambda words: f"{words[0]}{'-' + words[3] if words[0] == 'tail' else ''}")
def test_accept_delay_goes_on(bus: Bus, run: Run, words: tuple[str, ...]) -> None:
    bus.fill("waiting", 3, retrying("all"))
    bus.broker.declare_queue("elsewhere")
    done = run(*words, "--accept-delay")
    assert (done.returncode, done.stdout != "") == (0, True), done.stderr
    assert "60 s" in done.stdout + done.stderr or "--yes" in words


def test_a_console_looks_all_the_same_when_it_is_told_to(bus: Bus, vhost: TestBroker) -> None:
    bus.fill("waiting", 3, retrying("all"))
    look_delaying(bus, vhost)
    assert bus.ready("waiting") == 0


@on_loop
async def look_delaying(bus: Bus, vhost: TestBroker) -> None:
    async with opened(vhost) as console:
        await console.command("peek waiting")
        await console.shows("refused: waiting delays what is given back", "D goes on")
        assert bus.ready("waiting") == 3
        await console.press("D")
        await console.shows("3 of 3 waited", "hidden for 60 s", "--accept-delay")


def test_a_hold_says_what_a_lost_link_would_do(bus: Bus) -> None:
    bus.fill("waiting", 3, retrying("failed"))
    plan = bus.plan("waiting", via="hold")
    assert "a lost link" in plan.costs
    assert f"delays it by {HIDDEN_S} s" in plan.costs
    with bus.open(plan) as tap:
        assert len(seen(tap, 3)) == 3
    wait_until(lambda: bus.ready("waiting") == 3, 20)


def test_dead_letter_queues_that_cannot_be_looked_into_are_named(bus: Bus, run: Run) -> None:
    bus.fill("waiting", 3, retrying("all"))
    wait_until(lambda: bus.management.queue(bus.name, "waiting").messages == 3, 20)
    assert "waiting was not looked into: waiting delays what is given back" in run("dead", "--content").stderr
    assert bus.ready("waiting") == 3


# --- what is counted


def test_delayed_messages_are_in_lists_details_and_looks(bus: Bus, run: Run) -> None:
    bus.fill("waiting", 6, retrying("all"))
    delay(bus, "waiting", 4)
    (listed,) = json.loads(run("queues", "wait*", "-o", "json").stdout)
    assert (listed["messages_delayed"], listed["messages_ready"]) == (4, 2)
    assert run("queues").stdout.splitlines()[0].split()[:5] == ["NAME", "TYPE", "READY", "UNACKED", "DELAYED"]
    assert "DELAYED" not in run("queues", "-o", "tsv").stdout  # what programs read is the same for every queue
    assert run("queues", "--columns", "name,messages_delayed", "-o", "tsv").stdout.splitlines()[-1].split() == [
        "waiting",
        "4",
    ]
    detail = run("queues", "waiting").stdout
    assert "4 delayed, the next ready in" in detail
    assert "delays what comes back: all (min: 60000ms, max: 60000ms)" in detail
    light = {info.name: info for info in bus.management.queues(bus.name)}
    assert light["waiting"].delayed == 4
    assert peek(bus.broker, bus.management, bus.name, "waiting", 1, accept_delay=True).delayed == 4


def test_purge_tells_of_the_delayed_before_and_after_and_takes_them(bus: Bus, run: Run) -> None:
    bus.fill("waiting", 6, retrying("all"))
    delay(bus, "waiting", 4)
    asked = run("purge", "waiting")
    assert asked.returncode == 9
    assert "4 delayed, the next ready in" in asked.stderr
    assert "cannot be kept in the trash" in asked.stderr
    done = run("purge", "waiting", "--yes")
    assert done.stdout.strip() == "waiting: 6 messages dropped, 4 of them not kept in the trash"
    wait_until(lambda: bus.management.queue(bus.name, "waiting").messages == 0, 20)
    operation = json.loads(run("ops", "-n", "1", "-o", "json").stdout)[0]
    assert run("ops", "undo", operation["id"], "--yes").returncode == 0
    wait_until(lambda: bus.ready("waiting") == 2, 20)


def test_delete_tells_of_the_delayed_before_and_after(bus: Bus, run: Run) -> None:
    bus.fill("waiting", 6, retrying("all"))
    delay(bus, "waiting", 4)
    assert of_queue(bus.management, bus.name, "waiting", deleting=True).delayed == 4
    assert "4 delayed, the next ready in" in run("delete", "queue", "waiting").stderr
    done = run("delete", "queue", "waiting", "--yes")
    assert done.stdout.strip() == "queue waiting is deleted, with 6 messages, 4 of them not kept in the trash"


def test_what_the_broker_has_not_counted_yet_is_told_in_the_account(bus: Bus, run: Run) -> None:
    """Its counts are some seconds late; what a queue drops it tells at once."""
    bus.fill("waiting", 6, retrying("all"))
    with somebody(bus.vhost.amqp_url) as client:
        BY_NAME["nack"](client, "waiting", 4)
    assert "none as far as is known" in run("delete", "queue", "waiting").stderr
    done = run("delete", "queue", "waiting", "--yes")
    assert done.stdout.strip() == "queue waiting is deleted, with 6 messages, 4 of them not kept in the trash"


def test_a_plan_says_that_the_delayed_stay(bus: Bus, run: Run) -> None:
    bus.fill("waiting", 6, retrying("failed"))
    bus.fill("later", 6, retrying("all"))
    delay(bus, "later", 4)
    bus.broker.declare_queue("elsewhere")
    plan = run("move", "later", "elsewhere", "--dry-run", "--accept-delay").stdout
    assert "4 messages wait for their retry (delayed): nobody can take them, and they stay" in plan
    assert "delayed" not in run("move", "waiting", "elsewhere", "--dry-run").stdout
