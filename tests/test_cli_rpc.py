"""`busctl rpc` as its user calls it: replies on stdout, talk on stderr, an exit code for each way to fail."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from trying import Busctl

from busctl.cli.main import run
from busctl_lib.broker import MessageBroker
from busctl_lib.consumers import MessageConsumer
from busctl_lib.pytest_plugin import TestBroker

BOOK = {
    "symbol": "AAPL",
    "bids": [[149.5, 10], [149.0, 20]],
    "asks": [[150.5, 7]],
    "last": None,
    "text": "\x1b[31m\u009b",
}


@pytest.fixture
def at(vhost: TestBroker) -> dict[str, str]:
    return {"BUSCTL_AMQP_URL": vhost.amqp_url, "BUSCTL_API_URL": vhost.api_url}


@pytest.fixture
def asked(vhost: TestBroker) -> Iterator[list[dict[str, Any]]]:
    """A service that answers get_orderbook, refuses get_trades and keeps silent on get_symbols; what it was asked."""
    messages: list[dict[str, Any]] = []

    def refuse(message: dict[str, Any], _: Any) -> Any:
        raise LookupError("no such symbol")

    def answer(message: dict[str, Any], _: Any) -> Any:
        messages.append(message)
        return BOOK

    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("obs_requests")
        consumer = MessageConsumer(broker)
        consumer.register_handler("get_orderbook", answer)
        consumer.register_handler("get_trades", refuse)
        consumer.register_handler("get_symbols", lambda message, _: None)
        consumer.start_consuming("obs_requests", background=True)
        yield messages
        consumer.stop()


def test_json_is_the_bare_reply(busctl: Busctl, at: dict[str, str], asked: list[Any]) -> None:
    done = busctl("rpc", "get_orderbook", "AAPL", "-o", "json", **at)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == BOOK
    assert asked == [{"action": "get_orderbook", "symbol": "AAPL"}]


def test_jsonl_is_one_line_and_raw_is_the_body_as_it_came(busctl: Busctl, at: dict[str, str], asked: list[Any]) -> None:
    lines = busctl("rpc", "-o", "jsonl", "get_orderbook", "AAPL", **at).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [BOOK]
    assert json.loads(busctl("rpc", "get_orderbook", "-o", "raw", "AAPL", **at).stdout) == BOOK


def test_the_reply_for_reading_is_compact_and_harmless_and_the_time_goes_to_stderr(
    busctl: Busctl, at: dict[str, str], asked: list[Any]
) -> None:
    done = busctl("rpc", "get_orderbook", "AAPL", **at)
    assert json.loads(done.stdout)["asks"] == [[150.5, 7]]
    assert '  "bids": [[149.5, 10], [149.0, 20]],\n' in done.stdout
    assert not {"\x1b", "\u009b"} & set(done.stdout)
    assert "obs_requests answered in" in done.stderr
    assert "ms" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("get_orderbook", "AAPL", "5"),
        ("get_orderbook", "symbol=AAPL", "depth=5"),
        ("get_orderbook", "depth:=5", "symbol=AAPL"),
        ("--timeout", "3s", "get_orderbook", "AAPL", "5"),
        ("-o", "json", "get_orderbook", "AAPL", "--timeout", "3", "5"),
    ],
)
def test_arguments_come_in_order_or_by_name_and_options_anywhere(
    busctl: Busctl, at: dict[str, str], asked: list[Any], words: tuple[str, ...]
) -> None:
    assert busctl("rpc", *words, **at).returncode == 0
    assert asked == [{"action": "get_orderbook", "symbol": "AAPL", "depth": 5}]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("get_ordrbook", "AAPL"), "did you mean get_orderbook?"),
        (("quux",), "`busctl rpc list`"),
        (("call",), "no method 'call'"),
        (("mock",), "name a method, or a queue with --queue"),
        (("mock", "get_orderbook"), "give one of --reply FILE, --command CMD and --echo"),
        (("mock", "get_ordrbook", "--echo"), "did you mean get_orderbook?"),
        (("get_orderbook", "@/no/such/file"), "No such file"),
        (("get_orderbook", "@/dev/null", "-"), "come from one file"),
        (("get_orderbook", "@/dev/null"), "not JSON"),
        (("get_orderbook", "AAPL", "--rate", "nan"), "--rate must be above 0"),
        (("get_orderbook", "AAPL", "-k", "key"), "name it with -x"),
        (("-q", "q", "-x", "e", "body"), "keep one of -q and -x"),
        (("-q", "q", "--raw", "two", "bodies"), "--raw sends one body"),
        (("-q", "q", "a=1", "two"), "expected NAME=TEXT or NAME:=JSON pairs, or one body"),
        (("spy", "--for", "soon"), "is not a duration"),
        (("get_orderbook", "AAPL", "--bus-file", "/no/such/bus.toml"), "no bus file /no/such/bus.toml"),
        (("get_orderbook",), "symbol: expected a text of 1 to 12 characters, found nothing"),
        (("get_orderbook", "AAPL", "many"), 'depth: expected an integer >= 1 and <= 100, found "many"'),
        (("get_orderbook", "AAPL", "-1"), "depth: expected an integer >= 1 and <= 100, found -1"),
        (("get_orderbook", "AAPL", "dept=1"), "did you mean 'depth'?"),
        (("place_order", "1", "AAPL", "buy", "-1.5e3", "10"), "quantity: expected a number > 0, found -1500.0"),
        (("get_orderbook", "AAPL", "--timout", "3"), "no such option: --timout"),
        (("get_orderbook", "AAPL", "--timeout", "soon"), "is not a duration"),
        (("get_orderbook", "AAPL", "--timeout", "99999999999h"), "at most 49 days"),
        ((), "Missing command"),
    ],
)
def test_a_wrong_command_line_is_told_before_anybody_is_asked(
    words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUSCTL_AMQP_URL", "amqp://127.0.0.1:1")
    assert run(["rpc", *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_no_queue_and_no_consumer_are_nobody_there(busctl: Busctl, vhost: TestBroker, at: dict[str, str]) -> None:
    done = busctl("rpc", "get_orderbook", "AAPL", **at)
    assert (done.returncode, done.stdout) == (6, "")
    assert "no such queue" in done.stderr
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("obs_requests")
    done = busctl("rpc", "get_orderbook", "AAPL", "--timeout", "300ms", **at)
    assert (done.returncode, done.stdout) == (6, "")
    assert "no consumer" in done.stderr


def test_a_silent_service_is_a_timeout(busctl: Busctl, at: dict[str, str], asked: list[Any]) -> None:
    done = busctl("rpc", "get_symbols", "--timeout", "300ms", **at)
    assert (done.returncode, done.stdout) == (5, "")
    assert "within 0.3 s" in done.stderr


def test_an_error_reply_is_told_and_is_data_for_programs(busctl: Busctl, at: dict[str, str], asked: list[Any]) -> None:
    done = busctl("rpc", "get_trades", "AAPL", **at)
    assert (done.returncode, done.stdout) == (7, "")
    assert "LookupError: no such symbol" in done.stderr
    done = busctl("rpc", "get_trades", "AAPL", "-o", "json", **at)
    assert done.returncode == 7
    assert json.loads(done.stdout) == {"error": "LookupError", "message": "no such symbol"}


def test_nobody_on_the_port_and_a_wrong_password_are_told_apart(busctl: Busctl, vhost: TestBroker) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = busctl("rpc", "get_orderbook", "AAPL", BUSCTL_AMQP_URL=f"amqp://127.0.0.1:{port}")
    assert done.returncode == 3
    wrong = f"amqp://{vhost.username}:wrong@{vhost.host}:{vhost.port}/{vhost.name}"
    done = busctl("rpc", "get_orderbook", "AAPL", BUSCTL_AMQP_URL=wrong)
    assert done.returncode == 3
    assert "login" in done.stderr
    assert "wrong" not in done.stderr


def test_the_methods_are_listed_with_what_they_take(busctl: Busctl) -> None:
    done = busctl("rpc", "list")
    assert done.returncode == 0
    assert "get_orderbook" in done.stdout
    assert "symbol [depth]" in done.stdout
    listed = json.loads(busctl("rpc", "-o", "json", "list").stdout)
    book = next(method for method in listed if method["name"] == "get_orderbook")
    assert book["queue"] == "obs_requests"
    assert [(argument["name"], argument["required"]) for argument in book["arguments"]] == [
        ("symbol", True),
        ("depth", False),
    ]


def test_help_shows_every_method_and_what_one_takes(busctl: Busctl) -> None:
    assert "place_order" in busctl("rpc", "--help").stdout
    assert "symbol [depth]" in busctl("rpc", "get_orderbook", "--help").stdout
