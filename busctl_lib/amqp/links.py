"""The two links of a broker object: publishes and calls on one, consumers and declarations on the other.

A broker that takes no publishes (memory alarm) blocks a whole connection; consumers must not stand still with it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import msgspec

from busctl_lib.amqp.confirms import PublishChannel
from busctl_lib.amqp.endpoints import Endpoint
from busctl_lib.amqp.link import Link
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.states import Announcer, LinkEvent, State
from busctl_lib.amqp.tasks import Pending, spawn
from busctl_lib.amqp.topology import Topology
from busctl_lib.errors import BusError, LinkLost


class CloseReport(msgspec.Struct, frozen=True):
    """What a close did with what was open."""

    acked: int
    """Deliveries whose ack went out meanwhile."""
    given_back: int
    """Deliveries that went back to their queue unhandled."""
    confirmed: int
    """Publishes whose confirm was still awaited, and came."""
    unknown: int
    """Publishes whose confirm did not come."""
    forced: bool
    """A link was cut: the broker did not answer, or the deadline passed."""


class BrokerStats(msgspec.Struct, frozen=True):
    """How a broker object is doing. Counters run from its beginning."""

    consume_state: State
    publish_state: State
    reconnects: int
    unconfirmed: int
    """Publishes sent and not confirmed yet."""
    window_messages: int
    """Publishes handed over and not settled, of `window_max_messages`."""
    window_max_messages: int
    window_bytes: int
    window_max_bytes: int
    confirmed: int
    returned: int
    nacked: int
    unknown: int
    acked: int
    given_back: int
    stale_settlements: int
    """Settlements of deliveries whose channel was gone: those messages came again."""
    late_replies: int
    """Replies that came after their call's deadline."""
    loop_lag_s: float
    """How late the I/O threads' last tick was, the worse of the two."""


_REPLAY_WAIT_S = 10.0
"""So long publishes wait for the other link after a loss, and then go out all the same."""


class Draining(Protocol):
    """What takes messages, and finishes them before its links end."""

    def stop(self, timeout: float) -> None:
        """Take no more, finish what is open; return after `timeout` seconds at the latest."""


class Links:
    """Opens each link at its first use. Thread: any."""

    def __init__(self, endpoints: Sequence[Endpoint], *, connect_timeout_s: float, client_name: str) -> None:
        self.endpoints = endpoints
        self.announcer = Announcer()
        self.counts: Counter[str] = Counter()
        """What happened, by the names of BrokerStats. Thread: changed on I/O threads only, one key by one thread."""
        self._connect_timeout_s = max(each.connect_timeout_s or connect_timeout_s for each in endpoints)
        self._client_name = client_name
        self._lock = threading.Lock()
        self._consume: Link | None = None
        self._publish: Link | None = None
        self._topology: Topology | None = None
        self._channel: PublishChannel | None = None
        self._draining: weakref.WeakSet[Draining] = weakref.WeakSet()  # who is gone has nothing left to finish
        self._closed = False

    @property
    def consume(self) -> Link:
        """The link of consumers and declarations."""
        with self._lock:
            if self._consume is None:
                self._consume = link = self._new("consume")
                self._topology = topology = Topology(link, self._tell_lost)
                link.submit(lambda: link.add(topology))
            return self._consume

    @property
    def publish(self) -> Link:
        """The link of publishes and calls."""
        with self._lock:
            if self._publish is None:
                self._publish = link = self._new("publish")
                link.submit(lambda: link.add(_AfterReplay(self, link)))  # before its publish channel
            return self._publish

    @property
    def declaring(self) -> tuple[Link | None, Topology | None]:
        """The consume link and what was declared on it, where it is in use."""
        return self._consume, self._topology

    @property
    def topology(self) -> Topology:
        """What was declared on the consume link."""
        link = self.consume
        assert self._topology is not None, link
        return self._topology

    @property
    def publish_channel(self) -> PublishChannel:
        """The confirming channel that all publishers share."""
        link = self.publish
        with self._lock:
            if self._channel is None:
                self._channel = PublishChannel(link)
            return self._channel

    @property
    def any_open(self) -> Link:
        """A link, open: the one in use, where there is one."""
        link = self._publish if self._consume is None and self._publish is not None else self.consume
        link.open()
        return link

    @property
    def state(self) -> State:
        """The consume link's state; the publish link's where only that is in use."""
        link = self._consume or self._publish
        return link.state if link is not None else State.NEW

    def another(self, name: str) -> Link:
        """A link beside the two, for who wants one of his own; its owner closes it."""
        return self._new(name)

    def connect_now(self) -> None:
        """Cut the wait for the next attempt short."""
        for link in (self._consume, self._publish):
            if link is not None:
                link.connect_now()

    def before_close(self, draining: Draining) -> None:
        """Stop a consumer at the beginning of a close, if it is still there then."""
        with self._lock:
            self._draining.add(draining)

    def close(self, timeout: float) -> CloseReport:
        """Drain and end both links; what is not done after `timeout` seconds is cut."""
        if any(link is not None and link.is_current for link in (self._publish, self._consume)):
            raise RuntimeError("close() was called in a callback on an I/O thread, which it would wait for")
        deadline = time.monotonic() + timeout
        before = Counter(self.counts)
        with self._lock:
            draining, self._draining = list(self._draining), weakref.WeakSet()
        for each in draining:
            each.stop(max(0.1, deadline - time.monotonic()))
        with self._lock:
            self._closed = True
            links = [link for link in (self._publish, self._consume) if link is not None]
        for link in links:  # side by side: one whose broker hangs takes no time from the other
            link.begin_close()
        forced = False
        for link in links:
            forced |= link.close(max(0.1, deadline - time.monotonic()))
        self.announcer.end()
        done = self.counts - before
        return CloseReport(done["acked"], done["given_back"], done["confirmed"], done["unknown"], forced)

    def stats(self) -> BrokerStats:
        """How it is doing now."""
        links = [link for link in (self._consume, self._publish) if link is not None]
        window = self._channel.window if self._channel is not None else None
        counts = self.counts
        return BrokerStats(
            consume_state=self._consume.state if self._consume is not None else State.NEW,
            publish_state=self._publish.state if self._publish is not None else State.NEW,
            reconnects=sum(link.reconnects for link in links),
            unconfirmed=self._channel.unconfirmed if self._channel is not None else 0,
            window_messages=window.messages if window is not None else 0,
            window_max_messages=window.max_messages if window is not None else 0,
            window_bytes=window.bytes if window is not None else 0,
            window_max_bytes=window.max_bytes if window is not None else 0,
            confirmed=counts["confirmed"],
            returned=counts["returned"],
            nacked=counts["nacked"],
            unknown=counts["unknown"],
            acked=counts["acked"],
            given_back=counts["given_back"],
            stale_settlements=counts["stale_settlements"],
            late_replies=counts["late_replies"],
            loop_lag_s=max((link.lag_s for link in links), default=0.0),
        )

    def _new(self, name: str) -> Link:
        properties = {"connection_name": f"{self._client_name} ({name})", "product": self._client_name}
        link = Link(
            self.endpoints,
            name=name,
            counts=self.counts,
            connect_timeout_s=self._connect_timeout_s,
            client_properties=properties,
            on_event=self.announcer.tell,
        )
        if self._closed:
            link.state = State.CLOSED
        return link

    def _tell_lost(self, what: str, error: BusError) -> None:
        link = self._consume
        assert link is not None
        reason = f"{what} could not be declared again: {error}"
        self.announcer.tell(LinkEvent(link.name, link.state, link.state, reason, link.epoch, time.time()))


class _AfterReplay:
    """A part of the publish link: what goes out after a loss waits until the other link has declared its queues again.

    Else the broker would return, as if there were no such queue, what is published to one that went with the link.
    """

    def __init__(self, links: Links, link: Link) -> None:
        self._links, self._link = links, link

    async def start(self, connection: LinkConnection) -> None:
        """Wait for the other link, if it was lost as well; the broker is there, so that it need not wait to dial."""
        consume, topology = self._links.declaring
        if consume is None or topology is None or not consume.epoch:
            return
        if self._link.epoch == 1 and consume.state in (State.OPEN, State.BLOCKED):
            return  # nothing was lost; and the one who publishes may be the thread of the other link, in a callback
        replayed: Pending[None] = Pending()
        consume.connect_now()

        def ask() -> None:
            spawn(topology.until_replayed()).when_done(lambda _: self._link.submit(lambda: replayed.resolve(None)))

        consume.submit(ask)
        deadline = self._link.later(_REPLAY_WAIT_S, lambda: replayed.resolve(None))
        await replayed
        self._link.cancel(deadline)
        if not connection.is_open:
            raise LinkLost("the link was lost again")

    async def finish(self) -> None:
        """Nothing to drain."""

    def resume(self) -> None:
        """Nothing waits for publishes."""

    def tick(self, now: float) -> None:
        """Nothing is due by time."""
