"""What is measured: the tasks, who takes part in each and how, and what we hold ourselves to."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

PREFETCH = 500
"""Of every consumer but the ceiling's."""
THREADS = 64

OURS = "busctl_lib"
CEILING = "ceiling"


@dataclass(frozen=True)
class Client:
    """A client library as we measure it."""

    module: str
    """Its file in clients/."""
    package: str
    """What must be installed, by its import name."""
    distribution: str
    """And by the name whose version is told."""


CLIENTS = {
    OURS: Client("ours", "busctl_lib", "busctl"),
    CEILING: Client("ceiling", "pika", "pika"),
    "pika-select": Client("pika_select", "pika", "pika"),
    "pika-blocking": Client("pika_blocking", "pika", "pika"),
    "aio-pika": Client("aio", "aio_pika", "aio-pika"),
    "kombu": Client("kombu_amqp", "kombu", "kombu"),
    "amqpstorm": Client("storm", "amqpstorm", "amqpstorm"),
}


def client_module(name: str) -> ModuleType:
    """The file of a client."""
    return importlib.import_module(f"clients.{CLIENTS[name].module}")


def installed(name: str) -> bool:
    """Whether this environment has what a client needs."""
    return importlib.util.find_spec(CLIENTS[name].package) is not None


@dataclass(frozen=True)
class Entrant:
    """A client's part in a task."""

    n: int
    """Messages or calls a measurement: a few seconds' worth."""
    how: str


@dataclass(frozen=True)
class Target:
    """Our rate over another's is to be at least this."""

    client: str
    ratio: float


@dataclass(frozen=True)
class Task:
    """One table of the results."""

    name: str
    title: str
    what: str
    unit: str
    entrants: dict[str, Entrant]
    targets: tuple[Target, ...] = ()
    fills: bool = False
    """The queue is filled before: the task empties it."""
    calls: bool = False
    """The queue is the echo service's."""
    max_length: int | None = None
    """The queue keeps no more than this, for tasks that publish more than a disk should hold."""


PUBLISH = Task(
    name="publish",
    title="Publish, pipelined",
    what="Messages to a durable classic queue, persistent and mandatory, each confirmed by the broker; as many under "
    "way as the client allows. Timed from the first publish to the last confirm.",
    unit="messages/s",
    entrants={
        OURS: Entrant(80_000, "`publish_many`: encodes JSON, adds id and time, tracks six outcomes; window 4,096"),
        CEILING: Entrant(120_000, "encoded once, confirms only counted; window 10,000"),
        "pika-select": Entrant(40_000, "callbacks, window 2,000; body encoded beforehand"),
        "aio-pika": Entrant(12_000, "`gather` under a semaphore of 2,000; body encoded beforehand"),
        "kombu": Entrant(5_000, "`confirm_publish`: one at a time by nature; body encoded beforehand"),
        "amqpstorm": Entrant(
            500, "`confirm_deliveries`: one at a time by nature, polls for it; body encoded beforehand"
        ),
        "pika-blocking": Entrant(4_000, "`confirm_delivery`: one at a time by nature; body encoded beforehand"),
    },
    targets=(Target(CEILING, 0.75), Target("aio-pika", 4.0)),
)

PUBLISH_ONE = Task(
    name="publish-one",
    title="Publish, one at a time",
    what="As above, but each publish waits for its confirm before the next.",
    unit="messages/s",
    entrants={
        OURS: Entrant(5_000, "`publish`: a receipt, or an error by outcome"),
        "pika-blocking": Entrant(5_000, "`confirm_delivery` and `mandatory`; body encoded beforehand"),
        "aio-pika": Entrant(5_000, "awaited one by one; body encoded beforehand"),
    },
    targets=(Target("pika-blocking", 0.8),),
)

CONSUME = Task(
    name="consume",
    title="Consume",
    what="A filled durable classic queue is emptied: JSON decoded and acknowledged message by message, prefetch 500. "
    "Timed from before the consumer is there to the last acknowledgement.",
    unit="messages/s",
    entrants={
        OURS: Entrant(60_000, "`MessageConsumer.register_handler`, one worker; acks joined on the wire"),
        CEILING: Entrant(80_000, "bodies only counted, one ack for 500, prefetch 2,000"),
        "pika-select": Entrant(40_000, "bare callback, `json.loads`, `basic_ack` each"),
        "aio-pika": Entrant(15_000, "`queue.iterator()`, `json.loads`, `ack` each"),
        "kombu": Entrant(15_000, "`on_message`, `json.loads`, `ack` each"),
        "amqpstorm": Entrant(15_000, "`build_inbound_messages`, `json.loads`, `ack` each"),
    },
    targets=(Target("pika-select", 0.8), Target("aio-pika", 3.0)),
    fills=True,
)

CALL = Task(
    name="call",
    title="Call",
    what="Request and reply over direct reply-to, one after the other, JSON both ways, against the same echo service "
    "(pika SelectConnection, a process of its own).",
    unit="calls/s",
    entrants={
        OURS: Entrant(4_000, "`RPCConsumer.call`: confirmed, mandatory, with a deadline"),
        "pika-blocking": Entrant(4_000, "`process_data_events` until the reply is there; not confirmed"),
        "aio-pika": Entrant(4_000, "a future each; not confirmed"),
    },
    targets=(Target("pika-blocking", 0.8),),
    calls=True,
)

CALL_64 = Task(
    name="call-64",
    title="Calls, 64 at once",
    what="As above with 64 callers at once; pika's BlockingConnection stays at one, as it must.",
    unit="calls/s",
    entrants={
        OURS: Entrant(12_800, "64 threads on one `RPCConsumer`"),
        "pika-blocking": Entrant(4_000, "one after the other"),
        "aio-pika": Entrant(9_600, "64 coroutines on one channel; not confirmed"),
    },
    targets=(Target("pika-blocking", 3.0),),
    calls=True,
)

MEMORY = Task(
    name="memory",
    title="Memory",
    what="Resident memory of our process while `publish_many` publishes; flat is the target. The queue keeps the last "
    "10,000 messages.",
    unit="messages/s",
    entrants={OURS: Entrant(1_000_000, "`publish_many` from a generator")},
    max_length=10_000,
)

TASKS = {task.name: task for task in (PUBLISH, PUBLISH_ONE, CONSUME, CALL, CALL_64)}
