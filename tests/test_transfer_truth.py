"""What a transfer may claim: nobody else gets a message, nothing is called read, seen or kept that was not."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from dead_letters import Yard, letter
from waiting import wait_until

from busctl_lib import MessageBroker
from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.amqp.topology import QueueSpec
from busctl_lib.envelope import Envelope, Properties
from busctl_lib.errors import BusError, GuardRefused
from busctl_lib.journal import Operation
from busctl_lib.transfers import Request, Transfer, boomerangs, definition_of, empty_into_trash, lull, undo_of
from busctl_lib.transfers.boomerangs import Watch


@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_a_moved_message_goes_to_its_target_alone_whoever_had_a_copy_before(yard: Yard, fast: bool) -> None:
    yard.broker.declare_queue("copied")
    properties = Properties(message_id="one", delivery_mode=2, headers={"CC": ["copied"], "kept": 1})
    yard.publish([Envelope(exchange="", routing_key="dead", properties=properties, body=b"{}")])
    assert len(yard.drain("copied")) == 1
    account = yard.run(Request(kind="move", source="dead", target="elsewhere", fast=fast))
    assert account.operation.moved == 1
    assert (yard.waiting("elsewhere"), yard.waiting("copied")) == (1, 0)
    with yard.journal() as journal, undo_of(yard.broker, yard.management, journal, account.operation.id) as undo:
        for _ in undo.planning():
            pass
        for _ in undo.running():
            pass
    assert (yard.waiting("dead"), yard.waiting("copied")) == (1, 0)
    assert yard.drain("dead")[0].headers["kept"] == 1


def hold_all(yard: Yard, other: MessageBroker, queue: str) -> None:
    """A single active consumer that has one message in the hand and gives none back."""
    yard.broker.delete_queue(queue)
    yard.broker.declare_queue(queue, arguments={"x-single-active-consumer": True})
    held: list[Any] = []
    other.subscribe(queue, held.append, prefetch=1)
    yard.publish(map(letter, range(5))) if queue == "dead" else None
    wait_until(lambda: held)


def test_messages_that_do_not_come_are_not_purged_past_the_trash(
    yard: Yard, vhost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lull, "_PATIENCE_S", 1.0)
    with MessageBroker(url=vhost.amqp_url) as other, yard.journal() as journal:
        hold_all(yard, other, "dead")
        made = journal.begin(Operation(id="aa", kind="purge", source="dead", state="running"))
        with pytest.raises(BusError, match="4 messages wait in dead, and none comes"):
            empty_into_trash(yard.broker, "dead", made, 4)
        assert yard.waiting("dead") == 4


def test_a_plan_does_not_call_a_queue_empty_whose_messages_go_to_another(
    yard: Yard, vhost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lull, "_PATIENCE_S", 1.0)
    with MessageBroker(url=vhost.amqp_url) as other, yard.journal() as journal:
        hold_all(yard, other, "dead")
        request = Request(kind="move", source="dead", target="elsewhere")
        with (
            Transfer(yard.broker, yard.management, journal, request) as transfer,
            pytest.raises(BusError, match="4 messages wait in dead, and none comes"),
        ):
            for _ in transfer.planning():
                pass


def test_what_could_not_be_sent_is_restored_by_the_next_try(yard: Yard, vhost: Any) -> None:
    yard.put(3)
    limit = f"{vhost.api_url}/api/vhost-limits/{vhost.name}/max-connections"
    account = yard.run(Request(kind="discard", source="dead"))
    assert account.operation.moved == 3
    outcomes = []
    for full in (True, False):
        with MessageBroker(url=vhost.amqp_url) as broker, yard.journal() as journal:
            if full:
                requests.put(limit, json={"value": 0}, timeout=5).raise_for_status()
            with undo_of(broker, yard.management, journal, account.operation.id) as undo:
                for _ in undo.planning():
                    pass
                for _ in undo.running():
                    pass
                assert undo.account is not None
                outcomes.append((undo.account.operation.state, undo.account.operation.moved))
        requests.delete(limit, timeout=5).raise_for_status()
    assert outcomes == [("interrupted", 0), ("done", 3)]
    assert yard.numbers("dead") == [0, 1, 2]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_watch_that_holds_all_it_may_does_not_claim_to_have_seen_the_rest(
    vhost: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(boomerangs, "QUORUM_HELD", 5)
    yard = Yard(vhost, tmp_path, kind)
    try:
        yard.put(8)
        mover = Mover(yard.broker.links.another("transfer"), "dead", lock=None, mode=Mode.EXACT, window=100).open()
        watch = Watch(mover, "aa", again=kind == "classic", stop=threading.Event())
        list(watch.run(1.0))
        assert watch.to_the_end is (kind == "classic")
        mover.close()
    finally:
        yard.close()


def test_a_queue_that_was_not_durable_comes_back_by_undo(yard: Yard) -> None:
    yard.broker.ensure([QueueSpec(queue="brief", durable=False, exclusive=False, auto_delete=False, arguments={})])
    yard.publish([Envelope(exchange="", routing_key="brief", properties=Properties(), body=b"{}")])
    plan = {"definition": definition_of(yard.management, yard.broker.virtual_host, "brief")}
    cluster = yard.management.overview().cluster_name or ""
    made = Operation(id="aa", kind="delete queue", source="brief", vhost=yard.broker.virtual_host, broker=cluster)
    made.plan = plan
    with yard.journal() as journal:
        journal.begin(made)
        made.moved = empty_into_trash(yard.broker, "brief", made, 1)
        yard.broker.delete_queue("brief")
        journal.set_state(made, "done")
        with undo_of(yard.broker, yard.management, journal, "aa") as undo:
            for _ in undo.planning():
                pass
            for _ in undo.running():
                pass
    assert yard.waiting("brief") == 1
    assert yard.management.queue(yard.broker.virtual_host, "brief").durable is False


def test_an_operation_that_another_process_runs_leaves_nothing_open_here(yard: Yard) -> None:
    yard.put(3)
    with yard.journal() as ours, yard.journal() as theirs:
        operation = Operation(id="aa", kind="move", source="dead", target="elsewhere", state="interrupted")
        operation.vhost, operation.broker = yard.broker.virtual_host, yard.management.overview().cluster_name or ""
        operation.plan = {"request": {"kind": "move", "source": "dead", "target": "elsewhere", "where": ".body.n == 1"}}
        theirs.begin(operation)
        with pytest.raises(GuardRefused, match="running in another process"):
            Transfer.resume(yard.broker, yard.management, ours, "aa")
    assert not [child for child in command_lines_of_children() if "busctl_lib.expressions" in child]


def command_lines_of_children() -> list[str]:
    """The command lines of this process's children."""
    found = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, timeout=10
    )
    return found.stdout.splitlines()
