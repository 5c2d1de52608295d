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
)

GOODBYE_S = 2.0
"""How long the broker may take to say that a channel or connection is closed: one that hangs is left behind."""
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


class Channel:
    """One channel. Thread: the I/O thread only."""

    def __init__(self, connection: LinkConnection, number: int, sink: Sink | None = None) -> None:
        self.connection = connection
        self.number = number
        self.closed_by: BaseException | None = None
        self._told = False
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
        """Call pika's channel method of that name and wait for the broker's answer (its method frame's method)."""
        answer = self._expect()
        if not answer.done:
            try:
                getattr(self._pika, method)(*args, callback=answer.resolve, **kwargs)
            except pika_exceptions.AMQPError as error:
                answer.fail(reason_of(error))
        frame = await answer
        return getattr(frame, "method", frame)

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

    async def close(self, patience_s: float | None = GOODBYE_S) -> bool:
        """Close it; what was delivered and not settled goes back to its queue. Never raises.

        Args:
            patience_s: wait no longer for the broker, which may hang in what the channel was asked for last.

        Returns:
            Whether it is closed.
        """
        if self._pika is None or self._told:
            return True
        done: Pending[None] = Pending()
        self.when_closed(lambda _reason: done.resolve(None))
        if self._pika.is_open or self._pika.is_opening:
            self._pika.close()
        if patience_s is None:
            await done
        else:
            timer = self.connection.ioloop.call_later(patience_s, lambda: done.resolve(None))
            await done
            self.connection.ioloop.remove_timeout(timer)
        return self._told
