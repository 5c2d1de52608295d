"""A vhost with dead letters of mixed routes, for the tests of triage and transfers."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.journal import Journal
from busctl_lib.management import ManagementClient
from busctl_lib.transfers import Account, Request, Transfer

QUEUES = ("orders", "fills")
LAST = "the last of a queue"


def letter(number: int) -> Envelope:
    """A message for `dead` that has not died."""
    properties = Properties(message_id=f"m-{number}", delivery_mode=2)
    return Envelope(exchange="", routing_key="dead", properties=properties, body=json.dumps({"n": number}).encode())


class Yard:
    """Queues `orders` and `fills` behind the topic exchange `trading`; what dies there lies in `dead`."""

    def __init__(self, node: Any, folder: Path, queue_type: str = "classic") -> None:
        self.amqp_url, self.api_url = node.amqp_url, node.api_url
        self.broker = MessageBroker(url=node.amqp_url).connect()
        self.management = ManagementClient(node.api_url)
        self.journal_path = folder / "journal.sqlite"
        self.arguments: dict[str, Any] = {"x-queue-type": queue_type}
        if queue_type == "quorum" and self.broker.server_version >= "4":
            self.arguments["x-delivery-limit"] = -1  # without end; before 4.0 there is no limit unless one is set
        self.publisher = MessagePublisher(self.broker)
        self.broker.declare_exchange("trading", "topic")
        self.broker.declare_exchange("dlx", "fanout")
        for queue in ("dead", "elsewhere"):
            self.broker.delete_queue(queue)
            self.broker.declare_queue(queue, arguments=self.arguments)
        self.broker.bind_queue("dead", "dlx")
        self.routes: dict[int, str] = {}

    def reconnect(self) -> None:
        """Be there at once when the node is: the link's own next try may be twenty seconds away."""
        self.broker.close()
        self.broker = MessageBroker(url=self.amqp_url).connect()
        self.publisher = MessagePublisher(self.broker)

    def close(self) -> None:
        self.broker.close()
        self.management.close()

    def kill_messages(self, count: int, *, first: int = 0) -> None:
        """Put so many dead letters into `dead`, of both queues in turn, and leave the queues empty behind them."""
        before = self.waiting("dead")
        for queue in QUEUES:
            self.broker.delete_queue(queue)
            arguments = {"x-dead-letter-exchange": "dlx", "x-message-ttl": 0}
            self.broker.declare_queue(queue, arguments=arguments)
            self.broker.bind_queue(queue, "trading", f"{queue}.#")
        envelopes = []
        for number in range(first, first + count):
            key = f"{QUEUES[number % 2]}.{number % 7}"
            self.routes[number] = key
            properties = Properties(message_id=f"m-{number}", delivery_mode=2, user_id=None)
            body = json.dumps({"n": number}).encode()
            envelopes.append(Envelope(exchange="trading", routing_key=key, properties=properties, body=body))
        self.publish(envelopes)
        wait_until(lambda: self.waiting("dead") == before + count, timeout=60)
        self.revive()

    def put(self, count: int) -> None:
        """Put so many messages straight into `dead`, in order; they have not died."""
        self.publish(map(letter, range(count)))

    def revive(self, *queues: str) -> None:
        """The queues that messages died in, as they should be: nothing dies there any more."""
        for queue in queues or QUEUES:
            self.broker.delete_queue(queue)
            self.broker.declare_queue(queue, arguments=self.arguments)
            self.broker.bind_queue(queue, "trading", f"{queue}.#")

    def publish(self, envelopes: Iterable[Envelope]) -> None:
        settled = threading.Semaphore(0)
        outcomes = []
        count = 0
        for envelope in envelopes:
            count += 1
            self.publisher.send_envelope(envelope, lambda entry: (outcomes.append(entry.outcome), settled.release()))
        for _ in range(count):
            assert settled.acquire(timeout=60)
        assert {outcome.value for outcome in outcomes} <= {"confirmed"}, Counter(outcomes)

    def waiting(self, queue: str) -> int:
        return self.broker.declare_queue(queue, passive=True).message_count

    def drain(self, *queues: str) -> list[Delivery]:
        """Take all that is in the queues, in order."""
        found: list[Delivery] = []
        for queue in queues:
            taken: list[Delivery] = []
            expected = self.waiting(queue)
            subscription = self.broker.subscribe(queue, taken.append, auto_ack=True, exact=True)
            wait_until(lambda taken=taken, expected=expected: len(taken) >= expected, timeout=60)  # type: ignore[misc]
            # The count is the broker's word, and right after a kill it may be too low: what is last tells.
            self.publish([Envelope(exchange="", routing_key=queue, properties=Properties(message_id=LAST), body=b"")])
            wait_until(lambda taken=taken: taken and taken[-1].properties.message_id == LAST, timeout=60)  # type: ignore[misc]
            subscription.cancel()
            found += taken[:-1]
        return found

    def numbers(self, *queues: str) -> list[int]:
        return [json.loads(delivery.body)["n"] for delivery in self.drain(*queues)]

    def journal(self) -> Journal:
        return Journal(self.journal_path)

    def run(self, request: Request, **extra: Any) -> Account:
        """Plan and run."""
        with self.journal() as journal, Transfer(self.broker, self.management, journal, request, **extra) as transfer:
            for _ in transfer.planning():
                pass
            for _ in transfer.running():
                pass
            assert transfer.account is not None
            return transfer.account
