"""Measures 64 concurrent calls: rate and percentiles of busctl_lib beside pika's BlockingConnection and aio-pika.

usage: calls.py [--broker NAME=AMQP_URL ...] [--rounds 5] [--scale 1] [--output FILE]

Every caller's own view: the time from before the request is made to after its reply is decoded. Without --broker: a
private node of the installed RabbitMQ, then one of the 4.x that BUSCTL_TEST_RABBITMQ_ROOT names. Writes
RESULTS-calls.md beside this file unless --output names another (- is stdout).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from job import Job
from message import MESSAGE
from process import child, end_with_parent
from results import BrokerResults, heading
from stage import Stage
from tasks import THREADS

from busctl_lib.rpc.load import percentile

_OUTPUT = Path(__file__).with_name("RESULTS-calls.md")
_DEADLINE_S = 300
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}

Samples = list[float]


def _threads(number: int, each: int, connected: Callable[[int], Callable[[], Any]]) -> tuple[float, Samples]:
    """Let threads call, each with what `connected` gives it; the time is of the calls alone."""
    ready = threading.Barrier(number + 1)
    samples: list[Samples] = [[] for _ in range(number)]

    def work(index: int) -> None:
        try:
            call = connected(index)
            call()
        except BaseException:
            ready.abort()  # nobody waits for this one any more
            raise
        ready.wait()
        for _ in range(each):
            began = time.perf_counter()
            call()
            samples[index].append(time.perf_counter() - began)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(number)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began, [one for part in samples for one in part]


def ours(job: Job) -> tuple[float, Samples]:
    from busctl_lib import MessageBroker, RPCConsumer

    with MessageBroker(url=job.url) as broker:
        rpc = RPCConsumer(broker)
        return _threads(THREADS, job.n // THREADS, lambda _: lambda: rpc.call(job.queue, MESSAGE, timeout=60))


def blocking(job: Job, threads: int = THREADS) -> tuple[float, Samples]:
    import pika
    from clients.pika_blocking import Caller

    def connected(_index: int) -> Callable[[], Any]:
        caller = Caller(pika.BlockingConnection(pika.URLParameters(job.url)), job.queue)
        numbers = iter(range(job.n + 1))
        return lambda: caller.call(next(numbers))

    return _threads(threads, job.n // threads, connected)


def blocking_one(job: Job) -> tuple[float, Samples]:
    return blocking(job, 1)


def aio(job: Job) -> tuple[float, Samples]:
    from clients.aio import Caller, with_connection

    samples: Samples = []
    watch = [0.0]

    async def work(job: Job, connection: Any) -> None:
        caller = Caller(connection, job.queue)
        await caller.open()
        await caller.call(-1)
        each = job.n // THREADS

        async def calls(first: int) -> None:
            for number in range(first, first + each):
                began = time.perf_counter()
                await caller.call(number)
                samples.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(calls(number * each) for number in range(THREADS)))
        watch[0] = time.perf_counter() - began

    asyncio.run(with_connection(job, work))
    return watch[0], samples


CLIENTS: dict[str, tuple[Callable[[Job], tuple[float, Samples]], int, str]] = {
    "busctl_lib": (ours, 12_800, "64 threads on one `RPCConsumer`, one connection; confirmed, mandatory, deadline"),
    "aio-pika": (aio, 9_600, "64 coroutines on one channel; not confirmed"),
    "pika-blocking, 64": (blocking, 6_400, "64 threads, each with a BlockingConnection of its own; not confirmed"),
    "pika-blocking, 1": (blocking_one, 3_000, "one BlockingConnection, one call after the other; not confirmed"),
}
"""How each calls, how many calls a round, and what that is in words."""


def measure(client: str, url: str, queue: str, n: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    with child("calls.py", "--measure", client, url, queue, str(n)) as process:
        # Its end of the pipe stays open while it measures: closing it would end the child.
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line or process.wait(_DEADLINE_S):
            raise RuntimeError(f"{client}: {process.communicate()[1][-500:]}")
        found: dict[str, float] = json.loads(line)
    return found


def _measure_here(client: str, url: str, queue: str, n: str) -> None:
    end_with_parent()
    seconds, samples = CLIENTS[client][0](Job(url, queue, int(n)))
    samples.sort()
    shares = {name: percentile(samples, share) for name, share in _SHARES.items()}
    print(json.dumps({"n": len(samples), "rate": len(samples) / seconds, **shares}), flush=True)


def _table(rounds: dict[str, list[dict[str, float]]]) -> list[str]:
    head = ["client", "calls/s", "min .. max", "p50 ms", "p95 ms", "p99 ms", "max ms", "ours / client", "how"]
    lines = [f"| {' | '.join(head)} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for client, found in rounds.items():
        rates = [one["rate"] for one in found]
        ratio = median(mine["rate"] / rate for mine, rate in zip(rounds["busctl_lib"], rates, strict=True))
        times = [f"{median(one[share] for one in found) * 1000:.1f}" for share in _SHARES]
        spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
        row = [client, f"{median(rates):,.0f}", spread, *times, f"{ratio:.2f}", CLIENTS[client][2]]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def run_on(name: str, url: str, options: argparse.Namespace) -> tuple[BrokerResults, list[str]]:
    stage = Stage(url)
    try:
        results = BrokerResults(name, stage.about, stage.version, options.rounds)
        rounds: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
        with stage.echo_service() as queue:
            for number in range(options.rounds):
                order = list(CLIENTS)[number % len(CLIENTS) :] + list(CLIENTS)[: number % len(CLIENTS)]
                for client in order:
                    n = max(THREADS, round(CLIENTS[client][1] * options.scale))
                    found = measure(client, url, queue, n)
                    rounds[client].append(found)
                    print(
                        f"{name} {number + 1}/{options.rounds}  {client:<18} {found['rate']:>8,.0f} calls/s",
                        file=sys.stderr,
                    )
        return results, _table(rounds)
    finally:
        stage.close()


def main() -> None:
    from run import brokers

    parser = argparse.ArgumentParser(prog="calls.py", description="Measure 64 concurrent calls.")
    parser.add_argument("--broker", action="append", default=[], metavar="NAME=AMQP_URL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--output", default=str(_OUTPUT), metavar="FILE")
    options = parser.parse_args()
    found = []
    with brokers(options) as turn:
        for name, url in turn:
            found.append(run_on(name, url, options))
    command = f".venv/bin/python benchmarks/calls.py {shlex.join(sys.argv[1:])}".rstrip() if not options.broker else ""
    about = (
        f"{THREADS} callers at once against one echo service (pika SelectConnection, a process of its own), over "
        "direct reply-to, JSON both ways. Times are each caller's own. Medians over the rounds; in a round each client "
        "is measured once, in a process of its own, in an order that changes."
    )
    lines = heading("Calls", about, [command] if command else [], [results for results, _ in found], list(_VERSIONS))
    for results, table in found:
        lines += [f"## RabbitMQ {results.version} ({results.name})", "", *table, ""]
    page = "\n".join(lines).rstrip() + "\n"
    if options.output == "-":
        print(page, end="")
    else:
        Path(options.output).write_text(page, encoding="utf-8")


_VERSIONS = ("busctl_lib", "pika-blocking", "aio-pika")

if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measure_here(*sys.argv[2:6])
    else:
        main()
