"""The peek budget by experiment: what the broker counts, the limit it has, and that no look costs a message."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from looking import BY_NAME, IN_VAIN, QUORUM, Bus, bodies, numbers, seen, somebody
from proxy import Proxy
from victims import Victim
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.errors import BusError, GuardRefused, NotFound
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import open_tap
from busctl_lib.taps.budget import RESERVE, peek_budget, peek_folder, spend
from busctl_lib.taps.peek import peek

BY_API = {"API ack_requeue_true": True, "API reject_requeue_true": False}
LIMITS = (
    # argument, policy, operator policy: the limit up to 3.x (None: the policy is refused there), and from 4.0 on
    (None, None, None, "no", 20),
    (3, None, None, 3, 3),
    (0, None, None, 0, 0),
    (-1, None, None, 0, "no"),
    (None, 5, None, 5, 5),
    (None, None, 4, 4, 4),
    (-1, 5, None, 0, 5),
    (6, 4, 5, 4, 4),
    (None, 6, 3, 3, 3),
    (None, -1, None, None, "no"),
    (None, -1, 4, None, 4),
    (None, 4, -1, None, 4),
    (5, -1, None, None, 5),
)


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path)
    yield bus
    bus.close()


# --- what the broker does


@pytest.mark.parametrize("way", [*BY_NAME, *IN_VAIN, *BY_API])
def test_what_counts_as_a_delivery_in_vain_is_what_the_budget_says(bus: Bus, way: str) -> None:
    bus.fill("waiting", 3, QUORUM)
    if way in BY_API:
        path = f"queues/{quote(bus.name, safe='')}/waiting/get"
        asked = {"count": 3, "ackmode": way.removeprefix("API "), "encoding": "auto"}
        bus.management._http.change("POST", path, asked)
    else:
        with somebody(bus.vhost.amqp_url) as client:
            (BY_NAME | IN_VAIN)[way](client, "waiting", 3)
    wait_until(lambda: bus.ready("waiting") == 3, 20)
    by_name = way in BY_NAME or BY_API.get(way, False)
    budget = bus.budget("waiting")
    assert budget.free == bus.free
    assert bus.counts("waiting", 3) == {0 if by_name and budget.free else 1}


def test_the_limit_is_the_one_at_which_the_broker_drops(bus: Bus) -> None:
    """Of a queue that is new to the statistics, and of one that they know."""
    limits = {}
    for number, (argument, policy, operator, old, new) in enumerate(LIMITS):
        limit = old if bus.release < (4, 0) else new
        if limit is None:
            continue
        name = f"limit-{number}"
        for value, by_operator in ((policy, False), (operator, True)):
            if value is not None:
                bus.set_policy(name, {"delivery-limit": value}, operator=by_operator)
        bus.fill(name, 1, QUORUM | ({"x-delivery-limit": argument} if argument is not None else {}))
        limits[name] = None if limit == "no" else limit
    assert {name: bus.budget(name).delivery_limit for name in limits} == limits
    wait_until(lambda: all(bus.known(name) for name in limits), 30)
    assert {name: bus.budget(name).delivery_limit for name in limits} == limits
    for name, limit in limits.items():
        reject(bus, name, 25 if limit is None else limit + 1)
    left = {name: 1 if limit is None else 0 for name, limit in limits.items()}
    wait_until(lambda: {name: bus.ready(name) for name in limits} == left, 20)


def reject(bus: Bus, queue: str, times: int) -> None:
    """Take the message of a queue and reject it, so often; each time it must be there."""
    with somebody(bus.vhost.amqp_url) as client:
        for _ in range(times):
            wait_until(lambda: bus.ready(queue) == 1, 20, every_s=0.005)
            method, _, _ = client.channel.basic_get(queue)
            assert method is not None
            client.channel.basic_reject(method.delivery_tag, requeue=True)


def test_a_classic_queue_counts_nothing(bus: Bus) -> None:
    bus.broker.declare_queue("plain")
    assert bus.budget("plain").left is None
    with pytest.raises(NotFound):
        bus.budget("nowhere")


# --- looks that end well


def test_looks_are_granted_as_long_as_the_queue_loses_nothing(bus: Bus) -> None:
    """From 4.3 on for ever, before until two are left of the limit."""
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 12})
    for _ in range(15 if bus.free else 12 - RESERVE):
        assert len(bus.peek("waiting").messages) == 3
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    if not bus.free:
        for refused in (lambda: bus.peek("waiting"), lambda: bus.plan("waiting", via="hold")):
            with pytest.raises(GuardRefused, match="2 looks left"):
                refused()
        # Elsewhere nothing is written down, but the broker's own count of redeliveries says it as well.
        wait_until(lambda: (bus.budget("waiting", bus.folder / "else").left or 0) <= RESERVE, 30)
    assert len(bus.peek("waiting", accept_loss=True).messages) == 3
    wait_until(lambda: bus.ready("waiting") == 3, 20)
    assert numbers(taken := bus.drain("waiting", 3)) == bodies(0, 1, 2)
    assert {message.headers.get("x-delivery-count", 0) for message in taken} == {0 if bus.free else 11}


def test_a_hold_of_as_many_as_a_queue_gives_goes_back_as_it_came(bus: Bus) -> None:
    """Named one by one most of them would not have arrived before their channel is closed, and count on 4.3."""
    bus.fill("waiting", 2000, QUORUM)
    with bus.open(bus.plan("waiting", via="hold")) as tap:
        assert len(seen(tap, 2000, 60)) == 2000
    assert "2,000 messages of waiting were given back, marked redelivered" in (tap.account or "")
    wait_until(lambda: bus.ready("waiting") == 2000, 20)
    messages = bus.drain("waiting", 2000)
    assert numbers(messages) == bodies(*range(2000))
    assert {message.headers.get("x-delivery-count", 0) for message in messages} == {0 if bus.free else 1}


@pytest.mark.faults
def test_two_hundred_looks_at_a_default_quorum_queue_lose_nothing(bus: Bus) -> None:
    bus.fill("waiting", 5, QUORUM)
    looks = 0
    for _ in range(200):
        try:
            bus.peek("waiting")
            looks += 1
        except GuardRefused:
            break
        finally:
            wait_until(lambda: bus.ready("waiting") == 5, 20)
    limit = bus.budget("waiting").delivery_limit
    assert looks == (200 if bus.free or limit is None else limit - RESERVE)
    assert numbers(bus.drain("waiting", 5)) == bodies(0, 1, 2, 3, 4)


# --- looks that do not


def test_a_hold_whose_link_is_lost_ends_and_is_counted(bus: Bus) -> None:
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 12})
    ended = []
    for lost in (1, 2):
        with Proxy(bus.vhost.host, bus.vhost.port) as proxy, MessageBroker(url=proxy.url(bus.vhost.amqp_url)) as broker:
            tap = open_tap(bus.plan("waiting", via="hold"), broker, bus.management, lease_folder=bus.folder)
            assert len(seen(tap, 3)) == 3
            proxy.cut()
            with pytest.raises(GuardRefused, match="the link was lost"):
                seen(tap, 1, 30)
            tap.close()
            ended.append(tap.account)
        wait_until(lambda: bus.ready("waiting") == 3, 20)
        assert bus.budget("waiting").left == 12 - lost
    went = "3 messages of waiting went back with the lost link, marked redelivered, and each counts one more failed"
    assert [account for account in ended if went not in (account or "")] == []
    assert bus.counts("waiting", 3) == {2}


def look_that_is_killed(bus: Bus, queue: str) -> bool:
    """Begin a hold and kill it when it has shown something; False where it was refused."""
    env = {**os.environ, "BUSCTL_AMQP_URL": bus.vhost.amqp_url, "BUSCTL_API_URL": bus.vhost.api_url}
    command = [sys.executable, "-m", "busctl", "tail", queue, "--via", "hold", "-o", "jsonl"]
    look = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert look.stdout is not None
    shown = look.stdout.readline()
    look.send_signal(signal.SIGKILL)
    look.wait(10)
    return bool(shown)


def test_looks_that_are_killed_are_refused_before_they_cost_a_message(bus: Bus) -> None:
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 4})
    granted = 0
    for _ in range(5):
        granted += look_that_is_killed(bus, "waiting")
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    assert 1 <= granted <= 4 - RESERVE
    assert bus.counts("waiting", 3) == {granted}


@pytest.mark.faults
def test_looks_that_are_killed_with_their_record_lost_cost_no_message_either(bus: Bus) -> None:
    """What is not written down any more is read off the messages, or bounded by the broker's redeliveries."""
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 4})
    shown = []
    for _ in range(5):
        shown.append(look_that_is_killed(bus, "waiting"))
        shutil.rmtree(peek_folder(), ignore_errors=True)
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    assert shown[0]
    assert not shown[-1]


def stats_grew(bus: Bus, queue: str, before: int) -> bool:
    stats = bus.management.queue(bus.name, queue).message_stats
    return ((stats.deliver_get if stats is not None else None) or 0) > before


def test_what_others_did_is_read_off_a_message_before_it_is_too_late(bus: Bus) -> None:
    """From 4.3 on redeliveries say nothing: what comes near the limit is given back at once, unharmed."""
    if not bus.free:
        pytest.skip("up to 4.2 the broker's redeliveries say it before")
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 3})
    for _ in range(3):
        with somebody(bus.vhost.amqp_url) as client:
            IN_VAIN["reject"](client, "waiting", 3)
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    assert bus.budget("waiting").left == 3
    for _ in range(3):
        with pytest.raises(GuardRefused, match="delivered without success"):
            bus.peek("waiting")
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    assert bus.counts("waiting", 3) == {3}


def test_nacks_of_others_are_no_reason_to_refuse_where_they_count_nothing(bus: Bus) -> None:
    if not bus.free:
        pytest.skip("up to 4.2 each of them counts")
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 5})
    for _ in range(8):
        with somebody(bus.vhost.amqp_url) as client:
            BY_NAME["nack"](client, "waiting", 3)
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    wait_until(lambda: stats_grew(bus, "waiting", 20), 20)
    assert len(bus.peek("waiting").messages) == 3


def test_redeliveries_of_what_is_gone_are_no_reason_to_refuse(bus: Bus) -> None:
    """From 4.0 on the broker tells whether a message that waits ever came back."""
    if bus.release < (4, 0):
        pytest.skip("3.10 does not tell")
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 50})
    for _ in range(20):
        with somebody(bus.vhost.amqp_url) as client:
            BY_NAME["nack"](client, "waiting", 3)
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    bus.drain("waiting", 3)
    bus.fill("waiting", 2, {**QUORUM, "x-delivery-limit": 50})
    wait_until(lambda: stats_grew(bus, "waiting", 60), 20)
    wait_until(lambda: bus.management.queue(bus.name, "waiting").messages_ready == 2, 20)
    wait_until(lambda: bus.management.queue(bus.name, "waiting").messages_ready_returned == 0, 20)
    assert bus.budget("waiting").left == 50
    assert len(bus.peek("waiting").messages) == 2


def test_looks_that_cost_messages_which_are_gone_are_forgotten(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the broker tells that nothing which waits ever came back, later than the last look."""
    if bus.release < (4, 0):
        pytest.skip("3.10 does not tell")
    bus.fill("waiting", 1, {**QUORUM, "x-delivery-limit": 12})
    for _ in range(3):
        with contextlib.suppress(KeyboardInterrupt), spend(bus.budget("waiting")):
            raise KeyboardInterrupt
    wait_until(lambda: bus.management.queue(bus.name, "waiting").messages_ready_returned == 0, 20)
    assert bus.budget("waiting").left == 12 - 3
    monkeypatch.setattr("busctl_lib.taps.bounds._OLD_S", 0.0)
    assert bus.budget("waiting").left == 12


@pytest.mark.faults
def test_what_came_back_before_the_broker_was_started_is_not_taken_for_nothing(victim: Victim, tmp_path: Path) -> None:
    bus = Bus(TestBroker(victim.amqp_url, victim.api_url), tmp_path)
    if not (4, 0) <= bus.release < (4, 3):
        bus.close()
        pytest.skip("4.0 to 4.2: 3.10 does not tell, 4.3 reads it off the messages, unharmed")
    bus.broker.delete_queue("waiting")
    bus.fill("waiting", 3, {**QUORUM, "x-delivery-limit": 12})
    for _ in range(12):
        with somebody(bus.vhost.amqp_url) as client:
            IN_VAIN["reject"](client, "waiting", 3)
        wait_until(lambda: bus.ready("waiting") == 3, 20)
    bus.close()
    victim.restart()
    bus = Bus(bus.vhost, tmp_path)
    wait_until(lambda: bus.management.queue(bus.name, "waiting").messages_ready_returned == 3, 30)
    for refused in (lambda: bus.peek("waiting"), lambda: bus.open(bus.plan("waiting", via="hold"))):
        with pytest.raises(GuardRefused, match="came back before the broker was started"):
            refused()
    assert bus.counts("waiting", 3) == {12}
    bus.close()


# --- what is written down


def test_a_look_counts_also_when_it_was_killed(bus: Bus) -> None:
    bus.fill("waiting", 2, {**QUORUM, "x-delivery-limit": 10})
    budget = bus.budget("waiting")
    assert budget.left == 10
    with pytest.raises(KeyboardInterrupt), spend(budget):
        raise KeyboardInterrupt
    assert bus.budget("waiting").left == 9
    with spend(budget), pytest.raises(GuardRefused, match="under way"), spend(budget):
        pass


def test_nothing_is_looked_at_where_looks_cannot_be_counted(bus: Bus) -> None:
    bus.fill("waiting", 2, {**QUORUM, "x-delivery-limit": 12})
    taken = bus.folder / "taken"
    taken.write_text("a file")
    with pytest.raises(BusError, match="cannot be"):
        peek(bus.broker, bus.management, bus.name, "waiting", folder=taken)
    assert bus.counts("waiting", 2) == {0}


@pytest.mark.parametrize(
    "text", ['{"count": 3', "\x00\xff", "[]", '{"cluster":"other","vhost":"/","queue":"q","count":0}']
)
def test_a_record_that_is_damaged_or_of_another_queue_is_refused(bus: Bus, text: str) -> None:
    bus.fill("waiting", 2, {**QUORUM, "x-delivery-limit": 12})
    bus.peek("waiting")
    (record,) = peek_folder().iterdir()
    record.write_text(text)
    wait_until(lambda: bus.ready("waiting") == 2, 20)
    for refused in (lambda: bus.peek("waiting"), lambda: bus.plan("waiting", via="hold")):
        with pytest.raises(GuardRefused, match="record of looks at waiting"):
            refused()
    assert len(bus.peek("waiting", accept_loss=True).messages) == 2
    wait_until(lambda: bus.ready("waiting") == 2, 20)
    assert len(bus.peek("waiting").messages) == 2  # it was written anew


def test_another_queue_of_that_name_begins_anew(bus: Bus) -> None:
    bus.fill("waiting", 2, {**QUORUM, "x-delivery-limit": 12})
    for _ in range(2):
        bus.peek("waiting")
        wait_until(lambda: bus.ready("waiting") == 2, 20)
    wait_until(lambda: stats_grew(bus, "waiting", 3), 20)
    with pytest.raises(KeyboardInterrupt), spend(bus.budget("waiting")):  # killed: it never says how it ended
        raise KeyboardInterrupt
    assert bus.budget("waiting").left == (11 if bus.free else 9)
    bus.broker.delete_queue("waiting")
    bus.fill("waiting", 2, {**QUORUM, "x-delivery-limit": 12})
    assert bus.budget("waiting").left == 12


def test_the_budget_of_others_is_looked_up_read_only(bus: Bus, tmp_path: Path) -> None:
    """To know what is left, nothing is written."""
    bus.fill("waiting", 1, {**QUORUM, "x-delivery-limit": 5})
    assert peek_budget(bus.management, bus.name, "waiting", folder=tmp_path / "absent").left == 5
    assert not (tmp_path / "absent").exists()
