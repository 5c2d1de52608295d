"""Things at a socket where the management API should be: a road to the real one that can be cut, and a fake."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

_HOPS = ("host", "accept-encoding", "connection")
"""Headers that a proxy does not pass on."""


class Road:
    """A TCP road to the real API: it can be cut (refused), jammed (accepted, never answered) or made long."""

    def __init__(self, api_url: str) -> None:
        parts = urlsplit(api_url)
        self._target = (parts.hostname or "localhost", parts.port or 80)
        self._login = parts.netloc.rpartition("@")[0]
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.port = 0
        self.taken = 0
        """Connections."""
        self.jammed = False
        self.delay_s = 0.0
        self.mend()

    @property
    def url(self) -> str:
        return f"http://{self._login}@127.0.0.1:{self.port}"

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone would leave the accepting thread holding the port.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                self.taken += 1
                far = socket.create_connection(self._target)
                self._open += [near, far]
                threading.Thread(target=self._carry, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, False), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, to_api: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if to_api:
                    time.sleep(self.delay_s)
                if not (to_api and self.jammed):
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def answering(
    body: bytes, status: str = "200 OK", heard: list[bytes] | None = None, *, hang_ups: int = 0, **headers: str
) -> Iterator[str]:
    """An HTTP server that gives one answer to everything, and keeps what it heard; the first few get none at all."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            for number in itertools.count():
                peer, _ = listener.accept()
                with peer:
                    request = peer.recv(65536)
                    if heard is not None:
                        heard.append(request)
                    if number < hang_ups:
                        continue
                    peer.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


class Passed(list[str]):
    """The requests that a proxy passed on, as the API got them."""

    url: str


@contextlib.contextmanager
def reverse_proxy(
    api_url: str,
    rewrite: Callable[[str], str] = str,
    instead: Callable[[str, int], tuple[int, bytes] | None] = lambda _, __: None,
) -> Iterator[Passed]:
    """The real API behind a proxy.

    Args:
        api_url: The real one.
        rewrite: How it writes paths anew.
        instead: The answer that it gives in place of one with a status, to what was asked; it may take its time.
    """
    parts, passed = urlsplit(api_url), Passed()

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None: ...

        def pass_on(self) -> None:
            path, mark, query = self.path.partition("?")
            target = rewrite(path) + mark + query
            passed.append(f"{self.command} {target}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            line = http.client.HTTPConnection(parts.hostname or "", parts.port)
            line.request(self.command, target, body, {k: v for k, v in self.headers.items() if k.lower() not in _HOPS})
            response = line.getresponse()
            status, answer = instead(f"{self.command} {target}", response.status) or (response.status, response.read())
            line.close()
            with contextlib.suppress(OSError):  # who asked may have gone
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    passed.url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{server.server_port}").geturl()
    try:
        yield passed
    finally:
        server.shutdown()
        server.server_close()


def refusing_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def dripping() -> Iterator[str]:
    """A server that begins an answer and sends it one byte every 0.1 s, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                while not done.wait(0.1):
                    peer.sendall(b"H")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        done.set()
        listener.close()
