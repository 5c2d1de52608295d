"""Commands that change the bus: what they would hit, the question, the change, the journal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_at_socket import refusing_port
from waiting import wait_until

from busctl import contexts
from busctl.cli import main
from busctl_lib import MessageBroker, MessagePublisher, blast
from busctl_lib.management import ManagementClient

Run = Callable[..., tuple[int, str, str]]
HOSTILE = "x\x1b[31m{}y"


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url, client_name="desk") as broker:
        yield broker


@pytest.fixture
def api(vhost: Any) -> Iterator[ManagementClient]:
    with ManagementClient(vhost.api_url) as api:
        yield api


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line on the test's vhost, without a terminal: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def prod(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the test's vhost the current context `prod`, with a guard."""

    def write(guard: str) -> None:
        for name in ("BUSCTL_AMQP_URL", "BUSCTL_API_URL"):
            monkeypatch.delenv(name, raising=False)
        path = contexts.config_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"current = 'prod'\n[contexts.prod]\namqp_url = '{vhost.amqp_url}'\napi_url = '{vhost.api_url}'\n{guard}\n"
        )

    return write


def fill(broker: MessageBroker, queue: str, count: int) -> None:
    MessagePublisher(broker).publish_many((queue, {"n": number}) for number in range(count))


def waiting(broker: MessageBroker, queue: str) -> int:
    return broker.declare_queue(queue, passive=True).message_count


def test_purge_shows_what_goes_and_does_nothing_without_an_answer(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    fill(broker, "orders", 3)
    code, out, err = run("purge", "orders")
    assert (code, out, waiting(broker, "orders")) == (9, "", 3)
    assert "to purge queue 'orders':" in err
    assert "busctl ops undo" in err
    assert "--yes" in err
    code, out, _ = run("purge", "orders", "--yes", "-o", "json")
    made = json.loads(out)
    assert (code, made["kind"], made["source"], made["state"], made["moved"]) == (0, "purge", "orders", "done", 3)
    assert waiting(broker, "orders") == 0
    code, _, err = run("purge", "ordres", "--yes")
    assert (code, "did you mean orders?" in err) == (4, True)


def test_without_the_api_amqp_says_what_it_knows(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    fill(broker, "orders", 2)
    nowhere = ("--api-url", f"http://127.0.0.1:{refusing_port()}")
    code, _, err = run("delete", "queue", "orders", *nowhere)
    assert (code, "2 ready" in err, "the management API does not say" in err) == (9, True, True)
    code, out, _ = run("purge", "orders", "--yes", *nowhere)
    assert (code, out) == (0, "orders: 2 messages dropped\n")


def test_a_stream_cannot_be_purged(run: Run, broker: MessageBroker) -> None:
    broker.declare_queue("log", arguments={"x-queue-type": "stream"})
    code, _, err = run("purge", "log", "--yes")
    assert (code, "is a stream" in err) == (2, True)


def test_deleting_a_queue_names_all_that_hangs_on_it(run: Run, broker: MessageBroker, api: Any, vhost: Any) -> None:
    broker.declare_queue("orders.dead")
    broker.declare_queue("orders", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders.dead"})
    broker.declare_exchange("letters", "topic", auto_delete=True)
    broker.declare_exchange("house", "fanout")
    broker.bind_queue("orders.dead", "letters", "dead.#")
    broker.bind_queue("orders.dead", "house", "")
    for queue, key in (("trades", "dead.t"), ("else", "other")):
        broker.declare_queue(queue, arguments={"x-dead-letter-exchange": "letters", "x-dead-letter-routing-key": key})
    code, out, err = run("delete", "queue", "orders.dead")
    assert (code, out) == (9, "")
    assert "bindings   2: house '', letters 'dead.#'" in err
    assert "exchanges  letters (auto-delete, without another binding)" in err
    assert "loses      the dead letters of 2: orders, trades, which come here" in err
    broker.subscribe("orders.dead", lambda delivery: None)
    code, _, err = run("delete", "queue", "orders.dead", "--if-unused", "--yes")
    assert (code, "in use" in err) == (4, True)
    code, out, _ = run("delete", "queue", "orders.dead", "--yes")
    assert (code, out) == (0, "queue orders.dead is deleted, with 0 messages\n")
    assert "letters" not in [info.name for info in api.exchanges(vhost.name)]
    assert run("delete", "queue", "orders.dead", "--yes")[0] == 4


@pytest.mark.faults  # the broker's statistics take their time
def test_a_policy_that_dead_letters_counts_as_well(broker: MessageBroker, api: Any, vhost: Any) -> None:
    broker.declare_queue("dead")
    broker.declare_queue("trades")
    definition = {"dead-letter-exchange": "", "dead-letter-routing-key": "dead"}
    api.put_policy(vhost.name, "p", "^trades$", definition)
    wait_until(lambda: blast.of_queue(api, vhost.name, "dead", deleting=True).dead_letterers == ["trades"], 30)


def test_deleting_an_exchange_names_who_loses(run: Run, broker: MessageBroker, api: Any, vhost: Any) -> None:
    broker.declare_exchange("lost", "fanout")
    broker.declare_exchange("main", "topic", arguments={"alternate-exchange": "lost"})
    broker.declare_queue("orders", arguments={"x-dead-letter-exchange": "lost"})
    broker.bind_queue("orders", "lost", "")
    code, _, err = run("delete", "exchange", "lots", "--yes")
    assert (code, "did you mean lost?" in err) == (4, True)
    code, _, err = run("declare", "binding", "orders", "-x", "mian")
    assert (code, "did you mean main?" in err) == (4, True)
    code, _, err = run("declare", "binding", "ordres", "-x", "main")
    assert (code, "did you mean orders?" in err) == (4, True)
    code, _, err = run("delete", "exchange", "lost")
    assert code == 9
    assert "bindings    '' to queue orders" in err
    assert "what main cannot route" in err
    assert "the dead letters of orders" in err
    assert run("delete", "exchange", "lost", "--yes")[0] == 0
    assert run("delete", "exchange", "lost", "--yes")[0] == 4
    assert run("delete", "exchange", "amq.topic", "--yes")[0] == 2


def test_one_of_several_bindings_is_deleted_exactly(run: Run, broker: MessageBroker, api: Any, vhost: Any) -> None:
    broker.declare_queue("orders")
    for key in ("a.*", "b/%2F"):
        broker.bind_queue("orders", "amq.topic", key)
    code, _, err = run("delete", "binding", "orders", "-x", "amq.topic", "--yes")
    assert (code, "choose one with -k" in err) == (2, True)
    assert run("delete", "binding", "orders", "-x", "amq.topic", "-k", "b/%2F", "--yes")[0] == 0
    left = [info.routing_key for info in api.queue_bindings(vhost.name, "orders") if info.source]
    assert left == ["a.*"]
    assert run("delete", "binding", "orders", "-x", "amq.fanout", "--yes")[0] == 4


def test_the_way_back_of_a_binding_can_be_typed_as_it_stands(run: Run, broker: MessageBroker, api: Any) -> None:
    broker.declare_queue("a queue")
    for name in ("a queue", "amq.direct"):
        to_exchange = ["--to-exchange"] * (name == "amq.direct")
        (broker.bind_exchange if to_exchange else broker.bind_queue)(name, "amq.topic", "a $b.#")
        _, _, err = run("delete", "binding", name, "-x", "amq.topic", *to_exchange)
        back = next(line for line in err.splitlines() if line.startswith("  undo")).partition("busctl ")[2]
        assert run("delete", "binding", name, "-x", "amq.topic", *to_exchange, "--yes")[0] == 0
        assert run(*shlex.split(back))[0] == 0
        assert run("delete", "binding", name, "-x", "amq.topic", "-k", "a $b.#", *to_exchange, "--yes")[0] == 0


def test_a_vhost_is_declared_and_deleted(run: Run, vhost: Any, api: Any) -> None:
    name = f"{vhost.name} two/"
    try:
        assert run("declare", "vhost", name, "--description", "for one test")[0] == 0
        assert api.vhost(name).description == "for one test"
        code, _, err = run("delete", "vhost", name)
        assert (code, "0 with 0 messages" in err) == (9, True)
    finally:
        assert run("delete", "vhost", name, "--yes")[0] == 0
    code, _, err = run("delete", "vhost", name, "--yes")
    assert (code, "no vhost" in err) == (4, True)


def test_declaring_is_said_and_may_be_repeated(run: Run, broker: MessageBroker, api: Any, vhost: Any) -> None:
    declare = ("declare", "queue", HOSTILE, "--type", "quorum", "-a", "x-max-length:=10", "--dead-letter-to", "dead")
    for _ in range(2):
        code, out, _ = run(*declare)
        assert (code, out) == (0, "queue x\\x1b[31m{}y is there\n")
    arguments = api.queue(vhost.name, HOSTILE).arguments
    assert (arguments["x-queue-type"], arguments["x-max-length"]) == ("quorum", 10)
    assert arguments["x-dead-letter-routing-key"] == "dead"
    code, _, err = run(*declare[:3], "--type", "classic")
    assert (code, "inequivalent arg" in err) == (4, True)
    assert run("declare", "exchange", "trades", "--type", "topic", "--alternate", "amq.fanout")[0] == 0
    assert run("declare", "binding", HOSTILE, "-x", "trades", "-k", "trade.#")[0] == 0
    assert run("declare", "binding", "amq.fanout", "-x", "trades", "--to-exchange")[0] == 0
    assert {info.destination for info in api.exchange_bindings(vhost.name, "trades")} == {HOSTILE, "amq.fanout"}
    code, _, err = run("declare", "exchange", "odd", "--type", "topics")
    assert (code, "did you mean topic?" in err) == (2, True)
    for wrong, says in (
        (("-a", "x-max-length:=ten"), "-a x-max-length: 'ten' is not JSON (for text write x-max-length=...)"),
        (("-a", "x-max-length:=NaN"), "is not JSON"),
        (("-a", "x=\udcff"), "is not valid UTF-8"),
        (("-a", ":=1"), "-a ':=1' is neither NAME=TEXT nor NAME:=JSON"),
        (("-a", "a=1", "-a", "a:=1"), "-a a is given twice"),
    ):
        code, _, err = run("declare", "queue", "q", *wrong)
        assert (code, says in err) == (2, True), err


def test_production_wants_the_context_spelled_out_and_read_only_nothing_at_all(
    run: Run, prod: Callable[[str], None], broker: MessageBroker
) -> None:
    broker.declare_queue("orders")
    fill(broker, "orders", 2)
    prod("production = true")
    changes = [
        ("purge", "orders"),
        ("delete", "queue", "orders"),
        ("declare", "queue", "more"),
        ("policies", "set", "p", "^x", "max-length:=1"),
    ]
    for change in changes:
        code, _, err = run(*change, "--yes")
        assert (code, "-c prod --yes" in err) == (9, True), change
        code, _, err = run(*change)
        assert (code, "-c prod --yes" in err) == (9, True), change
    assert waiting(broker, "orders") == 2
    code, out, _ = run("purge", "orders", "--yes", "-c", "prod")
    assert (code, out) == (0, "orders: 2 messages dropped\n")
    prod("read_only = true")
    for change in changes:
        code, _, err = run("-c", "prod", *change, "--yes")
        assert (code, "read-only" in err) == (9, True), change


def test_a_connection_is_closed_by_the_name_its_client_gave(run: Run, vhost: Any, api: Any) -> None:
    name = f"stray {vhost.name}"
    with MessageBroker(url=vhost.amqp_url, client_name=name) as stray:
        stray.declare_queue(exclusive=True)
        first = wait_until(
            lambda: [info.name for info in api.connections() if (info.user_provided_name or "").startswith(name)],
            30,
            what="the connection is listed",
        )
        given = next(info.user_provided_name for info in api.connections() if info.name == first[0])
        code, _, err = run("close-connection", given)
        assert (code, "client" in err, first[0] in err) == (9, True, True)
        assert run("close-connection", given, "--yes", "--reason", "tidy\u2026")[0] == 0
        wait_until(lambda: first[0] not in [info.name for info in api.connections()], 30, what="the connection is gone")
    code, _, err = run("close-connection", "nobody", "--yes")
    assert (code, "busctl connections" in err) == (4, True)


def test_a_policy_that_the_broker_refuses_is_told_in_plain_text(run: Run) -> None:
    code, _, err = run("policies", "set", "limits", "^ord", "max-len:=5", "--yes")
    assert code == 4
    assert '"max-len"' in err
    assert "&lt;" not in err
    assert "<<" not in err


def test_a_policy_is_set_replaced_and_cleared(run: Run, broker: MessageBroker, api: Any, vhost: Any) -> None:
    broker.declare_queue("orders")
    broker.declare_queue("other")
    code, _, err = run("policies", "set", "limits", "^ord", "max-length:=5", "--apply-to", "queues", "--priority", "3")
    assert code == 9
    assert "matches  queues orders; exchanges none" in err
    assert "undo     busctl policies clear limits" in err
    set_ = ("policies", "set", "limits", "^ord", "overflow=reject-publish", "--apply-to", "queues", "--yes")
    assert run(*set_, "max-length:=5", "--priority", "3")[0] == 0
    (info,) = api.policies(vhost.name)
    assert (info.definition, info.apply_to, info.priority) == (
        {"max-length": 5, "overflow": "reject-publish"},
        *("queues", 3),
    )
    code, out, _ = run("policies", "-o", "json")
    assert (code, json.loads(out)[0]["name"]) == (0, "limits")
    code, out, _ = run("policies", "--sort", "name", "lim*", "-o", "tsv")
    assert (code, "limits" in out) == (0, True)
    code, _, err = run("policies", "set", "limits", "^ord", "max-length=ten", "--yes")
    assert (code, "the broker refused it" in err) == (4, True)
    code, _, err = run("policies", "set", "limits", "(", "max-length:=10", "--yes")
    assert (code, "regular expression" in err) == (2, True)
    for change in (("clear", "limits"), ("set", "limits", "^other", "max-length:=9")):
        code, _, err = run("policies", *change)
        assert (code, "max-length:=5" in err) == (9, True)
        assert run("policies", *change, "--yes")[0] == 0
        back = next(line for line in err.splitlines() if line.startswith("  undo")).partition("busctl ")[2]
        assert run(*shlex.split(back), "--yes")[0] == 0
        assert api.policies(vhost.name) == [info]
    assert run("policies", "clear", "limits", "--yes")[0] == 0
    assert run("policies", "clear", "limits", "--yes")[0] == 4
    assert api.policies(vhost.name) == []


def test_a_change_is_in_the_journal(run: Run, broker: MessageBroker) -> None:
    from busctl_lib.journal import Journal

    broker.declare_queue("orders")
    fill(broker, "orders", 2)
    assert run("purge", "orders", "--yes")[0] == 0
    assert run("delete", "queue", "orders", "--yes")[0] == 0
    with Journal() as journal:
        kept = [(made.kind, made.source, made.state, made.note) for made in journal.operations()]
    assert kept == [
        ("delete queue", "orders", "done", "queue orders is deleted, with 0 messages"),
        ("purge", "orders", "done", "orders: 2 messages dropped"),
    ]
