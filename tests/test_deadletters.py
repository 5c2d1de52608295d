"""Dead letters: dialects, fingerprints that stay, groups, and the queues that hold them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from dead_letters import Yard
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from busctl_lib.deadletters import Failure, dead_letter_queues, failure_of, fingerprint, group, mask, triage
from busctl_lib.deadletters.fingerprints import own_frame
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.management.transport import Transport

DEATH = {
    "queue": "orders",
    "reason": "rejected",
    "exchange": "trading",
    "routing-keys": ["order.new"],
    "count": 2,
    "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}
LATER = {**DEATH, "queue": "retry", "reason": "expired", "exchange": "", "routing-keys": ["retry"], "count": 1}
PYTHON = """Traceback (most recent call last):
  File "/srv/app/venv/lib/python3.11/site-packages/pika/channel.py", line 10, in _deliver
    f()
  File "/srv/app/trading/book.py", line 41, in place
    raise UnknownSymbol("XYZ1")
  File "/usr/lib/python3.11/json/decoder.py", line 3, in decode
trading.errors.UnknownSymbol: XYZ1
"""
JAVA = """org.springframework.amqp.ListenerExecutionFailedException: Listener threw
\tat org.springframework.amqp.rabbit.Listener.invoke(Listener.java:1)
Caused by: com.acme.UnknownSymbol: XYZ1
\tat com.acme.Book.place(Book.java:41)
"""
DOTNET = """   at MassTransit.Pipeline.Send(Context c) in /x/Pipeline.cs:line 3
   at Acme.Book.Place(Order order) in /src/Book.cs:line 41"""


def letter(**headers: Any) -> Envelope:
    return Envelope(exchange="", routing_key="q", properties=Properties(headers=headers), body=b"{}")


def test_the_first_death_tells_where_a_message_came_from() -> None:
    headers = {"x-death": [LATER, DEATH], "x-first-death-queue": "orders", "x-first-death-reason": "rejected"}
    failure = failure_of(letter(**headers))
    assert (failure.dialect, failure.reason, failure.queue, failure.exchange, failure.routing_key) == (
        "rabbitmq",
        "rejected",
        "orders",
        "trading",
        "order.new",
    )
    assert (failure.deaths, failure.failed_at) == (2, DEATH["time"])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {
                "busctl-error-type": "UnknownSymbol",
                "busctl-error-message": "XYZ1",
                "busctl-error-stack": PYTHON,
                "busctl-error-queue": "orders",
                "busctl-error-exchange": "trading",
                "busctl-error-routing-key": "order.new",
                "busctl-error-time": "2026-01-02T03:04:05+00:00",
            },
            ("busctl", "error", "orders", "trading", "order.new", "UnknownSymbol", "book.py:place"),
        ),
        (
            {
                "x-exception-message": "XYZ1",
                "x-exception-stacktrace": JAVA,
                "x-original-exchange": "trading",
                "x-original-routingKey": "order.new",
            },
            ("spring", "error", None, "trading", "order.new", "com.acme.UnknownSymbol", "com.acme.Book.place"),
        ),
        (
            {
                "MT-Reason": "fault",
                "MT-Fault-ExceptionType": "Acme.UnknownSymbol",
                "MT-Fault-Message": "XYZ1",
                "MT-Fault-StackTrace": DOTNET,
                "MT-Fault-InputAddress": "rabbitmq://host/vhost/orders?durable=true",
            },
            ("masstransit", "fault", "orders", "", "orders", "Acme.UnknownSymbol", "Acme.Book.Place"),
        ),
        (
            {
                "NServiceBus.FailedQ": "orders@machine",
                "NServiceBus.ExceptionInfo.ExceptionType": "Acme.UnknownSymbol",
                "NServiceBus.ExceptionInfo.StackTrace": DOTNET,
                "NServiceBus.TimeOfFailure": "2026-01-02 03:04:05:123456 Z",
            },
            ("nservicebus", "error", "orders", "", "orders", "Acme.UnknownSymbol", "Acme.Book.Place"),
        ),
        (
            {"task": "trading.place", "id": "7", "lang": "py", "x-death": [DEATH]},
            ("celery", "rejected", "orders", "trading", "order.new", "trading.place", None),
        ),
        ({}, ("none", None, None, None, None, None, None)),
    ],
    ids=["own", "spring", "masstransit", "nservicebus", "celery", "none"],
)
def test_dialects(headers: dict[str, Any], expected: tuple[Any, ...]) -> None:
    failure = failure_of(letter(**headers))
    told = (failure.dialect, failure.reason, failure.queue, failure.exchange, failure.routing_key, failure.error_type)
    assert (*told, own_frame(failure.stack)) == expected


VALUES = st.one_of(st.text(), st.integers(), st.binary(), st.none(), st.lists(st.none()))


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=30), VALUES))
def test_foreign_headers_never_raise(headers: dict[str, Any]) -> None:
    for name in ("x-death", "x-exception-message", "MT-Fault-Timestamp", "NServiceBus.FailedQ", "busctl-error-type"):
        failure = failure_of(letter(**{**headers, name: next(iter(headers.values()), 7)}))
        assert len(fingerprint(failure)) == 10


@pytest.mark.parametrize(
    "text", ["'a.' * 60_000", r"'\n' * 120_000", r"'at x(\n' * 20_000"], ids=["dots", "lines", "calls"]
)
def test_a_long_text_by_whoever_stops_no_triage(text: str) -> None:
    code = (
        "from busctl_lib.deadletters import Failure, fingerprint\n"
        f"print(fingerprint(Failure(dialect='none', error={text}, stack={text})))"
    )
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=True, capture_output=True)
    assert len(ended.stdout.strip()) == 10


def test_a_fingerprint_stays_when_numbers_and_ids_differ() -> None:
    def failure(text: str, **other: Any) -> Failure:
        return Failure(dialect="busctl", reason="error", queue="orders", error_type="Bad", error=text, **other)

    one = failure("order 17 of 7f3a91c0-1111-4222-8333-abcdefabcdef at 2026-01-02T03:04:05Z: -1.5 < 0")
    two = failure("order 99 of 00000000-1111-4222-8333-0123456789ab at 2025-12-31T00:00:00Z: -7 < 0")
    assert fingerprint(one) == fingerprint(two) == "df473c8790"
    assert fingerprint(one) != fingerprint(failure("order 17 is late"))
    assert fingerprint(one) != fingerprint(failure(one.error or "", stack=PYTHON))
    assert mask("user a@b.example has 3 of 0xff") == "user <address> has <n> of <id>"


def test_groups_count_and_keep_the_newest_as_the_example() -> None:
    def delivery(number: int, minute: int) -> Delivery:
        death = {**DEATH, "time": datetime(2026, 1, 2, 3, minute, tzinfo=UTC)}
        properties = Properties(headers={"x-death": [death]}, message_id=str(number))
        return Delivery(
            exchange="", routing_key="q", properties=properties, body=b"{}", queue="q", received_at=0.0, via="peek"
        )

    now = datetime(2026, 1, 2, 3, 30, tzinfo=UTC).timestamp()
    (one,) = group([delivery(1, 5), delivery(2, 29), delivery(3, 7)], now=now)
    assert (one.count, one.reason, one.queue) == (3, "rejected", "orders")
    assert one.first_seen == datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
    assert one.example["properties"]["message_id"] == "2"
    assert sum(one.arrivals) == 3
    assert one.arrivals[-1] == 1


def test_dead_letter_queues_by_argument_by_policy_and_by_name(yard: Yard, vhost: Any) -> None:
    yard.broker.declare_queue("orders", arguments={"x-dead-letter-exchange": "dlx"})
    yard.broker.declare_queue("bin")
    yard.broker.declare_queue("payments")
    yard.broker.declare_queue("refunds_error")
    api = Transport(vhost.api_url, None, None, (10.0, 30.0), read_only=False)
    definition = {"dead-letter-exchange": "", "dead-letter-routing-key": "bin"}
    policy = {"pattern": "^payments$", "definition": definition, "apply-to": "queues"}
    api.change("PUT", f"policies/{vhost.name}/p", policy)
    api.close()
    wait_until(lambda: len(yard.management.policies(vhost.name)) == 1)
    wait_until(lambda: "bin" in [each.name for each in dead_letter_queues(yard.management, vhost.name)], timeout=30)
    found = {each.name: (each.found_by, each.sources) for each in dead_letter_queues(yard.management, vhost.name)}
    assert found == {
        "dead": (["dead-letter exchange", "name"], ["orders"]),
        "bin": (["dead-letter exchange"], ["payments"]),
        "refunds_error": (["name"], []),
    }


def test_triage_reads_groups_and_gives_everything_back(yard: Yard, vhost: Any) -> None:
    yard.kill_messages(12)
    found, messages = triage(yard.broker, yard.management, vhost.name, "dead", sample=8)
    assert (found.waiting, found.examined, len(messages)) == (12, 8, 8)
    assert found.sample == "the first 8 of 12 messages"
    assert sum(each.count for each in found.groups) == 8
    assert {each.reason for each in found.groups} == {"expired"}
    assert {each.queue for each in found.groups} <= {"orders", "fills"}
    wait_until(lambda: yard.waiting("dead") == 12)
