"""The steps between a message's own bytes and its body on the wire, by `content_encoding` and kombu's header."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from busctl_lib.codecs import compression, encryption
from busctl_lib.codecs.charsets import MARKED, UTF8, charset_named, charset_parameter
from busctl_lib.codecs.keyrings import Keyring
from busctl_lib.envelope import Envelope, Properties
from busctl_lib.errors import BodyTooLarge, CodecError, ConfigError, UnknownEncoding

Compression = Literal["zstd", "gzip"]
"""A way to compress, as content_encoding names it."""
COMPRESSIONS: tuple[str, ...] = ("zstd", "gzip")
"""All of them."""
AES = "aes256gcm"
LIMIT_BYTES = 64 << 20
"""What a body may expand to unless the reader says otherwise."""
WORTH_BYTES = 1024
"""Bodies below this are not compressed: there is nothing to gain."""
_PAYS = 0.9
_MOST_STEPS = 4
# What other clients write there to say "nothing was done".
_NO_STEPS = frozenset({"", "identity", "none", "binary", "8bit", "7bit"})
_ALIASES = {
    "x-gzip": "gzip",
    "zst": "zstd",
    "zlib": "deflate",
    "x-deflate": "deflate",
    "bz2": "bzip2",
    "x-bzip2": "bzip2",
}
_ALIASES |= {"brotli": "br", "x-compress": "compress", "lzma": "xz"}
_EXPANDED = frozenset({*COMPRESSIONS, "deflate", "bzip2", "xz"})
_NAMED = {"br": "Brotli", "lz4": "LZ4", "snappy": "Snappy", "compress": "LZW", "zip": "a ZIP archive"}
"""Steps that are known by name, and not undone."""
KOMBU_HEADER = "compression"
_KOMBU = {
    **dict.fromkeys(("application/x-gzip", "application/gzip", "gzip", "zlib"), "deflate"),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), "bzip2"),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), "xz"),
    **dict.fromkeys(("application/zstd", "application/x-zstd", "zstd", "zstandard"), "zstd"),
    **dict.fromkeys(("application/x-brotli", "brotli"), "br"),
    **dict.fromkeys(("application/x-lz4", "lz4"), "lz4"),
    **dict.fromkeys(("application/x-snappy", "snappy"), "snappy"),
}
"""What kombu writes into its header `compression`; its gzip is zlib's format. Source: kombu/compression.py."""


def require_compression(name: str | None) -> None:
    """Raises ConfigError for what is no compression; None is none."""
    if name is not None and name not in COMPRESSIONS:
        raise ConfigError(f"compress must be one of {', '.join(COMPRESSIONS)}, found {name!r:.40}")


def encode_body(
    envelope: Envelope,
    *,
    compress: str | None = None,
    keys: Keyring | None = None,
    above_bytes: int = WORTH_BYTES,
) -> None:
    """Compress and encrypt the body of an envelope, in place.

    Args:
        envelope: its `content_encoding` gains the steps, its headers the key's id.
        compress: "zstd" or "gzip"; done where the body is at least `above_bytes` long and 10 % go away.
        keys: encrypt with the current key of these. Needs a message id, which the body is bound to, as it is to `type`,
            `content_type` and `content_encoding`: those must not change afterwards.

    Raises:
        ConfigError: no such compression. CodecError: encryption without a message id.
    """
    require_compression(compress)
    properties = envelope.properties
    steps = steps_of(properties.content_encoding)
    if compress is not None and not steps and len(envelope.body) >= above_bytes:
        packed = compression.compress(envelope.body, compress)
        if len(packed) <= len(envelope.body) * _PAYS:
            envelope.body = packed
            steps.append(compress)
    if keys is not None:
        steps.append(AES)
    if steps:
        charset = _listed(properties.content_encoding)[1] if properties.content_encoding else None
        named = [charset] if charset is not None and charset_named(charset) != UTF8 else []
        properties.content_encoding = ",".join([*named, *steps])
    if keys is not None:
        properties.headers = {**(properties.headers or {}), encryption.KEY_ID_HEADER: keys.current}
        envelope.body = encryption.seal(envelope.body, keys.key(keys.current), properties)


def decode_body(envelope: Envelope, *, keys: Keyring | None = None, limit: int = LIMIT_BYTES) -> bytes:
    """The message's own bytes: undoes the steps of `content_encoding`, last one first.

    Args:
        envelope: stays as it is. What names no step (absent, "identity", a character set) is the body itself.
        keys: to decrypt with.
        limit: bytes that may come out of any step; memory stays within it, and 32 MiB.

    Raises:
        UnknownEncoding: a step not known here. BodyTooLarge. Truncated.
        UnknownKey, WrongKey, WrongMessage, Tampered: of an encrypted body; each without a byte of its text.
        CodecError: the body is not what `content_encoding` says.
    """
    layers = undone(envelope, keys=keys, limit=limit)
    return layers[-1] if layers else envelope.body


def undone(envelope: Envelope, *, keys: Keyring | None = None, limit: int = LIMIT_BYTES) -> list[bytes]:
    """What each step gives that is undone, the last step's first. Raises as `decode_body`."""
    steps = steps_named(envelope.properties)
    if len(steps) > _MOST_STEPS:
        raise UnknownEncoding(f"encoded {len(steps)} times over, {_MOST_STEPS} are read at most")
    layers: list[bytes] = []
    body = envelope.body
    for step in reversed(steps):
        if step in _EXPANDED:
            body = compression.expand(body, step, limit)
        elif step == AES:
            body = encryption.open_sealed(body, keys, envelope.properties)
        else:
            raise _unknown(step)
        if len(body) > limit:
            raise BodyTooLarge(f"the body has {len(body):,} bytes, more than {limit:,}", limit=limit)
        layers.append(body)
    return layers


def _unknown(step: str) -> UnknownEncoding:
    known = f"known: {', '.join((*sorted(_EXPANDED), AES))}"
    what = f"encoded as {step!r} ({_NAMED[step]}), which is not read here" if step in _NAMED else None
    return UnknownEncoding(what or f"unknown encoding {step!r:.40}", hint=known, encoding=step)


def redone(layers: Sequence[bytes], steps: Sequence[str], data: bytes) -> bytes:
    """Do steps again, each in the form it had: the other way round to `undone`.

    Args:
        layers: What was undone at each step, the wire body first.
        steps: In the order they were done.
        data: The new bytes of the message.

    Raises:
        CodecError: the body was encrypted.
    """
    for step, packed in zip(steps, reversed(layers), strict=True):
        if step == AES:
            raise CodecError("its body is encrypted, and would not be afterwards")
        data = compression.compress(data, compression.form_of(packed, step))
    return data


def steps_named(properties: Properties) -> list[str]:
    """The steps of a message's body, in the order they were done: those of its `content_encoding`, then kombu's."""
    steps = steps_of(properties.content_encoding)
    if properties.headers and not steps:  # who names it in both places did it once
        step = _kombu_step(properties.headers)
        return [] if step is None else [step]
    return steps


def _kombu_step(headers: dict[str, Any]) -> str | None:
    """The step in kombu's header; the same name with another value is an application's."""
    said = headers.get(KOMBU_HEADER)
    name = said.strip().lower() if isinstance(said, str) else ""
    return _KOMBU.get(name) or (name if name.startswith("application/") else None)


def steps_of(content_encoding: str | None) -> list[str]:
    """The steps that a `content_encoding` lists, in the order they were done.

    What says "none" and what names a character set is left out. `gzip:UTF-8` is Spring's: the last step stands first.
    """
    return list(_listed(content_encoding)[0]) if content_encoding else []


def without_steps(properties: Properties) -> Properties:
    """The properties of the same message with its steps undone; its character set stays named."""
    headers = properties.headers
    if headers is not None:
        gone = {encryption.KEY_ID_HEADER} if steps_of(properties.content_encoding) else set()
        gone |= {KOMBU_HEADER} if _kombu_step(headers) is not None else set()
        headers = {name: value for name, value in headers.items() if name not in gone} or None
    charset = _listed(properties.content_encoding)[1] if properties.content_encoding else None
    return msgspec.structs.replace(properties, content_encoding=charset, headers=headers)


def is_plain(properties: Properties) -> bool:
    """Whether nothing is said of how the body is written: its first bytes are the first of its text."""
    said = properties.content_encoding or (properties.headers and KOMBU_HEADER in properties.headers)
    return not said and charset_of(properties)[1] is None


def charset_written(decoded: list[str]) -> str | None:
    """The character set in what a document says was undone, where it is not UTF-8."""
    first = decoded[0] if decoded and isinstance(decoded[0], str) else ""
    return first if charset_named(first.removesuffix(MARKED)) is not None else None


def charset_of(properties: Properties) -> tuple[str | None, str | None]:
    """The character set that a message names: the one Python has for it, and its name there.

    The content type's counts before that of the content encoding, where Spring and kombu write it. The first is None
    where it names none, or one that is not known.
    """
    if properties.content_type is None and properties.content_encoding is None:
        return None, None
    return _charset_of(properties.content_type, properties.content_encoding)


@functools.lru_cache(maxsize=512)
def _charset_of(content_type: str | None, content_encoding: str | None) -> tuple[str | None, str | None]:
    said = charset_parameter(content_type) if content_type else None
    if said is None and content_encoding:
        said = _listed(content_encoding)[1]
    return (charset_named(said), said) if said else (None, None)


@functools.lru_cache(maxsize=512)
def _listed(content_encoding: str) -> tuple[tuple[str, ...], str | None]:
    """The steps, and the character set, if one is among them."""
    names = [name for part in content_encoding.split(",") for name in reversed(part.split(":"))]
    steps: list[str] = []
    charset: str | None = None
    for written in names:
        name = written.strip().lower()
        if name in _NO_STEPS:
            continue
        if charset_named(name) is not None:
            charset = charset or name
        else:
            steps.append(_ALIASES.get(name, name))
    return tuple(steps), charset
