"""Measures what looking at a bus of many queues costs: the list as a command, and one minute of the console's beat.

usage: management.py [--queues 10000] [--rounds 5] [--seconds 60] [--output FILE]

On a private node of the installed RabbitMQ, then on one of the 4.x that BUSCTL_TEST_RABBITMQ_ROOT names:

- `busctl queues -o json`, consumer counts included, beside `curl` of the plain list, in turn; and its memory
- start-up: the processor time of `busctl --version`, `busctl --help` and a Tab in the shell
- the poller with the first 50 queues on the screen beside the requests that the management UI sends on its queues page:
  sorted by name, with its largest page, and sorted by messages; and beside a list of all on the same beat. Bytes
  through a counting road; processor time of the node during the requests, less what it needs when nobody looks

300 queues have consumers and a flow of messages, 500 more hold messages, no two the same number; the rest is empty.

Takes eight minutes a version; a slow machine gets fewer rounds of the list. Writes RESULTS-management.md beside this
file after each version. Progress goes to stderr. Exit codes: 0 measured, 1 a measurement failed.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from many_queues import CONSUMERS, Bus, CountingRoad, many_queues, name_of, say

from busctl_lib.management import ManagementClient
from busctl_lib.poller import Poller, Snapshot

_RESULTS = Path(__file__).with_name("RESULTS-management.md")
_ON_SCREEN = 50
_IDLE_S = 20.0
_LIST_S = 60.0
"""No new round of the list after that, from the second one on."""
_ASK_S = 60
_OURS = "busctl's console"
_STARTS = 20
_UI_EVERY_S = 5.0  # its own default
_UI_PAGE = "queues?page=1&page_size={size}&name=&use_regex=false&pagination=true"
_UI_PAGES = {
    "management UI, 100 by name": [_UI_PAGE.format(size=100), "vhosts"],
    "management UI, 500 by name": [_UI_PAGE.format(size=500), "vhosts"],
    "management UI, 100 by messages": [_UI_PAGE.format(size=100) + "&sort=messages&sort_reverse=true", "vhosts"],
    "`/api/queues`, all": ["queues"],
}


T = TypeVar("T")


class Failed(Exception):
    """A measurement that has no figure."""


failures: list[str] = []


def rows_or_why(measure: Callable[[], list[str]]) -> list[str]:
    """What was measured, or why there is no figure; the rest goes on."""
    try:
        return measure()
    except Failed as error:
        say(f"failed: {error}")
        failures.append(str(error))
        return [f"| no figure: {error} |"]


@dataclass
class Cost:
    """What one minute of looking costs."""

    who: str
    requests: int
    n_bytes: int
    cpu_s: float


class Meter:
    """Adds up the processor time of the node while requests are under way."""

    def __init__(self, bus: Bus, idle_share: float) -> None:
        self._bus = bus
        self._idle_share = idle_share
        self.cpu_s = 0.0

    def measured(self, ask: Callable[..., T]) -> Callable[..., T]:
        """The same function, metered."""

        def metered(*arguments: Any, **named: Any) -> T:
            before, started = self._bus.cpu_s(), time.perf_counter()
            try:
                return ask(*arguments, **named)
            finally:
                idle_s = self._idle_share * (time.perf_counter() - started)
                self.cpu_s += self._bus.cpu_s() - before - idle_s

        return metered


# --- the command


def measure_start() -> list[str]:
    """What it costs to begin."""
    tab = {"_BUSCTL_COMPLETE": "bash", "_BUSCTL_LINE": "busctl que"}
    starts = {"busctl --version": (["--version"], {}), "busctl --help": (["--help"], {}), "Tab": ([], tab)}
    rows = []
    for what, (arguments, more) in starts.items():
        spent = [time_start(arguments, more) for _ in range(_STARTS + 1)][1:]
        seconds, cpu_s = (statistics.median(each) for each in zip(*spent, strict=True))
        say(f"  start: {what} {seconds * 1e3:.0f} ms, {cpu_s * 1e3:.0f} ms of processor")
        rows.append(f"| `{what}` | {seconds * 1e3:.0f} ms | {cpu_s * 1e3:.0f} ms |")
    return ["| start | median | processor time |", "| --- | --- | --- |", *rows]


def time_start(arguments: list[str], more: dict[str, str]) -> tuple[float, float]:
    """Seconds, and seconds of processor."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "busctl", *arguments], stdout=subprocess.DEVNULL, env={**os.environ, **more}
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"busctl {' '.join(arguments)} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime


def time_curl(bus: Bus) -> float:
    started = time.perf_counter()
    ended = subprocess.run(["curl", "-sf", "-m", "120", "-o", os.devnull, f"{bus.node.api_url}/api/queues"])
    if ended.returncode != 0:
        raise Failed(f"curl ended with {ended.returncode} after {time.perf_counter() - started:.0f} s")
    return time.perf_counter() - started


def time_busctl(bus: Bus) -> tuple[float, int]:
    """Seconds and the largest resident memory in bytes."""
    command = [sys.executable, "-m", "busctl", "queues", "-o", "json"]
    environment = {**os.environ, "BUSCTL_AMQP_URL": bus.node.amqp_url, "BUSCTL_API_URL": bus.node.api_url}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    listed = json.loads(out) if process.returncode == 0 else []
    if len(listed) != bus.queues or sum(info.get("consumers", 0) for info in listed) != CONSUMERS:
        raise Failed(f"busctl queues ended with {process.returncode} and {len(listed)} queues, or without consumers")
    return seconds, usage.ru_maxrss * 1024


def measure_list(bus: Bus, rounds: int) -> list[str]:
    taken: list[tuple[float, float, int]] = []
    ends = time.monotonic() + _LIST_S
    for number in range(rounds + 1):
        if taken and time.monotonic() > ends:
            break
        curl = time_curl(bus)
        seconds, memory = time_busctl(bus)
        say(f"  list: curl {curl:.2f} s, busctl {seconds:.2f} s, {memory / 1e6:.0f} MB")
        if number:  # the first of each warms caches up
            taken.append((curl, seconds, memory))
    curls, ours, memories = zip(*taken, strict=True)
    ratio = statistics.median(mine / theirs for theirs, mine, _ in taken)
    return [
        f"| `curl /api/queues` | {statistics.median(curls):.2f} s | 1 | |",
        f"| `busctl queues -o json` | {statistics.median(ours):.2f} s | {ratio:.2f} | {max(memories) / 1e6:.0f} MB |",
    ]


# --- one minute


Look = Callable[[Bus, float, "Roads", Meter], None]


@dataclass
class Roads:
    """Counting roads to the API and to the Prometheus listener."""

    api: CountingRoad
    metrics: CountingRoad


def measure_minute(bus: Bus, seconds: float, idle_share: float, who: str, look: Look) -> Cost:
    roads = Roads(CountingRoad(bus.node.api_port), CountingRoad(urlsplit(bus.node.prometheus_url).port or 0))
    meter = Meter(bus, idle_share)
    try:
        look(bus, seconds, roads, meter)
    except requests.RequestException as error:
        raise Failed(f"{who}: {error}") from error
    finally:
        roads.api.close()
        roads.metrics.close()
    n_bytes = roads.api.n_bytes + roads.metrics.n_bytes
    cost = Cost(who, roads.api.requests + roads.metrics.requests, n_bytes, meter.cpu_s)
    say(f"  {who}: {cost.requests} requests, {cost.n_bytes} bytes, {cost.cpu_s:.2f} s of processor in {seconds:g} s")
    return cost


def be_the_ui(pages: list[str]) -> Look:
    def look(bus: Bus, seconds: float, roads: Roads, meter: Meter) -> None:
        session = requests.Session()
        get = meter.measured(session.get)
        ends = time.monotonic() + seconds
        due = time.monotonic()
        while time.monotonic() < ends:
            for path in pages:
                get(f"{bus.url_at(roads.api.port)}/api/{path}", timeout=_ASK_S).raise_for_status()
            due += _UI_EVERY_S
            time.sleep(max(0.0, min(due, ends) - time.monotonic()))

    return look


def be_the_console(bus: Bus, seconds: float, roads: Roads, meter: Meter) -> None:
    client = ManagementClient(bus.url_at(roads.api.port), timeout_s=(10, 60))
    http = client._http
    get_open = meter.measured(http.get_open)  # that listener is named by the broker: lead it over the counting road
    http.get_open = lambda url, **named: get_open(  # type: ignore[method-assign]
        url.replace(f":{urlsplit(url).port}/", f":{roads.metrics.port}/"), **named
    )
    http._request = meter.measured(http._request)  # type: ignore[method-assign]
    seen: list[Snapshot] = []
    poller = Poller(client, seen.append)
    numbers = sorted(range(bus.queues), key=name_of)[:_ON_SCREEN]
    poller.show_queues([("/", name_of(number)) for number in numbers])
    poller.start()
    time.sleep(seconds)
    poller.stop()
    last = seen[-1]
    if last.error is not None or len(last.queues) != bus.queues:
        raise Failed(f"the poller saw {len(last.queues)} queues: {last.error}")
    for number in [0, CONSUMERS, *numbers]:
        if last.queues["/", name_of(number)].consumers != int(number < CONSUMERS):
            raise Failed("the poller does not know the consumers")
    moving = sum(number < CONSUMERS for number in numbers)
    say(f"  {len(seen)} beats, {moving} of {len(numbers)} queues on the screen move")


def measure_looking(bus: Bus, seconds: float) -> list[str]:
    before, started = bus.cpu_s(), time.perf_counter()
    time.sleep(_IDLE_S)
    idle_share = (bus.cpu_s() - before) / (time.perf_counter() - started)
    say(f"  idle: {idle_share:.3f} of a processor")
    looks: dict[str, Look] = {_OURS: be_the_console}
    looks |= {who: be_the_ui(pages) for who, pages in _UI_PAGES.items()}
    costs: list[Cost] = []

    def measured(who: str, look: Look) -> list[str]:
        costs.append(measure_minute(bus, seconds, idle_share, who, look))
        ours = next((cost for cost in costs if cost.who == _OURS), costs[-1])
        return [row(costs[-1], ours)]

    return [line for who, look in looks.items() for line in rows_or_why(functools.partial(measured, who, look))]


def row(cost: Cost, ours: Cost) -> str:
    shares = [ours.cpu_s / max(cost.cpu_s, 0.01), ours.n_bytes / cost.n_bytes]
    told = [cost.who, str(cost.requests), f"{cost.n_bytes / 1e3:.0f} kB", f"{cost.cpu_s:.2f} s"]
    return f"| {' | '.join(told + ['' if cost is ours else f'{share:.2f}' for share in shares])} |"


def page(about: str, bus: Bus, listed: list[str], looked: list[str], seconds: float) -> list[str]:
    return [
        f"## {about}, {bus.queues} queues",
        "",
        f"Load of the machine over the last 15 minutes: {os.getloadavg()[2]:.1f} on {os.cpu_count()} processors.",
        "",
        "| list | median | share of curl's | memory |",
        "| --- | --- | --- | --- |",
        *listed,
        "",
        f"| looking for {seconds:g} s | requests | bytes | processor time of the node | our share of it | of bytes |",
        "| --- | --- | --- | --- | --- | --- |",
        *looked,
        "",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="management.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=_RESULTS)
    options = parser.parse_args()
    lines = ["# What looking costs", "", "Written by `benchmarks/management.py`.", "", *rows_or_why(measure_start), ""]
    for root in dict.fromkeys([None, os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT") or None]):
        with many_queues(root, options.queues) as bus, ManagementClient(bus.node.api_url) as api:
            version = api.overview().rabbitmq_version
            listed = rows_or_why(functools.partial(measure_list, bus, options.rounds))
            looked = measure_looking(bus, options.seconds)
            lines += page(f"RabbitMQ {version}", bus, listed, looked, options.seconds)
        options.output.write_text("\n".join(lines))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
