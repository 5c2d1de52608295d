"""The steps between a message's own bytes and its body on the wire, listed in `content_encoding` as they were done."""

from __future__ import annotations

from typing import Literal

from busctl_lib.codecs import compression, encryption
from busctl_lib.codecs.keyrings import Keyring
from busctl_lib.envelope import Envelope
from busctl_lib.errors import BodyTooLarge, ConfigError, UnknownEncoding

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
# What other clients write there to say "nothing was done", a character set among it.
_NO_STEPS = frozenset({"", "identity", "binary", "8bit", "utf-8", "utf8", "us-ascii", "ascii"})
_ALIASES = {"x-gzip": "gzip", "zst": "zstd"}


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
        properties.content_encoding = ",".join(steps)
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
    body = envelope.body
    if envelope.properties.content_encoding is None:
        return body
    steps = steps_of(envelope.properties.content_encoding)
    if len(steps) > _MOST_STEPS:
        raise UnknownEncoding(f"the body is encoded {len(steps)} times over, {_MOST_STEPS} are read at most")
    for step in reversed(steps):
        if step in COMPRESSIONS:
            body = compression.expand(body, step, limit)
        elif step == AES:
            body = encryption.open_sealed(body, keys, envelope.properties)
        else:
            raise UnknownEncoding(
                f"the body is encoded as {step!r:.40}, which is not known here",
                hint=f"known: {', '.join((*COMPRESSIONS, AES))}",
                encoding=step,
            )
        if len(body) > limit:
            raise BodyTooLarge(f"the body has {len(body):,} bytes, more than {limit:,}", limit=limit)
    return body


def steps_of(content_encoding: str | None) -> list[str]:
    """The steps that a `content_encoding` lists, in the order they were done; what says "none" is left out."""
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    return [_ALIASES.get(name, name) for name in names if name not in _NO_STEPS]
