"""What a cluster says of itself: its own checks, versions, tags, protected vhosts, what is deprecated and in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from api_at_socket import answering, dripping, refusing_port

from busctl.cli import main
from busctl.views import nodes, overview
from busctl.views.shovels import SHOVELS
from busctl.views.view import Tone
from busctl_lib.errors import PreconditionFailed
from busctl_lib.management import (
    DeprecatedFeature,
    HealthCheck,
    ManagementClient,
    NodeInfo,
    OverviewInfo,
    ShovelInfo,
    cluster_reading,
)

Run = Callable[..., tuple[int, str, str]]
CHECKS = {
    *("quorum-queues-without-elected-leaders", "metadata-store/initialized", "is-in-service"),
    *("below-node-connection-limit", "ready-to-serve-clients"),
}


@pytest.fixture
def api(vhost: Any) -> Iterator[ManagementClient]:
    with ManagementClient(vhost.api_url) as api:
        yield api


@pytest.fixture
def release(api: ManagementClient) -> tuple[int, ...]:
    return api.overview().release or ()


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


# --- the broker's own checks


def test_checks_are_asked_where_the_version_has_them(api: ManagementClient, release: tuple[int, ...], run: Run) -> None:
    found = api.health()
    assert {each.name for each in found} == CHECKS
    if release < (4, 1):
        assert {each.status for each in found} == {"absent"}
    elif release >= (4, 3):
        assert {each.status for each in found} == {"ok"}, found
    told = json.loads(run("overview", "-o", "json")[1])
    assert [each["status"] for each in told["health_checks"]] == [each.status for each in found]
    shown = run("overview")[1]
    assert ("checks     not available on this version" in shown) is (release < (4, 1))
    assert "checks\t" in run("overview", "-o", "tsv")[1]


def test_a_check_that_fails_is_told_with_its_reason() -> None:
    body = json.dumps({"status": "failed", "reason": "Detected quorum queues without an elected leader"}).encode()
    with answering(body, "503 Service Unavailable") as url, ManagementClient(url) as api:
        found = api.health()
    assert {(each.status, each.reason) for each in found} == {
        ("failed", "Detected quorum queues without an elected leader")
    }
    fact = overview.health(found)
    assert fact.tone is Tone.BAD
    assert "quorum-queues-without-elected-leaders failed: Detected" in fact.text
    assert [each.tone for each in overview.of_checks(found)] == [Tone.BAD] * len(CHECKS)


def test_a_check_that_is_asked_in_vain_is_unknown_and_never_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_reading, "_CHECK_S", 0.5)
    with answering(b'{"error":"x","reason":"oops"}', "500 Internal Server Error") as url, ManagementClient(url) as api:
        assert {each.status for each in api.health()} == {"unknown"}
    with ManagementClient(f"http://127.0.0.1:{refusing_port()}") as api:
        assert {each.status for each in api.health()} == {"unknown"}
    with dripping() as url, ManagementClient(url) as api:  # who is late once is not asked again
        found = api.health()
    assert {each.status for each in found} == {"unknown"}
    assert overview.health(found).tone is Tone.WARN
    assert overview.of_checks(found) == []


# --- versions, tags, what is deprecated


def test_each_node_tells_its_version(api: ManagementClient, release: tuple[int, ...], run: Run) -> None:
    version = api.overview().rabbitmq_version
    assert [node.rabbitmq_version for node in api.nodes()] == [version]
    [told] = json.loads(run("nodes", "-o", "json")[1])
    assert told["rabbitmq_version"] == version
    assert ("erlang_version" in told) is (release >= (4, 3))
    assert "applications" not in told
    assert ("being_drained" in told) is (release >= (4, 0))
    assert run("nodes", "--columns", "version", "-o", "tsv")[1] == f"version\n{version}\n"


def test_nodes_of_different_versions_need_attention() -> None:
    old, new = (NodeInfo(name=f"rabbit@{name}", rabbitmq_version=name) for name in ("4.2.9", "4.3.6"))
    silent = NodeInfo(name="rabbit@down", running=None)
    assert nodes.versions([new, new, silent]) is None, "what is not known differs from nothing"
    [matter] = overview.attention([], [old, new, silent])
    assert matter.tone is Tone.WARN
    assert matter.text == "nodes run different versions: rabbit@4.2.9 4.2.9, rabbit@4.3.6 4.3.6"


def test_tags_of_the_cluster_and_of_its_node_are_shown_where_there_are_any() -> None:
    tagged = OverviewInfo(node="rabbit@a", cluster_tags={"region": "eu"}, node_tags={"zone": "a", "rack": 2})
    facts = {fact.label: fact.text for fact in overview.facts(tagged, None)}
    assert facts["tags"] == "region=eu; rack=2, zone=a (rabbit@a)"
    assert "tags" not in {fact.label for fact in overview.facts(OverviewInfo(cluster_tags={}, node_tags={}), None)}


def test_what_is_deprecated_and_in_use_is_named(
    api: ManagementClient, release: tuple[int, ...], run: Run, vhost: Any
) -> None:
    queue = f"{vhost.api_url}/api/queues/{vhost.name}/passing"
    requests.put(queue, json={"durable": False, "auto_delete": False}, timeout=10).raise_for_status()
    found = api.deprecated_features(used=True)
    shown = run("overview")[1]
    told = json.loads(run("overview", "-o", "json")[1])
    if release < (3, 13):
        assert found is None
        assert "deprecated not known: this version does not tell" in shown
        assert "deprecated_features" not in told, "absent is not nothing"
    else:
        assert "transient_nonexcl_queues" in [each.name for each in found or ()]
        assert "transient_nonexcl_queues (permitted by default)" in shown
        assert "transient_nonexcl_queues" in [each["name"] for each in told["deprecated_features"]]


def test_the_consoles_line_has_only_what_there_is_to_say() -> None:
    good = [HealthCheck(name=name, status="ok") for name in sorted(CHECKS)]
    absent = [HealthCheck(name="is-in-service", status="absent")]
    used = [DeprecatedFeature(name="global_qos", deprecation_phase="denied_by_default")]
    assert overview.of_broker(good, []) == "checks 5 of 5 ok"
    assert overview.of_broker(absent, None) == ""
    assert overview.of_broker(absent, used) == "deprecated in use: global_qos"
    assert overview.deprecated(used).text == "global_qos (denied by default)"


# --- virtual hosts


def test_a_protected_vhost_is_told_in_the_plan_before_anyone_is_asked(
    api: ManagementClient, release: tuple[int, ...], run: Run, vhost: Any
) -> None:
    if release < (4, 1):
        assert api.vhost(vhost.name).protected_from_deletion is None
        assert run("vhosts", vhost.name, "--columns", "protected", "-o", "tsv")[1] == "protected\n\n"
        pytest.skip("vhosts can be protected from RabbitMQ 4.1 on")
    name = f"{vhost.name}%kept/"
    protection = f"{vhost.api_url}/api/vhosts/{requests.utils.quote(name, safe='')}/deletion/protection"
    api.put_vhost(name)
    try:
        assert run("vhosts", name, "--columns", "protected", "-o", "tsv")[1] == "protected\nno\n"
        requests.post(protection, timeout=10).raise_for_status()
        assert json.loads(run("vhosts", name, "-o", "json")[1])["protected_from_deletion"] is True
        for words in ((), ("--yes",)):
            code, out, err = run("delete", "vhost", name, *words)
            assert (code, out) == (4, "")
            assert f"refused    vhost {name!r} is protected from deletion" in err
            assert "disable_vhost_deletion_protection" in err
            assert "? [y/N]" not in err
        with pytest.raises(PreconditionFailed, match="protected from deletion"):
            api.delete_vhost(name)
    finally:
        requests.delete(protection, timeout=10).raise_for_status()
        assert run("delete", "vhost", name, "--yes")[0] == 0


def test_declaring_a_vhost_again_changes_only_what_is_given(
    api: ManagementClient, release: tuple[int, ...], run: Run, vhost: Any
) -> None:
    body = {"description": "ours", "tags": "prod,eu", "default_queue_type": "quorum", "tracing": True}
    requests.put(f"{vhost.api_url}/api/vhosts/{vhost.name}", json=body, timeout=10).raise_for_status()
    try:
        before = api.vhost(vhost.name)
        assert run("declare", "vhost", vhost.name, "--description", "theirs")[0] == 0
        after = api.vhost(vhost.name)
        assert (after.description, after.tags, after.tracing) == ("theirs", ["prod", "eu"], True)
        assert after.default_queue_type == before.default_queue_type
        if release >= (4, 0):
            assert run("declare", "vhost", vhost.name, "--default-queue-type", "classic")[0] == 0
            assert api.vhost(vhost.name).default_queue_type == "classic"
        assert api.vhost(vhost.name).description == "theirs"
    finally:
        api.set_tracing(vhost.name, False)


# --- shovels


def test_how_far_a_shovel_is_can_be_shown_and_is_absent_where_it_is_not_told() -> None:
    names = ("forwarded", "remaining", "pending", "flow")
    new = ShovelInfo(name="s", forwarded=1200, remaining=34, pending=0, blocked_status="blocked", state="running")
    endless = ShovelInfo(name="s", forwarded=0, remaining="unlimited", state="running")
    old = ShovelInfo(name="s", state="running")
    assert [SHOVELS.column(name).cell(new).text for name in names] == ["1.2k", "34", "0", "blocked"]
    assert [SHOVELS.column(name).cell(endless).text for name in names[:2]] == ["0", "unlimited"]
    assert [SHOVELS.column(name).cell(old).text for name in names] == ["\u2013", "\u2013", "\u2013", ""]
