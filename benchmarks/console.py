"""Measures the console under load: the first frame, a beat, from a key to what it changed on the screen, memory.

usage: console.py [--queues 10000] [--rate 10000] [--seconds 20] [--beat 2] [--memory SECONDS] [--memory-rate 1000]

No broker: a thread reads a list of queues in which every one has changed, as the poller does, on every beat; the tap is
one that gives made messages at a rate. All from there on is the console itself, with Textual's driver that has no
terminal; what it would write is put together all the same. Prints a line a measurement: key to paint in milliseconds;
of a beat the processor time of the thread that draws, which other load on the machine changes less than the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from textual.events import Key
from textual.pilot import Pilot

import busctl_lib.taps
from busctl.config import Flags, resolve
from busctl.session import Session
from busctl.tui.app import ConsoleApp
from busctl.tui.screens import tail
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.management.infos import QueueInfo
from busctl_lib.management.infos_cluster import NodeInfo, OverviewInfo
from busctl_lib.poller import Snapshot
from busctl_lib.taps import TapPlan

SIZE = (160, 50)
WAIT_S = 5.0
BODY = msgspec.json.encode({"action": "place_order", "symbol": "MSFT", "price": 150.25, "note": "x" * 80})
PLAN = TapPlan(vhost="/", way="copy", reason="", sees="made messages", misses=[], costs="nothing", queue="q00001")


class Probe(ConsoleApp):
    """The console, which tells when a key that was pressed is on the screen."""

    CSS_PATH = Path(sys.modules[ConsoleApp.__module__].__file__ or "").parent / "screens" / "place.tcss"
    pressed_at: float | None = None
    handled = False
    took_ms: float | None = None
    first_frame_s: float | None = None

    async def run_action(self, *arguments: Any, **named: Any) -> bool:
        """A key does something."""
        done = await super().run_action(*arguments, **named)
        self.handled = self.pressed_at is not None
        return done

    def _display(self, screen: Any, renderable: Any) -> None:
        super()._display(screen, renderable)
        if renderable is None or self._batch_count:
            return
        if hasattr(renderable, "render_segments"):
            renderable.render_segments(self.console)  # what a driver with a terminal would write
        if self.first_frame_s is None:
            self.first_frame_s = process_age_s()
        if self.handled and self.pressed_at is not None:
            self.took_ms = (time.perf_counter() - self.pressed_at) * 1000
            self.pressed_at, self.handled = None, False

    async def key_to_paint_ms(self, key: str) -> float | None:
        """Press a key and wait for its paint; None: it changed nothing in time."""
        self.took_ms, self.handled, self.pressed_at = None, False, time.perf_counter()
        self.post_message(Key(key, key if len(key) == 1 else None))
        deadline = time.monotonic() + WAIT_S
        while self.took_ms is None and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        return self.took_ms


class Beats:
    """Snapshots in which every queue has changed."""

    def __init__(self, app: Probe, count: int, every_s: float) -> None:
        self._app, self._every_s = app, every_s
        self._texts = [self._list(count, seed) for seed in range(3)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @staticmethod
    def _list(count: int, seed: int) -> bytes:
        dice = random.Random(seed)
        return msgspec.json.encode(
            [
                {
                    "name": f"q{number:05}",
                    "vhost": "/",
                    "type": "classic",
                    "state": "running",
                    "messages": (ready := dice.randrange(50_000)),
                    "messages_ready": ready,
                    "messages_unacknowledged": 0,
                    "consumers": dice.randrange(1, 4),
                }
                for number in range(count)
            ]
        )

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        sequence = 0
        overview = OverviewInfo(node="rabbit@bench", rabbitmq_version="4.0.5", cluster_name="bench")
        nodes = [NodeInfo(name="rabbit@bench", running=True)]
        while True:
            sequence += 1
            infos = msgspec.json.decode(self._texts[sequence % 3], type=list[QueueInfo])
            snapshot = Snapshot(
                sequence=sequence,
                overview=overview,
                nodes=nodes,
                queues={info.key: info for info in infos},
                taken_at=time.monotonic(),
                taken_wall=time.time(),
            )
            self._app.feed.take_snapshot(snapshot)
            if self._ended.wait(self._every_s):
                return


class MadeTap:
    """A tap that gives messages at a rate."""

    def __init__(self, rate: float) -> None:
        self._rate, self._given, self._began = rate, 0, time.monotonic()

    def next(self, timeout_s: float) -> Delivery | None:
        """Give the next one when it is due."""
        due = self._began + self._given / self._rate - time.monotonic()
        if due > timeout_s:
            time.sleep(timeout_s)
            return None
        if due > 0:
            time.sleep(due)
        self._given += 1
        properties = Properties(message_id=str(self._given), content_type="application/json")
        return Delivery(
            exchange="", routing_key="q00001", properties=properties, body=BODY, queue="q00001", received_at=time.time()
        )


def made_taps(rate: float) -> None:
    """Put the made tap in the place of the broker's."""

    @contextlib.contextmanager
    def opened(*_: object) -> Iterator[MadeTap]:
        yield MadeTap(rate)

    busctl_lib.taps.plan_tap = lambda *_, **__: PLAN  # type: ignore[assignment]
    tail.opened_tap = opened  # type: ignore[assignment]
    tail.lost_link = lambda _: None  # type: ignore[assignment]


def process_age_s() -> float:
    """How long ago this process was started, everything it loaded included."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def memory_mb() -> float:
    """What this process has in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def say(name: str, samples: list[float], lost: int) -> None:
    """Print the figures of a measurement."""
    samples.sort()
    at = {share: samples[min(int(share * len(samples)), len(samples) - 1)] for share in (0.5, 0.95)}
    load = os.getloadavg()[0]
    figures = f"p50 {at[0.5]:.1f}  p95 {at[0.95]:.1f}  worst {samples[-1]:.1f} ms of {len(samples)} keys"
    print(f"{name}: {figures}; {lost} without a paint; memory {memory_mb():.0f} MB; load {load:.1f}", flush=True)


async def pressed(app: Probe, name: str, keys: tuple[str, ...], seconds: float) -> None:
    """Press keys for some time, and say how long each took."""
    samples: list[float] = []
    lost, number, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        took = await app.key_to_paint_ms(keys[number % len(keys)])
        number += 1
        lost += took is None
        samples += [took] if took is not None else []
        await asyncio.sleep(random.uniform(0.02, 0.12))
    say(name, samples, lost)


async def beating(app: Probe, name: str, seconds: float) -> None:
    """Say what a beat costs the thread that draws, with no key pressed."""
    began, first = time.thread_time(), app.feed.snapshot.sequence
    await asyncio.sleep(seconds)
    beats = app.feed.snapshot.sequence - first
    spent_ms = (time.thread_time() - began) * 1000
    print(f"{name}: {spent_ms / max(beats, 1):.1f} ms of the drawing thread a beat, {beats} beats", flush=True)


async def opened(app: Probe, pilot: Pilot[None], line: str) -> None:
    """Go somewhere by the command bar."""
    await pilot.press("colon")
    app.screen.query_one("#prompt-text").value = line  # type: ignore[attr-defined]
    await pilot.press("enter")
    await asyncio.sleep(3)


async def measured(options: argparse.Namespace) -> None:
    """Go through the measurements."""
    settings = resolve(Flags(amqp_url="amqp://127.0.0.1:1", api_url="http://127.0.0.1:1"), {})
    made_taps(options.rate)
    gc.set_threshold(50_000)  # as the program does
    with Session(settings) as session:
        app = Probe(session)
        app.feed.start = lambda: None  # type: ignore[method-assign]
        async with app.run_test(size=SIZE) as pilot:
            gc.freeze()
            print(f"first frame: {app.first_frame_s:.2f} s after the start; memory {memory_mb():.0f} MB", flush=True)
            with Beats(app, options.queues, options.beat):
                await asyncio.sleep(2 * options.beat)
                await beating(app, f"overview of {options.queues:,} queues", options.seconds / 2)
                await opened(app, pilot, "queues")
                await beating(app, f"{options.queues:,} queues", options.seconds / 2)
                await pressed(app, f"{options.queues:,} queues", ("down", "down", "up", "s"), options.seconds)
                await opened(app, pilot, "tail q00001")
                await beating(app, f"tail at {options.rate:,}/s", options.seconds / 2)
                await pressed(app, f"tail at {options.rate:,}/s", ("s", "up", "up", "down", "s"), options.seconds)
                if options.memory:
                    made_taps(options.memory_rate)
                    await opened(app, pilot, "overview")
                    await opened(app, pilot, "tail q00001")
                    await watched(options.memory, options.memory_rate)


async def watched(seconds: float, rate: float) -> None:
    """Say how much memory a tail needs while it goes on."""
    for part in range(11):
        print(f"tail at {rate:,.0f}/s, after {part * seconds / 10:.0f} s: memory {memory_mb():.0f} MB", flush=True)
        await asyncio.sleep(seconds / 10 if part < 10 else 0)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--beat", type=float, default=2.0, help="seconds between two snapshots")
    parser.add_argument("--memory", type=float, default=0, metavar="SECONDS", help="then watch the memory of a tail")
    parser.add_argument("--memory-rate", type=float, default=1_000)
    asyncio.run(measured(parser.parse_args()))


if __name__ == "__main__":
    main()
