"""Dialling: one endpoint after the other, each attempt with a deadline. Thread: the I/O thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from busctl_lib.amqp.endpoints import Endpoint, Rotation
from busctl_lib.amqp.io_thread import Deadline, IoThread
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.amqp.renewal import Renewal
from busctl_lib.errors import CannotConnect, LoginRefused


class Dialer:
    """Makes the connections of a link.

    Args:
        io: the link's thread.
        endpoints: where to.
        timeout_s: for one endpoint, TCP, TLS and login together.
        client_properties: what the broker is told of us.
        redial: called when an attempt, put off for an access token, may begin.
        on_open, on_lost: pika's callbacks of a connection.
        on_failed: called with the endpoint and what became of the attempt.
    """

    def __init__(
        self,
        io: IoThread,
        endpoints: Sequence[Endpoint],
        *,
        timeout_s: float,
        client_properties: dict[str, Any],
        redial: Callable[[], None],
        on_open: Callable[[LinkConnection], None],
        on_failed: Callable[[Endpoint, BaseException], None],
        on_lost: Callable[[LinkConnection, BaseException], None],
    ) -> None:
        self.rotation = Rotation(endpoints)
        self.renewal = Renewal()
        self._io = io
        self._timeout_s = timeout_s
        self._client_properties = client_properties
        self._redial = redial
        self._on_open, self._on_failed, self._on_lost = on_open, on_failed, on_lost
        self._deadline = Deadline(io)
        self._next: object | None = None

    @property
    def patience_s(self) -> float:
        """How long it takes at most to try each endpoint once."""
        return self._timeout_s * len(self.rotation) + 5

    def dial(self) -> LinkConnection | None:
        """Begin an attempt; None when it has failed already, which was told, or is put off."""
        self._next = None
        endpoint = self.rotation.current
        if self.renewal.prepare(endpoint, lambda error: self._io.submit(lambda: self._prepared(endpoint, error))):
            return None
        try:
            parameters = endpoint.parameters(self._timeout_s, self._client_properties)
        except Exception as error:  # noqa: BLE001 - whoever knows the password may know it at the next dial
            self._on_failed(endpoint, error)
            return None
        connection = LinkConnection(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=lambda failed, error: self._failed(endpoint, failed, error),
            on_close_callback=self._on_lost,
            custom_ioloop=self._io.loop,
        )
        self._deadline.set(self._timeout_s + 1, lambda: connection.force_close("no answer in time"))
        return connection

    def _prepared(self, endpoint: Endpoint, error: Exception | None) -> None:
        if error is None:
            self._redial()
        else:
            self._on_failed(endpoint, error)

    def _opened(self, connection: LinkConnection) -> None:
        self._deadline.clear()
        self.rotation.succeeded()
        self.renewal.opened()
        self._on_open(connection)

    def _failed(self, endpoint: Endpoint, connection: LinkConnection, error: BaseException | str) -> None:
        self._deadline.clear()
        told = error if isinstance(error, BaseException) else CannotConnect(error)
        cause = connection.closed_by or told
        if isinstance(endpoint.failure(cause), LoginRefused) and self.renewal.another():
            self._redial()
        else:
            self._on_failed(endpoint, cause)

    # -- the next attempt

    def later(self, delay_s: float, dial: Callable[[], None]) -> None:
        """Let `dial` be called after a delay."""
        self._next = self._io.later(delay_s, dial)

    def call_off(self) -> bool:
        """Forget the attempt that `later` announced; whether there was one."""
        announced, self._next = self._next, None
        if announced is not None:
            self._io.cancel(announced)
        return announced is not None
