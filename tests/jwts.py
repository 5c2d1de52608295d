"""Access tokens as an OAuth 2 provider makes them, signed by a key of this run."""

from __future__ import annotations

import base64
import json
import time
import uuid
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EVERYTHING = ("configure:*/*", "write:*/*", "read:*/*", "tag:administrator")


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Issuer:
    """Signs tokens for the broker `rabbitmq`."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def write_public_key(self, path: Path) -> None:
        """Write what the broker checks signatures with."""
        format_ = serialization.PublicFormat.SubjectPublicKeyInfo
        path.write_bytes(self._key.public_key().public_bytes(serialization.Encoding.PEM, format_))

    def token(self, *scopes: str, lasts_s: float = 3600, user: str = "ann") -> str:
        """Make a token; of everything where no scope is named."""
        head = {"alg": "RS256", "typ": "JWT", "kid": "key"}
        claims = {
            "sub": user,
            "client_id": user,
            "aud": ["rabbitmq"],
            "scope": [f"rabbitmq.{scope}" for scope in scopes or EVERYTHING],
            "exp": time.time() + lasts_s,
            "jti": uuid.uuid4().hex,
        }
        claims["exp"] = int(claims["exp"])  # type: ignore[call-overload]
        text = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claims).encode())}"
        return f"{text}.{_base64(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"
