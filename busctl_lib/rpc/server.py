"""RPCServer: methods made of functions with type hints."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, get_type_hints, overload

import msgspec

from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import read_json
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.errors import CodecError, ConfigError, InvalidMessage
from busctl_lib.rpc.answers import body_envelope, deadline_of, reply_envelope
from busctl_lib.rpc.responder import Responder
from busctl_lib.validation import nearest

F = TypeVar("F", bound=Callable[..., Any])


class Request:
    """One request, for functions that want to know more of it than its arguments."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    @property
    def properties(self) -> Properties:
        """Its AMQP properties, headers among them."""
        return self.delivery.properties

    @property
    def remaining_s(self) -> float | None:
        """How long its caller still waits; None where the caller did not say."""
        deadline = deadline_of(self.delivery.properties)
        return None if deadline is None else max(0.0, deadline - time.time())


class _Served(NamedTuple):
    """A function and what it takes."""

    function: Callable[..., Any]
    arguments: type[msgspec.Struct]
    request: str | None
    """The parameter that is the Request."""


class RPCServer:
    """Answers the requests of one queue by functions.

    ::

        server = RPCServer(broker, "obs_requests", concurrency=4)

        @server.method
        def get_orderbook(symbol: str, depth: int = 10) -> dict: ...

        server.serve()                      # until stop(); or: with server: ...

    A request is a JSON object whose `action` names the method; its other fields are the function's arguments, checked
    by their type hints (`Annotated[int, msgspec.Meta(ge=1)]` sets bounds). What the function returns is the reply, None
    too. What it raises is an error reply with the exception's name and text; an unknown method or a bad argument is
    one of type InvalidMessage, naming the field. A parameter hinted `Request` gets the request itself.

    Args:
        broker: where from.
        queue: where requests come in; it must be there.
        concurrency: how many requests are worked on at once, each on a thread.
        deadline_s: the longest a method may take: then its caller gets the error DeadlineExceeded.
        selector: the field that names the method.
    """

    def __init__(
        self,
        broker: MessageBroker,
        queue: str,
        *,
        concurrency: int = 1,
        deadline_s: float | None = None,
        selector: str = "action",
    ) -> None:
        self.responder = Responder(broker, queue, self._answer, concurrency=concurrency, deadline_s=deadline_s)
        self._selector = selector
        self._methods: dict[str, _Served] = {}
        self._default: Callable[[Request], Any] | None = None
        self._stop = threading.Event()

    # -- methods

    @overload
    def method(self, function: F, /) -> F: ...

    @overload
    def method(self, function: None = None, /, *, name: str) -> Callable[[F], F]: ...

    def method(self, function: Any = None, /, *, name: str | None = None) -> Any:
        """Serve a function under its own name, or another one; a decorator.

        Raises:
            ConfigError: the name is taken, or a parameter has no type hint.
        """
        if function is None:
            return lambda given: self._register(given, name or given.__name__)
        return self._register(function, name or function.__name__)

    def default(self, function: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """Let a function answer what no method is for, whatever the body; a decorator. Bytes are sent as they are."""
        self._default = function
        return function

    def _register(self, function: F, name: str) -> F:
        if name in self._methods:
            raise ConfigError(f"there is a method {name!r} already")
        hints = get_type_hints(function, include_extras=True)
        fields: list[Any] = []
        request = None
        for parameter in inspect.signature(function).parameters.values():
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if parameter.name not in hints or not named:
                raise ConfigError(f"method {name}: parameter {parameter} needs a type hint and a name to be given by")
            if hints[parameter.name] is Request:
                request = parameter.name
            elif parameter.default is parameter.empty:
                fields.append((parameter.name, hints[parameter.name]))
            else:
                fields.append((parameter.name, hints[parameter.name], parameter.default))
        arguments = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
        self._methods[name] = _Served(function, arguments, request)
        return function

    # -- life

    def start(self) -> None:
        """Serve in the background. Raises NotFound when the queue is not there."""
        self._stop.clear()
        self.responder.start()

    def serve(self) -> None:
        """Serve until `stop()`, which another thread or a method calls."""
        self.start()
        try:
            self._stop.wait()
        finally:
            self.stop()

    def stop(self, timeout: float = 30.0) -> None:
        """Take no more requests, finish those at work and their replies, give back the rest; at most `timeout` s."""
        self._stop.set()
        self.responder.stop(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- one request

    def _answer(self, delivery: Delivery) -> Envelope | None:
        request = Request(delivery)
        result = self._call(request)
        if not delivery.properties.reply_to:
            return None
        if isinstance(result, bytes):
            content_type = delivery.properties.content_type or "application/octet-stream"
            return body_envelope(delivery.properties, result, content_type=content_type)
        return reply_envelope(delivery.properties, result)

    def _call(self, request: Request) -> Any:
        served, arguments = self._find(request)
        if served is None:
            assert self._default is not None
            return self._default(request)
        name = served.arguments.__name__
        try:
            found = msgspec.convert(arguments, served.arguments)
        except msgspec.ValidationError as error:
            what, _, path = str(error).partition(" - at `$.")
            field = path.rstrip("`")
            text = f"{name}: {field}: {what}" if field else f"{name}: {what}"
            raise InvalidMessage(text, field=field, expected=what, found="", action=name) from None
        given = {field: getattr(found, field) for field in served.arguments.__struct_fields__}
        if served.request is not None:
            given[served.request] = request
        return served.function(**given)

    def _find(self, request: Request) -> tuple[_Served | None, dict[str, Any]]:
        """The method that a request is for, and its arguments."""
        try:
            message = read_json(request.delivery)
        except CodecError:
            if self._default is None:
                raise
            return None, {}
        name = message.get(self._selector) if isinstance(message, dict) else None
        served = self._methods.get(name) if isinstance(name, str) else None
        if served is not None:
            return served, {field: value for field, value in message.items() if field != self._selector}
        if self._default is not None:
            return None, {}
        near = nearest(name, self._methods) if isinstance(name, str) else None
        raise InvalidMessage(
            f"no method {name!r:.80}" + (f", did you mean {near}?" if near else ""),
            field=self._selector,
            expected=f"one of {', '.join(self._methods)}",
            found=repr(name)[:80],
        )
