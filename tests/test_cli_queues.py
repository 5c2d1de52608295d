"""`busctl queues` and `busctl overview` on a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_at_socket import Road
from waiting import wait_until

from busctl.cli import main
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.management import ManagementClient


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run one command line on the test's vhost: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_list_of_no_queues_is_an_empty_array_and_a_note(run: Callable[..., Any]) -> None:
    assert run("queues", "-o", "json") == (0, "[]\n", "")
    code, out, err = run("queues")
    assert code == 0
    assert out.startswith("NAME")
    assert "no queues" in err


def test_queues_are_listed_filtered_and_sorted(run: Callable[..., Any], vhost: Any, broker: MessageBroker) -> None:
    for name, messages in (("obs_requests", 1), ("obs_responses", 2), ("tes[1]", 0)):
        broker.declare_queue(name)
        for _ in range(messages):
            MessagePublisher(broker).publish(name, {"n": 1})
    with ManagementClient(vhost.api_url) as api:
        wait_until(lambda: {info.name: info.messages for info in api.queues(vhost.name)}.get("obs_responses") == 2)

    code, out, err = run("queues", "-o", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [info["name"] for info in found] == ["obs_requests", "obs_responses", "tes[1]"]
    assert {info["vhost"] for info in found} == {vhost.name}
    assert all("messages_ready" in info for info in found)

    def names(*arguments: str) -> list[str]:
        return [json.loads(line)["name"] for line in run("queues", "-o", "jsonl", *arguments)[1].splitlines()]

    assert names("obs_*") == ["obs_requests", "obs_responses"]
    assert names("nothing*") == []
    assert names("--sort", "-name") == ["tes[1]", "obs_responses", "obs_requests"]
    assert names("tes[1]") == ["tes[1]"]
    wait_until(lambda: names("--sort", "-messages")[0] == "obs_responses")
    assert run("queues", "obs_*", "--columns", "name,vhost", "-o", "tsv")[1] == (
        f"name\tvhost\nobs_requests\t{vhost.name}\nobs_responses\t{vhost.name}\n"
    )
    everywhere = json.loads(run("queues", "--all-vhosts", "-o", "json")[1])
    assert ("obs_requests", vhost.name) in [(info["name"], info["vhost"]) for info in everywhere]
    assert "VHOST" in run("queues", "-A")[1].splitlines()[0]


def test_an_exact_name_shows_one_queue(run: Callable[..., Any], vhost: Any, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    broker.declare_exchange("trading", "topic")
    broker.bind_queue("orders", "trading", "order.\x1b[31m")
    broker.subscribe("orders", lambda delivery: None, prefetch=7)

    def detail() -> str:
        code, out, err = run("queues", "orders")
        assert (code, err) == (0, "")
        return str(out)

    wait_until(lambda: "prefetch 7" in detail(), timeout=15)
    assert "trading with key 'order.\\x1b[31m'" in detail()
    code, out, _ = run("queues", "orders", "-o", "json")
    info = json.loads(out)
    assert (code, info["name"], info["consumer_details"][0]["prefetch_count"]) == (0, "orders", 7)
    assert sorted(binding["source"] for binding in info["bindings"]) == ["", "trading"]
    code, out, err = run("queues", "orders", "--all-vhosts", "-o", "jsonl")
    if code == 2:  # another vhost of a shared node has one as well
        assert vhost.name in err
    else:
        assert json.loads(out)["vhost"] == vhost.name


def test_an_absent_queue_is_four(run: Callable[..., Any]) -> None:
    code, out, err = run("queues", "nope", "-o", "json")
    assert (code, out) == (4, "")
    assert "no queue 'nope'" in err
    assert run("queues", "a-name-that-no-vhost-has", "-A")[0] == 4
    code, _, err = run("queues", "\udcff")  # a byte that is not UTF-8, as the shell hands it over
    assert (code, "no queue '\\udcff'" in err) == (4, True)


def test_an_empty_name_is_two(run: Callable[..., Any]) -> None:
    code, out, err = run("queues", "")
    assert (code, out) == (2, "")
    assert "a name is empty" in err


def test_an_unknown_vhost_is_three(run: Callable[..., Any]) -> None:
    code, _, err = run("queues", "--vhost", "nope")
    assert code == 3
    assert "no vhost 'nope'" in err


def test_a_wrong_password_is_three_and_says_so(
    run: Callable[..., Any], vhost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = vhost.api_url.replace(f":{vhost.password}@", ":hunter2@")
    for command in ("queues", "overview"):
        code, _, err = run(command, "--api-url", api)
        assert code == 3
        assert "wrong user or password" in err
        assert "hunter2" not in err


def test_the_overview_names_version_totals_and_what_needs_attention(
    run: Callable[..., Any], vhost: Any, broker: MessageBroker
) -> None:
    broker.declare_queue("orders.dead")
    MessagePublisher(broker).publish("orders.dead", {"n": 1})
    words = ("RabbitMQ", "1/1 running", "alarms     none", "orders.dead", "1 dead letter")

    def missing() -> list[str]:
        out = run("overview")[1]
        return [word for word in words if word not in out]

    wait_until(lambda: not missing(), what=f"all of {words}")
    answer = json.loads(run("overview", "-o", "json")[1])
    assert answer["node"] in [node["name"] for node in answer["nodes"]]
    assert "queues" in answer["object_totals"]
    assert run("overview", "-o", "tsv")[1].startswith("cluster\t")


def test_a_watch_goes_on_while_the_api_is_away_and_ends_with_ctrl_c(vhost: Any, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    road = Road(vhost.api_url)
    command = [sys.executable, "-m", "busctl", "queues", "--watch", "500ms", "-o", "jsonl", "--vhost", vhost.name]
    with subprocess.Popen(
        [*command, "--api-url", road.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["name"] == "orders"
        road.cut()
        assert "does not answer" in process.stderr.readline()
        road.mend()
        assert json.loads(process.stdout.readline())["name"] == "orders"
        assert json.loads(process.stdout.readline())["name"] == "orders"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    road.cut()
    assert process.returncode == 130
    assert "Traceback" not in err
