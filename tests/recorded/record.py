"""Records what the management API of a real node answers to each method of our client, for `tests/test_recorded.py`.

usage: record.py [definitions] [ROOT ...]
ROOT: a directory in which another RabbitMQ is installed; without one the installed

Writes VERSION/METHOD.json beside this file, or VERSION/definitions.json: a vhost with one of everything, as the broker
itself exports it. Names of machines, folders, ports and passwords are replaced: what is
left is the same for everyone who records.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.management import History, ManagementClient
from busctl_lib.sandbox import PrivateBroker

_HERE = Path(__file__).parent
_PLUGINS = ("rabbitmq_federation", "rabbitmq_federation_management")
_SETTLE_S = 12.0
_PATH = re.compile(r"/(?:tmp|var|root|home|work|etc|usr|opt)/[^\"\s,]*")
_EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}

METHODS: dict[str, Callable[[ManagementClient], Any]] = {
    "overview": lambda api: api.overview(History(60, 5)),
    "whoami": lambda api: api.whoami(),
    "nodes": lambda api: api.nodes(),
    "vhosts": lambda api: api.vhosts(),
    "policies": lambda api: api.policies("bus"),
    "queues": lambda api: api.queues("bus"),
    "queues_with_rates": lambda api: api.queues_with_rates("bus"),
    "queues_named": lambda api: api.queues_named({("bus", "orders")}, history=History(60, 5)),
    "queue": lambda api: api.queue("bus", "orders", History(60, 5)),
    "queue_bindings": lambda api: api.queue_bindings("bus", "orders"),
    "exchanges": lambda api: api.exchanges("bus"),
    "exchange": lambda api: api.exchange("bus", "trading"),
    "exchange_bindings": lambda api: api.exchange_bindings("bus", "trading"),
    "bindings": lambda api: api.bindings("bus"),
    "consumers": lambda api: api.consumers("bus"),
    "connections": lambda api: api.connections("bus"),
    "channels": lambda api: api.channels("bus"),
    "users": lambda api: api.users(),
    "permissions": lambda api: api.permissions("bus"),
    "shovels": lambda api: api.shovels("bus"),
    "federation_links": lambda api: api.federation_links("bus"),
}


@contextmanager
def a_bus(root: str | None) -> Iterator[PrivateBroker]:
    """A node with one of everything."""
    with PrivateBroker(root=root, plugins=_PLUGINS) as node:

        def put(path: str, body: object) -> None:
            requests.put(f"{node.api_url}/api/{path}", json=body, timeout=30).raise_for_status()

        put("vhosts/bus", {"description": "orders and trades", "tags": "live"})
        put(f"permissions/bus/{node.username}", _EVERYTHING)
        put("users/watcher", {"password_hash": "", "tags": "monitoring"})
        put("permissions/bus/watcher", {"configure": "", "write": "", "read": ".*"})
        limits = {"pattern": "^orders", "definition": {"max-length": 1000}, "apply-to": "queues", "priority": 1}
        put("policies/bus/limits", limits)
        here = f"amqp://{node.username}:{node.password}@127.0.0.1:{node.port}/bus"
        put("parameters/federation-upstream/bus/north", {"value": {"uri": here}})
        fed = {"pattern": "^fed$", "definition": {"federation-upstream": "north"}, "apply-to": "exchanges"}
        put("policies/bus/fed", fed)
        with MessageBroker(url=here, client_name="desk") as broker:
            for name, arguments in {
                "orders": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders.dead"},
                "orders.dead": {},
                "trades": {"x-queue-type": "quorum"},
                "log": {"x-queue-type": "stream"},
                "away": {},
            }.items():
                broker.declare_queue(name, arguments=arguments)
            broker.declare_exchange("lost", "fanout")
            broker.declare_exchange("fed", "fanout")
            broker.declare_exchange("trading", "topic", arguments={"alternate-exchange": "lost"})
            broker.bind_queue("orders", "trading", "order.#")
            broker.bind_exchange("lost", "trading", "audit.*")
            shovel = {"src-uri": here, "src-queue": "orders.dead", "dest-uri": here, "dest-queue": "away"}
            put("parameters/shovel/bus/rescue", {"value": shovel})
            publisher = MessagePublisher(broker)
            for name in ("orders", "trades", "log", "orders.dead"):
                publisher.publish(name, {"n": 1})
            broker.subscribe("orders", lambda delivery: None, prefetch=7)
            time.sleep(_SETTLE_S)
            publisher.publish("orders", {"n": 2})
            time.sleep(_SETTLE_S)
            yield node


def record(root: str | None) -> None:
    with a_bus(root) as node, ManagementClient(node.api_url) as api:
        version = str(api.overview().rabbitmq_version)
        folder = _HERE / version
        folder.mkdir(exist_ok=True)
        answers: list[bytes] = []
        request = api._http._request

        def listening(*arguments: Any, **named: Any) -> bytes:
            answers.append(request(*arguments, **named))
            return answers[-1]

        api._http._request = listening  # type: ignore[method-assign]
        for name, ask in METHODS.items():
            answers.clear()
            ask(api)
            text = json.dumps(json.loads(answers[0]), indent=1, sort_keys=True, ensure_ascii=False)
            (folder / f"{name}.json").write_text(without_the_machine(text, node) + "\n", "utf-8")
        print(f"{version}: {len(METHODS)} answers", file=sys.stderr)


DECLARED: dict[str, dict[str, Any]] = {
    "plain": {},
    "fleeting": {"durable": False},
    "shortlived": {"auto_delete": True},
    "first": {"arguments": {"x-queue-version": 1}},
    "second": {"arguments": {"x-queue-version": 2}},
    "urgent": {"arguments": {"x-max-priority": 5}},
    "lazy": {"arguments": {"x-queue-mode": "lazy"}},
    "placed": {"arguments": {"x-queue-master-locator": "min-masters"}},
    "limited": {
        "arguments": {
            "x-message-ttl": 1000,
            "x-expires": 100000,
            "x-max-length": 10,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "plain",
        }
    },
    "replicated": {"arguments": {"x-queue-type": "quorum", "x-delivery-limit": 5}},
    "tape": {"arguments": {"x-queue-type": "stream", "x-max-age": "1D"}},
    "one-by-one": {"arguments": {"x-single-active-consumer": True}},
}
POLICIES: dict[str, dict[str, Any]] = {
    "mirrored": {"pattern": "^plain", "definition": {"ha-mode": "all", "message-ttl": 60000}, "apply-to": "queues"},
    "mirrored-only": {"pattern": "^x", "definition": {"ha-mode": "all"}, "apply-to": "all"},
    "placed": {"pattern": "^p", "definition": {"queue-master-locator": "min-masters"}, "apply-to": "queues"},
    "lazy": {
        "pattern": "^l",
        "definition": {"queue-mode": "lazy", "max-length": 9},
        "apply-to": "queues",
        "priority": 3,
    },
    "classic": {"pattern": "^u", "definition": {"max-length": 8}, "apply-to": "classic_queues"},
}


def record_definitions(root: str | None) -> None:
    """Keep what a node exports of a vhost with one of everything; what this version does not take is left out."""
    with PrivateBroker(root=root) as node:

        def send(method: str, path: str, body: object) -> None:
            answer = requests.request(method, f"{node.api_url}/api/{path}", json=body, timeout=30)
            if not answer.ok:
                print(f"not on this version: {path}: {answer.text.strip()}", file=sys.stderr)

        send("PUT", "vhosts/all", {})
        send("PUT", f"permissions/all/{node.username}", _EVERYTHING)
        usual = {"durable": True, "auto_delete": False}
        for name, kind in {"trading": "topic", "lost": "fanout", "inner": "fanout"}.items():
            more = {"internal": True} if name == "inner" else {}
            arguments = {"alternate-exchange": "lost"} if name == "trading" else {}
            send("PUT", f"exchanges/all/{name}", {**usual, "type": kind, "arguments": arguments, **more})
        for name, how in DECLARED.items():
            send("PUT", f"queues/all/{name}", {**usual, **how})
        send("POST", "bindings/all/e/trading/q/plain", {"routing_key": "order.#", "arguments": {"n": 1}})
        send("POST", "bindings/all/e/trading/q/plain", {"routing_key": "#.a.#.b.#", "arguments": {}})
        send("POST", "bindings/all/e/trading/q/fleeting", {"routing_key": "order.#"})
        send("POST", "bindings/all/e/trading/e/inner", {"routing_key": "audit.*"})
        send("POST", "bindings/all/e/inner/q/plain", {"routing_key": ""})
        for name, body in POLICIES.items():
            send("PUT", f"policies/all/{name}", body)
        operator = {"pattern": "^l", "definition": {"max-length": 500}, "apply-to": "queues"}
        send("PUT", "operator-policies/all/cap", operator)
        send("PUT", "vhost-limits/all/max-queues", {"value": 100})
        with MessageBroker(url=node.amqp_url.rpartition("/")[0] + "/all") as broker:
            broker.declare_queue("mine", exclusive=True)
            broker.bind_queue("mine", "trading", "#")
            with ManagementClient(node.api_url) as api:
                found, version = api.definitions("all"), str(api.overview().rabbitmq_version)
        text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False)
        (_HERE / version).mkdir(exist_ok=True)
        (_HERE / version / "definitions.json").write_text(without_the_machine(text, node) + "\n", "utf-8")
        print(f"{version}: definitions", file=sys.stderr)


def without_the_machine(text: str, node: PrivateBroker) -> str:
    """Replace what is of this machine and of this run."""
    text = _PATH.sub("/somewhere", text)
    text = re.sub(rf"{re.escape(node.node_name)}(?:-\d+)?", "rabbit@bus", text)
    text = re.sub(rf"{re.escape(node.node_name.partition('@')[0])}@[\w.-]+", "rabbit@bus", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5672", text)
    text = re.sub(r'("(?:peer_port|port|os_pid)": )"?\d+"?', r"\g<1>5672", text)
    text = re.sub(r"(?<=://)[^/@\s\"]+@", "", text)
    text = text.replace(node.username, "desk")
    if node.password in text:
        raise SystemExit("a password would have been recorded")
    return text


if __name__ == "__main__":
    words = sys.argv[1:]
    keep = record_definitions if words[:1] == ["definitions"] else record
    for root in (words[1:] if keep is record_definitions else words) or [None]:
        keep(root)
