"""Looking again and again, in every way the console offers, at a quorum queue: nothing is ever lost by it.

`make test` holds a few looks of each kind, `make faults` two hundred, over a steady link and over one that flaps.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from looking import QUORUM, Bus, bodies, numbers, seen
from proxy import Proxy
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.deadletters import triage
from busctl_lib.errors import BusError, GuardRefused
from busctl_lib.journal import Journal
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import open_tap
from busctl_lib.taps.budget import RESERVE
from busctl_lib.taps.peek import peek
from busctl_lib.transfers import Request, Transfer

COUNT = 3
LIMIT = 20
Look = Callable[[Bus, MessageBroker], None]


@pytest.fixture
def bus(vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(vhost, tmp_path)
    yield bus
    bus.close()


def by_peek(bus: Bus, broker: MessageBroker) -> None:
    peek(broker, bus.management, bus.name, "waiting")


def by_hold(bus: Bus, broker: MessageBroker) -> None:
    with open_tap(bus.plan("waiting", via="hold"), broker, bus.management, lease_folder=bus.folder) as tap:
        seen(tap, COUNT, 5)


def by_groups(bus: Bus, broker: MessageBroker) -> None:
    triage(broker, bus.management, bus.name, "waiting")


def _plan(bus: Bus, broker: MessageBroker, request: Request) -> None:
    with (
        Journal(bus.folder / "journal.sqlite") as journal,
        Transfer(broker, bus.management, journal, request) as transfer,
    ):
        for _ in transfer.planning():
            pass


def by_plan(bus: Bus, broker: MessageBroker) -> None:
    _plan(bus, broker, Request(kind="replay", source="waiting", target="elsewhere"))


def by_selecting_plan(bus: Bus, broker: MessageBroker) -> None:
    _plan(bus, broker, Request(kind="move", source="waiting", target="elsewhere", where=".body.n == 1", fast=True))


def by_copy(bus: Bus, broker: MessageBroker) -> None:
    """What stays is held to the end, and given back."""
    request = Request(kind="copy", source="waiting", target="elsewhere", where="false")
    with (
        Journal(bus.folder / "journal.sqlite") as journal,
        Transfer(broker, bus.management, journal, request) as transfer,
    ):
        for _ in transfer.planning():
            pass
        for _ in transfer.running():
            pass
        assert transfer.account is not None
        if transfer.account.problem:
            raise BusError(transfer.account.problem)


WAYS: dict[str, Look] = {
    "peek": by_peek,
    "hold": by_hold,
    "groups": by_groups,
    "plan": by_plan,
    "selecting-plan": by_selecting_plan,
    "copy": by_copy,
}
MANY = [pytest.param(4, id="short"), pytest.param(200, id="long", marks=pytest.mark.faults)]


@pytest.mark.parametrize("looks", MANY)
@pytest.mark.parametrize("way", WAYS)
def test_as_many_looks_are_granted_as_cost_nothing(bus: Bus, way: str, looks: int) -> None:
    bus.fill("waiting", COUNT, {**QUORUM, "x-delivery-limit": LIMIT})
    bus.broker.declare_queue("elsewhere")
    granted = 0
    for _ in range(looks):
        try:
            WAYS[way](bus, bus.broker)
        except GuardRefused:
            break
        granted += 1
        wait_until(lambda: bus.ready("waiting") == COUNT, 20)
    assert granted == (looks if bus.free else min(looks, LIMIT - RESERVE))
    messages = bus.drain("waiting", COUNT)
    assert numbers(messages) == bodies(*range(COUNT))
    assert {message.headers.get("x-delivery-count", 0) for message in messages} == {0 if bus.free else granted}


@contextlib.contextmanager
def flapping(proxy: Proxy, chance: random.Random) -> Iterator[None]:
    """Lose all connections again and again, at random moments."""
    over = threading.Event()

    def lose() -> None:
        while not over.wait(chance.uniform(0.02, 0.6)):
            proxy.cut()

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


@pytest.mark.parametrize("looks", MANY)
@pytest.mark.parametrize("way", WAYS)
def test_a_link_that_flaps_costs_no_message(bus: Bus, way: str, looks: int) -> None:
    """Each look that it ends counts once at most; when too few are left, looks are refused."""
    bus.fill("waiting", COUNT, {**QUORUM, "x-delivery-limit": LIMIT})
    bus.broker.declare_queue("elsewhere")
    ended = refused = 0
    with Proxy(bus.vhost.host, bus.vhost.port) as proxy, flapping(proxy, random.Random(way)):
        for _ in range(looks):
            broker = MessageBroker(url=proxy.url(bus.vhost.amqp_url), connect_timeout_s=2)
            try:
                WAYS[way](bus, broker)
            except GuardRefused as error:
                refused += "looks left" in str(error)
                ended += 1
            except BusError:
                ended += 1
            finally:
                broker.close(2)
            wait_until(lambda: bus.ready("waiting") == COUNT, 60)
            if refused:
                break
    left = bus.budget("waiting").left
    assert left is not None
    assert (left > RESERVE) == (not refused)
    messages = bus.drain("waiting", COUNT)
    assert numbers(messages) == bodies(*range(COUNT))
    counted = {message.headers.get("x-delivery-count", 0) for message in messages}
    assert max(counted) <= LIMIT - left


COMMANDS = (
    ("peek", "waiting"),
    ("dead", "waiting"),
    ("tail", "waiting", "--via", "hold"),
    ("replay", "waiting", "--to", "elsewhere", "--dry-run"),
    ("move", "waiting", "elsewhere", "--where", "false", "--yes"),
)


@pytest.mark.parametrize("kills", [pytest.param(5, id="short"), pytest.param(60, id="long", marks=pytest.mark.faults)])
def test_looks_killed_at_random_moments_cost_no_message(bus: Bus, kills: int) -> None:
    bus.fill("waiting", COUNT, {**QUORUM, "x-delivery-limit": LIMIT})
    bus.broker.declare_queue("elsewhere")
    env = {**os.environ, "BUSCTL_AMQP_URL": bus.vhost.amqp_url, "BUSCTL_API_URL": bus.vhost.api_url}
    chance, refused = random.Random(5), 0
    for words in itertools.islice(itertools.cycle(COMMANDS), kills):
        look = subprocess.Popen([sys.executable, "-m", "busctl", *words], env=env, stdout=PIPE, stderr=PIPE, text=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            refused += "looks left" in look.communicate(timeout=chance.uniform(0.4, 1.4))[1]
        look.kill()
        look.communicate()
        wait_until(lambda: bus.ready("waiting") == COUNT, 60)
    left = bus.budget("waiting").left
    assert left is not None
    assert not refused or left <= RESERVE
    messages = bus.drain("waiting", COUNT)
    assert numbers(messages) == bodies(*range(COUNT))
    assert max(message.headers.get("x-delivery-count", 0) for message in messages) <= LIMIT - left
