"""MethodCaller: calls methods, each the way its description says, and knows what its replies mean."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from busctl_lib.broker import MessageBroker
from busctl_lib.documents import body_of, to_json
from busctl_lib.errors import CodecError, RemoteError
from busctl_lib.expressions import Expression, GuardedExpression
from busctl_lib.methods import Method
from busctl_lib.rpc.calls import Reply, RPCConsumer, Strays

DEFAULT_TIMEOUT_S = 5.0


class MethodCaller:
    """Calls methods. Thread: any number of threads may call at once; close it when done.

    Args:
        broker: where to.
        check_shared: called with the name of a shared reply queue before its first use; refuses by raising.
    """

    def __init__(self, broker: MessageBroker, *, check_shared: Callable[[str], None] | None = None) -> None:
        self._broker = broker
        self._check_shared = check_shared
        self._consumers: dict[tuple[str, str | None], RPCConsumer] = {}
        self._errors: dict[str, GuardedExpression] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes of error expressions; the reply addresses go with the broker object."""
        with self._lock:
            for guarded in self._errors.values():
                guarded.close()
            self._errors.clear()

    @property
    def strays(self) -> Strays:
        """Replies that belonged to no call in flight, so far."""
        total = Strays()
        for consumer in list(self._consumers.values()):
            for name, number in vars(consumer.strays).items():
                setattr(total, name, getattr(total, name) + number)
        return total

    def request(
        self,
        method: Method,
        message: Any,
        timeout: float | None = None,
        *,
        content_type: str | None = None,
        retries: int = 0,
    ) -> Reply:
        """Send a request and wait for its reply, also when that is an error (see `failure`).

        Args:
            method: what to call.
            message: as `methods.coerce` makes it; bytes are sent as they are.
            timeout: seconds; the method's own, else 5.
            content_type, retries: as of `RPCConsumer.request`.

        Raises:
            As `RPCConsumer.call`.
        """
        if method.error is not None:
            with self._lock:
                self._expression(method.error)  # its process starts while the request travels
        seconds = timeout if timeout is not None else method.timeout_s or DEFAULT_TIMEOUT_S
        return self._consumer(method).request(
            method.queue, message, seconds, exchange=method.exchange, content_type=content_type, retries=retries
        )

    def failure(self, method: Method, reply: Reply) -> RemoteError | None:
        """The error that a reply carries: by the header `busctl-error`, or what the method's `error` gives of it.

        Raises:
            ExpressionTimedOut: the method's `error` runs too long.
        """
        if reply.error is not None or method.error is None:
            return reply.error
        with self._lock:
            guarded = self._expression(method.error)
            found = guarded.results([to_json(reply.delivery)])[0]
        values = [msgspec.json.decode(raw) for raw in found]
        value = next((value for value in values if value is not None and value is not False), None)
        if value is None:
            return None
        kind, text = _said(value)
        said = ": ".join(part for part in (kind, text) if part)
        return RemoteError(f"the other side failed{f': {said}' if said else ''}", type=kind, text=text, reply=reply)

    def message(self, method: Method, reply: Reply) -> Any:
        """The reply's JSON value; of a method of text replies the text.

        Raises:
            CodecError: it is neither.
        """
        if method.reply_body == "text":
            body = body_of(reply.delivery)
            if body.text is None:
                raise CodecError(f"the reply is not text: {body.why}")
            return body.text
        return reply.message

    def _consumer(self, method: Method) -> RPCConsumer:
        key = (method.replies, method.reply_queue)
        with self._lock:
            if key not in self._consumers:
                if method.reply_queue is not None and self._check_shared is not None:
                    self._check_shared(method.reply_queue)
                self._consumers[key] = RPCConsumer(
                    self._broker, reply_mode=method.replies, reply_queue=method.reply_queue
                )
            return self._consumers[key]

    def _expression(self, text: str) -> GuardedExpression:
        guarded = self._errors.get(text)
        if guarded is None:
            guarded = self._errors[text] = GuardedExpression(Expression(text, "error"))
            guarded.start()
        return guarded


def _said(value: Any) -> tuple[str | None, str | None]:
    """Type and text of an error, as services write it."""
    if isinstance(value, dict):
        kind = next((value[name] for name in ("type", "code", "error", "name") if name in value), None)
        text = next((value[name] for name in ("message", "text", "detail", "reason") if name in value), None)
        if kind is not None or text is not None:
            return None if kind is None else str(kind), None if text is None else str(text)
    return None, "" if value is True else value if isinstance(value, str) else msgspec.json.encode(value).decode()
