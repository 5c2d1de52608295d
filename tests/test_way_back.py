"""What is taken away can be put back, or is not taken: wide headers, another user's name, an expiration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dead_letters import Yard
from trying import Busctl

from busctl_lib.envelope import Envelope, Properties
from busctl_lib.errors import GuardRefused
from busctl_lib.journal import Operation
from busctl_lib.transfers import Request, Transfer, empty_into_trash, undo_of


def put(yard: Yard, name: str, width: int) -> None:
    properties = Properties(message_id=name, delivery_mode=2, headers={"h": "y" * width})
    yard.publisher._moves = True  # a client that fills a frame
    yard.publish([Envelope(exchange="", routing_key="dead", properties=properties, body=b"{}")])


def narrow(yard: Yard) -> None:
    """Go on with a link of small frames."""
    yard.amqp_url += "?frame_max=8192"
    yard.reconnect()


def test_headers_that_fill_a_frame_come_back_by_undo(yard: Yard) -> None:
    put(yard, "wide", 130_000)
    done = yard.run(Request(kind="discard", source="dead")).operation
    assert (done.moved, yard.waiting("dead")) == (1, 0)
    with yard.journal() as journal, undo_of(yard.broker, yard.management, journal, done.id) as undo:
        list(undo.planning())
        list(undo.running())
        assert undo.account is not None
        assert undo.account.operation.state == "done", undo.account.reasons
    assert [len(each.headers["h"]) for each in yard.drain("dead")] == [130_000]


def test_a_discard_leaves_what_could_not_be_put_back_and_its_plan_says_so(yard: Yard) -> None:
    put(yard, "wide", 20_000)
    put(yard, "slim", 10)
    narrow(yard)
    request = Request(kind="discard", source="dead")
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        list(transfer.planning())
        assert transfer.plan is not None
        (why,) = transfer.plan.stays
        assert "this link sends" in why
        list(transfer.running())
        assert transfer.account is not None
        assert (transfer.account.operation.moved, transfer.account.operation.state) == (1, "partial")
        assert why in transfer.account.reasons
    assert [each.properties.message_id for each in yard.drain("dead")] == ["wide"]


def test_a_purge_stops_before_what_could_not_be_put_back(yard: Yard) -> None:
    put(yard, "slim", 10)
    put(yard, "wide", 20_000)
    narrow(yard)
    with yard.journal() as journal:
        made = journal.begin(Operation(id="aa", kind="purge", source="dead", state="running"))
        with pytest.raises(GuardRefused, match="message wide of dead could not be put back"):
            empty_into_trash(yard.broker, "dead", made, 2)
    left = [each.properties.message_id for each in yard.drain("dead")]
    assert left in (["slim", "wide"], ["wide"]), "what went before is in the trash"


def test_an_undo_says_why_it_could_not_put_something_back(yard: Yard) -> None:
    put(yard, "wide", 20_000)
    done = yard.run(Request(kind="discard", source="dead")).operation
    narrow(yard)
    with yard.journal() as journal, undo_of(yard.broker, yard.management, journal, done.id) as undo:
        list(undo.planning())
        list(undo.running())
        assert undo.account is not None
        assert any("this link carries" in reason for reason in undo.account.reasons)


@pytest.mark.parametrize("leads", [True, False], ids=["goes on", "is dropped"])
def test_what_expires_where_it_is_sent_is_told(yard: Yard, leads: bool) -> None:
    arguments = {"x-dead-letter-exchange": "dlx"} if leads else {}
    yard.broker.declare_queue("work", arguments=arguments)
    properties = Properties(delivery_mode=2, expiration="3600000")
    yard.publish([Envelope(exchange="", routing_key="dead", properties=properties, body=b"{}")] * 2)
    request = Request(kind="move", source="dead", target="work")
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        list(transfer.planning())
        assert transfer.plan is not None
        (told,) = transfer.plan.passes_on
    end = "goes on to exchange 'dlx'" if leads else "is dropped"
    assert told == f"work: 2 messages have an expiration, and what is not taken by then {end}"


def test_play_leaves_out_another_users_name_and_says_so(yard: Yard, tmp_path: Path, busctl: Busctl) -> None:
    file = tmp_path / "one.jsonl"
    export: list[dict[str, Any]] = [
        {
            "exchange": "",
            "routing_key": "dead",
            "properties": {"user_id": "somebody-else"},
            "payload": "{}",
            "payload_encoding": "string",
        }
    ]
    file.write_text(json.dumps(export))
    urls = {"BUSCTL_AMQP_URL": yard.amqp_url, "BUSCTL_API_URL": yard.api_url}
    run = busctl("play", str(file), "--to", "dead", "--yes", **urls)
    assert "user_id of another user: left out of 1 message" in run.stderr
    assert [each.properties.user_id for each in yard.drain("dead")] == [None]
