"""TLS by files: the private authority that signed the broker, and the certificate that a client shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    import ssl

_NOISE = re.compile(r"^\[[^]]*\] |\.? ?\(_ssl\.c:\d+\)$")
"""What Python puts around the sentence of OpenSSL."""


class TlsFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How a broker is verified, and what it is shown; as a context has it in its `tls` table."""

    ca: str | None = None
    """The authority to trust, in PEM; those of the system when None."""
    cert: str | None = None
    """Our own certificate, in PEM."""
    key: str | None = None
    """Its key, where it is not in the same file."""
    key_password: str | None = None
    """Of an encrypted key."""
    server_name: str | None = None
    """The name in the broker's certificate, where it is not the host's."""
    verify: bool = True
    """False trusts whoever answers."""

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "key_password")
        return f"TlsFiles({', '.join(shown)})"

    def under(self, folder: Path) -> TlsFiles:
        """Take relative paths from a folder, and ~ as the home of the user."""

        def whole(path: str | None) -> str | None:
            return None if path is None else str(folder / Path(path).expanduser())

        return msgspec.structs.replace(self, ca=whole(self.ca), cert=whole(self.cert), key=whole(self.key))

    def context(self) -> ssl.SSLContext:
        """Make the context of a connection.

        Raises:
            ConfigError: a file that cannot be used, and which.
        """
        import ssl  # every command reads contexts, few use TLS

        self._check_readable()
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"TLS: {self.ca} holds no certificate of an authority: {_told(error)}") from None
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=self.key_password or _refuse_encrypted)
            except (ssl.SSLError, OSError) as error:
                files = self.cert if self.key is None else f"{self.cert} and {self.key}"
                raise ConfigError(f"TLS: {files} are no certificate with its key: {_told(error)}") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _check_readable(self) -> None:
        if self.key is not None and self.cert is None:
            raise ConfigError("TLS: a key without its certificate", hint="name cert as well")
        for path in (self.ca, self.cert, self.key):
            if path is None:
                continue
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise ConfigError(f"TLS: {path} cannot be read: {error.strerror}") from None


def failure(error: BaseException) -> tuple[str, str | None] | None:
    """Say why a TLS connection did not come about, and what to do; None when it was for another reason."""
    if type(error).__module__ != "ssl":  # which few need, and loads for long
        return None
    text = _NOISE.sub("", str(error))
    if "certificate has expired" in text or "not yet valid" in text:
        return text, "its owner has to renew it; is the clock of this machine right?"
    if "mismatch" in text:
        return text, "use the name in the certificate as the host, or say it as tls.server_name"
    if "certificate verify failed" in text:
        return text, "name the authority that signed it as tls.ca"
    if "wrong version number" in text or "record layer failure" in text:
        return "that port does not speak TLS", "is it the right port, or an address without TLS?"
    return text, "check the certificates, and whether the port speaks TLS"


def _refuse_encrypted() -> str:
    raise ConfigError(
        "TLS: the key is encrypted", hint="name its key_password, or store it without one, readable by you alone"
    )


def _told(error: OSError) -> str:
    return (getattr(error, "reason", None) or error.strerror or str(error)).lower().replace("_", " ")
