"""What users with fewer rights get: what they may see, and a sentence about the rest."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from busctl.cli import main
from busctl_lib import MessageBroker

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_as(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run one command line as a user with these tags, who may read in the test's vhost: (exit code, stdout, stderr)."""
    made: dict[str, str] = {}

    def put(path: str, body: object) -> None:
        requests.put(f"{vhost.api_url}/api/{path}", json=body, timeout=30).raise_for_status()

    def login(tags: str) -> str:
        name, password = f"test-{tags or 'none'}-{secrets.token_hex(4)}", secrets.token_hex(8)
        put(f"users/{name}", {"password": password, "tags": tags})
        put(f"permissions/{vhost.name}/{name}", {"configure": "", "write": "", "read": ".*"})
        made[tags] = name
        return f"{name}:{password}@"

    logins: dict[str, str] = {}

    def run(tags: str, *arguments: str) -> tuple[int, str, str]:
        logins[tags] = logins.get(tags) or login(tags)
        own = f"{vhost.username}:{vhost.password}@"
        monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url.replace(own, logins[tags]))
        monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url.replace(own, logins[tags]))
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        assert logins[tags].partition(":")[2] not in captured.out + captured.err
        return code, captured.out, captured.err

    yield run
    for name in made.values():
        requests.delete(f"{vhost.api_url}/api/users/{name}", timeout=30).raise_for_status()


@pytest.fixture
def orders(vhost: Any) -> Iterator[None]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("orders")
        yield


LISTS = ("overview", "vhosts", "policies", "queues", "exchanges", "bindings", "connections", "channels", "consumers")


@pytest.mark.usefixtures("orders")
def test_a_user_who_may_only_watch_sees_everything_but_users(run_as: Run) -> None:
    for noun in (*LISTS, "nodes", "topology"):
        if noun == "policies":
            continue
        code, out, err = run_as("monitoring", noun, "-o", "json")
        assert (code, err) == (0, ""), noun
        assert json.loads(out) is not None
    code, out, _ = run_as("monitoring", "queues", "orders")
    assert code == 0
    assert "orders" in out
    code, out, err = run_as("monitoring", "users", "-o", "json")
    assert (code, out) == (4, "")
    assert "administrator" in err


@pytest.mark.usefixtures("orders")
def test_a_user_of_the_api_alone_sees_his_own_and_is_told_what_the_rest_takes(run_as: Run) -> None:
    code, out, err = run_as("management", "overview")
    assert (code, err) == (0, "")
    assert "not known: needs the monitoring tag" in out
    code, out, _ = run_as("management", "queues", "-o", "json")
    assert (code, [info["name"] for info in json.loads(out)]) == (0, ["orders"])
    assert run_as("management", "queues", "orders")[0] == 0
    code, out, err = run_as("management", "nodes")
    assert (code, out) == (4, "")
    assert "needs the tag 'monitoring'" in err
    assert "rabbitmqctl set_user_tags" in err


def test_a_user_without_rights_to_the_api_gets_one_sentence(run_as: Run) -> None:
    for noun in (*LISTS, "nodes", "users", "permissions", "topology"):
        code, out, err = run_as("", noun)
        assert (code, out) == (4, ""), noun
        assert "needs the tag 'management'" in err, noun
        assert len(err.splitlines()) == 1


def test_events_of_which_a_user_can_see_none_are_refused_and_not_waited_for(run_as: Run) -> None:
    code, out, err = run_as("", "events", "--for", "30s")
    assert (code, out) == (4, "")
    assert "needs the tag 'management'" in err.splitlines()[-1]


def test_a_vhost_that_a_user_may_not_enter_is_said_to_be_that(run_as: Run) -> None:
    code, out, err = run_as("management", "queues", "--vhost", "/")
    assert (code, out) == (3, "")
    assert "has no access to vhost '/'" in err


def test_a_user_without_a_tag_learns_the_count_of_a_queue_by_its_name(run_as: Run, orders: None) -> None:
    code, out, err = run_as("", "queues", "orders", "-o", "json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["name"], told["messages_ready"], told["consumers"]) == ("orders", 0, 0)
    assert "messages" not in told
    assert "needs the tag 'management'" in err
    code, out, err = run_as("", "queues", "orders")
    assert code == 0
    assert "orders" in out
    assert run_as("", "queues", "nothing")[0] == 4
    assert run_as("", "queues", "ord*")[0] == 4
