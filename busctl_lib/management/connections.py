"""Connections to HTTP servers: kept for the next request, and shut when the time for a whole answer is up.

By the standard library alone: a command asks once or twice, and a larger client takes longer to load than the broker
takes to answer.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import http.client
import os
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from busctl_lib.management.proxies import proxy_for

if TYPE_CHECKING:
    import ssl

    from busctl_lib.tls import TlsFiles

_KEPT = 8
_LEAST_S = 0.2
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
BROKEN = (OSError, http.client.HTTPException, zlib.error)
"""What a request raises that got no answer, or not a whole one."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    reason: str
    body: bytes
    headers: Mapping[str, str]
    """By their names in small letters."""


class Timing(NamedTuple):
    """How long to wait."""

    connect_s: float
    read_s: float
    """For each piece of the answer."""
    total_s: float


class ConnectTimeout(TimeoutError):
    """No connection in time."""


class OutOfTime(TimeoutError):
    """No whole answer in time."""


class _Server(NamedTuple):
    scheme: str
    host: str
    port: int


class _Connection(NamedTuple):
    """A connection to a server, or to the proxy that stands before it."""

    http: http.client.HTTPConnection
    headers: Mapping[str, str] | None
    """For a proxy that is told the whole address; None where there is none, or one that lets us through."""


class Connections:
    """Asks HTTP servers. Thread: any; what they share are connections at rest.

    Args:
        tls: How https is verified; None: by the authorities of the system, or those that the environment names.
    """

    def __init__(self, tls: TlsFiles | None = None) -> None:
        self._tls = tls
        self._resting: dict[_Server, list[_Connection]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections at rest; the next request opens new ones."""
        with self._lock:
            resting, self._resting = self._resting, {}
        for connection in (each for kept in resting.values() for each in kept):
            connection.http.close()

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], timing: Timing, body: bytes | None = None
    ) -> Answer:
        """Send one request and read the whole answer; a redirection is one.

        A reading whose connection was closed instead of an answer is sent once more: a server may close one that has
        rested for long.

        Raises:
            ConfigError: a proxy that cannot be one.
            OSError, HTTPException, zlib.error: there is no answer, or not a whole one.
        """
        parts = urlsplit(url)
        server = _Server(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        headers = {"Accept-Encoding": "gzip", **headers}
        with _Deadline(timing.total_s) as deadline:
            try:
                return self._ask(method, url, server, headers, timing, body, deadline)
            except BROKEN as error:
                if deadline.passed:
                    raise OutOfTime from error
                if method != "GET" or not isinstance(error, ConnectionResetError | BrokenPipeError):
                    raise
            try:
                return self._ask(method, url, server, headers, timing, body, deadline)
            except BROKEN as error:
                raise (OutOfTime() if deadline.passed else error) from error

    def _ask(
        self,
        method: str,
        url: str,
        server: _Server,
        headers: Mapping[str, str],
        timing: Timing,
        body: bytes | None,
        deadline: _Deadline,
    ) -> Answer:
        connection = self._take(server)
        http = connection.http
        target = url
        if connection.headers is None:
            _, _, rest = url.partition("://")
            target = f"/{rest.partition('/')[2]}"
        try:
            if http.sock is None:
                _open(http, timing.connect_s, deadline.watch)
            deadline.watch(http.sock)
            http.sock.settimeout(timing.read_s)
            http.request(method, target, body, {**(connection.headers or {}), **headers})
            response = http.getresponse()
            raw = response.read()
        except BaseException:
            http.close()
            raise
        self._give_back(server, connection, response.will_close)
        packed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        body = zlib.decompress(raw, _GZIP_OR_ZLIB) if packed else raw
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, response.reason, body, headers)

    def _take(self, server: _Server) -> _Connection:
        while True:
            with self._lock:
                kept = self._resting.get(server)
                connection = kept.pop() if kept else None
            if connection is None:
                return self._new(server)
            if not select.select([connection.http.sock], [], [], 0)[0]:
                return connection
            connection.http.close()  # what can be read from one at rest is its end

    def _give_back(self, server: _Server, connection: _Connection, is_over: bool) -> None:
        with self._lock:
            kept = self._resting.setdefault(server, [])
            if not is_over and len(kept) < _KEPT:
                kept.append(connection)
                return
        connection.http.close()

    def _new(self, server: _Server) -> _Connection:
        secure = server.scheme == "https"
        # What is said of TLS is for a broker that is reached directly.
        proxy = proxy_for(server.scheme, server.host) if not (secure and self._tls) else None
        host, port = (proxy.host, proxy.port) if proxy is not None else (server.host, server.port)
        if not secure:
            return _Connection(http.client.HTTPConnection(host, port), proxy and proxy.headers)
        connection = _Https(host, port, self._context, (self._tls and self._tls.server_name) or server.host)
        if proxy is not None:
            connection.set_tunnel(server.host, server.port, proxy.headers)
        return _Connection(connection, None)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        if self._tls is not None:
            return self._tls.context()
        import ssl

        named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""
        if os.path.isdir(named):
            return ssl.create_default_context(capath=named)
        return ssl.create_default_context(cafile=named or None)


class _Https(http.client.HTTPSConnection):
    """Checks a name that need not be the host's."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, context=context)
        self._files, self._server_name = context, server_name
        self.watch: Callable[[socket.socket], None] = lambda _connection: None
        """Told of the connection in use before it shakes hands."""

    def connect(self) -> None:
        """Connect, through a proxy where there is one, and shake hands."""
        http.client.HTTPConnection.connect(self)
        self.sock = secured = self._files.wrap_socket(
            self.sock, server_hostname=self._server_name, do_handshake_on_connect=False
        )
        self.watch(secured)
        secured.do_handshake()


def _open(connection: http.client.HTTPConnection, connect_s: float, watch: Callable[[socket.socket], None]) -> None:
    def connected(address: tuple[str, int], timeout: float, *_: object) -> socket.socket:
        made = _connected(address, timeout)
        watch(made)
        return made

    connection.timeout = connect_s
    connection._create_connection = connected  # type: ignore[attr-defined]  # also to a proxy
    if isinstance(connection, _Https):
        connection.watch = watch
    try:
        connection.connect()
    except TimeoutError as error:
        raise ConnectTimeout from error


def _connected(address: tuple[str, int], timeout: float) -> socket.socket:
    """A connection to the first address of a host that takes one, all within one time."""
    ends_at = time.monotonic() + timeout
    failure: OSError | None = None
    for found in _addresses(*address, timeout):
        try:
            return socket.create_connection(found, max(_LEAST_S, ends_at - time.monotonic()))
        except OSError as error:
            failure = failure or error
    raise failure or OSError(errno.EHOSTUNREACH, "the host has no address")


def _addresses(host: str, port: int, timeout: float) -> list[tuple[str, int]]:
    """The addresses of a host: looked up beside, because nothing can interrupt that nor end it in time."""
    found: list[tuple[str, int]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys((str(info[4][0]), port) for info in infos))
        except (OSError, UnicodeError) as error:
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=look_up, name="busctl-lookup", daemon=True).start()
    if not done.wait(timeout):
        raise TimeoutError(f"the address of {host} was not found in time")
    for failure in failures:
        raise failure
    return found


class _Deadline:
    """Shuts a connection when the time is up, once.

    The timeout of a socket starts anew with every byte, so a server that answers byte by byte would hold its caller for
    as long as it likes.
    """

    def __init__(self, total_s: float) -> None:
        self.passed = False
        self._socket: Any = None
        self._timer = threading.Timer(total_s, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, connection: socket.socket) -> None:
        """Say which connection is in use."""
        self._socket = connection
        if self.passed:
            self._pass()

    def _pass(self) -> None:
        self.passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not TLS's own, whose reader is at work
