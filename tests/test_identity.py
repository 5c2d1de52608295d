"""A message is the same one however often, by whichever way and in whichever order of headers it is handed out."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dead_letters import Yard
from hypothesis import given
from hypothesis import strategies as st
from test_tables import properties
from waiting import wait_until

from busctl_lib.amqp import wire
from busctl_lib.broker import MessageBroker
from busctl_lib.broker_headers import AT_DELIVERY, AT_PUBLISH, ON_THE_WAY
from busctl_lib.deadletters.triage import triage
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.journal import identity, identity_of, steady_header
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import TestBroker, own_vhost
from busctl_lib.retry import failed_copy
from busctl_lib.sandbox import PrivateBroker
from busctl_lib.transfers import Request, Transfer, undo_of

ROOT = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")
MARKS = (*AT_DELIVERY, *AT_PUBLISH, *ON_THE_WAY)


def known_as(found: Properties, body: bytes = b"{}") -> bytes:
    return identity(Envelope(exchange="", routing_key="q", properties=found, body=body))


def with_headers(found: Properties, headers: dict[str, Any], **changed: Any) -> Properties:
    return msgspec.structs.replace(found, headers=headers, **changed)


@given(properties, st.sets(st.sampled_from(MARKS)), st.randoms(use_true_random=False))
def test_what_brokers_write_and_how_they_order_it_is_no_part_of_a_message(
    given_properties: Properties, written: set[str], chance: random.Random
) -> None:
    own = {name: value for name, value in (given_properties.headers or {}).items() if name not in MARKS}
    marked = list({**own, **dict.fromkeys(sorted(written), 7)}.items())
    chance.shuffle(marked)
    one, other = with_headers(given_properties, own), with_headers(given_properties, dict(marked), user_id="u")
    assert known_as(one) == known_as(other)
    assert known_as(one) == identity_of(wire.encode_properties(other), b"{}")
    assert known_as(one) != known_as(with_headers(given_properties, {**own, "x-mine": 1}))
    assert known_as(one) != known_as(one, b"{} ")


def test_the_time_that_a_broker_writes_is_its_own_and_a_publishers_is_the_publishers() -> None:
    plain = Properties(message_id="a", headers={"k": 1})
    stamped = with_headers(plain, {"k": 1, "timestamp_in_ms": 1_700_000_000_999}, timestamp=1_700_000_000)
    again = with_headers(plain, {"timestamp_in_ms": 1_800_000_000_001, "k": 1}, timestamp=1_800_000_000)
    assert known_as(plain) == known_as(stamped) == known_as(again)
    dated = with_headers(plain, {"k": 1}, timestamp=1_600_000_000)
    kept = with_headers(stamped, {"k": 1, "timestamp_in_ms": 1_700_000_000_999}, timestamp=1_600_000_000)
    assert known_as(dated) == known_as(kept) != known_as(plain)


def test_what_is_true_of_one_delivery_is_not_sent_again() -> None:
    delivered = dict.fromkeys(AT_DELIVERY, 3)
    sent = wire.encode_properties(Properties(headers={"k": 1, **delivered, "x-routed-by": "a"}))
    assert steady_header(sent) == wire.encode_properties(Properties(headers={"k": 1, "x-routed-by": "a"}))
    letter = Delivery(
        exchange="", routing_key="q", queue="q", received_at=0.0, body=b"", properties=Properties(headers=delivered)
    )
    assert not failed_copy(letter, ValueError("no"), 1, stack=False).headers.keys() & delivered.keys()


def handed_out(broker: MessageBroker, queue: str) -> Delivery:
    """Take the message of a queue and let go of it as a failure."""
    found: list[Delivery] = []
    subscription = broker.subscribe(queue, found.append)
    wait_until(lambda: found)
    subscription.retry(found[0])
    subscription.cancel()
    wait_until(lambda: broker.declare_queue(queue, passive=True).message_count == 1)
    return found[0]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_message_that_was_given_back_is_the_same_one(vhost: TestBroker, kind: str) -> None:
    """A quorum queue of RabbitMQ 3.10 sorts the headers from the second time on; the broker's numbers are not ours."""
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q", arguments={"x-queue-type": kind})
        mixed = Properties(headers={"z": 1, "x-zz": [{"b": 1, "a": 2}], "m": "m", "x-aa": 1.5, "a": None})
        MessagePublisher(broker).publish_envelope(Envelope(exchange="", routing_key="q", properties=mixed, body=b"{}"))
        times = [handed_out(broker, "q") for _ in range(3)]
        assert {identity(each) for each in times} == {known_as(mixed)}


def test_the_identity_of_a_look_is_that_of_a_transfer(vhost: TestBroker, tmp_path: Path) -> None:
    """Also where a look reads a number of another AMQP type than we would write: the broker's own, in `x-death`."""
    yard = Yard(vhost, tmp_path)
    yard.kill_messages(2)
    (letter, other) = triage(yard.broker, yard.management, vhost.name, "dead")[1]
    assert wire.encode_properties(letter.properties) != letter.wire_properties
    chosen = Request(kind="move", source="dead", target="elsewhere", ids=[identity(letter).hex()])
    assert yard.run(chosen).operation.moved == 1
    assert [each.body for each in yard.drain("dead")] == [other.body]
    yard.close()


# --- a node that writes into all it takes and hands out


def installed() -> tuple[int, ...]:
    """The version of RabbitMQ that a private node is of."""
    folders = sorted(Path(ROOT or "/").glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    return tuple(int(part) for part in folders[-1].name.partition("-")[2].split(".")) if folders else ()


@pytest.fixture(scope="module")
def stamping() -> Iterator[PrivateBroker]:
    """A node with all interceptors that its version has."""
    version = installed()
    if version < (3, 12):
        pytest.skip("RabbitMQ has message interceptors from 3.12 on")
    config = {
        "message_interceptors.incoming.set_header_timestamp.overwrite": "true",
        "message_interceptors.incoming.set_header_routing_node.overwrite": "true",
    }
    if version >= (4, 2):
        config["message_interceptors.outgoing.timestamp.enabled"] = "true"
    with PrivateBroker(root=ROOT, config=config) as node:
        yield node


@pytest.fixture(params=["classic", "quorum"])
def stamped(stamping: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Yard]:
    """Dead letters on that node."""
    with own_vhost(stamping) as vhost:
        yard = Yard(vhost, tmp_path, request.param)
        yield yard
        yard.close()


def undo(yard: Yard, operation: str) -> Any:
    with yard.journal() as journal, undo_of(yard.broker, yard.management, journal, operation) as transfer:
        list(transfer.planning())
        list(transfer.running())
        assert transfer.account is not None
        return transfer.account


def test_stamped_messages_are_moved_chosen_and_brought_back(stamped: Yard) -> None:
    yard = stamped
    yard.put(20)
    for request in (
        Request(kind="move", source="dead", target="elsewhere"),
        Request(kind="move", source="dead", target="elsewhere", where=".body.n % 2 == 0"),
        Request(kind="park", source="dead", target="dead.parked"),
        Request(kind="discard", source="dead", where=".body.n < 7"),
    ):
        account = yard.run(request)
        assert (account.operation.state, account.gone) == ("done", 0), request
        assert yard.waiting("dead") == 20 - account.operation.moved < 20
        back = undo(yard, account.operation.id).operation
        assert (back.state, back.moved, yard.waiting("dead")) == ("done", account.operation.moved, 20), request
    copied = yard.run(Request(kind="copy", source="dead", target="elsewhere")).operation
    assert (copied.moved, yard.waiting("elsewhere")) == (20, 20)
    assert (undo(yard, copied.id).operation.moved, yard.waiting("elsewhere")) == (20, 0)
    assert sorted(yard.numbers("dead")) == list(range(20))


@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_a_move_of_stamped_messages_goes_on_where_it_was_stopped(stamped: Yard, fast: bool) -> None:
    yard = stamped
    yard.put(600)
    request = Request(kind="move", source="dead", target="elsewhere", rate=400, fast=fast)
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        list(transfer.planning())
        for progress in transfer.running():
            if progress.moved:
                transfer.stop("interrupted")
        operation = transfer.operation.id
    with yard.journal() as journal, Transfer.resume(yard.broker, yard.management, journal, operation) as transfer:
        transfer.request.rate = None
        list(transfer.resuming())
        assert transfer.account is not None
        assert (transfer.account.operation.state, transfer.account.operation.moved) == ("done", 600)
    assert sorted(yard.numbers("elsewhere")) == list(range(600))


def test_stamped_dead_letters_are_grouped_and_one_of_them_is_replayed(stamped: Yard) -> None:
    yard = stamped
    yard.kill_messages(28)
    vhost = yard.broker.virtual_host
    found, letters = triage(yard.broker, yard.management, vhost, "dead")
    again, _ = triage(yard.broker, yard.management, vhost, "dead")
    assert [(group.id, group.count) for group in found.groups] == [(group.id, group.count) for group in again.groups]
    one = yard.run(Request(kind="replay", source="dead", ids=[letters[1].properties.message_id or ""]))
    two = yard.run(Request(kind="replay", source="dead", ids=[identity(letters[2]).hex()]))
    assert (one.operation.moved, two.operation.moved, yard.waiting("dead")) == (1, 1, 26)
    left = yard.run(Request(kind="replay", source="dead", group=found.groups[0].id)).operation
    assert (left.state, yard.waiting("dead")) == ("done", 26 - left.moved)
    assert left.moved >= found.groups[0].count - 2
