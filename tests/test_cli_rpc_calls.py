"""`busctl rpc` without a file, with one, many times, as a stand-in, and as a spy on the calls of others."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from busctl.cli import rpc_mock
from busctl.cli.main import run
from busctl_lib import Delivery, Envelope, MessageBroker, MessagePublisher, Properties, RPCConsumer, RPCServer
from busctl_lib.errors import NoResponder, RemoteError
from busctl_lib.management import ManagementClient
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.rpc import Request

Cli = Callable[..., tuple[int, str, str]]
BUS = """
[methods.add]
queue = "sums"
help = "add two numbers"
fixed = { action = "add" }
arguments = { a = "number", b = { type = "number", default = 1 }, how = { enum = ["exact", "rough"], optional = true } }

[methods.upper]
queue = "texts"
body = "text"
reply_body = "text"
arguments = { text = "string" }
error = 'if (.text // "") | startswith("ERR") then .text else empty end'

[methods.shared]
queue = "sums"
reply_queue = "responses"
"""


@pytest.fixture
def cli(vhost: TestBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    (tmp_path / "bus.toml").write_text(BUS)
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def broker(vhost: TestBroker) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@pytest.fixture
def sums(broker: MessageBroker) -> Iterator[list[Any]]:
    """A service that adds, and refuses negative numbers; the bodies it was sent."""
    broker.declare_queue("sums")
    server = RPCServer(broker, "sums", concurrency=8)
    bodies: list[Any] = []

    @server.method
    def add(a: float, b: float, how: str = "exact") -> float:
        bodies.append((a, b, how))
        if a < 0:
            raise ArithmeticError("too small")
        return a + b

    @server.default
    def echo(request: Request) -> bytes:
        bodies.append((request.delivery.body, request.properties.content_type))
        return request.delivery.body

    with server:
        yield bodies


def test_a_queue_is_enough(cli: Cli, sums: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, out, err = cli("rpc", "--queue", "sums", "30")
    assert (code, out) == (0, "30\n")
    assert "sums answered in" in err
    assert cli("rpc", "-q", "sums", "-5")[:2] == (0, "-5\n")
    assert json.loads(cli("rpc", "-o", "json", "-q", "sums", "x=1", "y:=[2]")[1]) == {"x": "1", "y": [2]}
    assert cli("rpc", "--raw", "--queue=sums", "a=b\u00e9")[:2] == (0, "a=b\u00e9")
    assert cli("rpc", "-q", "sums", "plain words")[:2] == (0, "plain words\n")  # it comes back as text/plain
    code, out, err = cli("rpc", "-q", "sums", "plain", "-o", "json")
    assert (code, out) == (1, "")
    assert "-o raw" in err
    (tmp_path / "body").write_bytes(b"\xff\x00")
    code, _, err = cli("rpc", "-q", "sums", "@body")
    assert (code, "not JSON (2 B, application/octet-stream)" in err) == (1, True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"from": "stdin"}')))
    assert cli("rpc", "-q", "sums", "-", "-o", "jsonl")[:2] == (0, '{"from":"stdin"}\n')
    assert sums[0] == (b"30", "application/json")
    assert sums[-1] == (b'{"from": "stdin"}', "application/json")


def test_methods_of_the_bus_file_are_called_by_their_schema(
    cli: Cli, sums: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cli("rpc", "add", "-2e0", "b=-1.5", "-o", "json")[0] == 7
    assert cli("rpc", "add", "2", "-1.5", "-o", "json")[:2] == (0, "0.5\n")
    (tmp_path / "sum.json").write_text('{"a": 10, "b": 5}')
    assert cli("rpc", "add", "@sum.json", "b=6", "how=rough", "-o", "json")[:2] == (0, "16.0\n")
    assert sums[-1] == (10, 6, "rough")
    code, out, err = cli("rpc", "add", "x")
    assert (code, out) == (2, "")
    assert "add: a: expected a number" in err
    assert "add: how: expected one of" in cli("rpc", "add", "1", "2", "ruff")[2]
    code, out, err = cli("rpc", "add", "-1")
    assert (code, out) == (7, "")
    assert "ArithmeticError: too small" in err
    assert cli("rpc", "get_orderbook", "AAPL")[0] == 2  # of the sample bus: this one has its own


def test_text_bodies_and_errors_by_expression(cli: Cli, broker: MessageBroker) -> None:
    broker.declare_queue("texts")
    server = RPCServer(broker, "texts")
    server.default(lambda request: request.delivery.body.upper())
    with server:
        assert cli("rpc", "upper", "hello")[:2] == (0, "HELLO\n")
        assert cli("rpc", "upper", "12", "-o", "json")[:2] == (0, '"12"\n')
        code, out, err = cli("rpc", "upper", "error 7")
        assert (code, out) == (7, "")
        assert "ERROR 7" in err


def test_a_decoder_of_the_bus_file_makes_a_reply_readable(cli: Cli, broker: MessageBroker, tmp_path: Path) -> None:
    decoder = "[decoders.caps]\ncontent_type = 'text/x-low'\ncommand = \"tr a-z A-Z\"\n"
    (tmp_path / "bus.toml").write_text(decoder)
    broker.declare_queue("texts")
    publisher = MessagePublisher(broker)

    def answer(request: Delivery) -> None:
        properties = Properties(correlation_id=request.properties.correlation_id, content_type="text/x-low")
        address = request.properties.reply_to or ""
        reply = Envelope(exchange="", routing_key=address, properties=properties, body=b"low \x1b[31m")
        publisher.send_envelope(reply, lambda _entry: None)

    broker.subscribe("texts", answer, auto_ack=True)
    assert cli("rpc", "-q", "texts", "x")[:2] == (0, "LOW \\x1b[31M\n")
    assert cli("rpc", "-q", "texts", "x", "-o", "raw")[:2] == (0, "low \x1b[31m")


def test_replies_by_a_shared_queue(cli: Cli, broker: MessageBroker, sums: list[Any]) -> None:
    code, _, err = cli("rpc", "shared", "1")
    assert (code, "responses" in err) == (4, True)
    broker.declare_queue("responses")
    theirs = Envelope(exchange="", routing_key="responses", properties=Properties(correlation_id="x"), body=b"theirs")
    MessagePublisher(broker).publish_envelope(theirs)
    assert cli("rpc", "shared", "7", "--timeout", "30s")[:2] == (0, "7\n")
    wait_until(lambda: broker.declare_queue("responses", passive=True).message_count == 1, 20)
    broker.delete_queue("responses")
    broker.declare_queue("responses", arguments={"x-queue-type": "quorum"})
    code, _, err = cli("rpc", "shared", "7")
    assert (code, "quorum queue" in err) == (9, True)


def test_many_calls_have_figures(cli: Cli, sums: list[Any]) -> None:
    code, out, _ = cli("rpc", "add", "1", "--count", "50", "--concurrency", "8", "-o", "json", "--timeout", "30s")
    found = json.loads(out)
    assert (code, found["planned"], found["replied"]) == (0, 50, 50)
    assert found["min_s"] <= found["p50_s"] <= found["p95_s"] <= found["p99_s"] <= found["max_s"]
    assert sum(bar["count"] for bar in found["histogram"]) == 50
    assert len(sums) == 50
    code, out, _ = cli("rpc", "add", "1", "--count", "20", "--rate", "1000", "--timeout", "30s")
    assert code == 0
    assert "20 of 20 replied" in out
    assert "p99" in out
    code, out, err = cli("rpc", "add", "-1", "--count", "5")
    assert (code, "5 RemoteError" in out, "too small" in err) == (7, True, True)


def test_some_of_many_failing_is_partly_done(cli: Cli, broker: MessageBroker) -> None:
    broker.declare_queue("sums")
    server = RPCServer(broker, "sums")
    count = 0

    @server.default
    def every_other(request: Request) -> int:
        nonlocal count
        count += 1
        return 1 // (count % 2)

    with server:
        code, out, err = cli("rpc", "-q", "sums", "{}", "--count", "6", "-o", "jsonl")
    assert (code, json.loads(out)["failed"]) == (8, {"RemoteError": 3})
    assert "division" in err


def test_list_and_help_know_the_arguments(cli: Cli) -> None:
    listed = json.loads(cli("rpc", "list", "-o", "json")[1])
    add = next(method for method in listed if method["name"] == "add")
    assert [one["name"] for one in add["arguments"]] == ["a", "b", "how"]
    assert add["arguments"][1] == {"name": "b", "required": False, "expected": "a number", "default": 1}
    assert "add two numbers" in cli("rpc", "--help")[1]
    assert "one of" in cli("rpc", "add", "--help")[1]


def test_the_help_of_a_bus_file_reaches_no_terminal_raw(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bus.toml").write_text('[methods.add]\nqueue = "sums"\nhelp = "add\\u001b[31m \\u009b1m"\n')
    for words in (("rpc", "--help"), ("rpc", "add", "--help"), ("rpc", "list")):
        code, out, _ = cli(*words)
        assert (code, r"dd\x1b[31m" in out, {"\x1b", "\x9b"} & set(out)) == (0, True, set())


# --- standing in


@contextmanager
def program(vhost: TestBroker, *words: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run busctl until the end of the block."""
    environment = {**os.environ, "BUSCTL_AMQP_URL": vhost.amqp_url, "BUSCTL_API_URL": vhost.api_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "busctl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def served(broker: MessageBroker, rpc: RPCConsumer, queue: str, message: Any) -> Any:
    """Call until somebody is there."""

    def answered() -> Any:
        try:
            return [rpc.call(queue, message, 5)]
        except NoResponder:
            return None

    return wait_until(answered, 30)[0]


def test_a_mock_answers_as_told_and_leaves_nothing(
    vhost: TestBroker, cli: Cli, broker: MessageBroker, tmp_path: Path
) -> None:
    (tmp_path / "reply.json").write_text('{"sum": 3}')
    rpc = RPCConsumer(broker)
    with program(vhost, "rpc", "mock", "add", "--reply", "reply.json", folder=tmp_path) as mock:
        assert served(broker, rpc, "sums", {"action": "add", "a": 1}) == {"sum": 3}
        with pytest.raises(RemoteError, match="stands in for add only"):
            rpc.call("sums", {"action": "multiply"}, 20)
        with pytest.raises(RemoteError, match="a: expected a number, found"):
            rpc.call("sums", {"action": "add", "a": "one"}, 20)
        mock.send_signal(signal.SIGINT)
        _, err = mock.communicate(timeout=30)
    assert mock.returncode == 130
    assert "1 answered, 2 with an error" in err
    with pytest.raises(NoResponder, match="no such queue"):
        rpc.call("sums", {"action": "add", "a": 1}, 5)


def test_a_mock_may_run_a_command_echo_fail_and_stop_by_itself(
    vhost: TestBroker,
    cli: Cli,
    broker: MessageBroker,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker.declare_queue("texts")
    rpc = RPCConsumer(broker)
    monkeypatch.setattr(rpc_mock, "_COMMAND_S", 2.0)
    for words, message, expected in [
        (("--command", "tr a-z A-Z"), b'"abc"', "ABC"),
        (("--command", "echo no such thing >&2; exit 3"), b"1", "CommandFailed: no such thing"),
        (("--command", "sleep 600"), b"1", "not done within 2 s"),
        (("--echo", "--delay", "10ms"), {"n": 1}, {"n": 1}),
        (("--echo", "--fail-rate", "1"), {}, "MockFailure"),
    ]:
        mock = threading.Thread(target=run, args=(["rpc", "mock", "-q", "texts", *words, "-n", "1", "--for", "60s"],))
        mock.start()
        try:
            found: Any = served(broker, rpc, "texts", message)
        except RemoteError as error:
            found = str(error)
        mock.join(30)
        assert not mock.is_alive()
        assert found == expected or expected in found


# --- spying


def test_a_spy_pairs_the_calls_of_others(vhost: TestBroker, cli: Cli, broker: MessageBroker, tmp_path: Path) -> None:
    broker.declare_queue("sums")
    broker.declare_queue("other")
    publisher = MessagePublisher(broker)

    def answer(request: Delivery) -> None:
        body = json.loads(request.body)
        address = request.properties.reply_to or ""
        for correlation_id in {"twice": [1, 1], "never": [], "lost": [None]}.get(body["action"], [1]):
            properties = Properties(correlation_id=request.properties.correlation_id if correlation_id else None)
            reply = Envelope(exchange="", routing_key=address, properties=properties, body=b"1")
            publisher.send_envelope(reply, lambda _entry: None)

    for queue in ("sums", "other"):
        broker.subscribe(queue, answer, auto_ack=True)
    rpc = RPCConsumer(broker)
    with (
        ManagementClient(vhost.api_url) as api,
        program(vhost, "rpc", "spy", "sums", "-o", "jsonl", "--for", "60s", "-n", "5", folder=tmp_path) as spy,
    ):
        assert spy.stderr is not None
        assert any("calls via firehose" in line for line in spy.stderr)  # it looks from now on
        rpc.call("other", {"action": "not looked at"}, 20)
        rpc.call("sums", {"action": "once"}, 20)
        rpc.call("sums", {"action": "twice"}, 20)
        for action in ("lost", "never"):
            with pytest.raises(Exception, match="no reply"):
                rpc.request("sums", {"action": action}, 0.3)
        out, err = spy.communicate(timeout=60)
        assert not api.vhost(vhost.name).tracing
    found = [json.loads(line) for line in out.splitlines()]
    assert spy.returncode == 0, err
    assert [(one["method"], one["state"]) for one in found][:4] == [
        ("once", "answered"),
        ("twice", "answered"),
        ("twice", "duplicate"),
        ("lost", "uncorrelated"),
    ]
    assert found[4]["state"] == "orphan"
    assert found[0]["latency_s"] >= 0
    assert found[0]["request"]["body"] == {"action": "once"}
    assert found[0]["reply"]["body"] == 1
    assert "DUPLICATES" in err
