"""A pika channel as awaitable operations whose waiters never hang: when it closes, all of them fail with the reason."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from pika import exceptions as pika_exceptions
from pika.channel import Channel as PikaChannel

from busctl_lib.amqp.pika_compat import LinkConnection, Sink
from busctl_lib.amqp.tasks import Pending
from busctl_lib.errors import (
    AccessForbidden,
    BrokerRefused,
    BusError,
    ConsumerTimedOut,
    LinkLost,
    NotFound,
    PreconditionFailed,
    QueueAway,
    ResourceLocked,
    TimedOut,
)

GOODBYE_S = 2.0
"""How long the broker may take to say that a channel or connection is closed: one that hangs is left behind."""
PATIENCE_S = 5.0
"""How long for an answer where others wait behind it: the rest of a replay, the end of a link."""
_REFUSALS: dict[int, type[BrokerRefused]] = {
    403: AccessForbidden,
    404: NotFound,
    405: ResourceLocked,
    406: PreconditionFailed,
}
_TIMED_OUT = "delivery acknowledgement on channel"
_AWAY: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"home node '(.*)' of durable queue '(.*)' in vhost .* is down"), "the node {0} that holds it is down"),
    (re.compile(r"failed to perform operation on ()queue '(.*)' in vhost .* due to timeout"), "it does not answer"),
    (re.compile(r"()queue '(.*)' in vhost .* process is stopped by supervisor"), "the broker has stopped it"),
    (re.compile(r"()queue '(.*)' in vhost .* has crashed and failed to restart"), "it has crashed and stays down"),
    (
        re.compile(r"()stream queue '(.*)' in vhost .* does not have a running replica on the local node"),
        "the node that was asked has no running replica of the stream",
    ),
)
"""What the broker says, as 404 or 406, of a queue that is there and cannot be reached, by node and name."""

_CHANNELS = "close what is not needed, or raise channel_max, in rabbitmq.conf and where the AMQP address names it"


def refusal(code: int, text: str) -> BrokerRefused:
    """The error for an AMQP reply code and text, e.g. "NOT_FOUND - no queue 'x' in vhost '/'"."""
    for pattern, why in _AWAY:
        if (found := pattern.search(text)) is not None:
            return QueueAway.because(found[2], why.format(found[1]), code=code, text=text)
    sentence = re.sub(r"^[A-Z_]+ - ", "", text) or f"AMQP error {code}"
    hint = None
    if code == 406 and "inequivalent arg" in text:
        hint = "it exists with other settings; declare it as it is, or delete it first"
    kind = ConsumerTimedOut if code == 406 and _TIMED_OUT in text else _REFUSALS.get(code, BrokerRefused)
    return kind(f"the broker refused: {sentence}", code=code, text=text, hint=hint)


def reason_of(error: BaseException | None) -> BusError:
    """What a closed channel or connection says to those who waited for it."""
    if isinstance(error, pika_exceptions.ChannelClosedByBroker):
        return refusal(error.reply_code, error.reply_text)
    if isinstance(error, pika_exceptions.ConnectionClosedByBroker):
        return LinkLost(
            f"the broker closed the connection: {error.reply_text}", reason=error.reply_text, code=error.reply_code
        )
    if isinstance(error, BusError):
        return error
    return LinkLost(f"the connection was lost ({error})", reason=str(error))


class ChannelNumbers:
    """Channel numbers of a link: a part keeps its own over all connections. Thread: any."""

    def __init__(self) -> None:
        self.limit = 65_535
        """The most that the broker and the address agreed on."""
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> int:
        """A number for as long as the owner wants it. Raises BrokerRefused: they are all taken."""
        with self._lock:
            number = 1
            while number in self._taken:
                number += 1
            if number > self.limit:  # opening it would cost the connection
                raise BrokerRefused(f"all {self.limit} channels of this connection are in use", hint=_CHANNELS)
            self._taken.add(number)
            return number

    def free(self, number: int) -> None:
        """Give a number back; only after its channel is closed."""
        with self._lock:
            self._taken.discard(number)


class _Nobody:
    """The sink of a channel that was left behind."""

    def on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        """It goes back to its queue when the channel is closed."""

    def on_return(self, method: bytes, header: bytes, body: bytes) -> None:
        """Whoever published it was told that nothing is known."""

    def on_confirm(self, tag: int, multiple: bool, ack: bool) -> None:
        """The same."""


class Channel:
    """One channel. Thread: the I/O thread only.

    A broker may hang in what it was asked: the queue's node is gone, its members have no majority. Such a channel is
    left behind, closed when the broker has answered; its number is in use until then.
    """

    def __init__(
        self, connection: LinkConnection, number: int, sink: Sink | None = None, *, patience_s: float | None = None
    ) -> None:
        self.connection = connection
        self.number = number
        self.patience_s = patience_s
        """How long the broker may take for each answer; None leaves it to who waits for the whole."""
        self.closed_by: BaseException | None = None
        self._told = self._hangs = False
        self._waiting: set[Pending[Any]] = set()
        self._on_closed: list[Callable[[BusError], None]] = []
        self._pika: PikaChannel = None  # type: ignore[assignment]  # set by open()
        self._sink = sink

    async def open(self) -> Channel:
        """Open it on the broker."""
        opened: Pending[Any] = self._expect()
        try:
            self._pika = self.connection.channel(self.number, on_open_callback=opened.resolve)
        except pika_exceptions.AMQPError as error:  # the connection is ending, and has not told yet
            raise reason_of(error) from None
        self._pika.add_on_close_callback(self._closed)
        await opened
        if self._sink is not None:
            self.connection.sinks[self.number] = self._sink
        return self

    @property
    def is_open(self) -> bool:
        """Whether it can be used now."""
        return self.closed_by is None and self._pika is not None and bool(self._pika.is_open)

    def when_closed(self, callback: Callable[[BusError], None]) -> None:
        """Call back with the reason when it closes, by whomever."""
        self._on_closed.append(callback)

    def _expect(self) -> Pending[Any]:
        answer: Pending[Any] = Pending()
        if self.closed_by is not None:
            answer.fail(reason_of(self.closed_by))
        else:
            self._waiting.add(answer)
            answer.when_done(self._waiting.discard)
        return answer

    def _closed(self, _channel: PikaChannel, error: BaseException) -> None:
        self.closed_by = error
        self.connection.sinks.pop(self.number, None)
        self.connection.forget_content(self.number)
        # Next turn: pika cleans the number up after this callback, and would take a new channel's callbacks along.
        self.connection.ioloop.add_callback_threadsafe(lambda: self._tell_closed(reason_of(error)))

    def _tell_closed(self, reason: BusError) -> None:
        self._told = True
        for answer in list(self._waiting):
            answer.fail(reason)
        for callback in self._on_closed:
            callback(reason)

    async def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call pika's channel method of that name and wait for the broker's answer (its method frame's method).

        Raises:
            TimedOut: the channel's patience is at its end, and with it the channel.
        """
        answer = self._expect()
        if not answer.done:
            try:
                getattr(self._pika, method)(*args, callback=answer.resolve, **kwargs)
            except pika_exceptions.AMQPError as error:
                answer.fail(reason_of(error))
        frame = await answer if self.patience_s is None else await self._in_time(answer, self.patience_s)
        return getattr(frame, "method", frame)

    async def _in_time(self, answer: Pending[Any], patience_s: float) -> Any:
        def give_up() -> None:
            self._hangs = self.connection.unanswered = True
            answer.fail(TimedOut(f"no answer from the broker after {patience_s:g} s"))

        timer = self.connection.ioloop.call_later(patience_s, give_up)
        try:
            return await answer
        finally:
            self.connection.ioloop.remove_timeout(timer)

    async def consume(
        self, queue: str, *, auto_ack: bool, exclusive: bool = False, arguments: dict[str, Any] | None = None
    ) -> str:
        """Start a consumer; deliveries go to the sink. Returns the consumer tag."""
        frame = await self.ask(
            "basic_consume", queue, lambda *_: None, auto_ack=auto_ack, exclusive=exclusive, arguments=arguments
        )
        return str(frame.consumer_tag)

    def on_server_cancel(self, callback: Callable[[], None]) -> None:
        """Call back when the broker cancels a consumer of this channel (its queue is gone)."""
        self._pika.add_on_cancel_callback(lambda _frame: callback())

    def when_gone(self, free: Callable[[int], None]) -> None:
        """Give its number back as soon as it is closed, which may be now."""
        if self._pika is None or self._told:
            free(self.number)
        else:
            self.when_closed(lambda _reason: free(self.number))

    async def close(self, patience_s: float | None = GOODBYE_S) -> None:
        """Close it; what was delivered and not settled goes back to its queue. Never raises.

        Args:
            patience_s: do not wait longer for the broker's answer; None waits for it.
        """
        if self._pika is None or self._told:
            return
        done: Pending[None] = Pending()
        self.when_closed(lambda _reason: done.resolve(None))
        if self._pika.is_open or self._pika.is_opening:
            self._pika.close()
        if self._hangs:
            if self.number in self.connection.sinks:  # what the broker may still send is nobody's
                self.connection.sinks[self.number] = _Nobody()
            return
        if patience_s is None:
            await done
        else:
            timer = self.connection.ioloop.call_later(patience_s, lambda: done.resolve(None))
            await done
            self.connection.ioloop.remove_timeout(timer)
