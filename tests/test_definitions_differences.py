"""Every key of definitions is compared, whatever form a version writes it in; a cluster's file and one vhost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from busctl.cli import main
from busctl_lib.definitions import diff, keep_vhosts, of_vhost, vhosts_of
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


LIVE: dict[str, list[dict[str, Any]]] = {
    "vhosts": [{"name": "v", "description": "d", "tags": ["a", "b"], "default_queue_type": "classic"}],
    "users": [
        {"name": "u", "password_hash": "h1", "hashing_algorithm": "sha256", "tags": ["monitoring"], "limits": {}}
    ],
    "permissions": [{"user": "u", "vhost": "v", "configure": "", "write": ".*", "read": ""}],
    "topic_permissions": [{"user": "u", "vhost": "v", "exchange": "t", "write": "^a", "read": "^b"}],
    "parameters": [{"component": "shovel", "name": "s", "vhost": "v", "value": {"src-queue": "q"}}],
    "global_parameters": [{"name": "g", "value": 1}],
    "policies": [{"name": "p", "vhost": "v", "pattern": "^q", "apply-to": "queues", "priority": 0, "definition": {}}],
    "exchanges": [{"name": "e", "vhost": "v", "type": "topic", "arguments": {"alternate-exchange": "ae"}}],
    "queues": [{"name": "q", "vhost": "v", "durable": True, "arguments": {"x-max-length": 1}}],
    "bindings": [
        {"source": "e", "vhost": "v", "destination": "q", "destination_type": "queue", "routing_key": "k"},
    ],
}


@pytest.mark.parametrize(
    ("kind", "change", "fields"),
    [
        ("vhosts", {"description": "other"}, ["description"]),
        ("vhosts", {"tags": ["a"]}, ["tags"]),
        ("vhosts", {"default_queue_type": "quorum"}, ["default_queue_type"]),
        ("vhosts", {"protected_from_deletion": True}, ["protected_from_deletion"]),
        ("users", {"tags": "administrator"}, ["tags"]),
        ("users", {"limits": {"max-connections": 1}}, ["limits"]),
        ("users", {"password_hash": "h2"}, ["password_hash"]),
        ("permissions", {"read": ".*"}, ["read"]),
        ("topic_permissions", {"write": "^x"}, ["write"]),
        ("parameters", {"value": {"src-queue": "other"}}, ["value"]),
        ("global_parameters", {"value": {"a": 1}}, ["value"]),
        ("policies", {"pattern": "^x"}, ["pattern"]),
        ("policies", {"priority": 7}, ["priority"]),
        ("policies", {"apply-to": "exchanges"}, ["apply-to"]),
        ("policies", {"definition": {"max-length": 1}}, ["definition"]),
        ("exchanges", {"type": "direct"}, ["type"]),
        ("exchanges", {"internal": True}, ["internal"]),
        ("exchanges", {"arguments": {}}, ["arguments"]),
        ("queues", {"arguments": {"x-max-length": 1, "x-queue-type": "quorum"}}, ["arguments"]),
        ("queues", {"durable": False}, ["durable"]),
        ("queues", {"auto_delete": True}, ["auto_delete"]),
    ],
)
def test_each_key_is_seen(kind: str, change: dict[str, Any], fields: list[str]) -> None:
    assert diff(LIVE, LIVE) == []
    file = json.loads(json.dumps(LIVE))
    file[kind][0] |= change
    [found] = diff(LIVE, file)
    assert (found.change, found.fields) == ("changed", fields)
    assert found.import_changes is (kind not in ("exchanges", "queues"))
    assert "h2" not in str(found), "what the hash of a password is stays in the file"


@pytest.mark.parametrize("key", ["topic_permissions", "bindings", "parameters"])
def test_what_has_no_name_of_its_own_is_told_apart(key: str) -> None:
    other = {
        "topic_permissions": {"exchange": "other"},
        "bindings": {"arguments": {"x": 1}},
        "parameters": {"component": "federation-upstream"},
    }[key]
    file = json.loads(json.dumps(LIVE))
    file[key].append(file[key][0] | other)
    [found] = diff(LIVE, file)
    assert found.change == "added"
    assert (
        found.name
        == {
            "topic_permissions": "u at exchange other",
            "bindings": "e -> q 'k' {\"x\":1}",
            "parameters": "federation-upstream s",
        }[key]
    )


def test_what_versions_write_differently_is_the_same() -> None:
    by_310 = {"vhosts": [{"name": "v"}], "users": [{"name": "u", "tags": "b,a", "limits": []}], "parameters": []}
    by_40 = {
        "vhosts": [
            {
                "name": "v",
                "description": "",
                "tags": [],
                "default_queue_type": "classic",
                "metadata": {"description": "", "tags": [], "default_queue_type": "classic"},
            }
        ],
        "users": [{"name": "u", "tags": ["a", "b"], "limits": {}}],
        "parameters": [{"component": "vhost-limits", "name": "limits", "vhost": "v", "value": {"max-queues": 3}}],
    }
    by_43 = {
        "vhosts": [
            {
                "name": "v",
                "limits": {"max-queues": 3},
                "metadata": {
                    "description": "",
                    "tags": [],
                    "default_queue_type": "classic",
                    "protected_from_deletion": False,
                },
            }
        ],
        "users": by_40["users"],
        "parameters": [],
    }
    assert diff(by_40, by_43) == []
    assert diff(by_43, by_40) == []
    assert [each.kind for each in diff(by_310, by_40)] == ["parameter"]


def test_what_a_file_does_not_say_of_a_vhost_is_kept() -> None:
    live = {"vhosts": [{"name": "v", "metadata": {"description": "d", "tags": ["a"], "default_queue_type": "quorum"}}]}
    for entry in ({"name": "v"}, {"name": "v", "metadata": {"description": "new"}}):
        file: dict[str, Any] = {"vhosts": [json.loads(json.dumps(entry))]}
        assert not [each for each in diff(live, file) if "tags" in each.fields]
        keep_vhosts(file, live)
        [made] = file["vhosts"]
        assert (made["tags"], made["default_queue_type"]) == (["a"], "quorum")
        assert made["metadata"]["tags"] == ["a"], "4.3 reads some of it there alone"
    assert made["metadata"]["description"] == made["description"] == "new"


def test_the_vhosts_of_a_file_are_all_that_it_names() -> None:
    found = {"vhosts": [{"name": "b"}], "queues": [{"name": "q", "vhost": "a"}], "permissions": [{"user": "u"}]}
    assert vhosts_of(found) == ["a", "b"]
    part = of_vhost({**found, "rabbitmq_definition_format": "cluster"}, "b")
    assert part["vhosts"] == [{"name": "b"}]
    assert part["queues"] == []


def test_other_vhosts_of_a_clusters_file_are_named_and_one_that_it_has_not_is_told(
    run: Run, tmp_path: Path, vhost: Any, api: ManagementClient
) -> None:
    path = tmp_path / "cluster.json"
    queues = [{"name": "q", "vhost": name} for name in (vhost.name, "elsewhere", "farther")]
    path.write_text(json.dumps({"queues": queues}))
    code, out, err = run("definitions", "diff", str(path))
    assert (code, out) == (1, "+ queue q\n")
    assert f"not compared: what {path} says of 2: elsewhere, farther" in err
    code, _, err = run("definitions", "import", str(path))
    assert (code, "not meant  what the file says of 2: elsewhere, farther" in err) == (9, True)
    path.write_text(json.dumps({"queues": queues[1:]}))
    for verb in ("diff", "import"):
        code, _, err = run("definitions", verb, str(path))
        assert code == 2
        assert f"says nothing of vhost {vhost.name!r}" in err
        assert "it has 2: elsewhere, farther" in err
    assert api.queues(vhost.name) == []


def test_an_import_of_a_cluster_keeps_of_a_vhost_what_the_file_does_not_say(
    run: Run, tmp_path: Path, vhost: Any, api: ManagementClient
) -> None:
    body = {"description": "ours", "tags": "prod", "default_queue_type": "quorum"}
    requests.put(f"{vhost.api_url}/api/vhosts/{vhost.name}", json=body, timeout=10).raise_for_status()
    before = api.vhost(vhost.name)
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"vhosts": [{"name": vhost.name}], "queues": [{"name": "q", "vhost": vhost.name}]}))
    code, out, err = run("definitions", "import", str(path), "-A", "--yes")
    assert (code, "1 definition of" in out) == (0, True), err
    after = api.vhost(vhost.name)
    assert (after.description, after.tags) == ("ours", ["prod"])
    assert after.default_queue_type == before.default_queue_type
    assert [info.name for info in api.queues(vhost.name)] == ["q"]
    path.write_text(json.dumps({"vhosts": [{"name": vhost.name, "description": "theirs"}]}))
    code, out, _ = run("definitions", "diff", str(path), "-A")
    assert f'~ vhost {vhost.name}: description "ours" -> "theirs"\n' in out
    assert run("definitions", "import", str(path), "-A", "--yes")[0] == 0
    after = api.vhost(vhost.name)
    assert (after.description, after.tags) == ("theirs", ["prod"])


def test_whoever_would_lock_himself_out_is_told(run: Run, tmp_path: Path, vhost: Any) -> None:
    path = tmp_path / "cluster.json"
    me = {"name": vhost.username, "password_hash": "AAAA", "tags": ["administrator"]}
    path.write_text(json.dumps({"users": [me]}))
    code, out, err = run("definitions", "import", str(path), "-A")
    assert (code, out) == (9, "")
    assert f"careful   {vhost.username} is who does this: its password and its tags are replaced" in err
    assert "AAAA" not in run("definitions", "diff", str(path), "-A")[1]
