"""A private node with many queues, some of them at work, and roads to it that count what they carry."""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.management import ManagementClient
from busctl_lib.sandbox import PrivateBroker

CONSUMERS = 300
"""So many queues have a consumer, and messages flow through them."""
_FILLED = 500
_FLOW_PER_S = 200
_IMPORTED_AT_ONCE = 1000
_SETTLE_S = 15.0


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


class CountingRoad:
    """A TCP road to a port of loopback that counts what comes back."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.n_bytes = 0
        self.requests = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if back:
                    self.n_bytes += len(data)
                elif data.startswith(b"GET "):
                    self.requests += 1
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


class Bus:
    """A private node with many queues, some of them at work."""

    def __init__(self, node: PrivateBroker, queues: int) -> None:
        self.node = node
        self.queues = queues

    def cpu_s(self) -> float:
        """Processor time that the threads of the node have used, to the nanosecond."""
        total_ns = 0
        for thread in Path(f"/proc/{self.node.pid}/task").iterdir():
            with suppress(OSError):
                total_ns += int((thread / "schedstat").read_text().split()[0])
        return total_ns / 1e9

    def url_at(self, port: int) -> str:
        return f"http://{self.node.username}:{self.node.password}@127.0.0.1:{port}"


@contextmanager
def many_queues(root: str | None, queues: int) -> Iterator[Bus]:
    say(f"starting a private RabbitMQ{f' from {root}' if root else ''}")
    with PrivateBroker(root=root) as node, MessageBroker(url=node.amqp_url) as broker:
        say(f"declaring {queues} queues")
        kind = {"vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
        with ManagementClient(node.api_url) as api:
            for first in range(0, queues, _IMPORTED_AT_ONCE):
                numbers = range(first, min(first + _IMPORTED_AT_ONCE, queues))
                api.import_definitions({"queues": [{"name": name_of(number), **kind} for number in numbers]})
        for number in range(CONSUMERS):
            broker.subscribe(name_of(number), lambda delivery: None, auto_ack=True)
        publisher = MessagePublisher(broker)
        filled = [name_of(CONSUMERS + number) for number in range(_FILLED) for _ in range(number % 97 + number // 9)]
        publisher.publish_many(((name, {"n": number}) for number, name in enumerate(filled)), timeout=120)
        over = threading.Event()
        flow = threading.Thread(target=keep_flowing, args=(publisher, over))
        flow.start()
        try:
            time.sleep(_SETTLE_S)
            yield Bus(node, queues)
        finally:
            over.set()
            flow.join()


def keep_flowing(publisher: MessagePublisher, over: threading.Event) -> None:
    """Publish to the queues with consumers, to the first ones more than to the last."""
    chance = random.Random(1)
    while not over.wait(1 / _FLOW_PER_S):
        publisher.publish(name_of(int(CONSUMERS * chance.random() ** 2)), {"n": 1})


def name_of(number: int) -> str:
    return f"service.{number % 40:02d}.{zlib.crc32(b'%d' % number):08x}.orders"
