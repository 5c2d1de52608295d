"""What a user may do: read from the API by an administrator, tried by everybody else, and nothing changed by asking."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from busctl_lib.broker import MessageBroker
from busctl_lib.management import ManagementClient
from busctl_lib.rights import Need, Rights, matches, new_name
from busctl_lib.taps.needs import needs_of, needs_of_own_queue
from busctl_lib.taps.plans import Binding, TapPlan


class Account(NamedTuple):
    name: str
    amqp_url: str
    api_url: str


Made = Callable[..., Account]


@pytest.fixture
def account(vhost: Any) -> Iterator[Made]:
    """Make users of the test's virtual host with patterns and tags."""
    made = []
    with ManagementClient(vhost.api_url) as api:

        def make(configure: str = "", write: str = "", read: str = "", tags: str = "", topics: Any = None) -> Account:
            name = f"user-{uuid.uuid4().hex[:8]}"
            api._http.change("PUT", f"users/{name}", {"password": "pass", "tags": tags})
            made.append(name)
            rights = {"configure": configure, "write": write, "read": read}
            api._http.change("PUT", f"permissions/{vhost.name}/{name}", rights)
            if topics:
                api._http.change("PUT", f"topic-permissions/{vhost.name}/{name}", topics)
            amqp, http = urlsplit(vhost.amqp_url), urlsplit(vhost.api_url)
            doors = [url._replace(netloc=f"{name}:pass@{url.hostname}:{url.port}").geturl() for url in (amqp, http)]
            return Account(name, *doors)

        yield make
        for name in made:
            api._http.change("DELETE", f"users/{name}")


@pytest.fixture
def bus(vhost: Any) -> Iterator[MessageBroker]:
    """A few queues and exchanges of somebody."""
    with MessageBroker(url=vhost.amqp_url) as broker:
        for name in ("orders", "other"):
            broker.declare_queue(name)
        broker.declare_exchange("feed", "topic")
        broker.bind_queue("orders", "feed", "#")
        yield broker


def need(verb: Any, kind: Any, name: str, key: str | None = None) -> Need:
    return Need(verb=verb, kind=kind, name=name, routing_key=key)


ASKED = [
    need(verb, kind, name)
    for verb in ("configure", "write", "read")
    for kind, names in (("queue", ("orders", "other", "nowhere")), ("exchange", ("feed", "amq.direct", "nowhere")))
    for name in names
] + [need("write", "exchange", "amq.default")]


@pytest.mark.usefixtures("bus")
@pytest.mark.parametrize(
    ("configure", "write", "read"),
    [(".*", ".*", ".*"), ("", "", ""), ("^order", "^(busctl|feed)", "feed|other"), ("^$", "direct|busctl", ".*")],
)
def test_what_is_tried_is_what_the_patterns_say(
    vhost: Any, account: Made, configure: str, write: str, read: str
) -> None:
    patterns = {"configure": configure, "write": write, "read": read}
    with MessageBroker(url=account(**patterns).amqp_url) as broker:
        tried = {str(each): Rights(vhost.name, broker=broker).may(each) for each in ASKED}
    right = {str(each): matches(patterns[each.verb], each.name) for each in ASKED}
    if not matches(write, "busctl.tap.0123456789abcdef"):  # without a queue to bind, no try tells of an exchange
        right |= {str(each): None for each in ASKED if each.verb == "read" and each.kind == "exchange"}
    assert tried == right


def test_asking_changes_nothing(vhost: Any, account: Made, bus: MessageBroker) -> None:
    with ManagementClient(vhost.api_url) as api:

        def seen() -> Any:
            told = api.get_json(f"definitions/{vhost.name}")
            return {noun: told[noun] for noun in ("queues", "exchanges", "bindings")}

        before = seen()
        for pattern in (".*", ""):
            with MessageBroker(url=account(pattern, pattern, pattern).amqp_url, read_only=True) as broker:
                rights = Rights(vhost.name, broker=broker)
                assert {rights.may(each) for each in (*ASKED, *needs_of_own_queue())} <= {bool(pattern), None}
        assert seen() == before
    assert bus.declare_queue("orders", passive=True).consumer_count == 0


@pytest.mark.usefixtures("bus")
def test_an_administrator_reads_patterns_his_own_and_those_of_others(vhost: Any, account: Made) -> None:
    other = account("^busctl", "^busctl", "feed")
    with ManagementClient(account("", "^x", ".*", "administrator").api_url) as api:
        mine, theirs = Rights(vhost.name, management=api), Rights(vhost.name, management=api, username=other.name)
        assert (mine.may(need("read", "queue", "a")), mine.may(need("configure", "queue", "a"))) == (True, False)
        assert (theirs.may(need("read", "exchange", "feed")), theirs.may(need("read", "queue", "a"))) == (True, False)
        elsewhere = Rights("/", management=api)
        assert elsewhere.patterns is not None
        assert elsewhere.may(need("read", "queue", "a")) is False


def test_what_can_neither_be_read_nor_tried_is_not_known(vhost: Any, account: Made) -> None:
    with ManagementClient(account(tags="monitoring").api_url) as api:
        rights = Rights(vhost.name, management=api)
        assert rights.patterns is None
        assert {rights.may(each) for each in ASKED} == {None}
        assert rights.refusal(ASKED) is None


@pytest.mark.usefixtures("bus")
def test_topic_permissions_narrow_what_may_be_bound(vhost: Any, account: Made) -> None:
    narrowed = {"exchange": "feed", "write": "^$", "read": r"^a\..*"}
    user = account(".*", ".*", ".*", "administrator", topics=narrowed)
    wanted = {"a.b": True, "b": False}
    with MessageBroker(url=user.amqp_url) as broker, ManagementClient(user.api_url) as api:
        for rights in (Rights(vhost.name, broker=broker), Rights(vhost.name, broker=broker, management=api)):
            assert {key: rights.may(need("read", "exchange", "feed", key)) for key in wanted} == wanted
        alone = Rights(vhost.name, management=api)  # which cannot tell whether the exchange is a topic exchange
        assert {key: alone.may(need("read", "exchange", "feed", key)) for key in wanted} == {"a.b": True, "b": None}


def test_a_refusal_names_each_right_and_the_pattern_as_it_is(vhost: Any, account: Made) -> None:
    user = account("^$", "^(busctl|amq.default)", ".*", "administrator")
    wanted = needs_of_own_queue()
    with MessageBroker(url=user.amqp_url) as broker, ManagementClient(user.api_url) as api:
        text = f"user '{user.name}' may not configure queue busctl.tap.*"
        assert Rights(vhost.name, broker=broker).refusal(wanted) == text
        assert Rights(vhost.name, broker=broker, management=api).refusal(wanted) == f"{text} (configure is '^$')"
        assert Rights(vhost.name, management=api).lacking(wanted) == [wanted[0]]


def test_each_right_is_asked_for_once(vhost: Any, account: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Need] = []
    monkeypatch.setattr("busctl_lib.rights.granted", lambda _link, each: asked.append(each))
    with MessageBroker(url=account().amqp_url) as broker:
        rights = Rights(vhost.name, broker=broker)
        for _ in range(2):
            assert rights.may(ASKED[0]) is None
    assert asked == [ASKED[0]]


@pytest.mark.parametrize(
    ("pattern", "name", "taken"),
    [
        ("", "", True),
        ("", "a", False),
        ("^$", "a", False),
        (".*", "a", True),
        ("b", "abc", True),
        ("^b", "abc", False),
        (r"^amq\.gen", "amq.gen-x", True),
        ("é", "café", True),
        ("^caf.$", "café", False),  # two bytes
        (r"^\w+$", "café", None),
        ("^[[:alpha:]]+$", "abc", None),
        (r"^\Qa.b\E$", "a.b", None),
        ("(", "a", None),
    ],
)
def test_patterns_are_searched_as_rabbitmq_does(pattern: str, name: str, taken: bool | None) -> None:
    assert matches(pattern, name) is taken


def test_each_way_of_a_tap_says_what_it_takes() -> None:
    def rights(way: Any, **more: Any) -> list[str]:
        plan = TapPlan(vhost="/", way=way, reason="", sees="", misses=[], costs="", queue="q", **more)
        return [str(each) for each in needs_of(plan)]

    own = [f"{verb} queue busctl.tap.*" for verb in ("configure", "write", "read")] + ["write exchange amq.default"]
    bindings = [Binding(exchange="feed", routing_key="#", arguments={})]
    assert rights("copy", bindings=bindings) == [*own, "read exchange feed"]
    assert rights("firehose", publishes_to=["", "feed"]) == [*own, *["read exchange amq.rabbitmq.trace"] * 2]
    assert [rights(way) for way in ("hold", "stream", "consume")] == [["read queue q"]] * 3
    assert new_name("read", "x.").name != new_name("read", "x.").name
