"""The ceiling: frames encoded beforehand on a bare socket, confirms and deliveries only counted.

No client that encodes, decodes and tracks each message in Python can be faster on the same broker and machine.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Any

import pika
from job import Job
from message import BODY
from pika import frame, spec

WINDOW = 10_000
CHUNK = 100
PREFETCH = 2_000
ACK_EVERY = 500

_CONFIRM = struct.Struct(">7xIQxx")
_ACK = 0x003C0050
_READ_BYTES = 1 << 20


class _Wire:
    """One socket, opened as far as an AMQP channel 1."""

    def __init__(self, url: str) -> None:
        given = pika.URLParameters(url)
        if given.ssl_options is not None:
            raise SystemExit("the ceiling speaks plain TCP only, not amqps")
        self.socket = socket.create_connection((given.host, given.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        login = given.credentials
        secret = f"\0{login.username}\0{login.password}".encode()
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._expect(spec.Connection.Start)
        self.send(0, spec.Connection.StartOk({}, "PLAIN", secret, "en_US"))
        self._expect(spec.Connection.Tune)
        self.send(0, spec.Connection.TuneOk(2047, 131072, 0))  # no heartbeats: only confirms or deliveries follow
        self.ask(0, spec.Connection.Open(given.virtual_host, "", True), spec.Connection.OpenOk)
        self.ask(1, spec.Channel.Open(), spec.Channel.OpenOk)

    def send(self, channel: int, method: Any) -> None:
        self.socket.sendall(frame.Method(channel, method).marshal())

    def ask(self, channel: int, method: Any, answer: type) -> None:
        self.send(channel, method)
        self._expect(answer)

    def _expect(self, answer: type) -> None:
        while True:
            used, value = frame.decode_frame(self._unread)
            self._unread = self._unread[used:]
            if value is None:
                self._unread += self.read()
            elif isinstance(getattr(value, "method", None), answer):
                return

    def read(self) -> bytes:
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the broker closed the connection")
        return data

    def close(self) -> None:
        """Say goodbye, so that what was sent before has been taken when this returns."""
        self.ask(0, spec.Connection.Close(200, "", 0, 0), spec.Connection.CloseOk)
        self.socket.close()


def publish(job: Job) -> None:
    wire = _Wire(job.url)
    wire.ask(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    properties = spec.BasicProperties(content_type="application/json", delivery_mode=2)
    one = (
        frame.Method(1, spec.Basic.Publish(0, "", job.queue, True)).marshal()
        + frame.Header(1, len(BODY), properties).marshal()
        + frame.Body(1, BODY).marshal()
    )
    confirmed = 0

    def count_confirms() -> None:
        nonlocal confirmed
        rest = b""
        while confirmed < job.n:
            data = rest + wire.read()
            whole = len(data) - len(data) % _CONFIRM.size
            rest = data[whole:]
            for method, tag in _CONFIRM.iter_unpack(data[:whole]):
                assert method == _ACK, hex(method)
                confirmed = max(confirmed, tag)

    reader = threading.Thread(target=count_confirms)
    sent = 0
    job.watch.start()
    reader.start()
    while sent < job.n:
        while sent - confirmed > WINDOW:
            time.sleep(0.001)
        count = min(CHUNK, job.n - sent)
        wire.socket.sendall(one * count)
        sent += count
    reader.join()
    job.watch.stop()
    wire.close()


def consume(job: Job) -> None:
    wire = _Wire(job.url)
    wire.ask(1, spec.Basic.Qos(0, PREFETCH, False), spec.Basic.QosOk)
    end_of_message = BODY + b"\xce"
    rest = b""
    seen = acked = 0
    job.watch.start()
    wire.send(1, spec.Basic.Consume(0, job.queue, "ceiling", False, False, False, False, {}))
    while seen < job.n:
        data = rest + wire.read()
        seen += data.count(end_of_message)
        last = data.rfind(end_of_message)
        rest = data[last + len(end_of_message) :] if last >= 0 else data
        if seen - acked >= ACK_EVERY or seen >= job.n:
            wire.send(1, spec.Basic.Ack(seen, True))
            acked = seen
    job.watch.stop()
    wire.close()
