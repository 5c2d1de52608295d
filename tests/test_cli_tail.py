"""`busctl tail` as a program: what it prints, how it ends, and that it gives everything back."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trying import Busctl, Ended
from waiting import wait_until

from busctl.cli import watching
from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.errors import NotFound
from busctl_lib.management import ManagementClient
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps.buffers import Buffer

HOSTILE = "\x1b]0;owned\x07\x9b2J\u202e"


class Bus:
    """One test's vhost, a publisher into it and tails beside it."""

    def __init__(self, vhost: TestBroker, busctl: Busctl) -> None:
        self.vhost = vhost
        self._busctl = busctl
        self._environment = {"BUSCTL_AMQP_URL": vhost.amqp_url, "BUSCTL_API_URL": vhost.api_url}
        self.broker = MessageBroker(url=vhost.amqp_url).connect()
        self.publisher = MessagePublisher(self.broker)
        self.management = ManagementClient(vhost.api_url)
        self.running: list[subprocess.Popen[bytes]] = []

    def watching(self, *arguments: str, verb: str = "tail") -> subprocess.Popen[bytes]:
        """Start a tail and wait until it says that it watches."""
        command = [sys.executable, "-m", "busctl", verb, *arguments]
        env = os.environ | self._environment
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        self.running.append(process)
        said = wait_for_line(process, b" via ")
        assert b"; not: " in said
        return process

    def run(self, *arguments: str, **environment: str) -> Ended:
        return self._busctl("tail", *arguments, **self._environment | environment)

    def clean(self) -> bool:
        """Nothing of a tap is left: no tracing, no queue, no lease."""
        vhost = self.vhost.name
        leases = list(Path(os.environ["XDG_STATE_HOME"]).rglob("busctl.tap.*"))
        taps = [info.name for info in self.management.queues(vhost) if info.name.startswith("busctl.tap.")]
        return not (self.management.vhost(vhost).tracing or leases or taps)


def wait_for_line(process: subprocess.Popen[bytes], part: bytes, timeout: float = 20) -> bytes:
    """Read stderr up to a line that holds `part`."""
    assert process.stderr is not None
    deadline = time.monotonic() + timeout
    seen = b""
    while part not in seen or not seen.endswith(b"\n"):
        assert select.select([process.stderr], [], [], max(0, deadline - time.monotonic()))[0], seen.decode()
        chunk = os.read(process.stderr.fileno(), 65536)
        assert chunk, f"ended: {seen.decode()}"
        seen += chunk
    return seen


@pytest.fixture
def bus(vhost: TestBroker, busctl: Busctl) -> Iterator[Bus]:
    bus = Bus(vhost, busctl)
    bus.broker.declare_queue("replies")
    yield bus
    for process in bus.running:
        if process.poll() is None:
            process.kill()
        process.communicate()
    bus.broker.close()


def documents(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_tail_prints_documents_of_a_default_exchange_queue_and_leaves_nothing(bus: Bus) -> None:
    tail = bus.watching("replies", "-n", "3", "-o", "jsonl")
    for number in range(5):
        bus.publisher.publish("replies", {"n": number})
    out, _ = tail.communicate(timeout=15)
    assert tail.returncode == 0
    assert [(d["body"], d["via"], d["queue"]) for d in documents(out)] == [
        ({"n": n}, "firehose", "replies") for n in range(3)
    ]
    assert bus.clean()
    assert bus.broker.declare_queue("replies", passive=True).message_count == 5


def test_tail_of_an_exchange_by_key(bus: Bus) -> None:
    bus.broker.bind_queue("replies", "amq.topic", "order.#")
    tail = bus.watching("--exchange", "amq.topic", "--key", "order.*", "-n", "1", "-o", "jsonl")
    for key in ("order", "order.new"):
        bus.publisher.publish("", {}, exchange="amq.topic", routing_key=key)
    out, _ = tail.communicate(timeout=15)
    assert [(d["routing_key"], d["via"]) for d in documents(out)] == [("order.new", "copy")]
    assert bus.clean()


def test_pretty_lines_are_harmless_and_raw_is_exact(bus: Bus) -> None:
    pretty, raw = bus.watching("replies", "-n", "2"), bus.watching("replies", "-n", "2", "-o", "raw")
    hostile = HOSTILE.encode() + b"\nend"
    for body, kind in [(b'{\n "action": "fill",\n "price": 150.0}', None), (hostile, HOSTILE)]:
        properties = Properties(type=kind, headers={HOSTILE: HOSTILE})
        bus.publisher.publish_envelope(Envelope(exchange="", routing_key="replies", properties=properties, body=body))
    out = pretty.communicate(timeout=15)[0].decode()
    first, second = out.splitlines()
    assert first.split() == [first.split()[0], "replies", "37", "B", "fill", '{"action":"fill","price":150.0}']
    assert not set(HOSTILE) & set(out) - set("]0;owned2J")
    assert second.endswith(r"\x1b]0;owned\x07\x9b2J\u202e\nend")
    assert raw.communicate(timeout=15)[0] == b'{\n "action": "fill",\n "price": 150.0}\n' + hostile + b"\n"


@pytest.mark.parametrize("verb", ["tail", "record"])
def test_a_tail_ends_with_its_queue_and_keeps_what_came_before(bus: Bus, verb: str, tmp_path: Path) -> None:
    bus.broker.bind_queue("replies", "amq.topic", "#")
    kept = tmp_path / "kept.jsonl"
    where = ("--save", str(kept), "-o", "jsonl") if verb == "tail" else ()
    head = ("replies",) if verb == "tail" else (str(kept), "replies")
    tail = bus.watching(*head, "--via", "copy", "--for", "60s", *where, verb=verb)
    for number in range(3):
        bus.publisher.publish("", {"n": number}, exchange="amq.topic", routing_key="k")
    wait_until(lambda: kept.exists() and len(kept.read_bytes().splitlines()) == 3)
    bus.broker.delete_queue("replies")
    out, said = tail.communicate(timeout=20)
    assert (tail.returncode, b"replies was deleted" in said) == (4, True), said
    shown = [json.loads(document["text"]) for document in documents(out or kept.read_bytes())]
    assert shown == [{"n": n} for n in range(3)]
    assert bus.clean()


def test_what_came_before_a_tap_ended_is_printed_with_it() -> None:
    buffer = Buffer()
    came = Delivery(exchange="", routing_key="q", queue="q", received_at=0.0, body=b"", properties=Properties())
    buffer.put(came)
    buffer.put(came)
    buffer.end(NotFound("q was deleted", code=404))
    assert watching._take(Taken(buffer), 1.0, 256) == [came, came]  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        watching._take(Taken(buffer), 1.0, 256)  # type: ignore[arg-type]


class Taken:
    """A tap of which only the buffer is there."""

    def __init__(self, buffer: Buffer) -> None:
        self.next = buffer.get


def test_the_codes_of_a_deadline(bus: Bus) -> None:
    assert bus.run("replies", "--for", "200ms")[0] == 0
    code, _, said = bus.run("replies", "--for", "200ms", "-n", "1")
    assert code == 5
    assert "0 of 1 messages" in said
    assert bus.clean()


def test_explain_says_what_would_be_done_and_does_nothing(bus: Bus) -> None:
    code, out, _ = bus.run("replies", "--explain")
    assert code == 0
    for word in ("replies: firehose", "why ", "sees ", "not ", "costs ", "messages that wait"):
        assert word in out
    plan = json.loads(bus.run("replies", "--explain", "-o", "jsonl")[1])
    assert (plan["way"], plan["publishes_to"], plan["refused"][0]["way"]) == ("firehose", [""], "copy")
    assert bus.clean()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["replis"], 4, "did you mean replies?"),
        (["replies", "--via", "copy"], 9, "--via firehose"),
        (["replies", "--via", "magic"], 2, "magic"),
        (["replies", "-n", "0"], 2, "-n"),
        (["replies", "--for", "soon"], 2, "not a duration"),
        ([], 2, "name a queue"),
        (["replies", "--exchange", "amq.topic"], 2, "name a queue"),
        (["replies", "--key", "k"], 2, "--exchange"),
        (["--exchange", "nowhere"], 4, "nowhere"),
        (["replies", "--vhost", "no-such-vhost"], 3, "no-such-vhost"),
    ],
)
def test_what_cannot_be_done_has_a_code_and_one_line(
    bus: Bus,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    ended, out, err = bus.run(*arguments)
    assert (ended, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert bus.clean()


def test_no_broker_and_no_api_are_told_apart(bus: Bus) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        code, _, said = bus.run("replies", BUSCTL_AMQP_URL=f"amqp://127.0.0.1:{port}/")
        assert (code, said.count("\n")) == (3, 1)
        assert f":{port}" in said
        code, _, said = bus.run("replies", BUSCTL_API_URL=f"http://127.0.0.1:{port}")
        assert (code, said.count("\n")) == (3, 1)
        assert "AMQP answers" in said
        assert "--api-url" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_everything_back(bus: Bus, number: signal.Signals) -> None:
    tail = bus.watching("replies")
    assert not bus.clean()
    tail.send_signal(number)
    _, err = tail.communicate(timeout=15)
    assert tail.returncode == 130
    assert b"Traceback" not in err
    assert bus.clean()


def test_a_closed_pipe_ends_the_tail_quietly_without_another_message(bus: Bus) -> None:
    tail = bus.watching("replies")
    assert tail.stdout is not None
    bus.publisher.publish("replies", {})
    assert tail.stdout.readline()
    tail.stdout.close()
    assert tail.wait(15) == 0
    assert tail.stderr is not None
    assert b"Traceback" not in tail.stderr.read()
    assert bus.clean()


def test_after_a_kill_the_next_tail_cleans_and_says_so(bus: Bus) -> None:
    bus.broker.declare_queue("bound")
    bus.broker.bind_queue("bound", "amq.fanout")
    tail = bus.watching("replies")
    tail.kill()
    tail.wait(10)
    assert not bus.clean()
    code, _, said = bus.run("bound", "--for", "100ms")
    assert code == 0
    assert "left on by a tail that was killed: switched off" in said
    wait_until(bus.clean)


def test_a_stopped_tail_costs_the_bus_nothing_and_loses_nothing_it_has_room_for(bus: Bus) -> None:
    tail = bus.watching("replies", "-n", "300", "-o", "jsonl")
    tail.send_signal(signal.SIGSTOP)
    for number in range(300):
        bus.publisher.publish("replies", {"n": number, "pad": "x" * 2000})
    assert bus.broker.declare_queue("replies", passive=True).message_count == 300
    tail.send_signal(signal.SIGCONT)
    out, _ = tail.communicate(timeout=20)
    assert [d["body"]["n"] for d in documents(out)] == list(range(300))
    assert bus.clean()


@pytest.mark.faults
def test_a_tail_stopped_for_longer_than_a_heartbeat_tells_the_whole_gap(bus: Bus) -> None:
    tail = bus.watching("replies", "-o", "jsonl", "--amqp-url", bus.vhost.amqp_url + "?heartbeat=2")
    tail.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: not bus.management.exchange_bindings(bus.vhost.name, "amq.rabbitmq.trace"), 30)
    wait_until(lambda: time.monotonic() - stopped > 9, 20)
    tail.send_signal(signal.SIGCONT)
    said = wait_for_line(tail, b"was lost for").decode()
    assert float(re.findall(r"lost for ([0-9.]+) s", said)[0]) > 8


def test_a_reader_that_does_not_read_is_dropped_for_and_told(bus: Bus) -> None:
    """The pipe is full and the tail cannot write: the bus goes on, and the account says what is missing."""
    tail = bus.watching("replies", "-o", "jsonl")
    total, burst = 13_000, 1000
    for start in range(0, total, burst):
        report = bus.publisher.publish_many(("replies", {"n": n}) for n in range(start, start + burst))
        assert report.confirmed == burst
    assert tail.stdout is not None
    os.set_blocking(tail.stdout.fileno(), False)
    got = bytearray()

    def everything() -> bool:
        while chunk := tail.stdout.read(1 << 20) if tail.stdout else b"":
            got.extend(chunk)
        return got.endswith(b"\n") and json.loads(got.splitlines()[-1])["body"]["n"] == total - 1

    wait_until(everything, 30, what="the last message")
    tail.send_signal(signal.SIGINT)
    _, err = tail.communicate(timeout=15)
    numbers = [document["body"]["n"] for document in documents(bytes(got))]
    assert numbers == sorted(numbers)
    told = [line.split()[1] for line in err.decode().splitlines() if "messages dropped" in line]
    dropped = sum(int(count.replace(",", "")) for count in told)
    assert dropped > 0
    assert len(numbers) + dropped == total
    assert bus.clean()


def test_the_help_of_tail_loads_nothing_heavy() -> None:
    check = (
        "import sys; from busctl.cli.main import run; code = run(['tail', '--help']); "
        "heavy = {'textual', 'numpy', 'pika', 'requests'} & set(sys.modules); assert not heavy, heavy; assert code == 0"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "--explain" in done.stdout
