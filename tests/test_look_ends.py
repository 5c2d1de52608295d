"""However a look ends, its queue is as before, or the look had said beforehand what it costs.

The table is queue type x feeding x consumer x the way it ends; `make test` holds a row of each kind, `make faults` all
of it on each version. docs/looking.md shows the result.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue as queues
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pytest
from looking import Bus, bodies, numbers
from proxy import Proxy
from victims import Victim
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps.budget import delivered_in_vain

COUNT = 6
FLAPS = 30
MARKED, COUNTED = "marked redelivered", "failed delivery"


class Row(NamedTuple):
    """A line of the table."""

    kind: str
    feeding: str
    consumer: bool
    via: str

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.feeding}-{'consumed' if self.consumer else 'alone'}-{self.via}"


class Look:
    """A `busctl tail` of the queue `q`, through a line that can be cut."""

    def __init__(self, bus: Bus, proxy: Proxy, *words: str) -> None:
        doors = {"BUSCTL_AMQP_URL": proxy.url(bus.vhost.amqp_url), "BUSCTL_API_URL": bus.vhost.api_url}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "busctl", "tail", "q", "-o", "jsonl", *words],
            env={**os.environ, **doors}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.shown = self.said = ""
        self._threads = [
            threading.Thread(target=self._read, args=(stream, name), daemon=True)
            for stream, name in ((self.process.stdout, "shown"), (self.process.stderr, "said"))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[str], name: str) -> None:
        for line in stream:
            setattr(self, name, getattr(self, name) + line)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self, number: int = signal.SIGINT) -> None:
        """Send a signal, unless it has ended by itself, and wait for the end."""
        if not self.ended:
            self.process.send_signal(number)
        self.process.wait(60)
        for thread in self._threads:
            thread.join(10)


# --- how a look ends


def normally(look: Look, _proxy: Proxy, _victim: Victim | None) -> None:
    look.process.wait(60)
    look.end()


def by_ctrl_c(look: Look, _proxy: Proxy, _victim: Victim | None) -> None:
    look.end()


def by_kill(look: Look, _proxy: Proxy, _victim: Victim | None) -> None:
    look.end(signal.SIGKILL)


def by_lost_links(look: Look, proxy: Proxy, _victim: Victim | None) -> None:
    for lost in range(FLAPS):
        proxy.cut()
        wait_until(lambda lost=lost: look.ended or look.said.count("was lost for") > lost, 60)  # type: ignore[misc]
        if look.ended:
            break
    look.end()


def by_restart(look: Look, _proxy: Proxy, victim: Victim | None) -> None:
    assert victim is not None
    victim.restart()
    look.end()


def by_drain(look: Look, _proxy: Proxy, victim: Victim | None) -> None:
    assert victim is not None
    victim.ctl("eval", "rabbit_maintenance:drain().")
    try:
        look.end()
    finally:
        victim.ctl("eval", "rabbit_maintenance:revive().")


End = Callable[[Look, Proxy, Victim | None], None]
ENDS: dict[str, End] = {
    "normal": normally,
    "ctrl-c": by_ctrl_c,
    "kill-9": by_kill,
    "lost-30-times": by_lost_links,
    "restart": by_restart,
    "drain": by_drain,
}
HOLDS = [Row(kind, "default", False, "hold") for kind in ("classic", "quorum")]
ROWS = [
    *(Row(kind, feeding, consumer, "auto") for kind, feeding, consumer in itertools.product(
        ("classic", "quorum", "stream"), ("default", "topic"), (True, False))),
    *HOLDS,
]  # fmt: skip
SHORT = {
    (HOLDS[1], "ctrl-c"),
    (HOLDS[1], "kill-9"),
    (HOLDS[0], "kill-9"),
    (Row("classic", "default", True, "auto"), "ctrl-c"),
    (Row("quorum", "topic", True, "auto"), "kill-9"),
}
TABLE = [
    pytest.param(row, end, id=f"{row.name}-{end}", marks=[] if (row, end) in SHORT else [pytest.mark.faults])
    for row, end in itertools.product(ROWS, ENDS)
]


@pytest.fixture
def bus(request: pytest.FixtureRequest, vhost: TestBroker, tmp_path: Path) -> Iterator[Bus]:
    """On a node that may be restarted where the look ends so."""
    bus = Bus(vhost, tmp_path)
    yield bus
    bus.close()


class Taker:
    """The queue's own consumer."""

    def __init__(self, bus: Bus, kind: str) -> None:
        self.broker = MessageBroker(url=bus.vhost.amqp_url).connect()
        self.came: queues.SimpleQueue[Delivery] = queues.SimpleQueue()
        offset = {"x-stream-offset": "first"} if kind == "stream" else None
        self.broker.subscribe("q", self.came.put, prefetch=50, auto_ack=kind != "stream", arguments=offset)

    def take(self, count: int) -> list[Delivery]:
        with self.broker_closed():
            return [self.came.get(timeout=60) for _ in range(count)]

    @contextlib.contextmanager
    def broker_closed(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.broker.close(5)


@pytest.mark.parametrize(("row", "end"), TABLE)
def test_however_a_look_ends_all_is_as_before_or_it_had_said_so(
    bus: Bus, row: Row, end: str, request: pytest.FixtureRequest
) -> None:
    victim: Victim | None = None
    if end in ("restart", "drain"):
        victim = request.getfixturevalue("victim")
        bus.close()
        bus = Bus(TestBroker(victim.amqp_url, victim.api_url), bus.folder)
        bus.broker.delete_queue("q")
    most = most_counted(bus.release, row, end)
    try:
        messages, look = look_to_its_end(bus, row, end, victim)
    finally:
        if victim is not None:
            bus.broker.delete_queue("q")
            bus.close()
    sent = bodies(*range(COUNT))
    assert [body for body in numbers(messages) if body in sent] == sent, look.said
    if row.kind != "stream":
        redelivered = {bool(message.redelivered) for message in messages}
        counted = {delivered_in_vain(message) for message in messages}
        assert redelivered == {row.via == "hold"}
        assert MARKED in look.said or redelivered == {False}
        assert COUNTED in look.said or counted == {0}
        assert max(counted) <= most, (counted, look.said)


def most_counted(release: tuple[int, ...], row: Row, end: str) -> int:
    """How often a look that ends so may have been counted."""
    if (row.kind, row.via) != ("quorum", "hold"):
        return 0
    if release >= (4, 3) and end in ("normal", "ctrl-c"):
        return 0
    unlimited = release < (4, 0)  # what was held may be held again: nothing is lost by it
    return (FLAPS + 1 if end == "lost-30-times" else 2) if unlimited else 1


def look_to_its_end(bus: Bus, row: Row, end: str, victim: Victim | None) -> tuple[list[Delivery], Look]:
    """Look at a queue, end the look, and take what the queue's own consumer gets."""
    bus.broker.declare_queue("q", arguments={"x-queue-type": row.kind})
    route = {"exchange": "", "routing_key": "q"}
    if row.feeding == "topic":
        bus.broker.declare_exchange("x", "topic")
        bus.broker.bind_queue("q", "x", "order.*")
        route = {"exchange": "x", "routing_key": "order.new"}

    def publish() -> None:
        for number in range(COUNT):
            bus.publisher.publish("", {"n": number}, **route)

    taker = Taker(bus, row.kind) if row.consumer else None
    held = row.via == "hold"
    if held:
        publish()
    words = ["--via", "hold"] if held else ["--via", "auto"]
    words += ["-n", str(COUNT)] if end == "normal" else []
    with Proxy(bus.vhost.host, bus.vhost.port) as proxy:
        look = Look(bus, proxy, *words)
        try:
            wait_until(lambda: "q via " in look.said or look.ended, 30)
            if not held:
                publish()
            wait_until(lambda: look.shown.count("\n") >= COUNT or look.ended, 30, what=look.said)
            assert look.shown.count("\n") == COUNT, look.said
            ENDS[end](look, proxy, victim)
        finally:
            look.end(signal.SIGKILL)
    if victim is not None:
        bus.close()
        wait_until(lambda: reconnected(bus), 60)
    clean_up(bus, end)
    if taker is None:
        if row.kind != "stream":
            wait_until(lambda: bus.ready("q") == COUNT, 60)
        assert bus.broker.declare_queue("q", passive=True).consumer_count == 0
        taker = Taker(bus, row.kind)
    return taker.take(COUNT), look


def reconnected(bus: Bus) -> bool:
    """Be there at once when the node is."""
    again = Bus(bus.vhost, bus.folder)
    bus.broker, bus.publisher, bus.management = again.broker, again.publisher, again.management
    return True


def clean_up(bus: Bus, end: str) -> None:
    """What a killed tap leaves is gone after the next run, everything else at once."""
    if end == "kill-9":
        env = {**os.environ, "BUSCTL_AMQP_URL": bus.vhost.amqp_url, "BUSCTL_API_URL": bus.vhost.api_url}
        command = [sys.executable, "-m", "busctl", "tail", "--exchange", "amq.topic", "--key", "#", "--for", "100ms"]
        subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    wait_until(lambda: not left_behind(bus), 60)


def left_behind(bus: Bus) -> list[str]:
    found = [info.name for info in bus.management.queues(bus.name) if info.name.startswith("busctl")]
    found += [info.destination for info in bus.management.bindings(bus.name) if info.destination.startswith("busctl")]
    found += ["tracing"] * bool(bus.management.vhost(bus.name).tracing)
    return found + [path.name for path in Path(os.environ["XDG_STATE_HOME"]).rglob("busctl.tap.*")]
