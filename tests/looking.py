"""What tests of looking share: a vhost with both doors open, and other clients, by plain pika."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
from pika.adapters.blocking_connection import BlockingChannel
from waiting import wait_until

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.management import ManagementClient
from busctl_lib.publishers import MessagePublisher
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.taps import Tap, TapPlan, open_tap, plan_tap
from busctl_lib.taps.budget import PeekBudget, delivered_in_vain, peek_budget, release_of
from busctl_lib.taps.peek import Peeked, peek

QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}


class Bus:
    """One test's vhost, with both doors open."""

    def __init__(self, vhost: TestBroker, folder: Path) -> None:
        self.vhost, self.name, self.folder = vhost, vhost.name, folder
        self.broker = MessageBroker(url=vhost.amqp_url).connect()
        self.publisher = MessagePublisher(self.broker)
        self.management = ManagementClient(vhost.api_url)

    def fill(self, queue: str, count: int, arguments: dict[str, Any] | None = None) -> None:
        self.broker.declare_queue(queue, arguments=arguments)
        report = self.publisher.publish_many((queue, {"n": number}) for number in range(count))
        assert report.confirmed == count
        if arguments != STREAM:
            wait_until(lambda: self.ready(queue) == count, 20)

    def plan(self, queue: str, **how: Any) -> TapPlan:
        return plan_tap(self.management, self.name, queue, **how)

    def open(self, plan: TapPlan, **how: Any) -> Tap:
        return open_tap(plan, self.broker, self.management, lease_folder=self.folder, watch_s=0.2, **how)

    def peek(self, queue: str, count: int = 10, **how: Any) -> Peeked:
        return peek(self.broker, self.management, self.name, queue, count, **how)

    def ready(self, queue: str) -> int:
        return self.broker.declare_queue(queue, passive=True).message_count

    def drain(self, queue: str, count: int) -> list[Delivery]:
        """Take messages away, as their consumer would."""
        taken: list[Delivery] = []
        full = threading.Event()

        def receive(delivery: Delivery) -> None:
            taken.append(delivery)
            if len(taken) == count:
                full.set()

        subscription = self.broker.subscribe(queue, receive, auto_ack=True)
        assert full.wait(20), len(taken)
        subscription.cancel()
        return taken

    @property
    def release(self) -> tuple[int, ...]:
        """The broker's."""
        return release_of(self.broker.server_version)

    @property
    def free(self) -> bool:
        """Whether giving back by name counts nothing."""
        return self.release >= (4, 3)

    def budget(self, queue: str, folder: Path | None = None) -> PeekBudget:
        return peek_budget(self.management, self.name, queue, folder=folder)

    def set_policy(self, name: str, definition: dict[str, Any], *, operator: bool = False) -> None:
        """Set a policy on the queue of that name."""
        path = f"{'operator-' * operator}policies/{quote(self.name, safe='')}/{name}"
        body = {"pattern": f"^{name}$", "apply-to": "queues", "definition": definition}
        self.management._http.change("PUT", path, body)

    def known(self, queue: str) -> bool:
        """Whether the broker's statistics know the queue."""
        info = self.management.queue(self.name, queue)
        return info.effective_policy_definition is not None and (
            self.release < (4, 0) or info.delivery_limit is not None
        )

    def counts(self, queue: str, count: int) -> set[int]:
        """Take messages away, and tell how often they were delivered without success."""
        return {delivered_in_vain(message) for message in self.drain(queue, count)}

    def close(self) -> None:
        self.broker.close()
        self.management.close()


class Client:
    """Somebody else, by plain pika."""

    def __init__(self, amqp_url: str) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        self.channel: BlockingChannel = self.connection.channel()
        self.tag = ""

    def take(self, queue: str, count: int) -> list[int]:
        """Consume so many; their delivery tags."""
        tags: list[int] = []
        self.channel.basic_qos(prefetch_count=count)
        self.tag = self.channel.basic_consume(queue, lambda _c, method, _p, _b: tags.append(method.delivery_tag))

        def came() -> bool:
            self.connection.process_data_events(0.02)
            return len(tags) >= count

        wait_until(came, 20)
        return tags

    def cut(self) -> None:
        """Lose the connection without a word."""
        self.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(pika.exceptions.AMQPError):
            self.connection.close()


@contextlib.contextmanager
def somebody(amqp_url: str) -> Iterator[Client]:
    """Another client for a while."""
    client = Client(amqp_url)
    try:
        yield client
    finally:
        client.close()


def _nack(client: Client, queue: str, count: int) -> None:
    client.take(queue, count)
    client.channel.basic_cancel(client.tag)
    client.channel.basic_nack(0, multiple=True, requeue=True)
    client.channel.basic_qos(prefetch_count=1)


def _recover(client: Client, queue: str, count: int) -> None:
    client.take(queue, count)
    client.channel.basic_cancel(client.tag)
    client.channel.basic_recover(requeue=True)


def _reject(client: Client, queue: str, count: int) -> None:
    tags = client.take(queue, count)
    client.channel.basic_cancel(client.tag)
    for tag in tags:
        client.channel.basic_reject(tag, requeue=True)
    client.channel.basic_qos(prefetch_count=1)


def _close_channel(client: Client, queue: str, count: int) -> None:
    client.take(queue, count)
    client.channel.close()


def _close_connection(client: Client, queue: str, count: int) -> None:
    client.take(queue, count)
    client.close()


def _cut(client: Client, queue: str, count: int) -> None:
    client.take(queue, count)
    client.cut()


Way = Callable[[Client, str, int], None]
BY_NAME: dict[str, Way] = {"nack": _nack, "recover": _recover}
"""Ways of giving back that count nothing from 4.3 on."""
IN_VAIN: dict[str, Way] = {
    "reject": _reject,
    "close channel": _close_channel,
    "close connection": _close_connection,
    "lose the link": _cut,
}
"""Ways that count on every version."""


def numbers(messages: list[Delivery]) -> list[bytes]:
    return [message.body for message in messages]


def bodies(*of: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in of]


def seen(tap: Tap, count: int, timeout: float = 15) -> list[Delivery]:
    return [event for event in tap.follow(limit=count, for_s=timeout) if isinstance(event, Delivery)]
