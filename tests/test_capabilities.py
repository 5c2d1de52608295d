"""What a broker and a user allow: found out once, each gap with its reason."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from waiting import wait_until

from busctl.cli import main
from busctl_lib.capabilities import detect
from busctl_lib.management import ManagementClient


@pytest.fixture
def user(vhost: Any) -> Iterator[Callable[[str], tuple[str, str]]]:
    """Make a user with tags and read access: its name and the API's address as it."""
    made = []
    with ManagementClient(vhost.api_url) as api:

        def make(tags: str) -> tuple[str, str]:
            name = f"guest-{uuid.uuid4().hex[:8]}"
            api._http.change("PUT", f"users/{name}", {"password": "pass", "tags": tags})
            made.append(name)
            rights = {"configure": "", "write": "", "read": ".*"}
            api._http.change("PUT", f"permissions/{vhost.name}/{name}", rights)
            place = urlsplit(vhost.api_url)
            return name, f"{place.scheme}://{name}:pass@{place.hostname}:{place.port}"

        yield make
        for name in made:
            api._http.change("DELETE", f"users/{name}")


def found(api_url: str) -> Any:
    with ManagementClient(api_url) as api:
        return detect(api)


def test_an_administrator_may_do_everything(vhost: Any) -> None:
    wait_until(lambda: found(vhost.api_url).plugins is not None, 30, what="the nodes have told their plugins")
    told = found(vhost.api_url)
    assert "administrator" in told.tags
    assert "rabbitmq_management" in told.plugins
    assert [each for each in told.features if each.cause == "tag"] == []
    assert told.feature("firehose").state == "available"
    on = "rabbitmq_event_exchange" in told.plugins
    assert told.feature("events").state == ("available" if on else "degraded")


def test_a_monitoring_user_sees_nodes_but_no_firehose(user: Callable[[str], tuple[str, str]]) -> None:
    told = found(user("monitoring")[1])
    assert told.feature("nodes, and the connections of others").state == "available"
    assert str(told.feature("firehose")) == "firehose: needs the administrator tag"
    assert told.feature("policies set and cleared").reason == "needs the policymaker tag"


def test_a_user_of_the_api_alone_is_told_what_each_gap_takes(
    user: Callable[[str], tuple[str, str]], vhost: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    name, api_url = user("management")
    told = found(api_url)
    assert told.plugins is None
    assert told.feature("events").state == "degraded"
    place = urlsplit(vhost.amqp_url)
    amqp_url = f"amqp://{name}:pass@{place.hostname}:{place.port}{place.path}"
    addresses = ("--amqp-url", amqp_url, "--api-url", api_url)
    assert main.run(["contexts", "check", *addresses, "-o", "json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert "firehose: needs the administrator tag" in answer["missing"]
    assert "nodes, and the connections of others: needs the monitoring tag" in answer["missing"]
    assert main.run(["contexts", "check", *addresses]) == 0
    shown = capfd.readouterr().out
    assert "missing    firehose: needs the administrator tag" in shown
    assert "less       events: from differences between snapshots" in shown


def test_without_rights_to_the_api_there_is_a_sentence(
    user: Callable[[str], tuple[str, str]], vhost: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    name, api_url = user("")
    place = urlsplit(vhost.amqp_url)
    amqp_url = f"amqp://{name}:pass@{place.hostname}:{place.port}{place.path}"
    assert main.run(["contexts", "check", "--amqp-url", amqp_url, "--api-url", api_url, "-o", "json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert (answer["amqp"]["works"], answer["api"]["works"]) == (True, False)
    assert "tag 'management'" in answer["api"]["error"]
    assert main.run(["queues", "--amqp-url", amqp_url, "--api-url", api_url]) == 4
    assert "management" in capfd.readouterr().err
