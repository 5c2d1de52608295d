"""Measures what each message service costs a message, against the plain path in the same run; `services.py`.

usage: services.py [--broker NAME=AMQP_URL] [--rounds 5] [--messages 20000] [--output FILE]

Without --broker: a private node of the installed RabbitMQ. Prints a page, or writes it to --output. Each row is the
median of the rounds, all of them interleaved. Time is the client's processor time per message, which a busy machine
changes least.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from message import MESSAGE

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher, PrivateBroker
from busctl_lib.codecs import Keyring, new_key
from busctl_lib.dedup import MemorySeenStore, SqliteSeenStore
from busctl_lib.retry import RetryPolicy

QUEUE = "bench"
LARGE = {**MESSAGE, "levels": [[150.0 + n / 100, n * 10] for n in range(150)]}
KEYS = Keyring({"k1": new_key()})

Row = tuple[str, str, Callable[[str, int], float]]


def publish_many(message: Any = MESSAGE, *, tracing: bool = False, **options: Any) -> Callable[[str, int], float]:
    def run(url: str, count: int) -> float:
        with MessageBroker(url=url, tracing=tracing) as broker:
            broker.purge_queue(QUEUE)
            publisher = MessagePublisher(broker, **options)
            publisher.publish(QUEUE, message)
            started = time.process_time()
            report = publisher.publish_many((QUEUE, message) for _ in range(count))
            elapsed = time.process_time() - started
            assert report.confirmed == count
        return elapsed / count

    return run


def publish_one(**options: Any) -> Callable[[str, int], float]:
    def run(url: str, count: int) -> float:
        each = max(1, count // 20)
        with MessageBroker(url=url) as broker:
            broker.purge_queue(QUEUE)
            publisher = MessagePublisher(broker)
            publisher.publish(QUEUE, MESSAGE, **options)
            started = time.process_time()
            for _ in range(each):
                publisher.publish(QUEUE, MESSAGE, **options)
            return (time.process_time() - started) / each

    return run


def consume(
    message: Any = MESSAGE,
    *,
    tracing: bool = False,
    sent: dict[str, Any] | None = None,
    dedup: str | None = None,
    fail_first: bool = False,
    **options: Any,
) -> Callable[[str, int], float]:
    def run(url: str, count: int) -> float:
        count = count // 10 if fail_first else count
        handled = 0
        done = threading.Event()

        def handle(_message: Any, properties: Any) -> None:
            nonlocal handled
            if fail_first and not (properties.headers or {}).get("busctl-attempt"):
                raise RuntimeError
            handled += 1
            if handled == count:
                done.set()

        with MessageBroker(url=url, tracing=tracing) as broker, seen_store(dedup) as store:
            broker.purge_queue(QUEUE)
            if fail_first:
                MessagePublisher(broker).publish(QUEUE, MESSAGE, delay=0.1)
                while not broker.purge_queue(QUEUE):
                    time.sleep(0.05)
            MessagePublisher(broker, **(sent or {})).publish_many((QUEUE, message) for _ in range(count))
            consumer = MessageConsumer(broker, prefetch=500, dedup=store, **options)
            consumer.register_default(handle)
            started = time.process_time()
            consumer.start_consuming(QUEUE, background=True)
            assert done.wait(300)
            elapsed = time.process_time() - started
            consumer.stop()
        return elapsed / count

    return run


@contextmanager
def seen_store(kind: str | None) -> Iterator[Any]:
    if kind != "sqlite":
        yield MemorySeenStore() if kind else None
        return
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteSeenStore(Path(folder) / "seen.db")
        yield store
        store.close()


ROWS: list[Row] = [
    ("publish", "plain", publish_many()),
    ("publish", "tracing", publish_many(tracing=True)),
    ("publish", "encrypted", publish_many(keys=KEYS)),
    ("publish, 2.5 kB", "plain", publish_many(LARGE)),
    ("publish, 2.5 kB", "zstd", publish_many(LARGE, compress="zstd")),
    ("publish, 2.5 kB", "gzip", publish_many(LARGE, compress="gzip")),
    ("publish, 2.5 kB", "zstd and encrypted", publish_many(LARGE, compress="zstd", keys=KEYS)),
    ("publish, one by one", "plain", publish_one()),
    ("publish, one by one", "delay by the ladder", publish_one(delay=3600.0)),
    ("publish, one by one", "delay by a queue of its own", publish_one(delay=3600.0, fixed_delay=True)),
    ("consume", "plain", consume()),
    ("consume", "retry policy, nothing fails", consume(retry=RetryPolicy())),
    ("consume", "dedup in memory", consume(dedup="memory")),
    ("consume", "dedup in SQLite", consume(dedup="sqlite")),
    ("consume", "tracing", consume(tracing=True, sent={})),
    ("consume", "encrypted", consume(sent={"keys": KEYS}, keys=KEYS)),
    ("consume, 2.5 kB", "plain", consume(LARGE)),
    ("consume, 2.5 kB", "zstd", consume(LARGE, sent={"compress": "zstd"})),
    ("consume", "each fails once, 0.1 s delay", consume(fail_first=True, retry=RetryPolicy(first_delay_s=0.1))),
]


def page(name: str, rounds: int, figures: dict[tuple[str, str], list[float]]) -> str:
    lines = [
        "# What the message services cost",
        "",
        f"RabbitMQ {name}, Python {sys.version.split()[0]}; the median of {rounds} interleaved rounds (least to most),",
        "the client's processor time, `benchmarks/services.py`. The message of `benchmarks/message.py`, unless a size",
        "is given.",
        "",
        "| path | service | CPU µs a message | least to most | against plain |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for (path, service), seconds in figures.items():
        micros = [1e6 * value for value in seconds]
        plain = statistics.median(figures[path, "plain"]) * 1e6
        median = statistics.median(micros)
        against = "" if service == "plain" else f"{median - plain:+.1f} µs"
        lines.append(f"| {path} | {service} | {median:.1f} | {min(micros):.1f} to {max(micros):.1f} | {against} |")
    return "\n".join([*lines, ""])


def measure(name: str, url: str, rounds: int, messages: int) -> str:
    figures: dict[tuple[str, str], list[float]] = {(path, service): [] for path, service, _ in ROWS}
    with MessageBroker(url=url) as broker:
        broker.declare_queue(QUEUE)
    for number in range(rounds):
        for path, service, run in ROWS:
            print(f"round {number + 1}: {path}, {service}", file=sys.stderr, flush=True)
            figures[path, service].append(run(url, messages))
    return page(name, rounds, figures)


def main() -> None:
    parser = argparse.ArgumentParser(prog="services.py", description="Measure what each message service costs.")
    parser.add_argument("--broker", metavar="NAME=AMQP_URL", help="measure on this broker")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--messages", type=int, default=20_000, help="of a measurement (20000)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the page there")
    options = parser.parse_args()
    if options.broker:
        name, _, url = options.broker.partition("=")
        text = measure(name, url, options.rounds, options.messages)
    else:
        with PrivateBroker() as node, MessageBroker(url=node.amqp_url) as broker:
            text = measure(broker.server_version, node.amqp_url, options.rounds, options.messages)
    if options.output:
        options.output.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
