"""tail, peek, record and play as commands: what is chosen, how it is printed, what is kept and sent again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from busctl.cli.main import run
from busctl.cli.printing import separator_of
from busctl.views import formats
from busctl_lib.broker import MessageBroker
from busctl_lib.captures import CaptureReader, CaptureWriter
from busctl_lib.envelope import Delivery, Properties, TypedInt
from busctl_lib.management import ManagementClient
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import TestBroker

STREAM = {"x-queue-type": "stream"}


class Bus:
    """One test's vhost; commands run in this process."""

    def __init__(self, vhost: TestBroker, capfd: pytest.CaptureFixture[str]) -> None:
        self.vhost = vhost
        self.capfd = capfd
        self.broker = MessageBroker(url=vhost.amqp_url).connect()
        self.publisher = MessagePublisher(self.broker)
        self.management = ManagementClient(vhost.api_url)

    def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        self.capfd.readouterr()
        found = run([*words])
        out, err = self.capfd.readouterr()
        assert found == code, err
        return out, err

    def fill(self, queue: str, count: int, arguments: dict[str, Any] | None = None) -> None:
        self.broker.declare_queue(queue, arguments=arguments)
        report = self.publisher.publish_many((queue, {"n": number}) for number in range(count))
        assert report.confirmed == count
        if arguments != STREAM:
            self.wait(queue, count)

    def wait(self, queue: str, count: int) -> None:
        wait_until(lambda: self.ready(queue) == count, 20)

    def ready(self, queue: str) -> int:
        return self.broker.declare_queue(queue, passive=True).message_count


@pytest.fixture
def bus(vhost: TestBroker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Bus]:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    bus = Bus(vhost, capfd)
    yield bus
    bus.broker.close()
    bus.management.close()


def numbers(out: str) -> list[int]:
    return [json.loads(line)["body"]["n"] for line in out.splitlines()]


# --- choosing and shaping, of a stream, which stays as it is


def test_where_jq_fields_and_raw_of_a_stream(bus: Bus) -> None:
    bus.fill("log", 6, STREAM)
    read = ("tail", "log", "--since", "first")
    out, err = bus.run(*read, "-n", "3", "-o", "jsonl", "--where", ".body.n % 2 == 0")
    assert numbers(out) == [0, 2, 4]
    assert "log via stream" in err
    assert numbers(bus.run("tail", "log", "--since", "4", "-n", "2", "-o", "jsonl")[0]) == [4, 5]
    assert bus.run(*read, "-n", "2", "--jq", ".body.n, .queue")[0] == '0\n"log"\n1\n"log"\n'
    assert bus.run(*read, "-n", "1", "-o", "raw", "--jq", ".queue")[0] == "log\n"
    assert bus.run(*read, "-n", "2", "--fields", "queue,body.n,body.nothing")[0] == "log\t0\t\nlog\t1\t\n"
    picked = bus.run(*read, "-n", "1", "--fields", "body.n,headers.x-stream-offset", "-o", "jsonl")[0]
    assert json.loads(picked) == {"body.n": 0, "headers.x-stream-offset": 0}
    assert bus.run(*read, "-n", "2", "-o", "raw", "--raw-separator", r"\0")[0] == '{"n":0}\0{"n":1}\0'
    translated = bus.run(*read, "-n", "1", "-o", "jsonl", "--translate", "sed s/n/m/", "--where", ".body.m == 0")[0]
    assert json.loads(translated)["body"] == {"m": 0}


def test_a_filter_that_fails_on_a_message_is_told_once_and_a_broken_command_too(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.fill("log", 3, STREAM)
    read = ("tail", "log", "--since", "first", "-o", "jsonl")
    out, err = bus.run(*read, "-n", "1", "--where", "if .body.n < 2 then .body.n.x else true end")
    assert (numbers(out), err.count("Cannot index number")) == ([2], 1)
    out, err = bus.run(*read, "-n", "3", "--translate", "exit 3")
    assert numbers(out) == [0, 1, 2]
    assert err.count("--translate failed") == 1
    monkeypatch.setattr("busctl.cli.selecting._TRANSLATE_S", 0.2)
    out, err = bus.run(*read, "-n", "3", "--translate", "sleep 60; cat")  # the shell's child holds the pipe
    assert numbers(out) == [0, 1, 2]
    assert err.count("--translate: 0.2 s were not enough") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tail", "q", "--where", ".body |"), "\n    .body |\n"),
        (("tail", "q", "--jq", "nofunc"), "--jq: nofunc/0 is not defined, at column 1"),
        (("peek", "q", "--where", "}"), "--where: "),
        (("record", "x.jsonl", "q", "--where", "}"), "--where: "),
        (("tail", "q", "--via", "consume", "--where", "."), "would lose"),
        (("tail", "q", "--jq", ".", "--pair"), "choose one"),
        (("tail", "q", "--raw-separator", "x"), "-o raw"),
        (("tail", "q", "--all"), "name a queue"),
        (("tail", "q", "--since", "yesterday"), "'yesterday' is no place in a stream (first, last, next"),
        (("tail", "q", "--since", "2999-01-01"), "is yet to come"),
        (("tail", "q", "--since", "9999-12-31T23:59:59-10:00"), "is no place in a stream"),
        (("tail", "q", "--since", "9" * 20), "is no place in a stream"),
        (("peek", "q", "--jq", ".", "--fields", "queue"), "choose one"),
        (("tail", "q", "--fields", ","), "--fields"),
        (("tail", "q", "--fields", "queue,bdy.n"), "a message has no 'bdy.n' (it has: queue, exchange, "),
        (("record", "x.txt", "q"), "ends in"),
        (("record", "x.jsonl", "q", "--rotate", "big"), "--rotate"),
        (("play", "nowhere.jsonl"), "is not there"),
        (("play", "x.jsonl", "--to", ""), "--to: name a queue"),
        (("play", "x.jsonl", "--speed", "0"), "--speed must be above 0"),
        (("play", "x.jsonl", "--speed", "1", "--rate", "1"), "choose one"),
        (("publish", "q", "x", "--timeout", "0s"), "--timeout must be above 0"),
        (("publish", "q", "{{rand 5 1}}"), "is no variable"),
        (("publish", "q", "@nowhere"), "cannot be read"),
        (("publish", "q", "x", "--compress", "rar"), "zstd, gzip"),
        (("publish", "q", "x", "--encrypt"), "busctl keys generate"),
    ],
)
def test_what_is_wrong_with_a_command_line_is_told_before_connecting(
    words: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("BUSCTL_AMQP_URL", "amqp://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    if words[0] == "record" and "ends in" in says:
        monkeypatch.setattr("busctl.cli.watching.plan_all", lambda *_, **__: [])
        monkeypatch.setattr("busctl_lib.broker.MessageBroker.connect", lambda self: self)
    assert run([*words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err


def test_separators_are_written_with_escapes() -> None:
    assert separator_of(r"\0\n\x1e\\é") == b"\0\n\x1e\\" + "é".encode()


def test_several_queues_are_watched_at_once_and_the_end_of_one_is_told(bus: Bus) -> None:
    bus.fill("one", 2)
    bus.fill("two", 1, {"x-queue-type": "quorum"})
    bus.fill("log", 1, STREAM)
    out, err = bus.run("tail", "one", "two", "--via", "hold", "-n", "3", "-o", "jsonl")
    assert sorted((json.loads(line)["queue"], json.loads(line)["body"]["n"]) for line in out.splitlines()) == [
        ("one", 0),
        ("one", 1),
        ("two", 0),
    ]
    assert "2 messages of one were given back" in err
    assert "1 message of two was given back" in err
    wait_until(lambda: bus.ready("one") + bus.ready("two") == 3, 20)


def test_consume_takes_as_many_as_were_asked(bus: Bus) -> None:
    bus.fill("work", 5)
    out, err = bus.run("tail", "work", "--via", "consume", "-n", "2", "-o", "jsonl")
    assert numbers(out) == [0, 1]
    assert "gone from the queue" in err
    bus.wait("work", 3)


def test_the_whole_vhost_and_its_calls_are_seen_by_firehose(bus: Bus) -> None:
    bus.broker.declare_queue("asked")
    bus.broker.declare_queue("answers")
    env = {**os.environ, "BUSCTL_AMQP_URL": bus.vhost.amqp_url}
    tail = subprocess.Popen(
        [sys.executable, "-m", "busctl", "tail", "--all", "--pair", "-n", "2", "-o", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    try:
        wait_until(lambda: bus.management.exchange_bindings(bus.vhost.name, "amq.rabbitmq.trace"), 20)
        wait_until(lambda: bus.management.vhost(bus.vhost.name).tracing, 20)
        bus.publisher.publish("asked", {"action": "ping"}, reply_to="answers", correlation_id="c1")
        bus.publisher.publish("answers", {"pong": True}, correlation_id="c1")
        out, err = tail.communicate(timeout=30)
    finally:
        tail.kill()
    (call,) = [json.loads(line) for line in out.splitlines()]
    assert call["state"] == "answered", err
    assert (call["request"]["body"], call["reply"]["body"]) == ({"action": "ping"}, {"pong": True})
    assert call["seconds"] >= 0
    assert not bus.management.vhost(bus.vhost.name).tracing


# --- peek


def test_peek_prints_and_says_what_it_did(bus: Bus) -> None:
    bus.fill("waiting", 4)
    out, err = bus.run("peek", "waiting", "-n", "2", "-o", "jsonl")
    assert numbers(out) == [0, 1]
    assert "4 ready; 2 messages taken and given back in order" in err
    bus.wait("waiting", 4)
    once = bus.run("peek", "waiting", "-n", "1")[1]
    assert "1 message taken and given back in order: it is marked redelivered" in once
    bus.wait("waiting", 4)
    assert numbers(bus.run("peek", "waiting", "-o", "jsonl", "--where", ".body.n > 2")[0]) == [3]
    assert "did you mean waiting?" in bus.run("peek", "waitin", code=4)[1]
    assert "4 ready; 4 messages taken" in bus.run("peek", "waiting", "--jq", "def f: f; f", code=5)[1]
    bus.publisher.publish("waiting", {"pad": "x" * 100_000})
    bus.wait("waiting", 5)
    last = bus.run("peek", "waiting")[0].splitlines()[4]
    assert formats.size(100_010) in last


# --- captures


def test_what_is_played_to_a_queue_goes_to_no_other(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    line = {"exchange": "", "routing_key": "work", "via": "x", "received_at": "2026-01-02T03:04:05Z", "text": "{}"}
    file.write_text(json.dumps({**line, "headers": {"CC": ["copied"], "kept": 1}}) + "\n")
    for queue in ("work", "again", "copied"):
        bus.broker.declare_queue(queue)
    bus.run("play", str(file), "--to", "again")
    bus.wait("again", 1)
    assert (bus.ready("copied"), bus.ready("work")) == (0, 0)
    bus.run("play", str(file))
    bus.wait("copied", 1)
    assert (bus.ready("again"), bus.ready("work")) == (1, 1)


def test_what_is_recorded_is_played_again_exactly(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl.zst"
    bus.fill("work", 5, STREAM)
    _, err = bus.run("record", str(file), "work", "--since", "first", "-n", "4", "--where", ".body.n != 1")
    assert f"4 messages kept in {file}" in err
    bus.broker.declare_queue("again")
    out, _ = bus.run("play", str(file), "--to", "again", "--dry-run")
    assert out.split() == ["4", "queue", "again"]
    assert bus.ready("again") == 0
    account = json.loads(bus.run("play", str(file), "--to", "again", "-o", "json")[0])
    assert (account["kind"], account["state"], account["planned"], account["confirmed"]) == ("play", "done", 4, 4)
    bus.wait("again", 4)
    out, _ = bus.run("peek", "again", "-o", "jsonl")
    assert numbers(out) == [0, 2, 3, 4]
    assert all("x-stream-offset" not in json.loads(line)["headers"] for line in out.splitlines())
    assert "gives 2 results" in bus.run("play", str(file), "--to", "again", "--edit", ".body, .body", code=2)[1]
    bus.run("play", str(file), "--to", "again", "--rate", "1000", "--edit", ".body.n += 10", "-n", "2")
    bus.wait("again", 6)
    assert numbers(bus.run("peek", "again", "-o", "jsonl")[0])[4:] == [10, 12]


def test_saved_messages_come_back_to_the_byte_and_the_type(bus: Bus, tmp_path: Path) -> None:
    properties = Properties(headers={"a": TypedInt(5, "b"), "s": "x"}, type="t", priority=3)
    message = Delivery(
        exchange="", routing_key="work", properties=properties, body=b"\xff\x00", queue=None, received_at=1.0
    )
    source, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    with CaptureWriter(source) as capture:
        capture.write(message)
    bus.broker.declare_queue("work")
    bus.run("play", str(source))
    out, err = bus.run("tail", "work", "--via", "hold", "-n", "1", "--save", str(copy), "-o", "raw")
    assert "1 message kept" in err
    (again,) = CaptureReader(copy)
    assert (again.body, again.properties) == (message.body, properties)
    assert isinstance(again.headers["a"], TypedInt)
    assert again.headers["a"].amqp_type == "b"
    assert "is there already" in bus.run("tail", "work", "--save", str(copy), code=2)[1]
    assert out.endswith("\n")


def test_play_goes_on_after_a_message_nobody_takes_and_says_so(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    with CaptureWriter(file) as capture:
        for key in ("work", "nowhere", "work"):
            capture.write(
                Delivery(exchange="", routing_key=key, properties=Properties(), body=b"x", queue=None, received_at=1.0)
            )
    bus.broker.declare_queue("work")
    out, err = bus.run("play", str(file), "-o", "json", code=8)
    account = json.loads(out)
    assert (account["state"], account["confirmed"], account["returned"]) == ("partial", 2, 1)
    assert "no queue took the message" in err
    file.write_bytes(file.read_bytes().replace(b'"text":"x"', b'"text":"y"', 1))
    assert "line 1: sha256" in bus.run("play", str(file), code=2)[1]
    assert bus.ready("work") == 2


def test_a_read_only_context_keeps_captures_and_taps_but_sends_and_takes_nothing(bus: Bus, tmp_path: Path) -> None:
    bus.fill("log", 1, STREAM)
    bus.fill("work", 1)
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "busctl" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f'[contexts.safe]\namqp_url = "{bus.vhost.amqp_url}"\napi_url = "{bus.vhost.api_url}"\nread_only = true\n'
    )
    file = tmp_path / "c.jsonl"
    for name in ("BUSCTL_AMQP_URL", "BUSCTL_API_URL"):
        os.environ.pop(name)
    bus.run("-c", "safe", "record", str(file), "log", "--since", "first", "-n", "1")
    for words in (
        ("play", str(file)),
        ("publish", "work", "x"),
        ("tail", "work", "--via", "consume"),
        ("tail", "work", "--via", "hold"),
        ("tail", "work", "--via", "firehose"),
        ("peek", "work"),
    ):
        assert "read-only" in bus.run("-c", "safe", *words, code=9)[1]
    assert bus.ready("work") == 1


# --- publish


def test_templates_make_each_message_of_a_load_its_own(bus: Bus, tmp_path: Path) -> None:
    bus.broker.declare_queue("load")
    words = ("n:={{n}}", "id={{uuid}}", "at={{now}}", "r:={{rand 3 4}}", "plain={{other}}")
    bus.run("publish", "load", *words, "-H", "h={{n}}", "--count", "20", "--concurrency", "3")
    bus.wait("load", 20)
    found = [json.loads(line) for line in bus.run("peek", "load", "-n", "30", "-o", "jsonl")[0].splitlines()]
    bodies = [document["body"] for document in found]
    assert [body["n"] for body in bodies] == list(range(1, 21))
    assert [document["headers"]["h"] for document in found] == [str(number) for number in range(1, 21)]
    assert len({body["id"] for body in bodies}) == 20
    assert {body["r"] for body in bodies} <= {3, 4}
    assert {body["plain"] for body in bodies} == {"{{other}}"}
    file = tmp_path / "body.json"
    file.write_bytes(b'{"n": {{n}}}')
    bus.broker.purge_queue("load")
    bus.run("publish", "load", f"@{file}")
    bus.run("publish", "load", "{{n}}", "--raw")
    bus.wait("load", 2)
    assert bus.run("peek", "load", "-o", "raw")[0] == '{"n": 1}\n{{n}}\n'


def test_compressed_bodies_are_sent_and_shown(bus: Bus) -> None:
    bus.broker.declare_queue("load")
    bus.run("publish", "load", "text=" + "x" * 5000, "--compress", "zstd", "--priority", "4")
    bus.wait("load", 1)
    (document,) = [json.loads(line) for line in bus.run("peek", "load", "-o", "jsonl")[0].splitlines()]
    assert document["properties"]["content_encoding"] == "zstd"
    assert document["properties"]["priority"] == 4
    assert document["body"] == {"text": "x" * 5000}
    assert '{"text":"xxx' in bus.run("peek", "load")[0].replace(" ", "")
    bus.broker.purge_queue("load")
    large = os.urandom(40_000).hex()  # packed still larger than what is laid out for a line
    bus.run("publish", "load", "text=" + large, "--compress", "zstd")
    bus.wait("load", 1)
    assert f'"text":"{large[:50]}' in bus.run("peek", "load")[0].replace(" ", "")
    assert bus.run("peek", "load", "--jq", ".body.text | length")[0] == "80000\n"


def test_an_unroutable_message_is_told_which_bindings_there_are(bus: Bus) -> None:
    bus.broker.declare_queue("work")
    bus.broker.bind_queue("work", "amq.topic", "order.*")
    assert "'order.*' to work" in bus.run("publish", "-x", "amq.topic", "-k", "other", "x", code=6)[1]
    assert "nothing is bound to it" in bus.run("publish", "-x", "amq.direct", "-k", "other", "x", code=6)[1]


def test_a_load_that_stops_half_way_says_what_to_do(bus: Bus) -> None:
    bus.broker.declare_queue("small", arguments={"x-max-length": 3, "x-overflow": "reject-publish"})
    _, err = bus.run("publish", "small", "x", "--count", "10", "--concurrency", "1", code=8)
    assert "stopped half-way" in err
    assert "try again later" in err


def test_a_delayed_message_arrives_later(bus: Bus) -> None:
    bus.broker.declare_queue("work")
    bus.run("publish", "work", "n:=1", "--delay", "300ms")
    bus.wait("work", 1)
    assert numbers(bus.run("peek", "work", "-o", "jsonl")[0]) == [1]
    assert "nowhere" in bus.run("publish", "nowhere", "x", "--delay", "1s", code=4)[1]
