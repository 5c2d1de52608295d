"""gzip and zstd: one call to compress, a bounded one to expand."""

from __future__ import annotations

import zlib
from typing import Any

from busctl_lib.errors import BodyTooLarge, CodecError, Truncated

_GZIP = 31
"""zlib's word for a gzip wrapper around the widest window."""
_LEVEL_GZIP = 6
_LEVEL_ZSTD = 3
_STEP = 1024
"""Input bytes at a time: zstd may make 128 KiB of four bytes, so a step expands to 32 MiB at the very most."""
_WINDOW_BYTES = 8 << 20
"""The memory a zstd frame may ask for to be read: what RFC 8878 has every reader allow and every writer keep to."""


def compress(body: bytes, step: str) -> bytes:
    """Compress by gzip or zstd. The same bytes always give the same bytes."""
    if step == "gzip":
        packer = zlib.compressobj(_LEVEL_GZIP, wbits=_GZIP)
        return packer.compress(body) + packer.flush()
    import zstandard

    return zstandard.ZstdCompressor(level=_LEVEL_ZSTD).compress(body)


def expand(body: bytes, step: str, limit: int) -> bytes:
    """Undo `compress`, whoever did it.

    Raises:
        BodyTooLarge: more than `limit` bytes would come out; it stops there, with no more memory than that taken.
        Truncated: the data ends early. CodecError: it is not what it says it is.
    """
    pieces: list[bytes] = []
    size = 0
    reader: Any = None
    view = memoryview(body)
    at = 0
    while at < len(view) or reader is None:
        if reader is None or reader.eof:
            reader = _reader(step)  # both formats allow several members behind each other
        chunk = bytes(view[at : at + _STEP])
        at += len(chunk)
        piece = _feed(reader, chunk, step)
        at -= len(reader.unused_data)
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(
                f"the body expands to more than {limit:,} bytes ({step}); it was not read further",
                hint="allow more where it is read, if the sender is trusted",
                limit=limit,
            )
        pieces.append(piece)
    if not reader.eof:
        raise Truncated(f"the {step} data ends early, after {len(body)} bytes")
    return b"".join(pieces)


def _reader(step: str) -> Any:
    if step == "gzip":
        return zlib.decompressobj(wbits=_GZIP)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()


def _feed(reader: Any, chunk: bytes, step: str) -> bytes:
    try:
        return bytes(reader.decompress(chunk))
    except Exception as error:
        if not isinstance(error, zlib.error) and type(error).__name__ != "ZstdError":  # zstandard may not be loaded
            raise
        raise CodecError(f"the body is not {step}, though content_encoding says so: {error}") from None
