"""Who can reach what: the graph alone, and as a command on a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from busctl.cli import main
from busctl.views import topology as view
from busctl_lib import MessageBroker
from busctl_lib.management import BindingInfo, ExchangeInfo, PolicyInfo, QueueInfo
from busctl_lib.topology_map import DEPTH_MOST, Branch, Place, TopologyMap

HOSTILE = "x\x1b[31m\u202ey"
SHOWN = "x\\x1b[31m\\u202ey"
Run = Callable[..., tuple[int, str, str]]


def exchange(name: str, kind: str = "topic", **more: Any) -> ExchangeInfo:
    return ExchangeInfo(name=name, vhost="/", type=kind, **more)


def queue(name: str, dlx: str | None = None, key: str | None = None, **more: Any) -> QueueInfo:
    arguments = {"x-dead-letter-exchange": dlx, "x-dead-letter-routing-key": key}
    known = {name: value for name, value in arguments.items() if value is not None}
    return QueueInfo(name=name, vhost="/", type="classic", arguments=known, **more)


def bound(source: str, target: str, key: str = "", kind: str = "queue") -> BindingInfo:
    return BindingInfo(source=source, vhost="/", destination=target, destination_type=kind, routing_key=key)


def drawn(tree: Branch) -> list[str]:
    return [line.guides + line.text for line in view.forth(tree)]


def drawn_back(tree: Branch) -> list[str]:
    return [line.guides + line.text for line in view.back(tree)]


def test_a_tree_follows_bindings_dead_letters_and_what_is_not_routed() -> None:
    found = TopologyMap(
        [exchange("trading", arguments={"alternate-exchange": "lost"}), exchange("lost", "fanout"), exchange("dlx")],
        [queue("orders", "dlx", "orders.dead"), queue("orders.dead"), queue("quotes.dead"), queue("unrouted")],
        [
            bound("trading", "orders", "order.#"),
            bound("lost", "unrouted"),
            bound("dlx", "orders.dead", "orders.*"),
            bound("dlx", "quotes.dead", "quotes.*"),
        ],
        [],
    )
    assert drawn(found.leads_to(Place("exchange", "trading"))) == [
        "trading (topic exchange)",
        "├─ 'order.#' → orders (classic queue)",
        "│  └─ dead letters with key 'orders.dead' → dlx (topic exchange)",
        "│     └─ 'orders.*' → orders.dead (classic queue)",
        "└─ not routed → lost (fanout exchange)",
        "   └─ '' → unrouted (classic queue)",
    ]
    assert drawn_back(found.fed_by(Place("queue", "orders.dead"))) == [
        "orders.dead (classic queue)",
        "└─ 'orders.*' ← dlx (topic exchange)",
        "   └─ dead letters with key 'orders.dead' ← orders (classic queue)",
        "      └─ 'order.#' ← trading (topic exchange)",
    ]
    assert drawn_back(found.fed_by(Place("queue", "quotes.dead"))) == [
        "quotes.dead (classic queue)",
        "└─ 'quotes.*' ← dlx (topic exchange)",
    ], "the only key that dies into this exchange does not lead here"
    assert found.dead_letters_to("orders") == ["orders.dead"]
    assert found.dead_letters_from("orders.dead") == ["orders"]
    assert found.dead_letters_from("quotes.dead") == []


def test_a_policy_counts_as_an_argument_does() -> None:
    dead = {"dead-letter-exchange": "", "dead-letter-routing-key": "grave"}
    found = TopologyMap(
        [exchange("a", policy="ae"), exchange("b", "fanout")],
        [queue("known", effective_policy_definition=dead), queue("new"), queue("other"), queue("grave")],
        [],
        [
            PolicyInfo(
                name="ae", vhost="/", pattern="^a", apply_to="exchanges", definition={"alternate-exchange": "b"}
            ),
            PolicyInfo(name="low", vhost="/", pattern="^new$", apply_to="all", priority=1, definition={}),
            PolicyInfo(name="dl", vhost="/", pattern="^new$", apply_to="queues", priority=2, definition=dead),
            PolicyInfo(name="q", vhost="/", pattern="^other$", apply_to="quorum_queues", definition=dead),
        ],
    )
    assert found.dead_letters_from("grave") == ["known", "new"]
    assert [(step.way, step.target.name) for step in found.steps if step.source.name == "a"] == [("alternate", "b")]


def test_cycles_are_cut_and_what_was_shown_is_not_shown_again() -> None:
    found = TopologyMap(
        [exchange("a", "fanout"), exchange("b", "fanout")],
        [queue("retry", "", "work"), queue("work", "a")],
        [bound("a", "b", "", "exchange"), bound("b", "a", "", "exchange"), bound("b", "retry"), bound("b", "work")],
        [],
    )
    assert drawn(found.leads_to(Place("exchange", "a"))) == [
        "a (fanout exchange)",
        "└─ '' → b (fanout exchange)",
        "   ├─ '' → a (fanout exchange) ↻ goes round",
        "   ├─ '' → retry (classic queue)",
        "   │  └─ dead letters with key 'work' → (default) (direct exchange)",
        "   │     └─ 'work' → work (classic queue)",
        "   │        └─ dead letters → a (fanout exchange)",
        "   │           └─ '' → b (fanout exchange)",
        "   │              ├─ '' → a (fanout exchange) ↻ goes round",
        "   │              ├─ '' → retry (classic queue)",
        "   │              │  └─ dead letters with key 'work' → (default) (direct exchange) ↻ goes round",
        "   │              └─ '' → work (classic queue) ↻ goes round",
        "   └─ '' → work (classic queue)",
        "      └─ dead letters → a (fanout exchange) ↻ goes round",
    ]
    for place in (Place("queue", "work"), Place("queue", "retry"), Place("exchange", "b")):
        assert found.fed_by(place).branches
    assert [tree.name for tree in found.forest()] == ["a"], "a cycle has no beginning, and is drawn all the same"


def test_the_inside_of_the_delays_is_drawn_only_where_one_looks_at_it() -> None:
    found = TopologyMap(
        [exchange("busctl.delay.00"), exchange("busctl.delay.deliver")],
        [queue("busctl.delay.00", "busctl.delay.deliver"), queue("orders")],
        [
            bound("busctl.delay.00", "busctl.delay.00", "1.#"),
            bound("busctl.delay.00", "busctl.delay.deliver", "0.#", "exchange"),
            bound("busctl.delay.deliver", "orders", "*.orders"),
        ],
        [],
    )
    delivered = "'*.orders' ← busctl.delay.deliver (topic exchange)"
    assert drawn_back(found.fed_by(Place("queue", "orders"))) == ["orders (classic queue)", f"└─ {delivered}"]
    assert [tree.name for tree in found.forest()] == ["busctl.delay.deliver"]
    assert len(drawn(found.leads_to(Place("exchange", "busctl.delay.00")))) > 3


def test_what_leads_nowhere_is_said() -> None:
    found = TopologyMap([exchange("x"), exchange("amq.topic")], [queue("q", "nope")], [], [])
    assert [drawn(tree) for tree in found.forest()] == [
        ["x (topic exchange)", "└─ nothing: what is published to it is lost, or goes back to its publisher"],
        [
            "(default) (direct exchange)",
            "└─ 'q' → q (classic queue)",
            "   └─ dead letters → nope (no such exchange: messages are lost)",
        ],
    ]
    assert drawn_back(found.fed_by(Place("queue", "q"))) == [
        "q (classic queue)",
        "└─ only who names it, through the default exchange",
    ]


def test_a_wide_and_a_deep_topology_end() -> None:
    depth = 3 * DEPTH_MOST
    chain = [bound(f"e{i}", f"e{i + 1}", "", "exchange") for i in range(depth)]
    chain += [bound(f"e{i}", f"e{i + 1}", "again", "exchange") for i in range(depth)]  # 2**depth paths
    found = TopologyMap([exchange(f"e{i}", "fanout") for i in range(depth + 1)], [queue("q")], chain, [])
    lines = drawn(found.leads_to(Place("exchange", "e0")))
    assert len(lines) == 2 * DEPTH_MOST + 1
    assert any("goes on" in line for line in lines)
    assert len(found.reached(Place("exchange", "e0"), "k")) == depth + 1


def test_a_name_from_the_bus_does_not_reach_the_terminal() -> None:
    found = TopologyMap([exchange(HOSTILE)], [queue(HOSTILE, HOSTILE, HOSTILE)], [bound(HOSTILE, HOSTILE, HOSTILE)], [])
    for text in ["\n".join(drawn(tree)) for tree in found.forest()]:
        assert SHOWN in text
        assert not {"\x1b", "\u202e"} & set(text)


# --- the command


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
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


def test_the_command_draws_a_real_broker(run: Run, vhost: Any, broker: MessageBroker) -> None:
    broker.declare_exchange("trading", "direct")
    broker.declare_exchange("dlx", "fanout")
    broker.declare_queue("orders", arguments={"x-dead-letter-exchange": "dlx"})
    broker.declare_queue("orders.dead")
    broker.bind_queue("orders", "trading", "order")
    broker.bind_queue("orders.dead", "dlx", "")
    assert run("topology", "-o", "tsv") == (
        0,
        "source_kind\tsource\tway\tkey\ttarget_kind\ttarget\n"
        "exchange\tdlx\tbinding\t\tqueue\torders.dead\n"
        "exchange\ttrading\tbinding\torder\tqueue\torders\n"
        "queue\torders\tdead-letter\t\texchange\tdlx\n",
        "",
    )
    code, out, _ = run("topology")
    assert code == 0
    assert [line.partition(" (")[0] for line in out.splitlines()] == [
        "trading",
        "└─ 'order' → orders",
        "   └─ dead letters → dlx",
        "      └─ '' → orders.dead",
    ]
    answer = json.loads(run("topology", "dlx", "-o", "json")[1])
    assert (answer["kind"], answer["name"], answer["type"], answer["vhost"]) == (
        "exchange",
        "dlx",
        "fanout",
        vhost.name,
    )
    [leads] = answer["leads_to"]
    assert (leads["kind"], leads["name"], leads["way"], leads["key"]) == ("queue", "orders.dead", "binding", "")
    [fed] = answer["fed_by"]
    assert (fed["kind"], fed["name"], fed["way"]) == ("queue", "orders", "dead-letter")
    assert [(each["name"], each["key"]) for each in fed["branches"]] == [("trading", "order")]
    [tree] = [json.loads(line) for line in run("topology", "-o", "jsonl")[1].splitlines()]
    assert tree["name"] == "trading"


def test_a_name_of_both_must_be_chosen_and_a_wrong_one_is_told(run: Run, broker: MessageBroker) -> None:
    broker.declare_exchange("orders", "fanout")
    broker.declare_queue("orders")
    broker.bind_queue("orders", "orders", "")
    code, out, err = run("topology", "orders")
    assert (code, out) == (2, "")
    assert "--kind queue or --kind exchange" in err
    assert "'' ← orders (fanout exchange)" in run("topology", "orders", "--kind", "queue")[1]
    assert "'' → orders (classic queue" in run("topology", "orders", "--kind", "exchange")[1]
    code, out, err = run("topology", "ordres", "-o", "json")
    assert (code, out) == (4, "")
    assert "did you mean orders?" in err
