"""Where a dead letter died, which way it goes back, and what a replay takes away from it."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from dead_letters import Yard
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.amqp.tables import encode_table
from busctl_lib.broker_headers import BROKER_HEADERS
from busctl_lib.deadletters import Grounds, failure_of, group, triage
from busctl_lib.deadletters.headers import DIALECTS, failure_headers
from busctl_lib.envelope import Delivery, Envelope, Properties, TypedFloat, TypedInt
from busctl_lib.transfers import Request, Transfer
from busctl_lib.transfers.origins import cleaned
from busctl_lib.transfers.undo import undo_of

NESTED = {
    "RoutingKey": "orders.new",
    "Exchange": "shop",
    "Queue": "orders",
    "Exception": "System.BadArgument: no such symbol\n   at Shop.Book.Place(Order o)",
    "Message": '{"n": 1}',
    "DateTime": "2026-01-02T03:04:05Z",
    "BasicProperties": {
        "ContentType": "application/json",
        "Type": "Shop.Order",
        "DeliveryMode": 2,
        "Headers": {"a": 1},
    },
}


def death(queue: str, reason: str, *, exchange: str = "", keys: tuple[str, ...] = (), count: int = 1) -> dict[str, Any]:
    found = {"queue": queue, "reason": reason, "exchange": exchange, "count": count}
    return {**found, "routing-keys": list(keys or (queue,))}


def letter(*deaths: dict[str, Any], body: bytes = b"{}", **headers: Any) -> Envelope:
    all_headers = {**headers, **({"x-death": list(deaths)} if deaths else {})}
    return Envelope(exchange="", routing_key="q", properties=Properties(headers=all_headers), body=body)


HERE = Grounds(
    known=True,
    sources=frozenset({"work"}),
    queues=frozenset({"work", "wait", "other", "here"}),
    waits={"wait": ["work"]},
)


@pytest.mark.parametrize(
    ("deaths", "died"),
    [
        ([death("work", "rejected"), death("wait", "expired")], ("work", "rejected")),
        ([death("wait", "expired", count=3), death("work", "rejected", count=2)], ("work", "rejected")),
        ([death("other", "rejected"), death("work", "rejected")], ("work", "rejected")),
        ([death("other", "rejected")], ("other", "rejected")),
        ([death("work", "expired")], ("work", "expired")),
        ([death("busctl.delay.03", "expired"), death("other", "maxlen")], ("other", "maxlen")),
        ([death("celery_delayed_2", "expired")], (None, None)),
        ([death("nsb.v2.delay-level-04", "expired")], (None, None)),
        ([death("wait", "expired")], ("work", None)),
        ([death("gone", "expired")], ("gone", "expired")),
        ([death("gone", "expired"), death("other", "rejected")], ("other", "rejected")),
    ],
)
def test_it_died_where_it_failed_not_where_it_waited(deaths: list[Any], died: tuple[str | None, str | None]) -> None:
    failure = failure_of(letter(*deaths), HERE)
    assert (failure.queue, failure.reason) == died


def test_what_lies_here_without_having_died_into_it_was_moved() -> None:
    assert failure_of(letter(death("other", "rejected")), HERE).moved
    assert not failure_of(letter(death("work", "rejected")), HERE).moved
    assert not failure_of(letter(death("other", "rejected"))).moved, "unknown topology claims nothing"


def test_how_often_it_died_of_it_is_told() -> None:
    deaths = [death("wait", "expired", count=7), death("work", "rejected", count=8)]
    assert failure_of(letter(*deaths), HERE).deaths == 8


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            letter(**{"rbs2-error-details": "1 unhandled exceptions: A.B: boom\n at C.D()", "rbs2-source-queue": "in"}),
            ("rebus", "in", "A.B", "boom"),
        ),
        (
            letter(body=json.dumps(NESTED).encode()),
            ("easynetq", "orders", "System.BadArgument", "no such symbol"),
        ),
        (
            letter(body=b'{"error": "reject", "num_attempts": 6, "payload": "e30="}'),
            ("sneakers", None, "reject", None),
        ),
        (
            letter(
                body=json.dumps(
                    {
                        "queue_name": "mail.DQ",
                        "actor_name": "send",
                        "options": {"traceback": 'Traceback:\n  File "a.py", line 1, in b\nValueError: bad'},
                    }
                ).encode()
            ),
            ("dramatiq", "mail", "ValueError", "bad"),
        ),
        (
            letter(
                **{
                    "X-Message-Stamp-Symfony\\Component\\Messenger\\Stamp\\ErrorDetailsStamp": json.dumps(
                        [{"exceptionClass": "App\\Bad", "exceptionMessage": "no"}]
                    )
                }
            ),
            ("symfony", None, "App\\Bad", "no"),
        ),
        (letter(body=b'{"displayName": "App\\\\Job", "job": "x"}'), ("laravel", None, "App\\Job", None)),
    ],
    ids=["rebus", "easynetq", "sneakers", "dramatiq", "symfony", "laravel"],
)
def test_more_dialects(message: Envelope, told: tuple[Any, ...]) -> None:
    failure = failure_of(message)
    assert (failure.dialect, failure.queue, failure.error_type, failure.error) == told


@given(st.binary(max_size=300).map(lambda body: b'{"BasicProperties" "Exception" "num_attempts" "payload"' + body))
def test_a_body_that_only_looks_like_a_report_says_nothing(body: bytes) -> None:
    assert failure_of(letter(body=body)).dialect == "none"


NAMES = st.sampled_from(sorted({*BROKER_HEADERS, *(name for each in DIALECTS for name in each.tells), "CC", "BCC"}))
OWN = st.one_of(
    st.sampled_from(["x-tenant-id", "x-b3-traceid", "x-retry-count", "x-opt-mine", "MT-MessageId"]),
    st.text(min_size=1, max_size=30),
)
VALUES = st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.binary(), st.booleans(), st.none())


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(OWN, VALUES), st.sampled_from([each.name for each in DIALECTS]))
def test_a_replay_takes_away_a_closed_list_and_nothing_else(
    foreign: dict[str, Any], own: dict[str, Any], dialect: str
) -> None:
    headers = {**foreign, **own}
    clean = cleaned(Properties(headers=headers), dialect)
    listed = {*BROKER_HEADERS, *failure_headers(dialect), "CC", "BCC"}
    deaths = ("x-first-death-", "x-last-death-")
    assert clean.properties.headers == {
        name: value for name, value in headers.items() if name not in listed and not name.startswith(deaths)
    }
    assert sorted(clean.removed) == sorted(headers.keys() - (clean.properties.headers or {}).keys())


# --- on the broker


def dying(yard: Yard, queue: str, dead: str) -> None:
    yard.broker.declare_queue(dead)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    yard.broker.declare_queue(queue, arguments=arguments)


def reject(yard: Yard, queue: str, dead: str) -> None:
    """Reject the one message of a queue, once it is there."""
    before = yard.waiting(dead)
    taken: list[Delivery] = []
    subscription = yard.broker.subscribe(queue, taken.append, prefetch=1)
    wait_until(lambda: bool(taken))
    subscription.dead_letter(taken[0])
    wait_until(lambda: yard.waiting(dead) == before + 1)
    subscription.cancel()


def put(yard: Yard, queue: str, **headers: Any) -> None:
    properties = Properties(headers=headers or None, delivery_mode=2)
    yard.publish([Envelope(exchange="", routing_key=queue, properties=properties, body=b"{}")])


def test_a_message_that_waited_goes_back_to_where_it_was_rejected(yard: Yard) -> None:
    dying(yard, "work", "work.dead")
    waits = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work", "x-message-ttl": 50}
    yard.broker.declare_queue("wait", arguments=waits)
    put(yard, "wait")
    reject(yard, "work", "work.dead")
    found, _ = triage(yard.broker, yard.management, yard.broker.virtual_host, "work.dead")
    assert [(each.queue, each.reason) for each in found.groups] == [("work", "rejected")]
    assert yard.run(Request(kind="replay", source="work.dead")).operation.moved == 1
    assert (yard.waiting("work"), yard.waiting("wait")) == (1, 0)


def test_a_copy_by_cc_goes_back_to_the_queue_it_died_in(yard: Yard) -> None:
    yard.broker.declare_queue("first")
    dying(yard, "audit", "audit.dead")
    put(yard, "first", CC=["audit"])
    reject(yard, "audit", "audit.dead")
    assert yard.run(Request(kind="replay", source="audit.dead")).operation.moved == 1
    assert (yard.waiting("first"), yard.waiting("audit")) == (1, 1), "the first still has its own, and no second one"


def test_what_a_report_wraps_goes_back_and_the_report_does_not(yard: Yard) -> None:
    yard.broker.declare_queue("orders")
    yard.broker.declare_queue("EasyNetQ_Default_Error_Queue")
    properties = Properties(delivery_mode=2)
    body = json.dumps({**NESTED, "Exchange": "", "RoutingKey": "orders"}).encode()
    source = "EasyNetQ_Default_Error_Queue"
    yard.publish([Envelope(exchange="", routing_key=source, properties=properties, body=body)])
    assert yard.run(Request(kind="replay", source=source)).operation.moved == 1
    (back,) = yard.drain("orders")
    assert (back.body, back.properties.type, back.headers["a"]) == (b'{"n": 1}', "Shop.Order", 1)


@pytest.fixture
def theirs(yard: Yard) -> Iterator[Yard]:
    """A letter in `dead` with another user's name in it, which only that user can send."""
    name = f"user-{uuid.uuid4().hex[:8]}"
    change = yard.management._http.change
    change("PUT", f"users/{name}", {"password": name, "tags": ""})
    vhost = quote(yard.broker.virtual_host, safe="")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    change("PUT", f"permissions/{vhost}/{name}", everything)
    address = urlsplit(yard.amqp_url)
    url = address._replace(netloc=f"{name}:{name}@{address.hostname}:{address.port}").geturl()
    with MessageBroker(url=url) as broker:
        properties = Properties(user_id=name, delivery_mode=2)
        letter = Envelope(exchange="", routing_key="dead", properties=properties, body=b"{}")
        sent = threading.Event()
        MessagePublisher(broker).send_envelope(letter, lambda _entry: sent.set())
        assert sent.wait(10)
    yield yard
    change("DELETE", f"users/{name}")


def test_a_message_of_another_user_is_moved_without_the_name(theirs: Yard) -> None:
    assert theirs.run(Request(kind="move", source="dead", target="elsewhere")).operation.moved == 1
    (moved,) = theirs.drain("elsewhere")
    assert moved.properties.user_id is None


def test_what_is_discarded_of_another_user_can_be_put_back(theirs: Yard) -> None:
    with theirs.journal() as journal:
        with Transfer(theirs.broker, theirs.management, journal, Request(kind="discard", source="dead")) as transfer:
            list(transfer.planning())
            assert transfer.plan is not None
            assert any("user_id" in warning for warning in transfer.plan.warnings)
            list(transfer.running())
        with undo_of(theirs.broker, theirs.management, journal, transfer.operation.id) as restore:
            list(restore.planning())
            assert restore.plan is not None
            assert any("user_id" in warning for warning in restore.plan.warnings)
            list(restore.running())
            assert restore.account is not None
            assert (restore.account.operation.state, restore.account.operation.moved) == ("done", 1)
    assert theirs.waiting("dead") == 1


def a_value(chance: random.Random) -> Any:
    """Of any AMQP type that a header can have."""
    kind = chance.choice("bBsuilLft")
    number = chance.randrange(-100, 100)
    return chance.choice(
        [
            TypedInt(abs(number) if kind.isupper() or kind in "ui" else number, kind) if kind not in "ft" else number,
            TypedFloat(0.5 * number),
            1.5 * number,
            Decimal(number).scaleb(-2),
            f"text {number}",
            bytes([200, abs(number)]),
            None,
            number > 0,
            datetime(2026, 1, 2, tzinfo=UTC),
            [number, "a", {"b": None}],
            {"nested": {"deep": number}, "x-inner": b"\xff"},
        ]
    )


def test_after_real_rejections_every_other_header_is_as_it_was(yard: Yard) -> None:
    chance = random.Random(20261130)
    dying(yard, "work", "work.dead")
    own = (
        "x-tenant-id",
        "x-b3-traceid",
        "x-retry-count",
        "x-opt-mine",
        "plain",
        "MT-MessageId",
        "NServiceBus.MessageId",
    )
    telling = [sorted(failure_headers(each.name)) for each in DIALECTS]
    letters = []
    for number in range(200):
        headers = {name: a_value(chance) for name in own if chance.random() < 0.6}
        headers |= {name: "work" for name in chance.choice(telling) if chance.random() < 0.7}
        properties = Properties(message_id=str(number), headers=headers, delivery_mode=2)
        letters.append(Envelope(exchange="", routing_key="work", properties=properties, body=b"{}"))
    yard.publish(letters)
    taken: list[Delivery] = []
    subscription = yard.broker.subscribe("work", taken.append, prefetch=200)
    wait_until(lambda: len(taken) == 200)
    for delivery in taken:
        subscription.dead_letter(delivery)
    wait_until(lambda: yard.waiting("work.dead") == 200)
    subscription.cancel()
    died: list[Delivery] = []
    looking = yard.broker.subscribe("work.dead", died.append, prefetch=200, exact=True)
    wait_until(lambda: len(died) == 200)
    looking.pause()
    for delivery in died:
        looking.give_back(delivery)
    looking.cancel()
    wait_until(lambda: yard.waiting("work.dead") == 200)
    assert yard.run(Request(kind="replay", source="work.dead", route="queue", fast=True)).operation.moved == 200
    back = {delivery.properties.message_id: delivery for delivery in yard.drain("work")}
    for delivery in died:
        listed = {*BROKER_HEADERS, *failure_headers(failure_of(delivery).dialect), "CC", "BCC"}
        deaths = ("x-first-death-", "x-last-death-")
        kept = {k: v for k, v in delivery.headers.items() if k not in listed and not k.startswith(deaths)}
        after = dict(back[delivery.properties.message_id].headers)
        assert after.pop("busctl-replays") == 1
        assert after.pop("busctl-operation")
        assert encode_table(after) == encode_table(kept)


def test_a_target_where_messages_expire_and_go_on_is_told(yard: Yard) -> None:
    yard.broker.declare_queue("ladder", arguments={"x-message-ttl": 60_000, "x-dead-letter-exchange": "dlx"})
    yard.put(1)
    request = Request(kind="move", source="dead", target="ladder")
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        for _ in transfer.planning():
            pass
        assert transfer.plan is not None
        assert transfer.plan.passes_on == ["ladder: messages expire there after 60,000 ms and go on to exchange 'dlx'"]


def test_a_group_tells_that_it_was_moved() -> None:
    deliveries = [
        Delivery(
            exchange="",
            routing_key="q",
            properties=Properties(headers={"x-death": [death("other", "rejected")]}),
            body=b"{}",
            queue="here",
            received_at=0.0,
        )
    ]
    (one,) = group(deliveries, HERE)
    assert (one.queue, one.moved, one.most_deaths) == ("other", 1, 1)
