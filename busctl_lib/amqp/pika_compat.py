"""Every private name of pika that we override, and nothing else; written for pika 1.4.

What changes and why, measured in benchmarks/: reading is linear in the bytes read (1.4 copies the rest of the buffer
after each frame); the frames of one loop turn leave in one send; deliveries, returns and confirms of our own channels
go straight to a sink as plain values; the count of bytes handed to the kernel is known when a link dies, which is
what makes NEVER_SENT a fact.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol

import pika
from pika import exceptions as pika_exceptions
from pika.adapters.select_connection import SelectConnection
from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport
from pika.frame import decode_frame

from busctl_lib.address_parameters import FRAME_MAX
from busctl_lib.amqp import wire
from busctl_lib.amqp.tables import encode_table
from busctl_lib.errors import ConfigError

if tuple(int(part) for part in pika.__version__.split(".")[:2]) != (1, 4):
    raise ConfigError(
        f"pika {pika.__version__} is installed; busctl_lib is written for pika 1.4", hint="pip install 'pika>=1.4,<1.5'"
    )

_RECV_BYTES = 1 << 18  # safe only together with the linear parser below


class DialParameters(pika.ConnectionParameters):
    """Connection parameters with frames as large as the broker agrees to: pika itself knows none above 128 KiB."""

    @property
    def frame_max(self) -> int:
        """The largest frame in bytes; 0 leaves it to the broker."""
        return self._frame_max

    @frame_max.setter
    def frame_max(self, value: int) -> None:
        self._frame_max = int(value)


class _Quiet(logging.Filter):
    """Lowers what pika says on our I/O threads to DEBUG: the link itself tells what happened, once and in words."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.DEBUG and (record.threadName or "").startswith("busctl-link"):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        return True


_QUIET = _Quiet()


def quiet_pika() -> None:
    """Take pika's loggers down to DEBUG for our threads; loggers of the application's own pika use stay as they are."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("pika"):
            logging.getLogger(name).addFilter(_QUIET)


_CHUNK = 1 << 16  # a partial send slices the chunk, so a large one would be copied again and again


class Sink(Protocol):
    """Who takes what arrives on one channel. Thread: the I/O thread."""

    def on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        """A delivery; `method` is for `wire.decode_deliver`, `header` for `wire.decode_properties`."""

    def on_return(self, method: bytes, header: bytes, body: bytes) -> None:
        """A returned publish; `method` is for `wire.decode_return`, `header` for `wire.decode_properties`."""

    def on_confirm(self, tag: int, multiple: bool, ack: bool) -> None:
        """An ack or nack of a publish."""


class _Content:
    """A delivery or return whose frames are still coming in."""

    __slots__ = ("body", "header", "method", "missing", "payload")

    def __init__(self, method: int, payload: bytes) -> None:
        self.method = method
        self.payload = payload
        self.header = b""
        self.missing = 0
        self.body: list[bytes] = []


class LinkConnection(SelectConnection):
    """A SelectConnection with sinks for the channels that register one."""

    def _init_connection_state(self) -> None:
        super()._init_connection_state()
        self._frame_buffer: bytearray = bytearray()  # type: ignore[assignment]
        self._parsing = False
        self._pending_out: list[bytes] = []
        self._pending_size = 0
        self._contents: dict[int, _Content] = {}
        self.sinks: dict[int, Sink] = {}

    flush_follows = False
    """Whether the owner flushes at the end of this turn anyway."""
    gathered = 0
    """Bytes accepted for sending since the link began."""
    _heard = (-1, 0.0)
    """Bytes received, and when their count last changed (monotonic)."""
    closed_by: pika_exceptions.ConnectionClosedByBroker | None = None
    """What the broker said when it closed the connection: pika's own error of one not open yet is a guess."""
    unanswered = False
    """Whether the broker let a deadline pass in what it was asked, and has confirmed nothing since."""
    unsent_at_loss: int | None = None
    """Of those, bytes the kernel never got; known once the link is lost."""

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = _RECV_BYTES  # of this transport only, not of the application's own pika
        super()._proto_connection_made(transport)

    # -- reading

    def _on_data_available(self, data_in: bytes) -> None:
        buffer = self._frame_buffer
        buffer += data_in
        if self._parsing:
            return
        self._parsing, offset, end = True, 0, 0
        size = len(buffer)
        try:
            while size - offset >= 8:
                kind = buffer[offset]
                length = int.from_bytes(buffer[offset + 3 : offset + 7], "big")
                end = offset + 8 + (0 if kind == 0x41 else length)
                if end > size:
                    break
                start, offset = offset, end
                channel = buffer[start + 1] << 8 | buffer[start + 2]
                if not (
                    channel in self.sinks
                    and buffer[end - 1] == 0xCE
                    and self._take(kind, channel, bytes(buffer[start + 7 : end - 1]))
                ):
                    _, value = decode_frame(bytes(buffer[start:end]))
                    if value is not None:
                        self._process_frame(value)
                if self._frame_buffer is not buffer:  # a callback ended the connection
                    return
                size = len(buffer)
        finally:
            self._parsing = False
            if self._frame_buffer is buffer:
                self.bytes_received += offset
                del buffer[:offset]
                self.flush()

    def _take(self, kind: int, channel: int, payload: bytes) -> bool:
        """Handle a frame of a channel with a sink; False leaves it to pika."""
        if kind == 1:
            method = int.from_bytes(payload[:4], "big")
            if method in (wire.METHOD_DELIVER, wire.METHOD_RETURN):
                self._contents[channel] = _Content(method, payload)
            elif method in (wire.METHOD_ACK, wire.METHOD_NACK):
                self.frames_received += 1
                tag, multiple = wire.decode_confirm(payload)
                self.sinks[channel].on_confirm(tag, multiple, method == wire.METHOD_ACK)
                return True
            else:
                return False
        else:
            content = self._contents.get(channel)
            if content is None:
                return False
            if kind == 2:
                content.header = payload
                content.missing = int.from_bytes(payload[4:12], "big")
            else:
                content.body.append(payload)
                content.missing -= len(payload)
            if content.missing <= 0:
                self._finish(channel, content)
        self.frames_received += 1
        return True

    def _finish(self, channel: int, content: _Content) -> None:
        del self._contents[channel]
        body = content.body[0] if len(content.body) == 1 else b"".join(content.body)
        sink = self.sinks[channel]
        deliver = sink.on_deliver if content.method == wire.METHOD_DELIVER else sink.on_return
        deliver(content.payload, content.header, body)

    def forget_content(self, channel: int) -> None:
        """Drop the half of a message that a closed channel left behind."""
        self._contents.pop(channel, None)

    # -- writing

    def emit(self, frames: bytes) -> int:
        """Queue frames for this loop turn; returns the wire offset behind them."""
        if not self._pending_out and not self.flush_follows and not self._parsing:
            self._nbio.add_callback_threadsafe(self.flush)
        self._pending_out.append(frames)
        self._pending_size += len(frames)
        self.bytes_sent += len(frames)
        self.gathered += len(frames)
        return self.gathered

    def flush(self) -> None:
        """Hand what was gathered to the kernel, or to the transport what it does not take."""
        pending, self._pending_out = self._pending_out, []
        self._pending_size = 0
        if not pending or self._transport is None:
            return
        chunk: list[bytes] = []
        size = 0
        for frames in pending:
            if size and size + len(frames) > _CHUNK:
                self._write(b"".join(chunk))
                if self._transport is None:
                    return
                chunk, size = [], 0
            chunk.append(frames)
            size += len(frames)
        self._write(b"".join(chunk))

    def _write(self, data: bytes) -> None:
        """Send at once where nothing waits before it: pika's transport asks for another loop turn first."""
        transport = self._transport
        if type(transport) is _AsyncPlaintextTransport and not transport.get_write_buffer_size():
            try:
                sent = transport._sock.send(data)
            except OSError:
                sent = 0  # would block, or is broken: the transport finds out which
            if sent == len(data):
                return
            data = data[sent:]
        self._adapter_emit_data(data)

    def _send_method(self, channel_number: int, method: Any, content: Any = None) -> None:
        """Declarations' arguments go through our own table codec: pika's has no floats, and dies of them."""
        arguments = getattr(method, "arguments", None)
        if not arguments:
            super()._send_method(channel_number, method, content)
            return
        table = encode_table(arguments, "argument")
        method.arguments = {}
        payload = method.INDEX.to_bytes(4, "big") + b"".join(method.encode())
        self.frames_sent += 1
        self.emit(wire.encode_method(channel_number, payload[:-4] + table))  # the empty table is four zero bytes

    def _output_marshaled_frames(self, marshaled_frames: Iterable[bytes]) -> None:
        for frames in marshaled_frames:
            self.frames_sent += 1
            self.emit(frames)

    @property
    def backlog(self) -> int:
        """Bytes accepted and not yet handed to the kernel."""
        buffered = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return int(buffered) + self._pending_size

    # -- ending

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        unsent = self.backlog  # read it before super() drops the transport
        if self.params.ssl_options is not None and unsent:
            unsent = max(0, unsent - _CHUNK)  # TLS may have sent part of the first chunk it could not finish
        self.unsent_at_loss = unsent
        self._pending_out = []
        super()._proto_connection_lost(error)

    def _on_connection_close_from_broker(self, method_frame: Any) -> None:
        said = method_frame.method
        self.closed_by = pika_exceptions.ConnectionClosedByBroker(said.reply_code, said.reply_text)
        super()._on_connection_close_from_broker(method_frame)

    def force_close(self, reason: str) -> None:
        """End the link now, whatever the other side does; the close callback follows."""
        if not self.is_closed:
            self._terminate_stream(pika_exceptions.StreamLostError(reason))

    def check_alive(self, now: float) -> float:
        """When the peer last sent anything. Gives it up after two heartbeats, where those are on; pika waits longer."""
        if self.bytes_received != self._heard[0]:
            self._heard = (self.bytes_received, now)
        silent_s, heartbeat = now - self._heard[1], self.params.heartbeat
        if isinstance(heartbeat, int) and heartbeat and silent_s > 2 * heartbeat:  # it sends one twice in each
            self.force_close(f"nothing heard for {silent_s:.0f} s")
        return self._heard[1]

    @property
    def frame_max(self) -> int:
        """Negotiated frame size in bytes."""
        return int(self.params.frame_max) or FRAME_MAX


def shape_of(error: BaseException) -> Any:
    """The innermost cause of a failed dial: pika wraps it in workflow errors."""
    while True:
        inner = (
            getattr(error, "exceptions", None)
            or getattr(error, "exception", None)
            or (error.args[0] if error.args and isinstance(error.args[0], BaseException) else None)
        )
        if isinstance(inner, (list, tuple)):
            inner = inner[-1] if inner else None
        if not isinstance(inner, BaseException):
            return error
        error = inner
