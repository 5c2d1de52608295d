"""Resume: what became of the messages that a process had under way when it ended, told or known."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import pytest
from dead_letters import Yard, letter
from waiting import wait_until

from busctl_lib.amqp import wire
from busctl_lib.envelope import Delivery, Envelope
from busctl_lib.journal import Intent, Operation, Verdict, identity
from busctl_lib.transfers import Request, Transfer


def test_cancel_gives_an_account_and_resume_goes_on(yard: Yard) -> None:
    operation = interrupted(yard)
    assert 0 < operation.moved < 600
    with (
        yard.journal() as journal,
        Transfer.resume(yard.broker, yard.management, journal, operation.id) as transfer,
    ):
        transfer.request.rate = None
        for _ in transfer.resuming():
            pass
        assert transfer.account is not None
        assert (transfer.account.operation.state, transfer.account.operation.moved) == ("done", 600)
    assert sorted(yard.numbers("elsewhere")) == list(range(600))


def test_what_stopped_an_operation_is_not_told_of_it_when_it_is_done(yard: Yard) -> None:
    operation = interrupted(yard)
    with yard.journal() as journal:
        journal.set_state(operation, "interrupted", "the link was lost")
        assert journal.operation(operation.id).note == "the link was lost"
    assert resume(yard, operation.id).state == "done"
    with yard.journal() as journal:
        assert journal.operation(operation.id).note is None


def interrupted(yard: Yard, *, fast: bool = False) -> Operation:
    """A move of 600 messages that was interrupted early."""
    yard.put(600)
    request = Request(kind="move", source="dead", target="elsewhere", rate=400, fast=fast)
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        for _ in transfer.planning():
            pass
        for progress in transfer.running():
            if progress.moved:
                transfer.stop("interrupted")
        assert transfer.account is not None
        operation = transfer.account.operation
    assert operation.state == "interrupted"
    return operation


def resume(yard: Yard, operation: str, unknown: Literal["resend"] | None = "resend") -> Operation:
    """Go on with it, and send again what was told unknown."""
    with yard.journal() as journal, Transfer.resume(yard.broker, yard.management, journal, operation) as transfer:
        transfer.request.rate = None
        for _ in transfer.resuming(unknown):
            pass
        assert transfer.account is not None
        return transfer.account.operation


def test_what_is_found_unknown_only_now_is_told_before_it_is_sent_again(yard: Yard) -> None:
    id_ = interrupted(yard, fast=True).id
    intents = [Intent(1000 + n, identity(letter(n)), f"m-{n}", "", "dead", "", "elsewhere") for n in (598, 599)]
    with yard.journal() as journal:
        journal.close_batch(id_, None, [Verdict(intents[0], "unknown", "told before")])
        journal.open_batch(id_, 1000, [intents[1]], exact=False)
    operation = resume(yard, id_)
    assert (operation.state, operation.moved, operation.unknown) == ("partial", 599, 1)
    assert yard.waiting("dead") == 1
    operation = resume(yard, id_)
    all_arrive(yard, operation)


def test_a_moved_message_that_its_queue_gives_again_is_told(yard: Yard) -> None:
    id_ = interrupted(yard, fast=True).id
    with yard.journal() as journal:
        gone = [int(line.message_id[2:]) for line in journal.lines(id_, "moved") if line.message_id]
    # A broker that died may have forgotten acks: its queue has the messages again, at its head and as redelivered.
    moved = gone[-5:]
    yard.broker.purge_queue("dead")
    yard.publish(letter(number) for number in [*moved, *sorted(set(range(600)) - set(gone))])
    taken: list[Delivery] = []
    subscription = yard.broker.subscribe("dead", taken.append, prefetch=1000)
    wait_until(lambda: taken and yard.waiting("dead") == 0, 30)
    subscription.cancel()
    wait_until(lambda: yard.waiting("dead") == len(taken), 30)
    operation = resume(yard, id_)
    assert (operation.state, operation.moved, operation.unknown) == ("partial", 595, 5)
    assert yard.waiting("dead") == 5
    operation = resume(yard, id_)
    assert (operation.state, operation.moved, yard.waiting("dead")) == ("done", 600, 0)
    assert Counter(yard.numbers("elsewhere")) - Counter(range(600)) == Counter(moved)


def taken_away(yard: Yard, numbers: Iterable[int]) -> None:
    """Messages of `dead` are acked by somebody, the others given back."""
    held: list[Delivery] = []
    waiting, gone = yard.waiting("dead"), {f"m-{number}" for number in numbers}
    subscription = yard.broker.subscribe("dead", held.append, prefetch=1000)
    wait_until(lambda: len(held) == waiting, 30)
    for delivery in held:
        if delivery.properties.message_id in gone:
            subscription.ack(delivery)
    subscription.cancel()
    wait_until(lambda: yard.waiting("dead") == waiting - len(gone), 30)


def killed_in_commit(yard: Yard, operation: str, numbers: Iterable[int], target: str = "elsewhere") -> None:
    """Leave a batch open, as a process does that dies behind a commit before its answer."""

    def intent(number: int) -> Intent:
        message = letter(number)
        header = wire.encode_properties(message.properties)
        return Intent(
            1000 + number,
            identity(message),
            f"m-{number}",
            "",
            "dead",
            "",
            target,
            properties=header,
            body=message.body,
        )

    with yard.journal() as journal:
        journal.open_batch(operation, 1000, [intent(number) for number in numbers], exact=True)


def all_arrive(yard: Yard, operation: Operation) -> None:
    assert (operation.state, operation.moved, operation.unknown) == ("done", 600, 0)
    assert sorted(yard.numbers("elsewhere")) == list(range(600))


def reasons(yard: Yard, operation: str) -> set[str | None]:
    with yard.journal() as journal:
        return {line.reason for line in journal.lines(operation, "unknown")}


def test_a_commit_that_was_not_answered_is_known_by_what_its_queue_has(yard: Yard) -> None:
    id_ = interrupted(yard).id
    taken_away(yard, range(590, 600))
    yard.publish(
        [
            Envelope(exchange="", routing_key="elsewhere", properties=letter(n).properties, body=letter(n).body)
            for n in range(590, 600)
        ]
    )
    killed_in_commit(yard, id_, range(590, 600))
    all_arrive(yard, resume(yard, id_, None))


def test_a_commit_that_did_not_happen_is_done_again(quorum_yard: Yard) -> None:
    id_ = interrupted(quorum_yard).id
    killed_in_commit(quorum_yard, id_, range(590, 600))
    all_arrive(quorum_yard, resume(quorum_yard, id_, None))


def test_what_a_quorum_queue_may_have_dropped_when_its_client_died_is_told(quorum_yard: Yard) -> None:
    id_ = interrupted(quorum_yard).id
    taken_away(quorum_yard, range(590, 600))
    killed_in_commit(quorum_yard, id_, range(590, 600))
    operation = resume(quorum_yard, id_, None)
    assert (operation.state, operation.moved, operation.unknown) == ("partial", 590, 10)
    (reason,) = reasons(quorum_yard, id_)
    assert reason is not None
    assert "'elsewhere' is a quorum queue" in reason
    all_arrive(quorum_yard, resume(quorum_yard, id_))


def test_what_is_unknown_and_left_alone_was_not_taken_by_somebody_else(quorum_yard: Yard) -> None:
    id_ = interrupted(quorum_yard).id
    taken_away(quorum_yard, range(590, 600))
    killed_in_commit(quorum_yard, id_, range(590, 600))
    assert resume(quorum_yard, id_, None).unknown == 10
    with quorum_yard.journal() as journal:
        yard = quorum_yard
        with Transfer.resume(yard.broker, yard.management, journal, id_) as transfer:
            for _ in transfer.resuming("skip"):
                pass
            assert transfer.account is not None
            assert (transfer.account.operation.failed, transfer.account.gone) == (10, 0)


def test_a_batch_of_which_a_quorum_queue_has_a_part_is_told(quorum_yard: Yard) -> None:
    id_ = interrupted(quorum_yard).id
    taken_away(quorum_yard, range(590, 595))
    killed_in_commit(quorum_yard, id_, range(590, 600))
    operation = resume(quorum_yard, id_, None)
    assert (operation.state, operation.moved, operation.unknown) == ("partial", 590, 10)
    assert {"only a part of its batch" in (reason or "") for reason in reasons(quorum_yard, id_)} == {True}
    all_arrive(quorum_yard, resume(quorum_yard, id_))


def test_what_went_behind_the_others_of_its_queue_is_not_moved(quorum_yard: Yard) -> None:
    id_ = interrupted(quorum_yard).id
    taken_away(quorum_yard, range(590, 600))
    quorum_yard.publish(letter(number) for number in range(595, 600))
    killed_in_commit(quorum_yard, id_, range(590, 600), "dead")
    operation = resume(quorum_yard, id_, None)
    assert (operation.moved, operation.unknown) == (590, 5)
    with quorum_yard.journal() as journal:
        assert journal.counts(id_)["skipped"] == 5


@pytest.mark.parametrize("fixture", ["yard", "quorum_yard"])
def test_what_a_dead_process_still_holds_is_waited_for(request: pytest.FixtureRequest, fixture: str) -> None:
    yard: Yard = request.getfixturevalue(fixture)
    id_ = interrupted(yard).id
    killed_in_commit(yard, id_, range(590, 600))
    held: list[Delivery] = []
    subscription = yard.broker.subscribe("dead", held.append, prefetch=1000)
    wait_until(lambda: yard.waiting("dead") == 0, 30)
    with yard.journal() as journal, Transfer.resume(yard.broker, yard.management, journal, id_) as transfer:
        transfer.request.rate = None
        threading.Timer(2.0, subscription.cancel).start()
        for _ in transfer.resuming():
            pass
        assert transfer.account is not None
        operation = transfer.account.operation
    all_arrive(yard, operation)
