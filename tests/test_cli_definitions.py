"""`busctl definitions`: exported, compared with a file, imported."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busctl.cli import main
from busctl_lib import MessageBroker
from busctl_lib.definitions import diff, of_vhost, parse
from busctl_lib.errors import ConfigError
from busctl_lib.management import ManagementClient

Run = Callable[..., tuple[int, str, str]]


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
def bus(vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("orders", arguments={"x-max-length": 10})
        broker.declare_exchange("trades", "topic")
        broker.bind_queue("orders", "trades", "order.#")


def test_an_export_differs_in_nothing_and_brings_everything_back(
    run: Run, bus: None, tmp_path: Path, api: Any, vhost: Any
) -> None:
    path = tmp_path / "bus.json"
    code, out, err = run("definitions", "export", str(path))
    assert (code, out, f"{path} has exchanges: 1, queues: 1, bindings: 1" in err) == (0, "", True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert run("definitions", "export", str(path))[0] == 2, "a file is not replaced unless that is asked for"
    assert run("definitions", "export", str(path), "--force")[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "it may hold password hashes"
    assert run("definitions", "export", str(tmp_path), "--force")[0] == 2
    assert run("definitions", "export", str(tmp_path / "no" / "such.json"))[0] == 1
    assert json.loads(run("definitions", "export")[1]) == json.loads(path.read_text())
    assert run("definitions", "diff", str(path)) == (0, "", f"{path} and the broker agree\n")
    run("delete", "queue", "orders", "--yes")
    code, out, _ = run("definitions", "diff", str(path))
    assert (code, out) == (1, "+ queue orders\n+ binding trades -> orders 'order.#'\n")
    code, _, err = run("definitions", "import", str(path))
    assert (code, "adds  1 queue, 1 binding: 2: orders" in err) == (9, True)
    code, out, _ = run("definitions", "import", str(path), "--yes", "-o", "json")
    made = json.loads(out)
    assert (code, made["kind"], made["moved"], made["state"]) == (0, "definitions import", 2, "done")
    assert api.queue(vhost.name, "orders").arguments["x-max-length"] == 10
    assert run("definitions", "diff", str(path), "-o", "json") == (0, "[]\n", "")


def test_what_differs_is_told_and_what_an_import_would_leave_alone(
    run: Run, bus: None, tmp_path: Path, vhost: Any, api: Any
) -> None:
    api.put_policy(vhost.name, "limits", "^o", {"max-length": 5})
    path = tmp_path / "bus.json"
    run("definitions", "export", str(path))
    found = json.loads(path.read_text())
    found["queues"][0]["arguments"]["x-max-length"] = 20
    found["policies"][0]["definition"]["max-length"] = 7
    found["exchanges"] = []
    path.write_text(json.dumps(found))
    code, out, _ = run("definitions", "diff", str(path))
    assert code == 1
    assert "~ policy limits" in out
    assert 'definition {"max-length":5} -> {"max-length":7}' in out
    assert '~ queue orders: arguments {"x-max-length":10} -> {"x-max-length":20}' in out
    assert "- exchange trades" in out
    code, _, err = run("definitions", "import", str(path))
    assert code == 9
    assert "replaces  1 policy: limits" in err
    assert "leaves    1 queue: orders (there already, otherwise declared)" in err
    assert run("definitions", "import", str(path), "--yes")[0] == 0
    assert api.policies(vhost.name)[0].definition == {"max-length": 7}
    assert "- exchange trades" in run("definitions", "diff", str(path))[1], "an import deletes nothing"


def test_of_a_cluster_file_the_part_of_the_vhost_is_meant(run: Run, bus: None, tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    assert run("definitions", "export", str(path), "-A")[0] == 0
    assert "users" in json.loads(path.read_text())
    assert run("definitions", "diff", str(path))[0] == 0
    part = tmp_path / "vhost.json"
    run("definitions", "export", str(part))
    code, _, err = run("definitions", "diff", str(part), "-A")
    assert (code, "of one virtual host" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "expected at least one of"),
        ('{"queues": {}}', "queues is not a list"),
        ('{"queues": [{"durable": true}]}', "queues[0] has no name"),
        ("\udcff", "is not JSON"),
    ],
)
def test_a_file_that_holds_no_definitions_is_told(run: Run, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bus.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, _, err = run("definitions", "diff", str(path))
    assert (code, said in err) == (2, True), err
    assert run("definitions", "import", str(tmp_path / "absent"), "--yes")[0] == 2


def test_what_the_broker_refuses_of_a_file_is_a_refusal(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bus.json"
    path.write_text('{"policies": [{"name": "p", "pattern": "^x", "definition": {"max-length": "ten"}}]}')
    code, _, err = run("definitions", "import", str(path), "--yes")
    assert (code, "the broker refused it" in err) == (4, True), err


QUEUES = st.lists(
    st.fixed_dictionaries(
        {"name": st.text(max_size=3)},
        optional={"durable": st.booleans(), "arguments": st.dictionaries(st.text(max_size=2), st.integers())},
    ),
    max_size=4,
    unique_by=lambda entry: entry["name"],
)


@settings(deadline=None)
@given(QUEUES, QUEUES)
def test_a_difference_is_told_both_ways(live: Any, file: Any) -> None:
    forth = {(each.name, each.change) for each in diff({"queues": live}, {"queues": file})}
    back = {(each.name, each.change) for each in diff({"queues": file}, {"queues": live})}
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    assert forth == {(name, turned[change]) for name, change in back}
    assert not diff({"queues": live}, {"queues": list(reversed(live))})


def test_what_one_version_adds_is_no_difference() -> None:
    old = {"queues": [{"name": "q", "durable": True, "auto_delete": False, "arguments": {}}]}
    new = {"queues": [{"name": "q", "type": "classic", "arguments": {"x-queue-type": "classic"}}]}
    assert diff(old, new) == []
    whole = {"queues": [{"name": "q", "vhost": "a"}, {"name": "r", "vhost": "b"}], "users": [{"name": "u"}]}
    assert of_vhost(whole, "a")["queues"] == [{"name": "q"}]
    with pytest.raises(ConfigError, match="no user"):
        parse(b'{"permissions": [{"vhost": "/"}]}', "x")


def test_a_queue_with_only_a_name_is_imported_and_an_exchange_without_a_type_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bus.json"
    policy = {"name": "p", "pattern": "x", "definition": {"max-length": 5}}
    path.write_text(json.dumps({"queues": [{"name": "only"}], "policies": [policy]}))
    assert run("definitions", "import", str(path), "--yes")[0] == 0
    assert run("definitions", "diff", str(path))[0] == 0
    path.write_text('{"exchanges": [{"name": "x"}]}')
    assert run("definitions", "import", str(path), "--yes") == (2, "", f"busctl: {path}: exchanges[0] has no type\n")
