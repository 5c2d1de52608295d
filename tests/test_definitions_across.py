"""Definitions of one version, as its broker exports them, taken by the version that runs: the same or a newer one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from busctl.cli import main
from busctl_lib import MessageBroker
from busctl_lib.definitions import Target, fit, for_quorum, is_of_cluster, parse, target_of
from busctl_lib.errors import PreconditionFailed
from busctl_lib.management import ManagementClient

Run = Callable[..., tuple[int, str, str]]
RECORDED = Path(__file__).parent / "recorded"
VERSIONS = sorted(path.parent.name for path in RECORDED.glob("*/definitions.json"))
STAY_CLASSIC = {"shortlived"}


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


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def recorded(version: str, api: ManagementClient | None = None) -> tuple[Path, dict[str, Any]]:
    """A broker's own export; skipped where the broker that runs is older."""
    if api is not None and numbers(version) > (api.overview().release or ()):
        pytest.skip(f"the broker is older than {version}: only the same or a newer one takes its definitions")
    path = RECORDED / version / "definitions.json"
    return path, parse(path.read_bytes(), path.name)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_of_an_older_version_is_taken_and_what_is_left_out_is_said_before(
    run: Run, api: ManagementClient, vhost: Any, version: str
) -> None:
    path, found = recorded(version, api)
    release = api.overview().release or ()
    code, _, plan = run("definitions", "import", str(path))
    assert code == 9, "nobody was there to ask"
    assert api.queues(vhost.name) == []
    refused = "refused" in plan
    code, out, err = run("definitions", "import", str(path), "--yes", "-o", "json")
    made = json.loads(out)
    assert (code, made["state"]) == ((8, "partial") if refused else (0, "done")), err
    assert "not there now" not in err

    live = {info.name: info for info in api.queues(vhost.name)}
    assert live.keys() == {entry["name"] for entry in found["queues"]}
    policies = {info.name: info.definition for info in api.policies(vhost.name)}
    if numbers(version) < (4, 0) <= release:
        assert policies["mirrored"] == {"message-ttl": 60000}
        assert "mirrored-only" not in policies
        assert "left out  policy mirrored: ha-mode, which this broker does not take\n" in plan
        assert "policy mirrored-only: ha-mode, which this broker does not take; nothing else was in it\n" in plan
    if numbers(version) < (4, 3) <= release:
        assert "queue first: x-queue-version: RabbitMQ 4.3 and newer know version 2 only" in plan
        assert "queue placed: x-queue-master-locator: this broker does not permit it" in plan
        assert "policy placed: queue-master-locator, which" in plan
        assert "refused" in plan
        assert "binding trading -> plain '#.a.#.b.#'" in plan
    bound = {(info.source, info.destination) for info in api.bindings(vhost.name) if info.source}
    assert ("trading", "plain") in bound
    assert ("mine" in str(bound)) is False, "an exclusive queue is gone with its connection, and so is its binding"
    limits = {entry["name"]: entry["value"] for entry in api.get_json(f"parameters/operator_policy/{vhost.name}")}
    assert limits["cap"]["definition"] == {"max-length": 500}
    assert api.get_json(f"vhost-limits/{vhost.name}")[0]["value"] == {"max-queues": 100}


@pytest.mark.parametrize("version", VERSIONS)
def test_for_quorum_queues_each_change_is_listed_and_the_broker_takes_it(
    run: Run, api: ManagementClient, vhost: Any, version: str
) -> None:
    path, found = recorded(version, api)
    code, _, err = run("definitions", "import", str(path), "--transform", "quorum", "--yes")
    assert code in (0, 8), err
    assert "not there now" not in err
    kinds = {info.name: (info.type, info.durable) for info in api.queues(vhost.name)}
    for entry in found["queues"]:
        name, was = entry["name"], entry["arguments"].get("x-queue-type", "classic")
        if was != "classic":
            assert kinds[name] == (was, True)
            assert f"queue {name}: becomes" not in err
        elif name in STAY_CLASSIC:
            assert kinds[name] == ("classic", True)
            assert f"queue {name}: stays a classic queue: it deletes itself" in err
        else:
            assert kinds[name] == ("quorum", True)
            assert f"queue {name}: becomes a quorum queue" in err
    for said in (
        "urgent: becomes a quorum queue; x-max-priority 5 left out",
        "lazy: becomes a quorum queue; x-queue-mode lazy left out",
        "limited: becomes a quorum queue; x-overflow reject-publish-dlx left out",
        "fleeting: becomes a quorum queue; durable from now on",
        "policy lazy: queue-mode left out (a policy with it applies to no quorum queue)",
    ):
        assert said in err
    policies = {info.name: info for info in api.policies(vhost.name)}
    assert policies["lazy"].definition == {"max-length": 9}
    if numbers(version) >= (4, 0):
        assert policies["classic"].apply_to == "queues"
    assert api.queue(vhost.name, "limited").arguments["x-message-ttl"] == 1000


def test_what_the_program_exports_it_takes_back_with_nothing_that_dangles(
    run: Run, api: ManagementClient, vhost: Any, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_exchange("trading", "topic")
        broker.declare_exchange("inner", "fanout", internal=True)
        broker.bind_exchange("inner", "trading", "audit.#")
        broker.declare_queue("orders")
        broker.bind_queue("orders", "inner", "")
        broker.declare_queue("mine", exclusive=True)
        broker.bind_queue("mine", "trading", "#")
        code, _, err = run("definitions", "export", str(first))
        found = json.loads(first.read_text())
        assert code == 0
        assert "left out: queue mine: exclusive, it lives with its connection\n" in err
        assert [entry["name"] for entry in found["queues"]] == ["orders"]
        assert {entry["name"] for entry in found["exchanges"]} == {"trading", "inner"}, "internal ones as well"
        assert {entry["destination"] for entry in found["bindings"]} == {"inner", "orders"}
        assert run("definitions", "diff", str(first))[0] == 0, "a queue of a connection is no difference"
        code, out, _ = run("definitions", "export", "--transform", "quorum")
        assert json.loads(out)["queues"][0]["arguments"]["x-queue-type"] == "quorum"
    for info in api.exchanges(vhost.name):
        if info.name in ("trading", "inner"):
            run("delete", "exchange", info.name, "--yes")
    run("delete", "queue", "orders", "--yes")
    assert run("definitions", "import", str(first), "--yes")[0] == 0
    run("definitions", "export", str(second))
    assert run("definitions", "diff", str(second))[0] == 0
    assert api.exchange(vhost.name, "inner").internal is True


def test_what_a_broker_answers_with_success_and_does_not_make_is_found_out(
    run: Run, api: ManagementClient, vhost: Any, tmp_path: Path
) -> None:
    path = tmp_path / "bus.json"
    unlikely = {"name": "odd", "durable": False, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}
    named = {"name": "amq.gen-xyz", "durable": True, "auto_delete": False, "arguments": {}}
    path.write_text(json.dumps({"queues": [{"name": "fine"}, unlikely, named]}))
    code, out, err = run("definitions", "import", str(path), "--yes")
    assert code == 8
    assert "left out  queue amq.gen-xyz: its name is the server's" in err
    assert "not there now: + queue odd\n" in err
    assert "1 definition of" in out
    assert [info.name for info in api.queues(vhost.name)] == ["fine"]
    operation = json.loads(run("ops", "-o", "json")[1])[0]
    assert (operation["state"], operation["planned"], operation["moved"]) == ("partial", 2, 1)


def test_an_import_that_ends_half_way_tells_what_is_there(
    run: Run, api: ManagementClient, vhost: Any, tmp_path: Path
) -> None:
    path = tmp_path / "bus.json"
    bad = {"name": "bad", "pattern": "^x", "definition": {"max-length": "ten"}}
    path.write_text(json.dumps({"exchanges": [{"name": "e", "type": "fanout"}], "policies": [bad]}))
    code, _, err = run("definitions", "import", str(path), "--yes")
    there = [info.name for info in api.exchanges(vhost.name) if info.name == "e"]
    assert code == (8 if there else 4)
    assert "the broker refused it" in err
    if there:
        assert "not there now: + policy bad" in err
        assert "+ exchange e" not in err


def test_an_exchange_of_a_type_that_is_not_there_is_told_before_anything_is_done(
    run: Run, api: ManagementClient, vhost: Any, tmp_path: Path
) -> None:
    path = tmp_path / "bus.json"
    path.write_text('{"queues": [{"name": "q"}], "exchanges": [{"name": "x", "type": "x-recent-history"}]}')
    code, out, err = run("definitions", "import", str(path), "--yes")
    assert (code, out) == (4, "")
    assert "exchange 'x' is of type x-recent-history, which this broker does not have; nothing was done" in err
    assert api.queues(vhost.name) == []


def test_a_queue_of_a_time_before_types_stays_classic_where_the_vhost_has_another_default(
    run: Run, api: ManagementClient, vhost: Any, tmp_path: Path
) -> None:
    if (api.overview().release or ()) < (4, 0):
        pytest.skip("the default queue type of a vhost counts in an import from RabbitMQ 4.0 on")
    api.put_vhost(vhost.name, default_queue_type="quorum")
    path = tmp_path / "bus.json"
    path.write_text('{"rabbit_version": "3.10.8", "queues": [{"name": "old", "arguments": {"x-max-priority": 4}}]}')
    code, _, err = run("definitions", "import", str(path), "--yes")
    assert code == 0, err
    assert "x-queue-type classic written out: else it would become a quorum queue" in err
    assert api.queue(vhost.name, "old").type == "classic"
    path.write_text('{"queues": [{"name": "new"}]}')
    code, _, err = run("definitions", "import", str(path), "--yes")
    assert (code, "it names no type, and becomes a quorum queue, as the vhost has it" in err) == (0, True)
    assert api.queue(vhost.name, "new").type == "quorum"


def test_a_queue_that_is_not_permitted_is_refused_with_its_bindings() -> None:
    found = {
        "exchanges": [{"name": "e", "type": "direct"}],
        "queues": [{"name": "fleeting", "durable": False, "arguments": {}}, {"name": "kept", "durable": True}],
        "bindings": [
            {"source": "e", "destination_type": "queue", "destination": name, "routing_key": "k", "arguments": {}}
            for name in ("fleeting", "kept")
        ],
    }
    fitted = fit(found, Target(release=(4, 3), denied=frozenset({"transient_nonexcl_queues"})))
    assert [entry["name"] for entry in fitted.definitions["queues"]] == ["kept"]
    assert [entry["destination"] for entry in fitted.definitions["bindings"]] == ["kept"]
    assert [str(each) for each in fitted.refused] == [
        "queue fleeting: it is transient, which this broker does not permit"
    ]
    assert found["queues"][0]["name"] == "fleeting", "the file itself is left alone"
    with pytest.raises(PreconditionFailed, match="which this broker does not have"):
        fit(found, Target(release=(4, 3), exchange_types=frozenset({"topic"})))


def test_a_target_is_read_without_changing_it(api: ManagementClient, vhost: Any) -> None:
    target = target_of(api, vhost.name)
    assert target.release == api.overview().release
    assert {"direct", "topic", "fanout", "headers"} <= target.exchange_types
    assert ("exchange", None, "amq.topic") in target.places
    assert target.default_types == {}
    if target.release >= (4, 3):
        assert "queue_master_locator" in target.denied
    assert ("exchange", vhost.name, "amq.topic") in target_of(api, None).places


def test_only_classic_queues_are_rewritten_and_what_cannot_be_one_says_why() -> None:
    found = {
        "queues": [
            {"name": "a", "durable": True, "auto_delete": False, "arguments": {}, "exclusive": True},
            {"name": "amq.gen-1", "durable": True, "arguments": {}},
            {"name": "s", "durable": True, "arguments": {"x-queue-type": "stream"}},
            {"name": "p", "type": "classic", "durable": True, "arguments": {"x-max-priority": 3, "x-expires": 1}},
        ],
        "policies": [{"name": "other", "pattern": "(", "apply-to": "exchanges", "definition": {"ha-mode": "all"}}],
        "parameters": [
            {"component": "operator_policy", "name": "o", "value": {"pattern": "", "definition": {"ha-mode": "all"}}},
            {"component": "shovel", "name": "s", "value": {"definition": {"ha-mode": "all"}}},
        ],
    }
    made, remarks = for_quorum(found)
    told = {f"{each.kind} {each.name}": each.text for each in remarks}
    assert told["queue a"] == "stays a classic queue: it is exclusive"
    assert told["queue amq.gen-1"].startswith("stays a classic queue: its name is the server's")
    assert "queue s" not in told
    assert made["queues"][3] == {
        "name": "p",
        "type": "quorum",
        "durable": True,
        "arguments": {"x-expires": 1, "x-queue-type": "quorum"},
    }
    assert made["policies"] == found["policies"], "what is not for queues stays"
    assert [entry["name"] for entry in made["parameters"]] == ["s"]
    assert not is_of_cluster(made)
