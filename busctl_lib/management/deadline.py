"""A deadline for a whole HTTP request.

The timeout of a socket starts anew with every byte, so a server that answers byte by byte would hold its caller for
as long as it likes. Here the connection is shut from outside when the time is up.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_THREAD = threading.local()


class Deadline:
    """Shuts the connection that the requests of one thread use, once."""

    def __init__(self) -> None:
        self.connection: HTTPConnection | None = None
        self.passed = False

    def pass_(self) -> None:
        """The time is up. Thread: the timer's."""
        self.passed = True
        sock: Any = getattr(self.connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not the TLS socket's own, whose reader is at work


@contextlib.contextmanager
def deadline(total_s: float) -> Iterator[Deadline]:
    """Within the block, requests of this thread end after `total_s` seconds, as a broken connection."""
    mine = _THREAD.deadline = Deadline()
    timer = threading.Timer(total_s, mine.pass_)
    timer.daemon = True
    timer.start()
    try:
        yield mine
    finally:
        timer.cancel()
        _THREAD.deadline = None


class _Watched:
    """A connection that tells the deadline of its thread that it is in use."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        mine: Deadline | None = getattr(_THREAD, "deadline", None)
        if mine is not None:
            mine.connection = self  # type: ignore[assignment]
        super().request(*args, **kwargs)  # type: ignore[misc]


class _Http(_Watched, HTTPConnection):
    pass


class _Https(_Watched, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class DeadlineAdapter(requests.adapters.HTTPAdapter):
    """Opens connections that obey the deadline of the thread that uses them.

    Args:
        server_name: the name to verify in the server's certificate, where it is not the host's.
    """

    def __init__(self, server_name: str | None = None, **settings: Any) -> None:
        self._server_name = server_name
        super().__init__(**settings)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Build the pool with our connections."""
        if self._server_name is not None:
            kwargs |= {"server_hostname": self._server_name, "assert_hostname": self._server_name}
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
