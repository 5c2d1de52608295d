"""Records what the management API of a real node answers to each method of our client, for `tests/test_recorded.py`.

usage: record.py [ROOT ...]     ROOT: a directory in which another RabbitMQ is installed; without one the installed

Writes VERSION/METHOD.json beside this file. Names of machines, folders, ports and passwords are replaced: what is
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
    for root in sys.argv[1:] or [None]:
        record(root)
