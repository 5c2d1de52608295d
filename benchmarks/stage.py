"""The broker's side of a measurement: queues made, filled, checked afterwards, and deleted whatever happens."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from clients import ceiling
from job import Job
from process import child
from tasks import Task

from busctl_lib import MessageBroker

_EXPIRES_MS = 15 * 60 * 1000  # should this process be killed, the broker tidies up
_SETTLE_S = 20.0


class WrongCount(Exception):
    """After a measurement the queue does not hold what it must: the figure is worth nothing."""


class Stage:
    """The queues of one run on one broker."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._broker = MessageBroker(url=url, client_name="busctl benchmarks")
        self._prefix = f"busctl.bench.{os.getpid()}."

    @property
    def about(self) -> str:
        """Version and platform of the broker, as it says itself."""
        told = self._broker.server_properties
        return f"{told.get('product', '?')} {told.get('version', '?')} on {told.get('platform', '?')}"

    @property
    def version(self) -> str:
        return self._broker.server_version

    @contextmanager
    def queue(self, task: Task, n: int) -> Iterator[str]:
        """An empty queue, or a full one where the task empties it."""
        name = self._prefix + task.name
        arguments: dict[str, object] = {"x-expires": _EXPIRES_MS}
        if task.max_length is not None:
            arguments["x-max-length"] = task.max_length
        self._broker.delete_queue(name)
        self._broker.declare_queue(name, arguments=arguments)
        try:
            if task.fills:
                ceiling.publish(Job(self.url, name, n))
            yield name
        finally:
            self._broker.delete_queue(name)

    @contextmanager
    def echo_service(self) -> Iterator[str]:
        """The queue of a running echo service."""
        name = self._prefix + "echo"
        self._broker.declare_queue(name, arguments={"x-expires": _EXPIRES_MS})
        try:
            with child("echo.py", self.url, name) as service:
                assert service.stdout is not None
                if service.stdout.readline().strip() != "ready":
                    raise RuntimeError(f"the echo service did not start: {service.communicate()[1][-500:]}")
                yield name
        finally:
            self._broker.delete_queue(name)

    def check(self, queue: str, expected: int) -> None:
        """Wait until the queue holds this many messages. Raises WrongCount when it does not come to that."""
        deadline = time.monotonic() + _SETTLE_S
        while (found := self._broker.declare_queue(queue, passive=True).message_count) != expected:
            if time.monotonic() > deadline:
                raise WrongCount(f"the queue holds {found} messages, not {expected}")
            time.sleep(0.05)

    def close(self) -> None:
        self._broker.close()
