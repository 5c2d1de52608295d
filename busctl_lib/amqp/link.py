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

from busctl_lib.amqp.channels import Channel, ChannelNumbers, reason_of
from busctl_lib.amqp.endpoints import Endpoint, Rotation
from busctl_lib.amqp.io_thread import Deadline, IoThread
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.states import LinkEvent, Part, State
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
        self.connection: LinkConnection | None = None
        self.server_properties: dict[str, Any] = {}
        self._rotation = Rotation(endpoints)
        self._connect_timeout_s = connect_timeout_s
        self._client_properties = client_properties or {}
        self._on_event = on_event
        self._parts: list[Part] = []
        self._at_end: list[Callable[[LinkLost], None]] = []
        self._waiting_open: list[Pending[None]] = []
        self._first: Future[None] | None = None
        self._redial: object | None = None
        self._reason: str | None = None
        self._heard_at = 0.0
        """When the peer last sent anything (monotonic)."""
        self._lifecycle = threading.Lock()
        self._io = IoThread(name, on_turn=self._turn, on_tick=self._tick, on_failure=self._callback_failed)
        self._numbers = ChannelNumbers()
        self.take_number = self._numbers.take
        self.free_number = self._numbers.free
        self.submit = self._io.submit
        self.later = self._io.later
        self._deadline = Deadline(self._io)
        self.cancel = self._io.cancel

    # -- any thread

    def open(self) -> None:
        """Connect, once over every endpoint; afterwards the link keeps itself up.

        Raises:
            LoginRefused, VhostNotFound, CannotConnect: the last endpoint's reason.
        """
        with self._lifecycle:
            if self.state is State.CLOSED or self.state is State.CLOSING:
                raise LinkLost("the broker object is closed", hint="open a new one")
            if self._first is None:
                self._first = Future()
                self._io.start()
                self.submit(self._dial)
            first = self._first
        try:
            first.result(self._connect_timeout_s * len(self._rotation) + 5)
        except FutureTimeout:
            raise CannotConnect(f"cannot connect to {self._rotation.current.address}: no answer in time") from None
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
        self.open()
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
            return future.result(timeout)
        except FutureTimeout:
            future.cancel()
            raise TimedOut(
                f"no answer from the broker after {timeout:g} s; the link is {self.state.value}"
                + (f": {self._reason}" if self._reason else "")
            ) from None

    @property
    def reason(self) -> str | None:
        """Why it is in its state, where there is something to say."""
        return self._reason

    @property
    def lag_s(self) -> float:
        """How late the I/O thread's last tick was."""
        return self._io.lag_s

    def connect_now(self) -> None:
        """Cut a wait between two attempts short."""
        self.submit(self._dial_early)

    def close(self, timeout: float) -> bool:
        """Drain the parts and end the link; returns whether that had to be forced at the deadline."""
        with self._lifecycle:
            if not self._io.started:
                self._set_state(State.CLOSED, None)
                return False
        self.submit(self._begin_close)
        clean = self._io.ended.wait(timeout)
        if not clean:
            self.submit(self._force_close)
            self._io.ended.wait(5)
        self._io.join(5)
        return not clean

    # -- for parts, on the I/O thread

    def add(self, part: Part) -> None:
        """Take in a part; it starts at once if the link is up."""
        self._parts.append(part)
        if self.connection is not None and self.state in (State.OPEN, State.BLOCKED):
            spawn(part.start(self.connection))

    def add_started(self, part: Part) -> None:
        """Take in a part that has started itself, so that its first failure reached its owner."""
        self._parts.append(part)

    def at_end(self, tell: Callable[[LinkLost], None]) -> None:
        """Call back when the link is closed for good: nothing that waits for it will be done."""
        self._at_end.append(tell)

    def remove(self, part: Part) -> None:
        """Let a part go; it is not started again."""
        if part in self._parts:
            self._parts.remove(part)

    async def until_open(self) -> None:
        """Wait for OPEN or BLOCKED. Raises LinkLost when the link is closed instead."""
        if self.state in (State.OPEN, State.BLOCKED):
            return
        if self.state in (State.CLOSING, State.CLOSED):
            raise LinkLost("the broker object is closed", hint="open a new one")
        waiting: Pending[None] = Pending()
        self._waiting_open.append(waiting)
        await waiting

    async def with_channel(self, work: Callable[[Channel], Coroutine[Pending[Any], None, T]]) -> T:
        """Run work on a channel of its own, closed afterwards: an error the broker answers closes only that."""
        assert self.connection is not None
        number = self.take_number()
        channel = Channel(self.connection, number)
        try:
            await channel.open()
            return await work(channel)
        finally:
            await channel.close()
            self.free_number(number)

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
        for part in list(self._parts):
            part.tick(now)

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
        self._redial = None
        if self.state in (State.CLOSING, State.CLOSED):
            return
        endpoint = self._rotation.current
        self._set_state(State.CONNECTING if self.epoch == 0 else State.RECOVERING, self._reason)
        try:
            parameters = endpoint.parameters(self._connect_timeout_s, self._client_properties)
        except Exception as error:  # noqa: BLE001 - whoever knows the password may know it at the next dial
            self._dial_failed(endpoint, error)
            return
        connection = LinkConnection(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=lambda _connection, error: self._dial_failed(endpoint, error),
            on_close_callback=self._lost,
            custom_ioloop=self._io.loop,
        )
        self.connection = connection
        self._deadline.set(self._connect_timeout_s + 1, lambda: connection.force_close("no answer in time"))

    def _dial_early(self) -> None:
        if self._redial is not None:
            self.cancel(self._redial)
            self._dial()

    def _dial_failed(self, endpoint: Endpoint, error: BaseException | str) -> None:
        self._deadline.clear()
        cause = error if isinstance(error, BaseException) else CannotConnect(str(error))
        self.connection = None
        if self.state in (State.CLOSING, State.CLOSED):
            self._end()
            return
        failure = endpoint.failure(cause)
        self._rotation.failed()
        hopeless = isinstance(failure, (LoginRefused, VhostNotFound))  # the same on every node of a cluster
        if self.epoch == 0 and (hopeless or self._rotation.all_tried):
            self._fail_first(failure)
            return
        self._schedule(str(failure))

    def _fail_first(self, failure: CannotConnect) -> None:
        """The first connect fails fast, and the link is as new: the caller decides whether to try again."""
        first = self._first
        self._rotation.succeeded()
        for waiting in self._take_waiting():
            waiting.fail(failure)
        self._set_state(State.NEW, str(failure))
        self._io.stop()
        if first is not None:
            first.set_exception(failure)

    def _schedule(self, reason: str) -> None:
        first = self.epoch == 0
        delay = 0.0 if first else self._rotation.delay_s()
        self._set_state(State.CONNECTING if first else State.RECOVERING, reason)
        self._redial = self.later(delay, self._dial)

    def _opened(self, connection: LinkConnection) -> None:
        self.epoch += 1
        self._rotation.succeeded()
        self.server_properties = dict(connection.server_properties or {})
        self._numbers.limit = connection.params.channel_max or self._numbers.limit
        connection.add_on_connection_blocked_callback(lambda _c, frame: self._blocked(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda _c, _frame: self._unblocked())
        self._heard_at = connection.check_alive(time.monotonic())
        self._set_state(State.REPLAYING, None)
        self._deadline.set(_REPLAY_DEADLINE_S, lambda: connection.force_close("the replay took too long"))
        spawn(self._bring_up(connection)).when_done(lambda outcome: self._brought_up(outcome, connection))

    async def _bring_up(self, connection: LinkConnection) -> None:
        up: list[Part] = []
        while (part := next((each for each in self._parts if each not in up), None)) is not None:  # more may come
            up.append(part)
            await part.start(connection)

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
        for part in list(self._parts):
            part.resume()

    def _take_waiting(self) -> list[Pending[None]]:
        waiting, self._waiting_open = self._waiting_open, []
        return waiting

    def _blocked(self, reason: str) -> None:
        if self.state is State.OPEN:
            self._set_state(State.BLOCKED, f"the broker takes no publishes: {reason}")

    def _unblocked(self) -> None:
        if self.state is State.BLOCKED:
            self._set_state(State.OPEN, None)
            for part in list(self._parts):
                part.resume()

    def _lost(self, connection: LinkConnection, error: BaseException) -> None:
        if connection is not self.connection:
            return
        self._deadline.clear()
        self.connection = None
        if self.state in (State.CLOSING, State.CLOSED):
            self._end()
            return
        reason = reason_of(error)
        if getattr(reason, "code", None) == 320:
            self._rotation.put_off()  # closed on purpose (drain, operator): another node first
        self.reconnects += 1
        self._schedule(str(reason))

    # -- closing

    def _begin_close(self) -> None:
        if self.state is State.CLOSING:
            return
        if self.state in (State.OPEN, State.BLOCKED):
            spawn(self._finish_parts()).when_done(lambda _outcome: self._close_connection())
        else:
            self._set_state(State.CLOSING, None)
            self._close_connection()

    async def _finish_parts(self) -> None:
        for part in list(self._parts):
            await part.finish()

    def _close_connection(self) -> None:
        self._set_state(State.CLOSING, None)
        if self._redial is not None:
            self.cancel(self._redial)
        connection = self.connection
        if connection is None or connection.is_closed:
            self._end()
        elif connection.is_open:
            connection.flush()
            connection.close()
        else:
            connection.force_close("closed by its owner")

    def _force_close(self) -> None:
        self._set_state(State.CLOSING, None)
        if self.connection is not None and not self.connection.is_closed:
            self.connection.force_close("closed by its owner at the deadline")
        else:
            self._end()

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
