"""Measures `busctl tail`: consuming into a file beside bare pika, the firehose under load, what --where costs.

usage: tailing.py [--messages 50000] [--rounds 3] [--output FILE]

Starts a private node of the installed RabbitMQ, then of the one that BUSCTL_TEST_RABBITMQ_ROOT names. Writes
RESULTS-tailing.md beside this file, or another page. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from busctl_lib.broker import MessageBroker
from busctl_lib.documents import to_json
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.expressions import Expression, GuardedExpression
from busctl_lib.publishers import MessagePublisher
from busctl_lib.sandbox import PrivateBroker

PAGE = Path(__file__).with_name("RESULTS-tailing.md")
WHERE = '.body.symbol == "AAPL"'
RATE = 5000
FOR_S = 10
MESSAGE = {"action": "place_order", "symbol": "MSFT", "side": "buy", "quantity": 100, "price": 150.25, "note": "x" * 80}

PIKA = """
import sys, time, pika
url, queue, count, auto = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "auto"
seen, began = 0, 0.0
def on_message(channel, method, properties, body):
    global seen, began
    began = began or time.perf_counter()
    seen += 1
    if not auto:
        channel.basic_ack(method.delivery_tag)
    if seen == count:
        print(count / (time.perf_counter() - began))
        channel.connection.close()
def on_channel(channel):
    channel.basic_qos(prefetch_count=1000, callback=lambda _: channel.basic_consume(queue, on_message, auto_ack=auto))
connection = pika.SelectConnection(
    pika.URLParameters(url), on_open_callback=lambda c: c.channel(on_open_callback=on_channel),
    on_close_callback=lambda c, _: c.ioloop.stop())
connection.ioloop.start()
"""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _cpu_s() -> float:
    """Processor time of all programs that have ended, with the processes they had started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Bench:
    def __init__(self, node: PrivateBroker, folder: Path, count: int, rounds: int) -> None:
        self.node, self.folder, self.count, self.rounds = node, folder, count, rounds
        self.broker = MessageBroker(url=node.amqp_url)
        self.publisher = MessagePublisher(self.broker)
        self.env = os.environ | {"BUSCTL_AMQP_URL": node.amqp_url, "BUSCTL_API_URL": node.api_url}
        self.env["XDG_STATE_HOME"] = str(folder / "state")

    def fill(self, queue: str, arguments: dict[str, str] | None = None) -> None:
        self.broker.declare_queue(queue, arguments=arguments)
        report = self.publisher.publish_many((queue, MESSAGE) for _ in range(self.count))
        assert report.confirmed == self.count, report.counts

    def tail(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "out.jsonl").open("wb") as out:
            command = [sys.executable, "-m", "busctl", "tail", "-o", "jsonl", *arguments]
            return subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env=self.env)

    def lines(self) -> list[bytes]:
        return (self.folder / "out.jsonl").read_bytes().splitlines()

    def consume_rate(self) -> float:
        """Messages a second from the first to the last; all of them in the file, all of them acknowledged."""
        self.fill("work")
        tail = self.tail("work", "--via", "consume", "-n", str(self.count))
        began = None
        while tail.poll() is None:
            if began is None and (self.folder / "out.jsonl").stat().st_size:
                began = time.perf_counter()
            time.sleep(0.002)
        assert began is not None
        took = time.perf_counter() - began
        assert tail.returncode == 0, tail.communicate()[1]
        assert len(self.lines()) == self.count
        assert self.broker.declare_queue("work", passive=True).message_count == 0
        return self.count / took

    def pika_rate(self, how: str) -> float:
        self.fill("work")
        command = [sys.executable, "-c", PIKA, self.node.amqp_url, "work", str(self.count), how]
        return float(subprocess.run(command, capture_output=True, check=True, timeout=300).stdout)

    def firehose(self) -> tuple[int, int, float]:
        """(sent, shown, sent a second) of a whole vhost that publishes 5,000 a second."""
        self.broker.declare_queue("load", arguments={"x-max-length": 1000})  # type: ignore[dict-item]
        total = RATE * FOR_S
        tail = self.tail("--all", "-n", str(total))
        assert tail.stderr is not None
        while b" via " not in tail.stderr.readline():
            pass
        began = time.perf_counter()
        for start in range(0, total, 500):
            time.sleep(max(0.0, began + start / RATE - time.perf_counter()))
            self.publisher.publish_many(("load", MESSAGE) for _ in range(500))
        took = time.perf_counter() - began
        shown = -1
        while tail.poll() is None and len(self.lines()) > shown:  # as long as it catches up
            shown = len(self.lines())
            time.sleep(2.0)
        tail.send_signal(signal.SIGINT)
        tail.communicate(timeout=60)
        return total, len(self.lines()), total / took

    def where_us(self) -> tuple[float, float]:
        """Microseconds a message: asking the expression's process, and what a whole tail computes more with --where."""
        delivery = Delivery(
            exchange="",
            routing_key="log",
            properties=Properties(content_type="application/json", message_id="x" * 24),
            body=json.dumps(MESSAGE).encode(),
            queue="log",
            received_at=time.time(),
        )
        documents = [to_json(delivery)] * self.count
        with GuardedExpression(Expression(WHERE)) as guarded:
            guarded.matches(documents[:1])
            began = time.perf_counter()
            guarded.matches(documents)
            alone = (time.perf_counter() - began) / self.count
        plain, chosen = self.stream_s(), self.stream_s("--where", '.body.symbol == "MSFT"')
        return alone * 1e6, (chosen - plain) / self.count * 1e6

    def stream_s(self, *arguments: str) -> float:
        began = _cpu_s()
        tail = self.tail("log", "--since", "first", "-n", str(self.count), *arguments)
        _, said = tail.communicate(timeout=300)
        assert tail.returncode == 0, said
        return _cpu_s() - began

    def run(self) -> list[str]:
        rates: dict[str, list[float]] = {"tail": [], "acks": [], "auto": []}
        for index in range(self.rounds):
            say(f"consume, round {index + 1}")
            rates["tail"].append(self.consume_rate())
            rates["acks"].append(self.pika_rate("acks"))
            rates["auto"].append(self.pika_rate("auto"))
        tail, acks, auto = (statistics.median(rates[name]) for name in ("tail", "acks", "auto"))
        say("firehose")
        sent, shown, rate = self.firehose()
        say("where")
        self.fill("log", {"x-queue-type": "stream"})
        wheres = [self.where_us() for _ in range(self.rounds)]
        alone, whole = (statistics.median(column) for column in zip(*wheres, strict=True))
        return [
            f"| `tail -o jsonl --via consume` into a file, msg/s | {tail:,.0f} | |",
            f"| bare pika SelectConnection, an ack each, msg/s | {acks:,.0f} | tail is {tail / acks:.2f} of it |",
            f"| bare pika SelectConnection, auto-ack, msg/s | {auto:,.0f} | tail is {tail / auto:.2f} of it |",
            f"| `tail --all` at {rate:,.0f} msg/s in the vhost | {shown:,} of {sent:,} shown | |",
            f"| `--where`, the expression's process alone, given whole documents, us a message | {alone:.1f} | |",
            f"| `--where`, processor time a message of the whole tail, more with it, us | {whole:.1f} | at most 50 |",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    page = [
        "# What `busctl tail` costs",
        "",
        f"By `python benchmarks/tailing.py --messages {options.messages} --rounds {options.rounds}`; medians, "
        f"bodies of {len(json.dumps(MESSAGE))} bytes.",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, broker on the same machine. The rate of tail "
        "counts from its first line in the file to its end, acknowledging included.",
    ]
    for root in (None, os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")):
        if root is None and page[-1].startswith("|"):
            continue
        with PrivateBroker(root=root) as node, tempfile.TemporaryDirectory() as folder:
            bench = Bench(node, Path(folder), options.messages, options.rounds)
            with MessageBroker(url=node.amqp_url) as broker:
                broker.connect()
                version = re.sub(r"[^0-9.].*", "", str(broker.server_properties.get("version", "")))
            say(f"RabbitMQ {version}")
            page += ["", f"## RabbitMQ {version}", "", "| what | measured | |", "| --- | --- | --- |", *bench.run()]
            bench.broker.close()
    options.output.write_text("\n".join(page) + "\n")
    say(f"written to {options.output}")


if __name__ == "__main__":
    main()
