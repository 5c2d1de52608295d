"""A broker at a socket, for answers that no real one gives on demand: it lets one log in, then does as it is told."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pika import frame, spec

Answer = Callable[[], Any]
_CAPABLE = {"publisher_confirms": True, "basic.nack": True, "consumer_cancel_notify": True, "connection.blocked": True}
_ANSWERS: dict[tuple[int, int], Answer] = {
    (20, 10): spec.Channel.OpenOk,
    (85, 10): spec.Confirm.SelectOk,
    (20, 40): spec.Channel.CloseOk,
    (60, 10): spec.Basic.QosOk,
    (10, 50): spec.Connection.CloseOk,
}


class Stage:
    """One fake broker and what it saw."""

    def __init__(self, at_login: Any, at_open: Any, frame_max: int, deaf_to: set[tuple[int, int]]) -> None:
        self.frames: list[int] = []
        """How large each frame was that came, its end mark and head included."""
        self._at_login, self._at_open, self._frame_max, self._deaf_to = at_login, at_open, frame_max, deaf_to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = False
        self.url = f"amqp://u:p@127.0.0.1:{self._listener.getsockname()[1]}/%2F"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._ended = True
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            _take(client, 8)
            start = {"product": "RabbitMQ", "version": "3.10.8", "capabilities": _CAPABLE}
            _send(client, 0, spec.Connection.Start(0, 9, start, "PLAIN", "en_US"))
            self._read(client)
            if self._at_login is not None:
                self._end(client, self._at_login)
                return
            _send(client, 0, spec.Connection.Tune(2047, self._frame_max, 60))
            self._read(client)
            self._read(client)
            if self._at_open is not None:
                self._end(client, self._at_open)
                return
            _send(client, 0, spec.Connection.OpenOk())
            self._answer(client)

    def _end(self, client: socket.socket, said: Any) -> None:
        """Close with these words; without any where it is no method."""
        if isinstance(said, spec.Connection.Close):
            _send(client, 0, said)
            self._read(client)

    def _answer(self, client: socket.socket) -> None:
        published: dict[int, int] = {}
        sizes: dict[int, int] = {}
        while True:
            kind, number, payload = self._read(client)
            method = struct.unpack(">HH", payload[:4]) if kind == 1 else None
            if method in self._deaf_to:
                continue
            if method in _ANSWERS:
                _send(client, number, _ANSWERS[method]())
            if kind == 2:
                sizes[number] = struct.unpack(">Q", payload[4:12])[0]
            if kind == 3:
                sizes[number] -= len(payload)
            if kind in (2, 3) and not sizes[number]:
                published[number] = published.get(number, 0) + 1
                _send(client, number, spec.Basic.Ack(published[number]))

    def _read(self, client: socket.socket) -> tuple[int, int, bytes]:
        kind, number, size = struct.unpack(">BHI", _take(client, 7))
        self.frames.append(size + 8)
        return kind, number, _take(client, size + 1)[:-1]


@contextlib.contextmanager
def amqp_server(
    *,
    at_login: Any = None,
    at_open: Any = None,
    frame_max: int = 131_072,
    deaf_to: set[tuple[int, int]] = frozenset(),  # type: ignore[assignment]
) -> Iterator[Stage]:
    """A broker on a free port.

    Args:
        at_login: ends the connection where the login was sent, with these words (Connection.Close) or without any.
        at_open: the same where a virtual host is opened.
        frame_max: the largest frame it takes.
        deaf_to: methods (class, method) that it never answers.
    """
    stage = Stage(at_login, at_open, frame_max, deaf_to)
    try:
        yield stage
    finally:
        stage.close()


def _take(client: socket.socket, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        if not (piece := client.recv(size - len(taken))):
            raise OSError
        taken += piece
    return taken


def _send(client: socket.socket, number: int, method: Any) -> None:
    client.sendall(frame.Method(number, method).marshal())
