"""One test's vhost with taps on it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.management import ManagementClient
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import Note, Tap, TapPlan, open_tap, plan_tap
from busctl_lib.taps.leases import TRACE_EXCHANGE

WATCH_S = 0.2


class Bus:
    """One test's vhost with both doors open, and shorthands."""

    def __init__(self, vhost: TestBroker, folder: Path) -> None:
        self.vhost = vhost
        self.name = vhost.name
        self.folder = folder
        self.broker = MessageBroker(url=vhost.amqp_url).connect()
        self.publisher = MessagePublisher(self.broker)
        self.management = ManagementClient(vhost.api_url)
        self.api = f"{vhost.api_url}/api"
        self.users: list[str] = []

    def plan(self, queue: str | None = None, **how: Any) -> TapPlan:
        return plan_tap(self.management, self.name, queue, **how)

    def open(self, plan: TapPlan, broker: MessageBroker | None = None, watch_s: float = WATCH_S) -> Tap:
        return open_tap(plan, broker or self.broker, self.management, lease_folder=self.folder, watch_s=watch_s)

    def put(self, path: str, body: dict[str, Any]) -> None:
        requests.put(f"{self.api}/{path}", json=body, timeout=10).raise_for_status()

    def policy(self, name: str, pattern: str, apply_to: str, **definition: Any) -> None:
        self.put(f"policies/{self.name}/{name}", {"pattern": pattern, "apply-to": apply_to, "definition": definition})

    def tracing(self) -> bool:
        return bool(self.management.vhost(self.name).tracing)

    def as_user(self, client: ManagementClient) -> MessageBroker:
        """A connection of a user that `user` made."""
        host, port = urlsplit(self.vhost.amqp_url).hostname or "", urlsplit(self.vhost.amqp_url).port or 5672
        return MessageBroker(host, port, username=client.username, password="pw", virtual_host=self.name)

    def close(self) -> None:
        """Leave nothing behind."""
        for name in self.users:
            requests.delete(f"{self.api}/users/{name}", timeout=10)
        self.broker.close()
        self.management.close()

    def trace_bindings(self) -> list[str]:
        return [info.destination for info in self.management.exchange_bindings(self.name, TRACE_EXCHANGE)]

    def taps(self) -> list[str]:
        return [info.name for info in self.management.queues(self.name) if info.name.startswith("busctl.tap.")]

    def leases(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.exists() else []

    def ready(self, queue: str) -> int:
        return self.broker.declare_queue(queue, passive=True).message_count

    def user(self, tags: str) -> ManagementClient:
        """Another user of this vhost."""
        name = f"watcher-{uuid.uuid4().hex[:8]}"
        self.users.append(name)
        self.put(f"users/{name}", {"password": "pw", "tags": tags})
        self.put(f"permissions/{self.name}/{name}", {"configure": ".*", "write": ".*", "read": ".*"})
        return ManagementClient(self.management.url, username=name, password="pw")


def seen(tap: Tap, count: int, timeout: float = 10) -> list[Delivery]:
    return [event for event in tap.follow(limit=count, for_s=timeout) if isinstance(event, Delivery)]


def note(tap: Tap, kind: str, timeout: float = 15) -> Note:
    for event in tap.follow(for_s=timeout):
        if isinstance(event, Note) and event.kind == kind:
            return event
    raise AssertionError(f"no note of a {kind} within {timeout:g} s")
