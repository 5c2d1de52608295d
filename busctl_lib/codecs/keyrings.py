"""Keys by id: one writes, all read, so that a key can be rotated while messages of the old one are still about."""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from busctl_lib.errors import ConfigError, UnknownKey

KEY_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_COMMAND_S = 30.0
_FORM = 'the form is: current = "k1", then [keys], then k1 = "44 characters of base64"'


def new_key() -> bytes:
    """Make a key for AES-256."""
    return secrets.token_bytes(KEY_BYTES)


class Keyring:
    """The keys a process holds.

    Args:
        keys: id -> 32 bytes.
        current: the id of the key that encrypts; the last one given unless named.

    Raises:
        ConfigError: no key, a key of another length, an id that cannot be one.
    """

    def __init__(self, keys: Mapping[str, bytes], current: str | None = None) -> None:
        if not keys:
            raise ConfigError("a keyring needs a key", hint="`busctl keys generate` makes one.")
        for key_id, key in keys.items():
            if not _ID.fullmatch(key_id):
                raise ConfigError(f"key id {key_id!r:.80} is not 1 to 64 letters, digits, dots, - or _")
            if len(key) != KEY_BYTES:
                raise ConfigError(f"key {key_id} has {len(key)} bytes, AES-256 needs {KEY_BYTES}")
        self.current = current if current is not None else list(keys)[-1]
        if self.current not in keys:
            raise ConfigError(f"the current key {self.current!r:.80} is not among the keys ({', '.join(keys)})")
        self._keys = {key_id: bytes(key) for key_id, key in keys.items()}

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)}; current {self.current})"

    @property
    def ids(self) -> list[str]:
        """The ids of all keys."""
        return list(self._keys)

    def key(self, key_id: str) -> bytes:
        """The key of an id. Raises UnknownKey."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise UnknownKey(
                f"encrypted, key {key_id!r:.80} not held",
                hint=f"held: {', '.join(self._keys)}; add the key to the key file",
                key_id=key_id,
            ) from None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Keyring:
        """Read a key file, as `busctl keys generate` writes it: TOML that only its owner can read.

        Raises:
            ConfigError: it cannot be read, others may read it too, or it holds no keys.
        """
        file = Path(path)
        try:
            with file.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                if mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise ConfigError(
                        f"the key file {file} can be read by others (mode {stat.S_IMODE(mode):04o})",
                        hint=f"chmod 600 {shlex.quote(str(file))}, and replace its keys if others may have read them.",
                    )
                text = opened.read().decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"the key file {file} cannot be read: {reason}", hint="`busctl keys generate` makes one."
            ) from None
        return cls.from_text(text, f"the key file {file}")

    @classmethod
    def from_command(cls, command: str) -> Keyring:
        """Read the same text from a command's output, such as `pass show bus-keys`; it is not run by a shell.

        Raises:
            ConfigError: the command fails, takes more than 30 s, or prints no keys.
        """
        import subprocess

        try:
            done = subprocess.run(  # noqa: S603 - the user's own command
                shlex.split(command), capture_output=True, timeout=_COMMAND_S, stdin=subprocess.DEVNULL, check=False
            )
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"the key command {command!r} did not work: {error}", hint="run it by hand") from None
        if done.returncode:
            raise ConfigError(
                f"the key command {command!r} ended with exit code {done.returncode}", hint="run it by hand"
            )
        return cls.from_text(done.stdout.decode(errors="replace"), f"the output of {command!r}")

    @classmethod
    def from_text(cls, text: str, source: str = "the keys") -> Keyring:
        """Read the text of a key file. Raises ConfigError; never quotes a line of it, which may be a key."""
        import tomllib

        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            raise ConfigError(f"{source} is not TOML", hint=_FORM) from None
        table, current = found.get("keys"), found.get("current")
        if not isinstance(table, dict) or not (current is None or isinstance(current, str)):
            raise ConfigError(f"{source} has no [keys]", hint=_FORM)
        keys = {}
        for key_id, encoded in table.items():
            try:
                keys[key_id] = base64.b64decode(encoded, validate=True)
            except (TypeError, ValueError, binascii.Error):
                raise ConfigError(f"{source}: key {key_id!r:.80} is not base64", hint=_FORM) from None
        return cls(keys, current)

    def to_text(self) -> str:
        """Write the text of a key file. It holds the keys: only its owner may read it."""
        lines = [f'{key_id} = "{base64.b64encode(key).decode()}"' for key_id, key in self._keys.items()]
        return "\n".join([f'current = "{self.current}"', "", "[keys]", *lines, ""])

    def with_key(self, key_id: str, key: bytes) -> Keyring:
        """Make a keyring that encrypts with a new key and still reads with the old ones. Raises ConfigError."""
        if key_id in self._keys:
            raise ConfigError(f"there is a key {key_id} already", hint="a new key needs a new id")
        return Keyring({**self._keys, key_id: key}, key_id)
