"""`--where` on lists, and names that look like patterns, on a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from busctl.cli import main
from busctl_lib import MessageBroker

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line on the test's vhost: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def names(out: str) -> list[str]:
    return [json.loads(line)["name"] for line in out.splitlines()]


def test_where_looks_at_the_names_of_the_api(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("short", arguments={"x-max-length": 5})
    broker.declare_queue("long", arguments={"x-max-length": 500})
    broker.declare_queue("plain")
    capped = ("queues", "-o", "jsonl", "--where", '.arguments["x-max-length"] // 0 | . > 4 and . < 100')
    assert names(run(*capped)[1]) == ["short"]
    assert names(run(*capped, "[lp]*")[1]) == []
    assert names(run("exchanges", "-o", "jsonl", "--where", '.type == "topic"')[1]) == [
        "amq.rabbitmq.trace",
        "amq.topic",
    ]
    assert "no queues match --where .messages > 9" in run("queues", "--where", ".messages > 9")[2]


def test_an_exact_name_is_shown_only_where_it_matches(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    code, out, _ = run("queues", "orders", "-o", "json", "--where", ".durable")
    assert (code, json.loads(out)["name"]) == (0, "orders")
    code, out, err = run("queues", "orders", "-o", "json", "--where", ".durable | not")
    assert (code, out) == (4, "")
    assert "'orders' does not match --where" in err


def test_a_mistake_is_told_with_a_caret_before_anything_is_asked(run: Run) -> None:
    code, out, err = run("queues", "--where", ".messages >", "--api-url", "http://127.0.0.1:1")
    assert (code, out) == (2, "")
    assert "--where" in err
    assert err.splitlines()[-1].strip() == "^"


def test_an_expression_that_fails_says_on_how_many(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("a")
    broker.declare_queue("b")
    code, out, err = run("queues", "-o", "json", "--where", '.name == "a" or (.name | error("no"))')
    assert code == 0
    assert [each["name"] for each in json.loads(out)] == ["a"]
    assert "--where failed on 1 of 2" in err


@pytest.mark.parametrize("name", ["odd[1]*?", "[", "a*"])
def test_a_name_that_looks_like_a_pattern_is_a_name_first(run: Run, broker: MessageBroker, name: str) -> None:
    broker.declare_queue(name)
    broker.declare_queue("ab")
    broker.declare_exchange(name, "fanout")
    for noun in ("queues", "exchanges"):
        code, out, _ = run(noun, name, "-o", "json")
        assert (code, json.loads(out)["name"]) == (0, name), "an object, not a list"
    broker.delete_queue(name)
    found = json.loads(run("queues", name, "-o", "json")[1])
    assert [each["name"] for each in found] == (["ab"] if name == "a*" else [])
