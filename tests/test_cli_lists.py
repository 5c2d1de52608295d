"""The lists of everything but queues, on a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from waiting import wait_until

from busctl.cli import main
from busctl.views import exchange_detail, formats, overview
from busctl.views.channels import CHANNELS
from busctl.views.connections import CONNECTIONS, state_text
from busctl.views.exchanges import EXCHANGES, rate_dropped, rate_returned
from busctl.views.vhosts import VHOSTS
from busctl.views.view import Tone
from busctl_lib import MessageBroker
from busctl_lib.management import (
    ChannelInfo,
    ConnectionInfo,
    Details,
    ExchangeInfo,
    ManagementClient,
    MessageStats,
    OverviewInfo,
    VhostInfo,
)
from busctl_lib.management.infos import ChannelDetails, PublisherInfo

HOSTILE = "x\x1b[31m\u202ey"
SHOWN = "x\\x1b[31m\\u202ey"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url, client_name="desk") as broker:
        yield broker


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line on the test's vhost: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def put(vhost: Any, path: str, body: object) -> None:
    requests.put(f"{vhost.api_url}/api/{path}", json=body, timeout=10).raise_for_status()


def test_exchanges_show_their_type_features_and_alternate(run: Run, vhost: Any, broker: MessageBroker) -> None:
    broker.declare_exchange("lost", "fanout", auto_delete=True)
    broker.declare_exchange("trading", "topic", arguments={"alternate-exchange": "lost"})
    broker.declare_exchange(HOSTILE, "direct", internal=True)
    broker.declare_queue("orders")
    broker.bind_queue("orders", "trading", "order.#")
    columns = ("--columns", "name,type,features,alternate", "-o", "tsv")
    assert run("exchanges", "[ltx]*", *columns) == (
        0,
        f"name\ttype\tfeatures\talternate\nlost\tfanout\tD AD\t\ntrading\ttopic\tD AE\tlost\n{SHOWN}\tdirect\tD I\t\n",
        "",
    )
    assert "(default)" in run("exchanges")[1]
    code, out, _ = run("exchanges", "trading", "-o", "json")
    answer = json.loads(out)
    assert (code, answer["name"], answer["type"], answer["durable"]) == (0, "trading", "topic", True)
    assert answer["arguments"] == {"alternate-exchange": "lost"}
    assert [(each["destination"], each["routing_key"]) for each in answer["bindings"]] == [("orders", "order.#")]
    detail = run("exchanges", "trading")[1]
    assert "leads to   queue orders with key 'order.#'" in detail
    assert "unroutable nothing is published to it now" in detail
    lost = json.loads(run("exchanges", "lost", "-o", "json")[1])
    assert lost["fed_by"] == [{"way": "alternate", "kind": "exchange", "name": "trading", "key": None}]
    assert "fed by     what exchange trading cannot route" in run("exchanges", "lost")[1]
    everywhere = run("exchanges", "trading", "-A", "-o", "jsonl")
    assert everywhere[0] in (0, 2)  # another test's vhost on a shared node may have one as well
    for shown in (run("exchanges")[1], run("exchanges", HOSTILE)[1]):
        assert SHOWN in shown
        assert not {"\x1b", "\u202e"} & set(shown)


def test_bindings_are_found_by_either_end(run: Run, vhost: Any, broker: MessageBroker) -> None:
    broker.declare_exchange("trading", "headers")
    broker.declare_exchange("audit", "fanout")
    broker.declare_queue("orders")
    broker.bind_queue("orders", "trading", HOSTILE, {"x-match": "all", "side": "buy"})
    broker.bind_exchange("audit", "trading", "")
    columns = ("--columns", "source,destination,type,key,arguments", "--sort", "destination", "-o", "tsv")
    head = "source\tdestination\ttype\tkey\targuments\n"
    audit = "trading\taudit\texchange\t\t\n"
    orders = f'trading\torders\tqueue\t{SHOWN}\t{{"side": "buy", "x-match": "all"}}\n'
    by_default = "\torders\tqueue\torders\t\n"
    assert run("bindings", "trading", *columns) == (0, head + audit + orders, "")
    assert run("bindings", "aud*", *columns) == (0, head + audit, "")
    assert sorted(run("bindings", "orders", *columns)[1].splitlines(True)[1:]) == sorted([by_default, orders])
    found = json.loads(run("bindings", "audit", "-o", "json")[1])
    assert [{**each, "properties_key": ""} for each in found] == [
        {
            "source": "trading",
            "vhost": vhost.name,
            "destination": "audit",
            "destination_type": "exchange",
            "routing_key": "",
            "arguments": {},
            "properties_key": "",
        }
    ]


def test_who_is_there_is_listed_with_what_it_holds(run: Run, vhost: Any, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    broker.subscribe("orders", lambda delivery: None, prefetch=7)

    def found(*arguments: str) -> list[dict[str, Any]]:
        code, out, _ = run(*arguments, "-o", "jsonl")
        return [json.loads(line) for line in out.splitlines()] if code == 0 else []

    wait_until(lambda: [each for each in found("consumers", "orders") if "channel_details" in each], timeout=30)
    wait_until(lambda: any(each.get("prefetch_count") == 7 for each in found("channels")), timeout=30)
    wait_until(lambda: any(each.get("user") for each in found("connections", "desk*")), timeout=30)

    [consumer] = found("consumers", "orders")
    tag = consumer["consumer_tag"]
    assert (consumer["queue"], consumer["prefetch_count"]) == ({"name": "orders", "vhost": vhost.name}, 7)
    assert json.loads(run("consumers", tag, "-o", "json")[1])["consumer_tag"] == tag
    assert run("consumers", "--columns", "queue,prefetch,mode,active", "-o", "tsv")[1] == (
        "queue\tprefetch\tmode\tactive\norders\t7\tack\tyes\n"
    )

    name = consumer["channel_details"]["name"]
    [channel] = [each for each in found("channels", "*") if each["name"] == name]
    assert (channel["consumer_count"], channel["messages_unacknowledged"]) == (1, 0)
    assert run("channels", name, "--columns", "user,prefetch,unacked,unconfirmed,consumers,state", "-o", "tsv")[1] == (
        f"user\tprefetch\tunacked\tunconfirmed\tconsumers\tstate\n{vhost.username}\t7\t0\t0\t1\trunning\n"
    )

    peer = consumer["channel_details"]["connection_name"]
    [connection] = [each for each in found("connections") if each["name"] == peer]
    assert (connection["user"], connection["vhost"], connection["state"]) == (vhost.username, vhost.name, "running")
    assert connection["client_properties"]["product"] == "desk"
    assert json.loads(run("connections", peer, "-o", "json")[1])["name"] == peer
    assert [each["name"] for each in found("channels", peer)] == [name]
    assert found("connections", vhost.username)
    detail = run("connections", peer)[1]
    assert "client" in detail
    assert "running" in detail


def test_policies_and_vhosts_and_nodes(run: Run, vhost: Any) -> None:
    definition = {"max-length": 5, "overflow": "reject-publish"}
    body = {"pattern": "^orders", "definition": definition, "apply-to": "queues", "priority": 3}
    put(vhost, f"policies/{vhost.name}/cap", body)
    assert run("policies", "-o", "tsv") == (
        0,
        "name\tpattern\tapply_to\tpriority\tdefinition\n"
        'cap\t^orders\tqueues\t3\t{"max-length": 5, "overflow": "reject-publish"}\n',
        "",
    )
    assert json.loads(run("policies", "cap", "-o", "json")[1]) == {"name": "cap", "vhost": vhost.name, **body}

    with ManagementClient(vhost.api_url) as api:
        api.set_tracing(vhost.name, True)
    columns = ("--columns", "name,state,tracing", "-o", "tsv")
    assert run("vhosts", vhost.name, *columns)[1] == f"name\tstate\ttracing\n{vhost.name}\trunning\ton\n"
    assert json.loads(run("vhosts", vhost.name, "-o", "json")[1])["tracing"] is True

    [node] = json.loads(run("nodes", "-o", "json")[1])
    assert node["running"] is True
    assert run("nodes", node["name"], "--columns", "name,state", "-o", "tsv")[1] == (
        f"name\tstate\n{node['name']}\trunning\n"
    )


@pytest.mark.parametrize(
    "noun", ["nodes", "vhosts", "policies", "exchanges", "bindings", "connections", "channels", "consumers"]
)
def test_an_absent_one_is_four_and_no_match_is_an_empty_list(run: Run, noun: str) -> None:
    code, out, err = run(noun, "nope\x1bc", "-o", "json")
    assert (code, out) == (4, "")
    assert f"`busctl {noun}` lists what there is" in err
    assert "\x1b" not in err
    assert run(noun, "no-such-*", "-o", "json") == (0, "[]\n", "")
    assert f"no {noun} match no-such-*" in run(noun, "no-such-*")[2]
    assert run(noun, "--sort", "nonsense")[0] == 2


def test_a_name_nearly_right_is_told(run: Run, broker: MessageBroker) -> None:
    broker.declare_exchange("trading", "topic")
    assert "did you mean trading?" in run("exchanges", "tradign")[2]


# --- what only shows under load, and what is not known


def test_connections_that_are_held_back_stand_out() -> None:
    tones = {
        state: CONNECTIONS.column("state").cell(ConnectionInfo(name="c", state=state)).tone
        for state in ("running", "flow", "blocked", None)
    }
    assert tones == {"running": Tone.GOOD, "flow": Tone.WARN, "blocked": Tone.BAD, None: Tone.MUTED}
    assert state_text("blocked") == "✖ blocked"


def test_what_found_no_queue_is_summed_over_an_exchanges_publishers() -> None:
    def lost(per_s: float | None) -> PublisherInfo:
        details = Details(rate=per_s) if per_s is not None else None
        return PublisherInfo(stats=MessageStats(drop_unroutable_details=details))

    info = ExchangeInfo(name="x", vhost="/", incoming=[lost(2.0), lost(None), lost(0.5)])
    assert (rate_dropped(info), rate_returned(info)) == (2.5, 0.0)
    assert rate_dropped(ExchangeInfo(name="x", vhost="/", incoming=[])) is None
    assert EXCHANGES.column("dropped").cell(info).tone is Tone.BAD


def test_an_exchange_that_leads_nowhere_stands_out() -> None:
    def out_tone(rate_in: float, rate_out: float | None) -> Tone:
        out = Details(rate=rate_out) if rate_out is not None else None
        stats = MessageStats(publish_in_details=Details(rate=rate_in), publish_out_details=out)
        return EXCHANGES.column("out").cell(ExchangeInfo(name="x", vhost="/", message_stats=stats)).tone

    assert out_tone(5.0, None) is Tone.WARN
    assert out_tone(5.0, 5.0) is Tone.NORMAL
    assert out_tone(0.0, None) is Tone.MUTED


def test_what_an_exchange_loses_is_told_as_far_as_it_is_known() -> None:
    def told(info: ExchangeInfo, losing: list[ChannelInfo] | None) -> list[str]:
        shown = exchange_detail.lines(info, [], [], losing)
        start = [line.label for line in shown].index("unroutable")
        return [line.text for line in shown[start:]]

    def rates(**per_s: float) -> MessageStats:
        return MessageStats(**{f"{name}_details": Details(rate=rate) for name, rate in per_s.items()})  # type: ignore[arg-type]

    def exchange(**known: Any) -> ExchangeInfo:
        return ExchangeInfo(name="x", vhost="/", **known)

    channel = ChannelInfo(name="ch\x1b", user="desk", message_stats=rates(drop_unroutable=2.0))
    publisher = PublisherInfo(channel_details=ChannelDetails(name="ch"), stats=rates(return_unroutable=3.0))
    busy = rates(publish_in=9.0, publish_out=5.0)
    assert told(exchange(), [channel]) == ["nothing is published to it now, as far as the broker tells"]
    assert told(exchange(message_stats=rates(publish_in=9.0)), []) == [
        "all of the 9.0/s that come in: nothing is routed on"
    ]
    assert told(exchange(message_stats=busy), []) == ["nothing now, from any channel of this vhost"]
    assert told(exchange(message_stats=busy), None)[0].startswith("not known")
    assert (
        told(exchange(message_stats=busy), [channel])[1] == "0/s returned, 2.0/s dropped from channel ch\\x1b of desk"
    )
    assert told(exchange(message_stats=busy, incoming=[publisher]), None) == [
        "3.0/s returned, 0/s dropped",
        "3.0/s returned, 0/s dropped from channel ch",
    ]


def test_clients_held_back_and_what_finds_no_queue_are_in_the_overview() -> None:
    states = ("running", "flow", "blocked")
    infos = [ConnectionInfo(name=f"c-{state}", state=state, user="u", user_provided_name=state) for state in states]
    assert [(each.name, each.text, each.tone) for each in overview.attention([], connection_infos=infos)] == [
        ("flow", "connection of u flow: its publishing is held back", Tone.WARN),
        ("blocked", "connection of u blocked: its publishing is held back", Tone.BAD),
    ]
    lost = MessageStats(drop_unroutable_details=Details(rate=2.5))
    [fact] = [each for each in overview.facts(OverviewInfo(message_stats=lost), None) if each.label == "unroutable"]
    assert (fact.text, fact.tone) == ("0/s returned to publishers, 2.5/s dropped", Tone.BAD)
    assert "unroutable" not in [each.label for each in overview.facts(OverviewInfo(), None)]


def test_absent_stays_absent() -> None:
    assert VHOSTS.column("default_queue_type").value(VhostInfo(name="v", default_queue_type="undefined")) is None
    assert [cell.text for cell in VHOSTS.row(VhostInfo(name="v"), VHOSTS.select(["messages", "tracing"]))] == [
        formats.UNKNOWN,
        "",
    ]
    for column in CHANNELS.columns:
        assert column.name == "name" or column.value(ChannelInfo(name="c")) in (None, "")
    connection, exchange = ConnectionInfo(name="c"), ExchangeInfo(name="x", vhost="/")
    assert CONNECTIONS.json(connection) == {"name": "c"}
    assert EXCHANGES.json(exchange) == {"name": "x", "vhost": "/"}
    assert CONNECTIONS.row(connection, CONNECTIONS.select(wide=True))
    assert EXCHANGES.row(exchange, EXCHANGES.select(wide=True))
