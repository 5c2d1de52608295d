"""`busctl publish` as its user calls it: what goes out, what is refused before, and the account afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from trying import Busctl, Ended
from waiting import wait_until

from busctl.cli.main import run
from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.pytest_plugin import TestBroker

Publish = Callable[..., Ended]
ORDER = ("action=place_order", "user_id:=1", "symbol=AAPL", "side=buy", "quantity:=100", "price:=150.0")


@pytest.fixture
def at(vhost: TestBroker) -> dict[str, str]:
    return {"BUSCTL_AMQP_URL": vhost.amqp_url, "BUSCTL_API_URL": vhost.api_url}


@pytest.fixture
def broker(vhost: TestBroker) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("orders")
        yield broker


@pytest.fixture
def publish(at: dict[str, str], busctl: Busctl) -> Publish:
    def publish(*words: str, stdin: bytes = b"", code: int = 0) -> Ended:
        done = busctl("publish", *words, stdin=stdin, **at)
        assert done.returncode == code, done.stderr
        return done

    return publish


def published(broker: MessageBroker, count: int = 1) -> list[Delivery]:
    """What waits in `orders`, taken."""
    found: list[Delivery] = []
    subscription = broker.subscribe("orders", found.append, auto_ack=True)
    wait_until(lambda: len(found) >= count, 10)
    subscription.cancel()
    assert len(found) == count
    return found


def test_pairs_make_a_valid_persistent_json_message(publish: Publish, broker: MessageBroker) -> None:
    done = publish("orders", *ORDER)
    assert "orders: confirmed" in done.stdout
    assert done.stderr == ""
    (delivery,) = published(broker)
    assert json.loads(delivery.body) == {
        "action": "place_order",
        "user_id": 1,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": 100,
        "price": 150.0,
    }
    assert delivery.properties.content_type == "application/json"
    assert delivery.properties.delivery_mode == 2
    assert delivery.properties.message_id
    assert delivery.properties.timestamp


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*ORDER[:-1], "price=150.0"), 'price: expected a number > 0, found "150.0" (write price:=150.0 for a number)'),
        ((*ORDER[:-1], "price:=-1"), "price: expected a number > 0, found -1"),
        (ORDER[:-1], "price: expected a number > 0, found nothing"),
        ((*ORDER, "quantty:=1"), "did you mean 'quantity'?"),
        (('{"action": "cancel_order", "user_id": 1}',), "order_id: expected a text, found nothing"),
        (("a=1", "a=2"), "a is given twice"),
        (("a:=nope",), "is not JSON"),
        (("a:=NaN",), "is not JSON"),
        pytest.param(("a:=" + "[" * 2_000,), "is not JSON", id="deep"),
        (("a=1", "and more"), "'and more' is neither NAME=TEXT nor NAME:=JSON"),
        ((), "no message"),
        (("x", "-P", "prioity=1"), "did you mean priority?"),
        (("x", "-P", "type"), "-P 'type' is not NAME=VALUE"),
        (("x", "-P", "priority=high"), "expected a whole number"),
        (("x", "-P", "priority=\u00b2"), "expected a whole number"),
        (("x", "-P", "priority=256"), "expected a whole number from 0 to 255, found '256'"),
        (("x", "-P", "delivery_mode=7"), "expected a whole number from 1 to 2"),
        (("x", "-P", "expiration=60d"), "at most 4294967295 ms"),
        (("a=\udcff",), "is not valid UTF-8"),
        (("x", "-H", "h=\udcff"), "is not valid UTF-8"),
        (("x", "-H", "nothing"), "-H 'nothing' is neither NAME=TEXT"),
        (("x", "-H", "h=1", "-H", "h=2"), "-H h is given twice"),
        (("x", "-k", "key"), "name it with -x"),
        (("x", "--rate", "0"), "--rate must be above 0"),
        (("x", "--rate", "nan"), "--rate must be above 0"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_sent(
    words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUSCTL_AMQP_URL", "amqp://127.0.0.1:1")
    assert run(["publish", "orders", *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err


def test_no_validate_sends_it_anyway(publish: Publish, broker: MessageBroker) -> None:
    publish("orders", *ORDER[:-1], "price:=-1", "--no-validate")
    assert json.loads(published(broker)[0].body)["price"] == -1


@pytest.mark.parametrize(
    ("words", "stdin", "body", "kind"),
    [
        (("hello world",), b"", b"hello world", "text/plain"),
        (('{"a":  1}',), b"", b'{"a":  1}', "application/json"),
        (("a=b", "--raw"), b"", b"a=b", "text/plain"),
        (("-",), b"\x00\xff\x1b", b"\x00\xff\x1b", "application/octet-stream"),
        (("-",), b"[1, 2]\n", b"[1, 2]\n", "application/json"),
        pytest.param(("-",), b"[" * 2_000, b"[" * 2_000, "text/plain", id="deep"),
        (("-", "--raw"), b"no", b"-", "text/plain"),
        (("x", "-P", "content_type=text/csv"), b"", b"x", "text/csv"),
    ],
)
def test_a_body_goes_out_byte_by_byte(
    publish: Publish, broker: MessageBroker, words: tuple[str, ...], stdin: bytes, body: bytes, kind: str
) -> None:
    publish("orders", *words, stdin=stdin)
    (delivery,) = published(broker)
    assert (delivery.body, delivery.properties.content_type) == (body, kind)


def test_headers_and_properties_arrive(publish: Publish, broker: MessageBroker) -> None:
    headers = ("-H", "tenant=a b", "-H", "tries:=3", "-H", "MT/Host name=x")
    publish("orders", "x", *headers, "-P", "priority=4", "-P", "expiration=30s", "-P", "message_id=m1")
    properties = published(broker)[0].properties
    assert properties.headers == {"tenant": "a b", "tries": 3, "MT/Host name": "x"}
    assert (properties.priority, properties.expiration, properties.message_id) == (4, "30000", "m1")


def test_an_exchange_takes_a_key(publish: Publish, broker: MessageBroker) -> None:
    broker.declare_exchange("events", exchange_type="topic")
    broker.bind_queue("orders", "events", "order.*")
    publish("-x", "events", "-k", "order.new", "a=1")
    assert published(broker)[0].routing_key == "order.new"
    done = publish("-x", "events", "-k", "other", "a=1", code=6)
    assert "NO_ROUTE" in done.stderr


def test_a_queue_that_is_not_there_is_no_route_and_the_nearest_is_named(
    publish: Publish, broker: MessageBroker
) -> None:
    done = publish("order", "a=1", code=6)
    assert "did you mean orders?" in done.stderr
    assert done.stdout == ""
    account = json.loads(publish("order", "a=1", "-o", "json", code=6).stdout)
    assert (account["state"], account["returned"]) == ("failed", 1)


def test_many_are_counted_and_json_is_the_operation(publish: Publish, broker: MessageBroker) -> None:
    account = json.loads(publish("orders", "a=1", "--count", "500", "-o", "json").stdout)
    assert (account["kind"], account["target"], account["state"]) == ("publish", "orders", "done")
    assert (account["planned"], account["confirmed"], account["unknown"]) == (500, 500, 0)
    assert account["started_at"].endswith("Z")
    assert len({delivery.properties.message_id for delivery in published(broker, 500)}) == 500


def test_jsonl_is_a_receipt_a_message_and_rate_spaces_them(publish: Publish, broker: MessageBroker) -> None:
    lines = publish("orders", "a=1", "--count", "4", "--rate", "20", "-o", "jsonl").stdout.splitlines()
    receipts = [json.loads(line) for line in lines]
    assert [receipt["outcome"] for receipt in receipts] == ["confirmed"] * 4
    assert [receipt["message_id"] for receipt in receipts] == [
        delivery.properties.message_id for delivery in published(broker, 4)
    ]


def test_a_queue_that_fills_up_ends_it_half_way_with_an_account(publish: Publish, broker: MessageBroker) -> None:
    broker.declare_queue("small", arguments={"x-max-length": 3, "x-overflow": "reject-publish"})
    done = publish("small", "a=1", "--count", "50", "--rate", "200", "-o", "json", code=8)
    account = json.loads(done.stdout)
    assert account["state"] == "partial"
    assert 3 <= account["confirmed"] < 50
    assert account["failed"] >= 1
    assert "refused" in done.stderr
    assert broker.declare_queue("small", passive=True).message_count == account["confirmed"]


def test_an_exchange_that_is_not_there_is_refused(publish: Publish, broker: MessageBroker) -> None:
    done = publish("-x", "nowhere", "-k", "key", "a=1", code=4)
    assert "no exchange 'nowhere'" in done.stderr
    assert "`busctl exchanges` lists what there is" in done.stderr


def test_an_interruption_ends_it_with_an_account(at: dict[str, str], broker: MessageBroker) -> None:
    command = [sys.executable, "-m", "busctl", "publish", "orders", "a=1"]
    process = subprocess.Popen(
        [*command, "--count", "1000", "--rate", "50", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **at},
    )
    wait_until(lambda: broker.declare_queue("orders", passive=True).message_count >= 3, 20)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    account = json.loads(out)
    assert process.returncode == 130
    assert (account["state"], account["unknown"]) == ("cancelled", 0)
    assert account["confirmed"] == broker.declare_queue("orders", passive=True).message_count
