"""Measures replay and move beside the broker's own shovel, on the same node with the same messages.

usage: transfers.py [--messages 100000] [--rounds 3] [--way NAME ...] [--output FILE]

A private node of the installed RabbitMQ, then one of the 4.x that BUSCTL_TEST_RABBITMQ_ROOT names. In each round every
way is measured once, in an order that changes. Ours is timed without the pass that makes the plan, with the journal on
disk; the shovel (prefetch 1,000, on-confirm, as the management console makes it) from its declaration to the last
message. Afterwards the queues are counted: a run that lost or doubled a message fails.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.management import ManagementClient
from busctl_lib.management.transport import Transport
from busctl_lib.sandbox import PrivateBroker

_SOURCE, _TARGET, _ORDERS = "bench.dead", "bench.moved", "bench.orders"
_EXCHANGE, _DEAD = "bench.trading", "bench.dlx"
_WAYS = {
    "shovel": "the broker's own mover",
    "shovel-plain": "the same, of messages that never died",
    "replay": "exact: one transaction a batch",
    "replay-fast": "`--fast`: pipelined confirms",
    "move": "exact",
    "move-fast": "`--fast`",
}
_FLOORS = {"replay": 0.2, "replay-fast": 0.4, "move": 0.2, "move-fast": 0.4}


def main() -> int:
    parser = argparse.ArgumentParser(prog="transfers.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", action="append", choices=list(_WAYS))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=3, metavar=("WAY", "AMQP_URL", "API_URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_ours(*options.child)))
        return 0
    pages = []
    for name, root in (("installed", None), ("4.x", os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT"))):
        if name == "4.x" and root is None:
            continue
        with PrivateBroker(root=root) as node:
            pages.append(measure_node(node, options))
    text = "\n".join([*_head(options), *pages])
    if options.output:
        options.output.write_text(text)
    else:
        print(text)
    return 0


def measure_node(node: PrivateBroker, options: argparse.Namespace) -> str:
    ways = options.way or list(_WAYS)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with MessageBroker(url=node.amqp_url) as broker:
        version = broker.server_version
        for turn in range(options.rounds):
            for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
                fill(broker, options.messages, plain=way == "shovel-plain")
                measured = measure_shovel(node, broker, options.messages) if "shovel" in way else run_child(way, node)
                check(broker, way, options.messages)
                found[way].append(measured)
                print(f"{version} {way}: {measured['rate']:,.0f}/s", file=sys.stderr, flush=True)
    return table(version, found)


def fill(broker: MessageBroker, messages: int, *, plain: bool) -> None:
    """Put so many dead letters into the source: published, expired at once, dead-lettered by the broker."""
    for queue in (_SOURCE, _TARGET, _ORDERS):
        broker.delete_queue(queue)
    broker.declare_exchange(_EXCHANGE, "topic")
    broker.declare_exchange(_DEAD, "fanout")
    broker.declare_queue(_SOURCE)
    broker.declare_queue(_TARGET)
    arguments = {"x-dead-letter-exchange": _DEAD, "x-message-ttl": 0}
    broker.declare_queue(_ORDERS, arguments=arguments)
    if not plain:
        broker.bind_queue(_SOURCE, _DEAD)
        broker.bind_queue(_ORDERS, _EXCHANGE, "order.#")
    publisher = MessagePublisher(broker)
    settled = threading.Semaphore(0)
    for number in range(messages):
        message = {"action": "place_order", "n": number, "symbol": "AAPL", "quantity": 100.0, "pad": "x" * 110}
        if plain:
            envelope = publisher.envelope(_SOURCE, message)
        else:
            envelope = publisher.envelope(None, message, exchange=_EXCHANGE, routing_key="order.new")
        publisher.send_envelope(envelope, lambda _entry: settled.release(), timeout=120)
    for _ in range(messages):
        settled.acquire()
    wait_for(broker, _SOURCE, messages)
    broker.delete_queue(_ORDERS)
    broker.declare_queue(_ORDERS)
    broker.bind_queue(_ORDERS, _EXCHANGE, "order.#")


def wait_for(broker: MessageBroker, queue: str, messages: int) -> None:
    deadline = time.monotonic() + 300
    while broker.declare_queue(queue, passive=True).message_count < messages:
        if time.monotonic() > deadline:
            raise SystemExit(f"{queue} never had {messages} messages")
        time.sleep(0.02)


def measure_shovel(node: PrivateBroker, broker: MessageBroker, messages: int) -> dict[str, Any]:
    value = {
        "src-protocol": "amqp091",
        "src-uri": node.amqp_url,
        "src-queue": _SOURCE,
        "src-delete-after": "queue-length",
        "src-prefetch-count": 1000,
        "dest-protocol": "amqp091",
        "dest-uri": node.amqp_url,
        "dest-queue": _TARGET,
        "ack-mode": "on-confirm",
    }
    api = Transport(node.api_url, None, None, (10.0, 30.0), read_only=False)
    started = time.perf_counter()
    api.change("PUT", "parameters/shovel/%2F/bench", {"value": value})
    wait_for(broker, _TARGET, messages)
    elapsed = time.perf_counter() - started
    api.close()
    return {"rate": messages / elapsed}


def run_child(way: str, node: PrivateBroker) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", way, node.amqp_url, node.api_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed: {done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure_ours(way: str, amqp_url: str, api_url: str) -> dict[str, Any]:
    from busctl_lib.journal import Journal
    from busctl_lib.transfers import Request, Transfer

    kind, _, fast = way.partition("-")
    target = _TARGET if kind == "move" else None
    request = Request(kind=kind, source=_SOURCE, target=target, fast=bool(fast))  # type: ignore[arg-type]
    with (
        tempfile.TemporaryDirectory() as folder,
        MessageBroker(url=amqp_url) as broker,
        ManagementClient(api_url) as management,
        Journal(Path(folder) / "journal.sqlite") as journal,
        Transfer(broker, management, journal, request) as transfer,
    ):
        for _ in transfer.planning():
            pass
        before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        for _ in transfer.running():
            pass
        elapsed = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert transfer.account is not None
        operation = transfer.account.operation
        assert operation.state == "done", transfer.account
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    moved = operation.moved
    return {"rate": moved / elapsed, "rss_mb": after.ru_maxrss / 1024, "cpu_us": 1e6 * cpu / moved}


def check(broker: MessageBroker, way: str, messages: int) -> None:
    target = _ORDERS if way.startswith("replay") else _TARGET
    counts = [broker.declare_queue(queue, passive=True).message_count for queue in (_SOURCE, target)]
    if counts != [0, messages]:
        raise SystemExit(f"{way}: {counts} messages in source and target, not [0, {messages}]")


def table(version: str, found: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"## RabbitMQ {version}", "", "| way | messages/s | min .. max | of the shovel | at least | client CPU µs"]
    lines[-1] += " each | memory MB | how |"
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for way, measured in found.items():
        rates = [each["rate"] for each in measured]
        share, floor = "", ""
        if way in _FLOORS and "shovel" in found:
            peers = [each["rate"] for each in found["shovel"]]
            share = f"{statistics.median(a / b for a, b in zip(rates, peers, strict=True)):.2f}"
            if "shovel-plain" in found:
                plain = [each["rate"] for each in found["shovel-plain"]]
                share += f" ({statistics.median(a / b for a, b in zip(rates, plain, strict=True)):.2f} of plain)"
            floor = f"{_FLOORS[way]:.1f}"
        cpu = f"{statistics.median(each['cpu_us'] for each in measured):.0f}" if "cpu_us" in measured[0] else ""
        memory = f"{max(each['rss_mb'] for each in measured):.0f}" if "rss_mb" in measured[0] else ""
        lines.append(
            f"| {way} | {statistics.median(rates):,.0f} | {min(rates):,.0f} .. {max(rates):,.0f} | {share} | {floor} "
            f"| {cpu} | {memory} | {_WAYS[way]} |"
        )
    return "\n".join([*lines, ""])


def _head(options: argparse.Namespace) -> list[str]:
    return [
        "# Transfers beside the shovel",
        "",
        f"{options.messages:,} persistent messages of 200 bytes that died once (four headers of the broker) in classic",
        f"queues; {options.rounds} rounds, median, ratios within a round; two cores for broker and client. The plan",
        "pass is not timed, the journal is on disk. The shovel moves to a queue, with prefetch 1,000 and on-confirm.",
        "",
        "```console",
        "$ BUSCTL_TEST_RABBITMQ_ROOT=DIR .venv/bin/python benchmarks/transfers.py --output RESULTS-transfers.md",
        "```",
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())
