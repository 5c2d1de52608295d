"""The access token of a link: there before it dials, and renewed on the open connection before it ends.

RabbitMQ 4.3 closes a connection whose token has ended (320, "credential expired"); earlier ones refuse what is done on
it (403). Run on 3.10.8, 4.0.5 and 4.3.6.
Source: https://www.rabbitmq.com/docs/oauth2#token-expiration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pika import exceptions as pika_exceptions

from busctl_lib.amqp.endpoints import Endpoint
from busctl_lib.amqp.pika_compat import LinkConnection
from busctl_lib.tokens import TokenSource


class Renewal:
    """Keeps the token of one link. Thread: the I/O thread."""

    def __init__(self) -> None:
        self._token: TokenSource | None = None
        self._sent: str | None = None
        self._tried_again = False

    def prepare(self, endpoint: Endpoint, go_on: Callable[[Exception | None], None]) -> bool:
        """Get a token before a dial where there is none that is good, which may take its time, on another thread.

        Args:
            endpoint: What will be dialled.
            go_on: Called on that thread, with what went wrong where there is no token to dial with.

        Returns:
            Whether to wait for `go_on`.
        """
        self._token = token = endpoint.token
        if token is None:
            return False
        if not token.ready:
            token.renew(go_on)
            return True
        self._sent = token.value
        return False

    def opened(self) -> None:
        """The broker took the token."""
        self._tried_again = False

    def keep(self, connection: LinkConnection) -> None:
        """Renew the token of an open connection where it is time, and tell the broker of a new one."""
        if self._token is None:
            return
        self._token.renew_if_due()
        value = self._token.value
        if value is not None and value != self._sent:
            self._sent = value
            with contextlib.suppress(pika_exceptions.ConnectionWrongStateError):
                connection.update_secret(value, "renewed before it ends")

    def another(self) -> bool:
        """The broker refused the token: whether to dial again with another one, which is done once."""
        if self._token is None or self._sent is None or not self._token.refused(self._sent) or self._tried_again:
            return False
        self._tried_again = True
        return True
