"""What every service of the sample bus has in common: how it starts, how it ends, how it buries what it cannot do."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from busctl.demo.topology import dead
from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import Keyring
from busctl_lib.documents import iso_time
from busctl_lib.envelope import Outcome, Properties
from busctl_lib.errors import BusError
from busctl_lib.publishers import MessagePublisher
from busctl_lib.retry import ATTEMPT_HEADER, ERROR_PREFIX

if TYPE_CHECKING:
    from busctl_lib.amqp.confirms import Entry

URL_VARIABLE = "BUSCTL_AMQP_URL"
RATE_VARIABLE = "BUSCTL_DEMO_RATE"
SEED_VARIABLE = "BUSCTL_DEMO_SEED"
KEYS_VARIABLE = "BUSCTL_DEMO_KEYS"
DEFAULT_RATE = 20.0
"""Orders a second. Every order makes about eight messages."""
_GRACE_S = 1.0
"""How long a service may take to end when nobody is left to wait for it."""
_TELL_EVERY_S = 5.0

log = logging.getLogger("busctl.demo")


class Service(ABC):
    """One service: a broker link, a publisher, and a `run` that lasts until `stopping` is set."""

    name: str

    def __init__(self, broker: MessageBroker, *, rate: float, seed: int, stopping: threading.Event) -> None:
        self.broker = broker
        self.publisher = MessagePublisher(broker)
        self.rate = rate
        self.seed = seed
        self.stopping = stopping
        self._told_at = 0.0

    def keys(self) -> Keyring:
        """Give the keys of account statements."""
        return Keyring.from_text(os.environ[KEYS_VARIABLE], KEYS_VARIABLE)

    @abstractmethod
    def run(self) -> None:
        """Serve until `stopping` is set."""

    def send(
        self,
        queue: str | None,
        message: Mapping[str, Any],
        *,
        mandatory: bool = True,
        delay: float = 0.0,
        **options: Any,
    ) -> None:
        """Publish without waiting for the confirm; options as of `MessagePublisher.publish`. A delay is a fixed one."""
        with self.carrying_on("publishing"):
            envelope = self.publisher.envelope(queue, message, type=message.get("action"), **options)
            if delay:
                envelope = self.publisher.put_off(envelope, delay, fixed=True)
            self.publisher.send_envelope(envelope, self._settled, mandatory=mandatory)

    def send_raw(self, queue: str, body: bytes, **properties: Any) -> None:
        """Publish bytes that may not be what they say they are."""
        with self.carrying_on("publishing"):
            envelope = self.publisher.envelope(queue, None, **properties)
            envelope.body = body
            self.publisher.send_envelope(envelope, self._settled)

    def _settled(self, entry: Entry) -> None:
        if entry.outcome is not Outcome.CONFIRMED and entry.outcome is not None:
            self._tell(f"a message to {entry.envelope.routing_key or entry.envelope.exchange}: {entry.outcome.value}")

    def bury(self, queue: str, message: dict[str, Any], properties: Properties, error: Exception) -> None:
        """Put a copy of a request that was answered with an error into the dead-letter queue of its queue."""
        before = properties.headers or {}  # says whether it was replayed
        headers = {name: value for name, value in before.items() if name.startswith("busctl-")} | {
            ATTEMPT_HEADER: 1,
            f"{ERROR_PREFIX}type": type(error).__name__,
            f"{ERROR_PREFIX}message": str(error),
            f"{ERROR_PREFIX}time": iso_time(time.time()),
            f"{ERROR_PREFIX}exchange": "",
            f"{ERROR_PREFIX}routing-key": queue,
            f"{ERROR_PREFIX}queue": queue,
        }
        self.send(
            dead(queue), message, headers=headers, correlation_id=properties.correlation_id, app_id=properties.app_id
        )

    @contextlib.contextmanager
    def carrying_on(self, doing: str) -> Iterator[None]:
        """Let a service live through a broker that is away or full: what fails is told and left."""
        try:
            yield
        except BusError as error:
            self._tell(f"{doing} failed: {error}")
            self.stopping.wait(0.2)

    def _tell(self, what: str) -> None:
        """Write a line for the one who runs the demo; not a flood of them."""
        now = time.monotonic()
        if now - self._told_at > _TELL_EVERY_S and not self.stopping.is_set():
            self._told_at = now
            log.warning("%s", what)


def run_service(kind: type[Service]) -> None:
    """Run a service as this process until SIGTERM, or until whoever started it is gone (standard input ends)."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # It tells of every request that failed, and here some are meant to.
    logging.getLogger("busctl_lib.consumers").setLevel(logging.ERROR)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the one that started us
    threading.Thread(target=_watch_parent, args=(stopping,), name="parent", daemon=True).start()
    rate, seed = float(os.environ.get(RATE_VARIABLE, DEFAULT_RATE)), int(os.environ.get(SEED_VARIABLE, "0"))
    with MessageBroker(url=os.environ[URL_VARIABLE], client_name=f"demo-{kind.name}", tracing=True) as broker:
        kind(broker, rate=rate, seed=seed, stopping=stopping).run()


def _watch_parent(stopping: threading.Event) -> None:
    """End this process when the other end of standard input is closed, as the kernel does for a killed parent."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    stopping.set()
    time.sleep(_GRACE_S)
    os._exit(1)
