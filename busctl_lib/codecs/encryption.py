"""AES-256-GCM, bound to the message: what is sealed for one message opens in no other.

A sealed body is a preamble of 29 bytes and what AES-GCM makes (ciphertext, then its tag of 16 bytes). The preamble:

====== ===== ==========================================================================================
offset bytes what
====== ===== ==========================================================================================
0      1     1, the version of this form
1      4     key check: the first bytes of SHA-256("busctl key check" + key)
5      8     binding: the first bytes of SHA-256(associated)
13     4     length of what follows the preamble, big-endian
17     12    nonce, random
====== ===== ==========================================================================================

`associated` is message_id, type, content_type and content_encoding, each as UTF-8 behind its length in 4 bytes
(big-endian; absent is empty). The preamble up to the nonce, then `associated`, is what AES-GCM authenticates besides
the text. Check, binding and length decide nothing: they only tell a wrong key, another message and a cut body from
tampering.
"""

from __future__ import annotations

import hashlib
import secrets
import struct

from busctl_lib.codecs.keyrings import Keyring
from busctl_lib.envelope import Properties
from busctl_lib.errors import CodecError, Tampered, Truncated, UnknownKey, WrongKey, WrongMessage

KEY_ID_HEADER = "busctl-key-id"
"""The id of the key that a body is encrypted with."""
_VERSION = 1
_PREAMBLE = struct.Struct(">B4s8sI")
_NONCE_BYTES = 12
_TAG_BYTES = 16
_OVERHEAD = _PREAMBLE.size + _NONCE_BYTES + _TAG_BYTES


def seal(text: bytes, key: bytes, properties: Properties) -> bytes:
    """Encrypt for the message of these properties; `content_encoding` must already be what it will be sent with.

    Raises:
        CodecError: the message has no message id to be bound to.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not properties.message_id:
        raise CodecError("a message without message_id cannot be encrypted: its body is bound to that id")
    bound = _associated(properties)
    preamble = _PREAMBLE.pack(_VERSION, _check(key), _binding(bound), len(text) + _TAG_BYTES)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return preamble + nonce + AESGCM(key).encrypt(nonce, text, preamble + bound)


def open_sealed(body: bytes, keys: Keyring | None, properties: Properties) -> bytes:
    """Decrypt. Nothing of the text is given away unless all of it is authentic.

    Raises:
        UnknownKey: the key is not held. WrongKey: another key is held under its id. Truncated: the body was cut.
        WrongMessage: it was sealed for another message. Tampered: it was changed. CodecError: not a sealed body.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id = (properties.headers or {}).get(KEY_ID_HEADER)
    if not isinstance(key_id, str):
        raise CodecError(f"encrypted, and the header {KEY_ID_HEADER} does not name a key")
    if keys is None:
        raise UnknownKey(
            f"encrypted, key {key_id!r:.80} not held",
            hint="no keys are held at all; give a keyring",
            key_id=key_id,
        )
    key = keys.key(key_id)
    check, binding = _preamble_of(body, key_id)
    bound = _associated(properties)
    if check != _check(key):
        raise WrongKey(f"encrypted by another key than the one held as {key_id}", key_id=key_id)
    if binding != _binding(bound):
        raise WrongMessage(
            "the body was encrypted for another message (message id, type, content type or encoding differ)",
            key_id=key_id,
        )
    at = _PREAMBLE.size
    nonce, sealed = body[at : at + _NONCE_BYTES], body[at + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, sealed, body[:at] + bound)
    except InvalidTag:
        raise Tampered(f"the encrypted body was changed on its way (key {key_id})", key_id=key_id) from None


def _preamble_of(body: bytes, key_id: str) -> tuple[bytes, bytes]:
    if body[:1] not in (b"", bytes([_VERSION])):
        raise CodecError(f"an encrypted body of version {body[0]}, which is not known here")
    length = _PREAMBLE.unpack_from(body)[3] if len(body) >= _OVERHEAD else _TAG_BYTES
    found = len(body) - _OVERHEAD + _TAG_BYTES
    if found < length:
        raise Truncated(f"the encrypted body ends early, {length - found} bytes are missing", key_id=key_id)
    if found > length:
        raise Tampered(f"the encrypted body is {found - length} bytes too long (key {key_id})", key_id=key_id)
    _, check, binding, _ = _PREAMBLE.unpack_from(body)
    return check, binding


def _associated(properties: Properties) -> bytes:
    parts = (properties.message_id, properties.type, properties.content_type, properties.content_encoding)
    texts = [(part or "").encode("utf-8", "surrogateescape") for part in parts]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def _check(key: bytes) -> bytes:
    return hashlib.sha256(b"busctl key check" + key).digest()[:4]


def _binding(associated: bytes) -> bytes:
    return hashlib.sha256(associated).digest()[:8]
