"""Replay, move, copy, park, discard and undo on a real broker: where messages go, what stays, what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dead_letters import Yard
from waiting import wait_until

from busctl_lib.envelope import Envelope, Properties, TypedInt
from busctl_lib.errors import BusError, GuardRefused
from busctl_lib.journal import Journal
from busctl_lib.management.transport import Transport
from busctl_lib.taps.budget import release_of
from busctl_lib.transfers import Request, Transfer, audit, read_plan, undo_of
from busctl_lib.transfers.routes import Reach, RouteMap


def test_replay_goes_to_the_original_exchange_and_key_without_the_brokers_headers(yard: Yard) -> None:
    yard.kill_messages(40)
    account = yard.run(Request(kind="replay", source="dead"))
    assert (account.operation.state, account.operation.moved) == ("done", 40)
    found = yard.drain("orders", "fills")
    assert {json.loads(each.body)["n"]: (each.exchange, each.routing_key) for each in found} == {
        number: ("trading", key) for number, key in yard.routes.items()
    }
    assert {tuple(sorted(each.headers)) for each in found} == {("busctl-operation", "busctl-replays")}
    assert {each.headers["busctl-operation"] for each in found} == {account.operation.id}
    assert yard.waiting("dead") == 0


@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_what_no_queue_takes_stays_where_it_is_and_is_told_by_route(yard: Yard, fast: bool) -> None:
    yard.kill_messages(20)
    yard.broker.delete_queue("fills")
    account = yard.run(Request(kind="replay", source="dead", fast=fast))
    operation = account.operation
    assert (operation.state, operation.moved, operation.returned) == ("partial", 10, 10)
    assert all("'trading'" in reason and "fills." in reason for reason in account.reasons)
    assert sorted(yard.numbers("dead")) == list(range(1, 20, 2))
    assert sorted(yard.numbers("orders")) == list(range(0, 20, 2))


@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_a_return_nobody_foresaw_is_put_back(yard: Yard, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.kill_messages(20)
    yard.broker.delete_queue("fills")
    monkeypatch.setattr(RouteMap, "reach", lambda self, envelope: Reach(queues=["fills"]))
    account = yard.run(Request(kind="replay", source="dead", route="original", fast=fast))
    assert (account.operation.moved, account.operation.returned, account.operation.unknown) == (10, 10, 0)
    back = yard.drain("dead")
    assert sorted(json.loads(each.body)["n"] for each in back) == list(range(1, 20, 2))
    assert all(each.deaths for each in back)  # as it was, so that it can be replayed another time


@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_a_full_queue_that_refuses_keeps_messages_in_the_source(yard: Yard, fast: bool) -> None:
    yard.put(12)
    yard.broker.delete_queue("elsewhere")
    yard.broker.declare_queue("elsewhere", arguments={"x-max-length": 5, "x-overflow": "reject-publish"})
    account = yard.run(Request(kind="move", source="dead", target="elsewhere", fast=fast))
    operation = account.operation
    assert operation.moved + operation.returned == 12
    assert operation.unknown == 0
    assert operation.returned >= 1
    assert yard.waiting("elsewhere") == operation.moved
    assert sorted(yard.numbers("dead", "elsewhere")) == list(range(12))


@pytest.mark.parametrize("limit", [{"x-max-length": 5}, {"x-max-length-bytes": 30}], ids=["messages", "bytes"])
def test_a_queue_that_would_drop_what_arrives_is_told_before_and_nothing_moves(
    yard: Yard, limit: dict[str, object]
) -> None:
    yard.put(12)
    yard.broker.delete_queue("elsewhere")
    yard.broker.declare_queue("elsewhere", arguments=limit)
    with pytest.raises(GuardRefused, match=r"'elsewhere' keeps .* it would drop its oldest"):
        yard.run(Request(kind="move", source="dead", target="elsewhere"))
    assert (yard.waiting("dead"), yard.waiting("elsewhere")) == (12, 0)
    account = yard.run(Request(kind="move", source="dead", target="elsewhere", limit=3))
    assert account.operation.moved == 3
    account = yard.run(Request(kind="move", source="dead", target="elsewhere", accept_loss=True))
    assert account.operation.moved == 9


def test_a_full_quorum_queue_loses_nothing_though_no_transaction_tells_of_its_refusals(yard: Yard) -> None:
    yard.put(12)
    yard.broker.delete_queue("elsewhere")
    arguments = {"x-queue-type": "quorum", "x-max-length": 3, "x-overflow": "reject-publish"}
    yard.broker.declare_queue("elsewhere", arguments=arguments)
    account = yard.run(Request(kind="move", source="dead", target="elsewhere"))
    assert (account.operation.moved, account.operation.returned) == (0, 12)
    assert "--fast" in next(iter(account.reasons))
    account = yard.run(Request(kind="move", source="dead", target="elsewhere", fast=True))
    moved = account.operation.moved
    assert (moved + account.operation.returned, account.operation.unknown) == (12, 0)
    with pytest.raises(GuardRefused, match="no transaction would tell"):
        yard.run(Request(kind="move", source="elsewhere", target="dead"))
    with yard.journal() as journal, undo_of(yard.broker, yard.management, journal, account.operation.id) as undo:
        for _ in undo.planning():
            pass
        for _ in undo.running():
            pass
        assert undo.account is not None
        assert undo.account.operation.moved == moved
    assert sorted(yard.numbers("dead")) == list(range(12))


@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_an_exchange_that_is_gone_keeps_its_messages_and_lets_the_others_go(
    yard: Yard, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.kill_messages(10)
    yard.broker.declare_exchange("other", "fanout")
    yard.broker.bind_queue("elsewhere", "other")
    properties = Properties(
        message_id="lone",
        delivery_mode=2,
        headers={"x-original-exchange": "gone", "x-original-routingKey": "k", "x-exception-message": "boom"},
    )
    yard.publish([Envelope(exchange="", routing_key="dead", properties=properties, body=b'{"n": 99}')])
    monkeypatch.setattr(RouteMap, "reach", lambda self, envelope: Reach(queues=["orders"]))
    account = yard.run(Request(kind="replay", source="dead", route="original", fast=fast))
    operation = account.operation
    if fast:  # what was under way beside it has no confirm: unknown, and still there
        assert operation.moved + operation.failed + operation.unknown == 11
        left = yard.numbers("dead")
        assert 99 in left
        assert set(left) | set(yard.numbers("orders", "fills")) >= set(range(10))
    else:
        assert (operation.moved, operation.failed, operation.unknown) == (10, 1, 0)
        assert any("'gone'" in reason for reason in account.reasons)
        assert yard.numbers("dead") == [99]
        assert sorted(yard.numbers("orders", "fills")) == list(range(10))


def test_a_route_that_reaches_others_must_be_chosen(yard: Yard) -> None:
    yard.kill_messages(6)
    yard.broker.bind_queue("elsewhere", "trading", "orders.#")
    with pytest.raises(GuardRefused, match="elsewhere") as caught:
        yard.run(Request(kind="replay", source="dead"))
    assert "--route" in (caught.value.hint or "")
    assert yard.waiting("dead") == 6
    yard.run(Request(kind="replay", source="dead", route="queue"))
    assert (yard.waiting("orders"), yard.waiting("fills"), yard.waiting("elsewhere")) == (3, 3, 0)


def test_move_changes_nothing_but_the_route(yard: Yard) -> None:
    headers = {
        "short": TypedInt(7, "s"),
        "big": 2**40,
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "nested": {"list": [1, "two", 3.5, None]},
        "CC": ["nobody"],
    }
    properties = Properties(
        message_id="one", delivery_mode=2, headers=headers, priority=3, timestamp=1_700_000_000, reply_to="r"
    )
    yard.publish([Envelope(exchange="", routing_key="dead", properties=properties, body=b"\x00\xff")])
    account = yard.run(Request(kind="move", source="dead", target="elsewhere"))
    assert account.operation.state == "done"
    (moved,) = yard.drain("elsewhere")
    assert (moved.exchange, moved.routing_key, moved.body) == ("", "elsewhere", b"\x00\xff")
    del headers["CC"]  # more keys to route by
    assert moved.properties == properties
    assert type(moved.headers["short"]) is TypedInt


@pytest.mark.parametrize("total", [2500, pytest.param(100_000, marks=pytest.mark.faults)])
def test_a_selection_leaves_the_others_in_their_order(yard: Yard, total: int) -> None:
    yard.put(total)
    each = total // 100
    account = yard.run(Request(kind="move", source="dead", target="elsewhere", where=f".body.n % {each} == 3"))
    assert account.operation.moved == 100
    assert yard.numbers("elsewhere") == list(range(3, total, each))
    assert yard.numbers("dead") == [number for number in range(total) if number % each != 3]


def test_what_a_quorum_queue_would_have_to_be_held_of_is_refused_before_or_written_anew(quorum_yard: Yard) -> None:
    yard = quorum_yard
    yard.put(2100)
    request = Request(kind="move", source="dead", target="elsewhere", where=".body.n >= 2050")
    with pytest.raises(GuardRefused, match="2,100 messages, and what stays would have to be held"):
        yard.run(request)
    assert (yard.waiting("dead"), yard.waiting("elsewhere")) == (2100, 0)
    account = yard.run(msgspec.structs.replace(request, rewrite=True))
    assert account.operation.moved == 50
    assert yard.numbers("elsewhere") == list(range(2050, 2100))
    assert sorted(yard.numbers("dead")) == list(range(2050))


def test_limit_ids_and_later_arrivals(yard: Yard) -> None:
    yard.put(10)
    assert yard.run(Request(kind="move", source="dead", target="elsewhere", limit=4)).operation.moved == 4
    assert yard.numbers("elsewhere") == [0, 1, 2, 3]
    request = Request(kind="move", source="dead", target="elsewhere", ids=["m-5", "m-7"])
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        for _ in transfer.planning():
            pass
        again = Properties(message_id="m-5", delivery_mode=2)
        yard.publish([Envelope(exchange="", routing_key="dead", properties=again, body=b'{"n": 100}')])
        for _ in transfer.running():
            pass
    assert yard.numbers("elsewhere") == [5, 7]
    assert yard.numbers("dead") == [4, 6, 8, 9, 100]


def test_a_quorum_queue_is_read_once_and_keeps_what_stays(quorum_yard: Yard) -> None:
    yard = quorum_yard
    yard.put(30)
    account = yard.run(Request(kind="move", source="dead", target="elsewhere", where=".body.n < 10"))
    assert account.operation.moved == 10
    left = yard.drain("dead")
    assert [json.loads(each.body)["n"] for each in left] == list(range(10, 30))
    counted = 0 if release_of(yard.broker.server_version) >= (4, 3) else 1
    assert {each.headers.get("x-delivery-count", 0) for each in left} == {counted}
    assert not any("x-delivery-count" in each.headers for each in yard.drain("elsewhere") if not each.redelivered)


def test_one_operation_at_a_time(yard: Yard) -> None:
    yard.put(4)
    request = Request(kind="move", source="dead", target="elsewhere")
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        for _ in transfer.planning():
            pass
        with pytest.raises(GuardRefused, match="another operation"):
            yard.run(request)
    assert yard.run(request).operation.moved == 4


def test_copy_leaves_the_originals(yard: Yard) -> None:
    yard.put(7)
    account = yard.run(Request(kind="copy", source="dead", target="elsewhere"))
    assert (account.operation.state, account.operation.moved) == ("done", 7)
    assert yard.numbers("dead") == yard.numbers("elsewhere") == list(range(7))


def test_edit_changes_the_body_and_refuses_what_jq_cannot_hold(yard: Yard) -> None:
    for body in (b'{"qty": -1}', b'{"qty": -1, "id": 12345678901234567890}'):
        properties = Properties(delivery_mode=2)
        yard.publish([Envelope(exchange="", routing_key="dead", properties=properties, body=body)])
    request = Request(kind="replay", source="dead", target="elsewhere", edit=".body.qty = 5")
    account = yard.run(request)
    assert (account.operation.moved, account.operation.failed) == (1, 1)
    assert [json.loads(each.body) for each in yard.drain("elsewhere")] == [{"qty": 5}]
    assert yard.drain("dead")[0].body == b'{"qty": -1, "id": 12345678901234567890}'


def plan_of(yard: Yard, request: Request, made: Any = None) -> Any:
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        for _ in transfer.planning(made):
            pass
        return transfer.plan


def test_a_plan_is_signed_and_refused_when_the_queue_no_longer_fits(yard: Yard, tmp_path: Path) -> None:
    yard.kill_messages(6)
    request = Request(kind="replay", source="dead")
    plan = plan_of(yard, request)
    assert (plan.selected, sum(target.count for target in plan.targets)) == (6, 6)
    plan.write(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "edited.json").write_text(text.replace('"kind": "replay"', '"kind": "replay", "rate": 5'))
    assert read_plan(tmp_path / "edited.json").request.rate == 5
    (tmp_path / "forged.json").write_text(text.replace('"selected": 6', '"selected": 7'))
    with pytest.raises(GuardRefused, match="changed"):
        read_plan(tmp_path / "forged.json")
    yard.kill_messages(2, first=6)
    assert plan_of(yard, request, plan).selected == 6  # later arrivals do not matter
    yard.run(Request(kind="move", source="dead", target="elsewhere", limit=1))
    with pytest.raises(GuardRefused, match="no longer in dead"):
        plan_of(yard, request, plan)


def undo(yard: Yard, operation: str) -> Any:
    with (
        yard.journal() as journal,
        undo_of(yard.broker, yard.management, journal, operation) as transfer,
    ):
        for _ in transfer.planning():
            pass
        for _ in transfer.running():
            pass
        return transfer.account


def test_undo_moves_back_and_restores_what_was_discarded(yard: Yard) -> None:
    yard.kill_messages(9)
    moved = yard.run(Request(kind="move", source="dead", target="elsewhere", where=".body.n < 4")).operation
    assert undo(yard, moved.id).operation.moved == 4
    assert yard.waiting("elsewhere") == 0
    discarded = yard.run(Request(kind="discard", source="dead", where=".body.n < 3")).operation
    assert (discarded.moved, yard.waiting("dead")) == (3, 6)
    account = undo(yard, discarded.id)
    assert (account.operation.state, account.operation.moved) == ("done", 3)
    back = yard.drain("dead")
    assert sorted(json.loads(each.body)["n"] for each in back) == list(range(9))
    assert all(each.deaths for each in back)
    replayed = yard.run(Request(kind="replay", source="elsewhere")).operation
    with yard.journal() as journal, pytest.raises(GuardRefused, match="consumed"):
        undo_of(yard.broker, yard.management, journal, replayed.id)


def test_park_declares_its_queue_and_the_audit_has_a_line_a_message(yard: Yard) -> None:
    yard.put(3)
    operation = yard.run(Request(kind="park", source="dead", target="dead.parked")).operation
    assert yard.numbers("dead.parked") == [0, 1, 2]
    with yard.journal() as journal:
        head, *lines = [json.loads(line) for line in audit(journal, operation.id)]
    assert (head["id"], head["state"], head["moved"]) == (operation.id, "done", 3)
    assert [(line["message_id"], line["outcome"], line["to_routing_key"]) for line in lines] == [
        (f"m-{number}", "moved", "dead.parked") for number in range(3)
    ]


def cut_connections(yard: Yard, name: str) -> None:
    """Close the connections of a client by the management API, as an operator would."""
    api = Transport(yard.api_url, None, None, (10.0, 30.0), read_only=False)
    mine = [each for each in yard.management.connections() if name in (each.user_provided_name or "")]
    for each in mine:
        with_slash = each.name.replace(" ", "%20").replace(">", "%3E")
        api.change("DELETE", f"connections/{with_slash}")
    api.close()


@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_a_lost_link_is_made_good_or_told(yard: Yard, fast: bool) -> None:
    yard.put(1200)
    request = Request(kind="move", source="dead", target="elsewhere", fast=fast, rate=1000)
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        for _ in transfer.planning():
            pass
        name = f"{yard.broker.links._client_name} (transfer)"
        wait_until(lambda: any(name == each.user_provided_name for each in yard.management.connections()), 30)
        cut = False
        for progress in transfer.running():
            if not cut and progress.moved > 100:
                cut = True
                cut_connections(yard, "(transfer)")
        account = transfer.account
    assert cut
    assert account is not None
    operation = account.operation
    assert operation.moved + operation.unknown == 1200
    there, left = yard.numbers("elsewhere"), yard.numbers("dead")
    assert set(there) | set(left) == set(range(1200))
    assert len(there) - len(set(there)) <= operation.unknown


def test_a_target_deleted_half_way_keeps_the_rest(yard: Yard) -> None:
    yard.put(900)
    request = Request(kind="move", source="dead", target="elsewhere", rate=600)
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        for _ in transfer.planning():
            pass
        gone = 0
        for progress in transfer.running():
            if not gone and progress.moved >= 100:
                gone = yard.broker.delete_queue("elsewhere")
        assert transfer.account is not None
        operation = transfer.account.operation
    assert gone
    assert operation.moved < 900
    assert operation.moved + operation.returned + operation.unknown == 900
    assert yard.waiting("dead") + operation.moved + operation.unknown >= 900
    assert yard.waiting("dead") >= operation.returned


def test_a_quorum_queue_at_the_end_of_its_budget_is_not_touched(vhost: Any, tmp_path: Path) -> None:
    yard = Yard(vhost, tmp_path)
    try:
        yard.broker.declare_queue("limited", arguments={"x-queue-type": "quorum", "x-delivery-limit": 4})
        properties = Properties(delivery_mode=2)
        yard.publish([Envelope(exchange="", routing_key="limited", properties=properties, body=b'{"n": 1}')])
        request = Request(kind="move", source="limited", target="elsewhere", where="false")
        account = yard.run(request)
        assert account.operation.state == "done"
        if release_of(yard.broker.server_version) >= (4, 3):  # where looking counts nothing
            exhaust(yard, request)
        else:
            with pytest.raises(GuardRefused, match="looks left"):
                exhaust(yard, request)
        assert yard.waiting("limited") == 1
    finally:
        yard.close()


def exhaust(yard: Yard, request: Request) -> None:
    for _ in range(5):
        yard.run(request)


def test_a_journal_that_cannot_be_written_stops_before_anything_moves(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.put(50)
    request = Request(kind="move", source="dead", target="elsewhere", rate=100)
    written = 0
    real = Journal.open_batch

    def full(self: Journal, *arguments: Any, **extra: Any) -> None:
        nonlocal written
        written += 1
        if written > 1:
            raise BusError("the journal cannot be written: disk full")
        real(self, *arguments, **extra)

    monkeypatch.setattr(Journal, "open_batch", full)
    account = yard.run(request)
    assert account.operation.state == "interrupted"
    assert "disk full" in (account.problem or "")
    there = yard.numbers("elsewhere")
    assert len(there) == account.operation.moved
    assert sorted(there + yard.numbers("dead")) == list(range(50))


def test_the_operation_in_json_has_its_contract(yard: Yard) -> None:
    from busctl.cli.moving import as_json

    yard.kill_messages(2)
    operation = yard.run(Request(kind="replay", source="dead")).operation
    found = msgspec.to_builtins(as_json(operation))
    names = "id kind source target state planned moved returned failed unknown started_at ended_at"
    assert set(names.split()) <= set(found)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_canary_that_comes_back_stops_the_replay(vhost: Any, tmp_path: Path, queue_type: str) -> None:
    yard = Yard(vhost, tmp_path, queue_type)
    try:
        yard.kill_messages(20)
        yard.broker.delete_queue("orders")  # what goes there dies again at once
        yard.broker.declare_queue("orders", arguments={"x-dead-letter-exchange": "dlx", "x-message-ttl": 0})
        yard.broker.bind_queue("orders", "trading", "orders.#")
        account = yard.run(Request(kind="replay", source="dead", canary=4, watch_s=3.0))
        operation = account.operation
        assert (operation.state, operation.moved) == ("interrupted", 4)
        assert account.came_back is not None
        assert [(each.count > 0, each.cause) for each in account.came_back] == [(True, "expired")] * len(
            account.came_back
        )
        came = sum(each.count for each in account.came_back)
        assert f"{came} of the first 4 came back" in (account.problem or "")
        assert yard.waiting("dead") == 16 + came
    finally:
        yard.close()


def test_a_canary_that_stays_away_lets_the_rest_follow(yard: Yard) -> None:
    yard.kill_messages(20)
    account = yard.run(Request(kind="replay", source="dead", canary=4, watch_s=2.0))
    assert (account.operation.state, account.operation.moved, account.came_back) == ("done", 20, [])
