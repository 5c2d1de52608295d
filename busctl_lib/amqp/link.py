"""One AMQP connection on its own I/O thread, that comes back by itself.

States: NEW, CONNECTING, REPLAYING (topology and parts), OPEN, BLOCKED (the broker takes no publishes), RECOVERING,
CLOSING, CLOSED. A *part* (publish channel, subscription, topology) is started again on each new connection; what was
waiting on the old one fails through its channel.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from busctl_lib.address_parameters import FRAME_MAX
from busctl_lib.amqp.channels import Channel, ChannelNumbers, reason_of
from busctl_lib.amqp.dialing import Dialer
from busctl_lib.amqp.ending import Ending
from busctl_lib.amqp.endpoints import Endpoint
from busctl_lib.amqp.io_thread import Deadline, IoThread
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.states import LinkEvent, Part, Parts, State
from busctl_lib.amqp.tasks import Pending, spawn
from busctl_lib.errors import CannotConnect, LinkLost, LoginRefused, TimedOut, VhostNotFound

logger = logging.getLogger(__name__)
T = TypeVar("T")

_REPLAY_DEADLINE_S = 30.0


class Link:
    """A connection that recovers. Thread: any, where not said otherwise."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        name: str,
        counts: Counter[str] | None = None,
        connect_timeout_s: float = 10.0,
        client_properties: dict[str, Any] | None = None,
        on_event: Callable[[LinkEvent], None] | None = None,
    ) -> None:
        self.name = name
        self.counts = counts if counts is not None else Counter()
        self.state = State.NEW
        self.epoch = 0
        self.reconnects = 0
        self.frame_max = FRAME_MAX
        """What was agreed with the broker, in bytes."""
        self.connection: LinkConnection | None = None
        self.server_properties: dict[str, Any] = {}
        self._on_event = on_event
        self.parts = Parts()
        self._at_end: list[Callable[[LinkLost], None]] = []
        self._waiting_open: list[Pending[None]] = []
        self._first: Future[None] | None = None
        self._reason: str | None = None
        self._heard_at = 0.0
        """When the peer last sent anything (monotonic)."""
        self._lifecycle = threading.Lock()
        self._io = IoThread(name, on_turn=self._turn, on_tick=self._tick, on_failure=self._callback_failed)
        self._numbers = ChannelNumbers()
        self.take_number = self._numbers.take
        self.free_number = self._numbers.free
        self.submit = self._io.submit
        self.later, self.cancel = self._io.later, self._io.cancel
        self._deadline = Deadline(self._io)
        self._dialer = Dialer(
            self._io,
            endpoints,
            timeout_s=connect_timeout_s,
            client_properties=client_properties or {},
            redial=self._dial,
            on_open=self._opened,
            on_failed=self._dial_failed,
            on_lost=self._lost,
        )
        self._ending = Ending(self, self._io, self._end)

    # -- any thread

    def open(self, timeout: float | None = None) -> None:
        """Connect, once over every endpoint; afterwards the link keeps itself up.

        Args:
            timeout: wait no longer than so many seconds; the link goes on trying.

        Raises:
            LoginRefused, VhostNotFound, CannotConnect: the last endpoint's reason.
        """
        if self._io.is_another_process:
            raise LinkLost(
                "this process was forked from the one that has the connection",
                hint="open a broker object of its own after the fork",
            )
        token = self._dialer.rotation.current.token
        if token is not None and self._first is None:
            token()  # who makes it may take long, and tells here what is wrong
        with self._lifecycle:
            if self.state is State.CLOSED or self.state is State.CLOSING:
                raise LinkLost("the broker object is closed", hint="open a new one")
            if self._first is None:
                self._first = Future()
                self._io.start()
                self.submit(self._dial)
            first = self._first
        patience_s = self._dialer.patience_s
        try:
            first.result(patience_s if timeout is None else min(timeout, patience_s))
        except FutureTimeout:
            where = self._dialer.rotation.current.address
            raise CannotConnect(f"cannot connect to {where}: no answer in time", address=where) from None
        except CannotConnect:
            with self._lifecycle:  # the thread has ended itself; a later open() tries anew
                if self._first is first:
                    self._first = None
            raise

    def run(self, work: Callable[[], Coroutine[Pending[Any], None, T]], timeout: float) -> T:
        """Run a coroutine on the I/O thread once the link is up, and wait for its result.

        Raises:
            TimedOut: not done after `timeout` seconds. BusError: what the work raised.
        """
        until = time.monotonic() + timeout
        self.open(timeout)
        if self._io.is_current:
            raise RuntimeError(
                "a broker operation was called on its own I/O thread; call it from a handler or another thread"
            )
        future: Future[T] = Future()

        async def when_open() -> T:
            await self.until_open()
            if future.cancelled():  # its caller was told that it timed out, and may have done something else since
                raise LinkLost("the link came back too late")
            return await work()

        self.submit(lambda: spawn(when_open()).settle_into(future))
        try:
            return future.result(max(0.0, until - time.monotonic()))
        except FutureTimeout:
            future.cancel()
            raise TimedOut(f"no answer from the broker after {timeout:g} s; {self.says}") from None

    @property
    def reason(self) -> str | None:
        """Why it is in its state, where there is something to say."""
        return self._reason

    @property
    def says(self) -> str:
        """Its state, and why it is in it."""
        return f"the link is {self.state.value}{f': {self._reason}' if self._reason else ''}"

    @property
    def is_current(self) -> bool:
        """Whether the caller is on its I/O thread, where nothing may wait for it."""
        return self._io.is_current

    @property
    def lag_s(self) -> float:
        """How late the I/O thread's last tick was."""
        return self._io.lag_s

    def connect_now(self) -> None:
        """Cut a wait between two attempts short."""
        self.submit(self._dial_early)

    def begin_close(self) -> None:
        """Begin to drain the parts and to end the link, for `close` to wait for."""
        with self._lifecycle:
            if not self._io.started:
                self._set_state(State.CLOSED, None)
                return
        self.submit(self._ending.begin)

    def close(self, timeout: float) -> bool:
        """Drain the parts and end the link; returns whether it was cut, because the broker did not answer in time."""
        self.begin_close()
        if self._io.started and not self._io.ended.wait(timeout):
            self.submit(self._ending.cut)
            self._io.ended.wait(5)
        self._io.join(5)
        return self._ending.was_cut

    # -- for parts, on the I/O thread

    def add(self, part: Part) -> None:
        """Take in a part; it starts at once if the link is up."""
        self.parts.add(part)
        if self.connection is not None and self.state in (State.OPEN, State.BLOCKED):
            spawn(part.start(self.connection))

    def add_started(self, part: Part) -> None:
        """Take in a part that has started itself, so that its first failure reached its owner."""
        self.parts.add(part)

    def at_end(self, tell: Callable[[LinkLost], None]) -> None:
        """Call back when the link is closed for good: nothing that waits for it will be done."""
        self._at_end.append(tell)

    def remove(self, part: Part) -> None:
        """Let a part go; it is not started again."""
        self.parts.remove(part)

    async def until_open(self) -> None:
        """Wait for OPEN or BLOCKED. Raises LinkLost when the link is closed instead."""
        if self.state in (State.OPEN, State.BLOCKED):
            return
        if self.state in (State.CLOSING, State.CLOSED):
            raise LinkLost("the broker object is closed", hint="open a new one")
        waiting: Pending[None] = Pending()
        self._waiting_open.append(waiting)
        await waiting

    async def with_channel(
        self, work: Callable[[Channel], Coroutine[Pending[Any], None, T]], patience_s: float | None = None
    ) -> T:
        """Run work on a channel of its own, closed afterwards: an error the broker answers closes only that.

        Args:
            work: what to do on it.
            patience_s: as `Channel.patience_s`; who waits on another thread has a deadline of his own.
        """
        assert self.connection is not None
        channel = Channel(self.connection, self.take_number(), patience_s=patience_s)
        try:
            await channel.open()
            return await work(channel)
        finally:
            await channel.close()
            channel.when_gone(self.free_number)

    @property
    def takes_publishes(self) -> bool:
        """Whether a publish would go out now."""
        return self.state is State.OPEN and self.connection is not None

    # -- the I/O thread

    def _turn(self, begins: bool) -> None:
        connection = self.connection
        if connection is not None:
            connection.flush_follows = begins
            if not begins:
                connection.flush()

    def _tick(self, now: float) -> None:
        if self.connection is not None and self.connection.is_open:
            self._heard_at = self.connection.check_alive(now)
            self._dialer.renewal.keep(self.connection)
        self.parts.tick(now)

    def _callback_failed(self) -> None:
        if self.connection is not None:
            self.connection.force_close("a callback failed")

    def _set_state(self, new: State, reason: str | None) -> None:
        old, self.state, self._reason = self.state, new, reason
        if old is new:
            return
        logger.info("link %s: %s -> %s%s", self.name, old.value, new.value, f" ({reason})" if reason else "")
        if self._on_event is not None:
            heard_at = time.time() - (time.monotonic() - self._heard_at) if self.epoch else None
            self._on_event(LinkEvent(self.name, old, new, reason, self.epoch, time.time(), heard_at))

    def _dial(self) -> None:
        if self.state not in (State.CLOSING, State.CLOSED):
            self._set_state(State.CONNECTING if self.epoch == 0 else State.RECOVERING, self._reason)
            self.connection = self._dialer.dial()

    def _dial_early(self) -> None:
        if self._dialer.call_off():
            self._dial()

    def _dial_failed(self, endpoint: Endpoint, error: BaseException) -> None:
        self.connection = None
        if self.state in (State.CLOSING, State.CLOSED):
            self._end()
            return
        failure = endpoint.failure(error)
        rotation = self._dialer.rotation
        rotation.failed()
        hopeless = isinstance(failure, (LoginRefused, VhostNotFound))  # the same on every node of a cluster
        if self.epoch == 0 and (hopeless or rotation.all_tried):
            self._fail_first(failure)
            return
        self._schedule(str(failure))

    def _fail_first(self, failure: CannotConnect) -> None:
        """The first connect fails fast, and the link is as new: the caller decides whether to try again."""
        first = self._first
        self._dialer.rotation.succeeded()
        for waiting in self._take_waiting():
            waiting.fail(failure)
        self._set_state(State.NEW, str(failure))
        self._io.stop()
        if first is not None:
            first.set_exception(failure)

    def _schedule(self, reason: str) -> None:
        first = self.epoch == 0
        delay_s = 0.0 if first else self._dialer.rotation.delay_s()
        self._set_state(State.CONNECTING if first else State.RECOVERING, reason)
        self._dialer.later(delay_s, self._dial)

    def _opened(self, connection: LinkConnection) -> None:
        self.epoch += 1
        self.frame_max = connection.frame_max
        self.server_properties = dict(connection.server_properties or {})
        self._numbers.limit = connection.params.channel_max or self._numbers.limit
        connection.add_on_connection_blocked_callback(lambda _c, frame: self._blocked(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda _c, _frame: self._unblocked())
        self._heard_at = connection.check_alive(time.monotonic())
        self._set_state(State.REPLAYING, None)
        self._deadline.set(_REPLAY_DEADLINE_S, lambda: connection.force_close("the replay took too long"))
        spawn(self.parts.bring_up(connection)).when_done(lambda outcome: self._brought_up(outcome, connection))

    def _brought_up(self, outcome: Pending[None], connection: LinkConnection) -> None:
        if connection is not self.connection or self.state is not State.REPLAYING:
            return
        if outcome.error is not None:
            connection.force_close(f"the replay failed: {outcome.error}")
            return
        self._deadline.clear()
        self._set_state(State.OPEN, None)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        for waiting in self._take_waiting():
            waiting.resolve(None)
        self.parts.resume()

    def _take_waiting(self) -> list[Pending[None]]:
        waiting, self._waiting_open = self._waiting_open, []
        return waiting

    def _blocked(self, reason: str) -> None:
        if self.state is State.OPEN:
            self._set_state(State.BLOCKED, f"the broker takes no publishes: {reason}")

    def _unblocked(self) -> None:
        if self.state is State.BLOCKED:
            self._set_state(State.OPEN, None)
            self.parts.resume()

    def _lost(self, connection: LinkConnection, error: BaseException) -> None:
        if connection is not self.connection:
            return
        self._deadline.clear()
        self._ending.clear()
        self.connection = None
        if self.state in (State.CLOSING, State.CLOSED):
            self._end()
            return
        reason = reason_of(error)
        if getattr(reason, "code", None) == 320:
            self._dialer.rotation.put_off()  # closed on purpose (drain, operator): another node first
        self._schedule(str(reason))
        self.reconnects += 1  # whoever sees it counted sees the state as well

    # -- closing

    def end_dialling(self) -> LinkConnection | None:
        """Dial no more; the connection that is still there, if any."""
        self._set_state(State.CLOSING, None)
        self._dialer.call_off()
        return self.connection

    def _end(self) -> None:
        gone = LinkLost("the broker object was closed")
        for waiting in self._take_waiting():
            waiting.fail(gone)
        if self._first is not None and not self._first.done():
            self._first.set_exception(gone)
        self._set_state(State.CLOSED, None)
        self.submit(lambda: self._stop(gone))  # after what the closing channels still have to tell

    def _stop(self, gone: LinkLost) -> None:
        for tell in self._at_end:
            tell(gone)
        self._io.stop()
