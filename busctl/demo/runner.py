"""Demo: the sample bus as one thing to start and stop: a private broker, the services, and who watches over them."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import busctl
from busctl.demo import topology
from busctl.demo.flow import OPENING
from busctl.demo.service import DEFAULT_RATE, KEYS_VARIABLE, RATE_VARIABLE, SEED_VARIABLE, URL_VARIABLE
from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import Keyring, new_key
from busctl_lib.consumers import RPCConsumer
from busctl_lib.errors import BusError, RemoteError, SandboxError
from busctl_lib.sandbox import PrivateBroker

SERVICES = ("obs", "tes", "analytics", "traders", "desk")
_STOP_S = 6.0
_LOOK_EVERY_S = 0.5
_RESTARTS_PAUSE_S = (0.5, 2.0, 5.0, 15.0)
_CALL_S = 2.0


class Demo:
    """The sample trading bus.

    Args:
        rate: orders a second, on average.
        seed: of the order flow; None takes a random one.
        amqp_url, api_url: a broker to run it on instead of a private one. What the bus declares there stays.
        on_event: called with a line when a service or the broker ended and was started again. Thread: the watcher's.

    Example:
        ::

            with Demo(rate=50) as demo, MessageBroker(url=demo.amqp_url) as broker:
                ...
    """

    def __init__(
        self,
        *,
        rate: float = DEFAULT_RATE,
        seed: int | None = None,
        amqp_url: str | None = None,
        api_url: str | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.rate = rate
        self.seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
        self._keys = Keyring({"demo-1": new_key()}).to_text()
        self._given = (amqp_url, api_url) if amqp_url is not None else None
        self._on_event = on_event or (lambda _: None)
        self._node: PrivateBroker | None = None
        self._services: list[ServiceProcess] = []
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def amqp_url(self) -> str:
        """Where the broker is, with credentials."""
        return self._addresses[0]

    @property
    def api_url(self) -> str | None:
        """Where its management API is, with credentials; None for a given broker whose API was not given."""
        return self._addresses[1]

    @property
    def pids(self) -> dict[str, int]:
        """The process of every service."""
        return {service.name: service.pid for service in self._services}

    @property
    def _addresses(self) -> tuple[str, str | None]:
        if self._given is not None:
            return self._given
        if self._node is None:
            raise SandboxError("the demo has not been started", hint="call start(), or use it in a with statement")
        return self._node.amqp_url, self._node.api_url

    def start(self, timeout: float = 60.0) -> Self:
        """Start everything; returns when the bus answers RPC and has a market.

        Raises:
            SandboxError: no broker, or the bus did not answer in time.
        """
        deadline = time.monotonic() + timeout
        try:
            if self._given is None:
                self._node = PrivateBroker().start(timeout)
            with MessageBroker(url=self.amqp_url, client_name="demo") as broker:
                topology.declare(broker)
                environment = self._environment()
                self._services = [ServiceProcess(name, environment) for name in SERVICES]
                self._wait_until_it_answers(broker, deadline)
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="demo-watcher", daemon=True)
        self._watcher.start()
        return self

    def stop(self) -> None:
        """End everything this demo started. Twice is fine."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        for service in self._services:
            service.ask_to_end()
        deadline = time.monotonic() + _STOP_S
        for service in self._services:
            service.end(deadline)
        self._services = []
        if self._node is not None:
            self._node.stop()

    def _environment(self) -> dict[str, str]:
        """Make the environment of the services: credentials go there, since a command line is for all to read."""
        source = str(Path(busctl.__file__).parents[1])
        path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        return {
            **os.environ,
            "PYTHONPATH": path,
            URL_VARIABLE: self.amqp_url,
            RATE_VARIABLE: str(self.rate),
            SEED_VARIABLE: str(self.seed),
            KEYS_VARIABLE: self._keys,
        }

    def _wait_until_it_answers(self, broker: MessageBroker, deadline: float) -> None:
        rpc = RPCConsumer(broker)
        while not self._answers(rpc):
            ended = next((service for service in self._services if not service.running), None)
            if ended is not None:
                raise SandboxError(f"the service {ended.name} ended at its start: {ended.last_words}")
            if time.monotonic() > deadline:
                raise SandboxError("the sample bus did not answer in time")
            self._stopping.wait(0.1)

    def _answers(self, rpc: RPCConsumer) -> bool:
        """Whether both services answer and there is a market to look at."""
        try:
            rpc.call("tes_requests", {"action": "get_position", "user_id": 1}, timeout=_CALL_S)
            book = rpc.call("obs_requests", {"action": "get_orderbook", "symbol": "AAPL"}, timeout=_CALL_S)
        except RemoteError:
            raise
        except BusError:
            return False
        return has_market(book)

    def _watch(self) -> None:
        """Start again what ended by itself, each time after a longer pause."""
        falls: dict[str, int] = {}
        while not self._stopping.wait(_LOOK_EVERY_S):
            if self._node is not None and not self._node.running:
                self._on_event("the broker ended; starting it again")
                with contextlib.suppress(SandboxError):
                    self._node.start()
            for index, service in enumerate(self._services):
                if service.running:
                    continue
                pause = _RESTARTS_PAUSE_S[min(falls.get(service.name, 0), len(_RESTARTS_PAUSE_S) - 1)]
                falls[service.name] = falls.get(service.name, 0) + 1
                self._on_event(f"{service.name} ended ({service.last_words}); starting it again")
                if not self._stopping.wait(pause):
                    service.end(time.monotonic())
                    self._services[index] = ServiceProcess(service.name, self._environment())


def has_market(book: Mapping[str, Any]) -> bool:
    """Whether there is a market that lasts: of the first few orders one may yet take the only other one away.

    Args:
        book: the answer of `get_orderbook`; its sequence counts the orders and trades of all symbols.
    """
    return bool(book["bids"] and book["asks"]) and book["sequence"] >= OPENING


class ServiceProcess:
    """One service as a process that ends when this one does, however it does: its standard input is our pipe."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", f"busctl.demo.{name}"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # The Ctrl-C and the hang-up of a terminal are for us to answer.
            start_new_session=True,
        )
        self._said: deque[str] = deque(maxlen=20)
        self._listener = threading.Thread(target=self._listen, name=f"demo-{name}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def last_words(self) -> str:
        """What it wrote last, or how it ended."""
        if self._process.poll() is not None:
            self._listener.join(1)
        return self._said[-1] if self._said else f"exit code {self._process.poll()}"

    def ask_to_end(self) -> None:
        """Ask it to end; it finishes what it is at."""
        self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for its end until the deadline, and then insist."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(1)
        for stream in (self._process.stdin, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            text = line.decode(errors="replace").strip()
            if text:
                self._said.append(text)
