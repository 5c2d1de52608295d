"""What workers tell the console. Workers never touch widgets: they post one of these.

A state message may replace an older one that nobody has read yet; an event may not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from busctl.config import Settings
    from busctl.session import Session
    from busctl.tui import sieve
    from busctl.tui.feed import Feed
    from busctl.tui.filters import Filter
    from busctl.tui.jobs import Job
    from busctl.tui.screens.queue_charts import Span
    from busctl_lib.deadletters import Grounds, Group, Triage
    from busctl_lib.envelope import Delivery
    from busctl_lib.errors import BusError
    from busctl_lib.journal import Operation
    from busctl_lib.management.infos import ChannelInfo, QueueInfo, StreamTracking
    from busctl_lib.management.infos_cluster import DeprecatedFeature, HealthCheck
    from busctl_lib.poller import Snapshot
    from busctl_lib.rpc import Reply
    from busctl_lib.rpc.pairs import MethodFigures
    from busctl_lib.taps import TapEvent, TapPlan
    from busctl_lib.taps.peek import Peeked
    from busctl_lib.transfers import Request


class SnapshotTaken(Message):
    """The poller finished a beat, good or failed. State: only the newest matters."""

    def __init__(self, snapshot: Snapshot, feed: Feed | None = None) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.feed = feed

    def can_replace(self, message: Message) -> bool:
        """Replace any older snapshot that waits."""
        return isinstance(message, SnapshotTaken)


@dataclass
class TapOpened(Message):
    """A tap shows messages from now on."""

    plan: TapPlan


@dataclass
class TapBatch(Message):
    """What a tap saw since the last batch."""

    events: Sequence[TapEvent]
    """At most one tick's budget of rows, oldest first."""
    seen: int
    """Messages that came meanwhile, those left out included."""
    seconds: float
    """How long the batch was gathered."""
    link: str | None = None
    """What the link to the broker is doing when it is not up: nothing can be seen meanwhile."""


@dataclass
class TapEnded(Message):
    """A tap cannot go on, or could not begin."""

    error: BusError


@dataclass
class FlowOpened(Message):
    """Rows come from now on."""

    told: Sequence[str]
    """What is seen and what not, a sentence each."""


@dataclass
class FlowBatch(Message):
    """What came since the last batch, oldest first."""

    rows: Sequence[Any]
    link: str | None = None
    """What the link to the broker is doing when it is not up."""


@dataclass
class CallsCounted(Message):
    """What was seen of each method so far."""

    figures: Sequence[MethodFigures]


@dataclass
class PeekEnded(Message):
    """A look at what waits in a queue came to its end."""

    peeked: Peeked | None
    error: BusError | None


@dataclass
class TapTold(Message):
    """A tap has something to say that outlives its screen: what it cleaned up, or what it could not give back."""

    text: str


@dataclass
class CallFinished(Message):
    """An RPC call came to its end: a reply (which may be an error reply), or why there is none."""

    reply: Reply | None
    error: BusError | None


@dataclass
class OpenQueue(Message):
    """Show one queue."""

    vhost: str
    name: str


@dataclass
class OpenTail(Message):
    """Show the messages of a queue."""

    queue: str


@dataclass
class OpenCalls(Message):
    """Show the calls by a queue: requests with their replies."""

    queue: str


@dataclass
class OpenTopology(Message):
    """Show what feeds a place and where it leads."""

    name: str


@dataclass
class OpenPeek(Message):
    """Look at what waits in a queue."""

    queue: str


@dataclass
class OpenPublish(Message):
    """Write a message."""

    queue: str = ""
    like: Delivery | None = None
    """A message to begin with."""


@dataclass
class Published(Message):
    """A message is confirmed, or why it is not known to be."""

    took_s: float | None
    error: BusError | None


@dataclass
class OpenDead(Message):
    """Show the dead letters of a queue, in groups."""

    queue: str


@dataclass
class Triaged(Message):
    """The dead letters of a queue were read, or why not."""

    found: Triage | None
    messages: Sequence[Delivery]
    error: BusError | None


@dataclass
class OpenGroup(Message):
    """Show the messages of a group of dead letters."""

    queue: str
    group: Group
    messages: Sequence[Delivery]
    grounds: Grounds


@dataclass
class OpenRpc(Message):
    """Show the call dialog."""

    line: str = ""
    """What it begins with: a method and its arguments."""


@dataclass
class RunCommand(Message):
    """A command line was typed behind `:`."""

    line: str


class Listed(Message):
    """A list was asked for. State: only the newest matters."""

    def __init__(self, rows: Sequence[Any] | None, error: BusError | None = None) -> None:
        super().__init__()
        self.rows = rows
        self.error = error

    def can_replace(self, message: Message) -> bool:
        """Replace an older answer to the same screen."""
        return isinstance(message, Listed)


@dataclass
class SpanAsked(Message):
    """A queue was asked about with samples of a longer or shorter time."""

    span: Span
    info: QueueInfo


@dataclass
class ChannelsAsked(Message):
    """The channels of a queue's consumers were asked about."""

    channels: Mapping[str, ChannelInfo]


@dataclass
class OffsetsAsked(Message):
    """A stream's readers were asked about; None: the broker does not tell."""

    tracking: StreamTracking | None


@dataclass
class OwnAsked(Message):
    """The broker was asked what it says of itself."""

    checks: Sequence[HealthCheck]
    deprecated: Sequence[DeprecatedFeature] | None


@dataclass
class Sifted(Message):
    """Rows went through a filter that runs elsewhere."""

    result: sieve.Sifted[Any]


@dataclass
class OpenList(Message):
    """Show a list, or the part of it that belongs to something."""

    noun: str
    of: str = ""
    """What it is narrowed to, as the breadcrumbs say it."""
    only: Callable[[Any], bool] | None = None
    filter: Filter | str = ""
    """A filter to begin with."""


class JobChanged(Message):
    """A job is further than it was. State: only the newest matters."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def can_replace(self, message: Message) -> bool:
        """Replace an older one of the same job."""
        return isinstance(message, JobChanged) and message.job is self.job


@dataclass
class OpenTransfer(Message):
    """Plan an operation, and show it: a request, or the undo or the resumption of another operation."""

    request: Request | None = None
    undo: str | None = None
    resume: str | None = None


@dataclass
class OpenOperation(Message):
    """Show an operation: as it runs, where it was begun here; else what is known of it."""

    operation: Operation


@dataclass
class OpenBulk(Message):
    """Ask whether to do several operations, and do them."""

    requests: Sequence[Request]
    counts: Sequence[int]
    agreed: Callable[[], None]
    """Called when its user says yes."""


@dataclass
class Describe(Message):
    """Show one thing with all that is known about it."""

    title: str
    lines: Sequence[tuple[str, str]]


@dataclass
class SwitchTo(Message):
    """Look at another broker, by the name of its context."""

    context: str
    line: str = ""
    """A command for there."""


@dataclass
class SwitchVhost(Message):
    """Look at another virtual host of this broker."""

    vhost: str


@dataclass
class SessionOpened(Message):
    """Another broker is to be looked at; nobody asked it anything yet."""

    session: Session
    line: str


@dataclass
class SwitchFailed(Message):
    """There is no other broker to look at."""

    error: BusError
    settings: Settings | None = None
