"""What a user can do, as `contexts check` lists it: by the patterns where they can be read, else as it was tried."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from trying import Busctl

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.abilities import Ability, abilities
from busctl_lib.management import ManagementClient
from busctl_lib.rights import Rights

ALL = {
    "publish to queues",
    "publish to exchanges",
    "tail by copy",
    "firehose",
    "peek, hold and consume",
    "move, replay and discard",
    "delays and retries",
    "declare and delete",
    "policies set and cleared",
    "definitions imported, or of the whole cluster",
}
BY_TAG = {"firehose", "policies set and cleared", "definitions imported, or of the whole cluster"}
Made = Callable[..., tuple[str, str]]


@pytest.fixture
def user(vhost: Any) -> Iterator[Made]:
    """Make users: both addresses as each."""
    made = []
    with ManagementClient(vhost.api_url) as api:

        def make(configure: str, write: str, read: str, tags: str = "management") -> tuple[str, str]:
            name = f"user-{uuid.uuid4().hex[:8]}"
            api._http.change("PUT", f"users/{name}", {"password": "pass", "tags": tags})
            made.append(name)
            rights = {"configure": configure, "write": write, "read": read}
            api._http.change("PUT", f"permissions/{vhost.name}/{name}", rights)
            doors = (urlsplit(vhost.amqp_url), urlsplit(vhost.api_url))
            amqp, http = (url._replace(netloc=f"{name}:pass@{url.hostname}:{url.port}").geturl() for url in doors)
            return amqp, http

        yield make
        for name in made:
            api._http.change("DELETE", f"users/{name}")


def found(vhost: Any, doors: tuple[str, str], tags: list[str] | None) -> dict[str, Ability]:
    with MessageBroker(url=doors[0]) as broker, ManagementClient(doors[1]) as api:
        told = abilities(Rights(vhost.name, broker=broker, management=api), tags)
    assert {each.name for each in told} == ALL
    return {each.name: each for each in told}


@pytest.mark.parametrize("tags", ["management", "administrator"])
def test_who_may_all_can_all_but_what_a_tag_is_for(vhost: Any, user: Made, tags: str) -> None:
    told = found(vhost, user(".*", ".*", ".*", tags), [tags])
    assert {name for name, each in told.items() if each.state != "possible"} == (
        set() if tags == "administrator" else BY_TAG
    )
    assert found(vhost, user(".*", ".*", ".*", tags), None)["policies set and cleared"].state == "unknown"
    assert str(told["firehose"]) in ("firehose", "firehose: needs the administrator tag")


@pytest.mark.parametrize("tags", ["management", "administrator"])
def test_who_may_nothing_is_told_what_each_takes(vhost: Any, user: Made, tags: str) -> None:
    told = found(vhost, user("", "", "", tags), [tags])
    assert not [name for name, each in told.items() if each.state == "possible" and name not in BY_TAG]
    assert "may not configure queue busctl.tap.*" in str(told["tail by copy"])
    assert "write exchange amq.default" in str(told["publish to queues"])
    assert "configure queue busctl.lock.*" in str(told["move, replay and discard"])
    assert "configure exchange busctl.unroutable" in str(told["delays and retries"])
    by_name = told["peek, hold and consume"]
    if tags == "administrator":  # whose patterns can be read
        assert (by_name.state, "(configure is '')" in str(told["move, replay and discard"])) == ("missing", False)
        assert "configure is ''" in str(told["tail by copy"])
    else:
        assert (by_name.state, by_name.reason) == ("unknown", "depends on the name: it may not read each queue")


def test_what_depends_on_a_name_says_the_pattern_where_it_is_known(vhost: Any, user: Made) -> None:
    told = found(
        vhost, user("^busctl", "^(busctl|amq.default)", "^(busctl|orders)", "administrator"), ["administrator"]
    )
    reason = "depends on the name: it may not read each queue (read is '^(busctl|orders)')"
    assert (told["peek, hold and consume"].state, told["peek, hold and consume"].reason) == ("unknown", reason)
    assert told["publish to queues"].state == "possible"


@pytest.mark.parametrize("lacking", ["configure", "write", "read", "nothing"])
def test_what_is_said_is_so(vhost: Any, user: Made, busctl: Busctl, lacking: str) -> None:
    ours = "^(busctl|amq.default$|target$|source$|feed$)"
    patterns = {verb: "^$" if verb == lacking else ours for verb in ("configure", "write", "read")}
    amqp, http = user(**patterns)
    with MessageBroker(url=vhost.amqp_url) as owner:
        owner.declare_queue("source")
        owner.declare_queue("target")
        owner.declare_exchange("feed", "topic")
        owner.bind_queue("source", "feed", "#")
        MessagePublisher(owner).publish("source", {"n": 1})
    told = {name: each.state for name, each in found(vhost, (amqp, http), ["management"]).items()}
    doors = ("--amqp-url", amqp, "--api-url", http)

    done = {
        "tail by copy": busctl("tail", "source", "--via", "copy", "--for", "0.2s", *doors).returncode == 0,
        "move, replay and discard": busctl("move", "source", "target", "--yes", *doors).returncode == 0,
        "publish to queues": busctl("publish", "target", "x", *doors).returncode == 0,
        "delays and retries": busctl("publish", "target", "x", "--delay", "100ms", *doors).returncode == 0,
    }
    for name, works in done.items():
        if told[name] != "unknown":  # it depends on the name
            assert works is (told[name] == "possible"), (name, told[name])
    assert all(done.values()) is (lacking == "nothing")


def test_the_check_lists_what_the_user_may(vhost: Any, user: Made, busctl: Busctl) -> None:
    amqp, http = user("^busctl", ".*", ".*", "administrator")
    addresses = ("--amqp-url", amqp, "--api-url", http)
    told = json.loads(busctl("contexts", "check", *addresses, "-o", "json").stdout)["rights"]
    assert {verb: told["permissions"][verb] for verb in ("configure", "write", "read")} == {
        "configure": "^busctl",
        "write": ".*",
        "read": ".*",
    }
    assert {each["name"] for each in told["abilities"]} == ALL
    out = busctl("contexts", "check", *addresses).stdout
    assert "rights     configure '^busctl', write '.*', read '.*'" in out
    assert "can        publish to queues; publish to exchanges; tail by copy; firehose" in out
    assert "unknown    declare and delete: depends on the name" in out


def test_the_check_of_one_who_cannot_read_them_says_so_and_tries(vhost: Any, user: Made, busctl: Busctl) -> None:
    amqp, http = user("^$", ".*", ".*")
    out = busctl("contexts", "check", "--amqp-url", amqp, "--api-url", http).stdout
    assert "rights     the API does not tell them to this user: tried" in out
    assert "missing    tail by copy: user 'user-" in out
    assert "may not configure queue busctl.tap.*" in out
    assert "can        publish to queues" in out


def test_a_user_without_access_to_the_vhost_is_told_that_and_one_that_is_not_there_is_told_that(
    vhost: Any, user: Made, busctl: Busctl
) -> None:
    amqp, http = user(".*", ".*", ".*")
    for name, said in (("/", "has no access to vhost '/'"), ("no such", "no vhost 'no such'")):
        url = urlsplit(amqp)._replace(path=f"/{quote(name, safe='')}").geturl()
        code, out, _ = busctl("contexts", "check", "--amqp-url", url, "--api-url", http)
        assert code == 0, "the API works"
        line = next(line for line in out.splitlines() if line.startswith("amqp  "))
        assert said in line
        assert ("exist" in line) == (name != "/")
