"""Compression: one call to compress, a bounded one to expand, one to compress as it was before."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from busctl_lib.errors import BodyTooLarge, CodecError, Truncated

_WBITS = {"gzip": 31, "zlib": 15, "raw deflate": -15}
"""zlib's words for the wrappers around the widest window."""
_LEVEL = 6
_LEVEL_ZSTD = 3
_STEP = 1024
"""Input bytes at a time: zstd, which knows no limit, may make 128 KiB of four bytes, so a step expands to 32 MiB."""
_WINDOW_BYTES = 8 << 20
"""The memory a zstd frame may ask for to be read: what RFC 8878 has every reader allow and every writer keep to."""
_LZMA_BYTES = 128 << 20
"""The same of xz, whose highest level asks for 65 MiB."""


def compress(body: bytes, form: str) -> bytes:
    """Compress; the same bytes always give the same bytes.

    Args:
        body: What.
        form: gzip, zlib, raw deflate, bzip2, xz, lzma or zstd.
    """
    if form in _WBITS:
        packer = zlib.compressobj(_LEVEL, wbits=_WBITS[form])
        return packer.compress(body) + packer.flush()
    if form == "bzip2":
        return bz2.compress(body)
    if form in ("xz", "lzma"):
        return lzma.compress(body, lzma.FORMAT_XZ if form == "xz" else lzma.FORMAT_ALONE)
    import zstandard

    return zstandard.ZstdCompressor(level=_LEVEL_ZSTD).compress(body)


def form_of(body: bytes, step: str) -> str:
    """The form that compressed bytes have, of those that the name of a step may mean.

    `deflate` is zlib's by the book and raw by habit (RFC 9110, 8.4.1.2); kombu's gzip is zlib's; lzma may be xz.
    """
    if step == "deflate":
        if body[:2] == b"\x1f\x8b":
            return "gzip"
        return "zlib" if len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0 else "raw deflate"
    if step == "xz":
        return "xz" if body[:6] == b"\xfd7zXZ\x00" else "lzma"
    return step


def expand(body: bytes, step: str, limit: int) -> bytes:
    """Undo `compress`, whoever did it.

    Raises:
        BodyTooLarge: more than `limit` bytes would come out; it stops there, with no more memory than that taken.
        Truncated: the data ends early. CodecError: it is not what it says it is.
    """
    pieces: list[bytes] = []
    size = 0
    reader: Any = None
    make = _READERS[form_of(body, step)]
    view = memoryview(body)
    at = 0
    while at < len(view) or reader is None:
        if reader is None or reader.eof:
            reader = make()  # each form allows several members behind each other
        chunk = bytes(view[at : at + _STEP])
        at += len(chunk)
        piece = _feed(reader, chunk, step, limit + 1 - size)
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


def _zstd_reader() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()


_READERS: dict[str, Callable[[], Any]] = {
    **{form: lambda wbits=wbits: zlib.decompressobj(wbits=wbits) for form, wbits in _WBITS.items()},  # type: ignore[misc]
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_BYTES),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, _LZMA_BYTES),
    "zstd": _zstd_reader,
}


def _feed(reader: Any, chunk: bytes, step: str, most: int) -> bytes:
    try:
        return bytes(reader.decompress(chunk) if step == "zstd" else reader.decompress(chunk, most))
    except Exception as error:
        known = isinstance(error, (zlib.error, OSError, lzma.LZMAError, EOFError))
        if not known and type(error).__name__ != "ZstdError":  # zstandard may not be loaded
            raise
        raise CodecError(f"the body is not {step}, though the message says so: {error}") from None
