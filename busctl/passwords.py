"""Where a password comes from when it stands in no address: an environment variable, a command, a keyring, a prompt.

It is fetched when a session is opened, never for help or completion, and no error repeats it. An access token is got by
a command as well, and again before it ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from busctl.views.formats import safe_text
from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    import subprocess

COMMAND_TIMEOUT_S = 10.0
KEYRING_SERVICE = "busctl"
Kind = Literal["environment", "command", "keyring", "prompt", "token"]


class PasswordSource(NamedTuple):
    """Who knows a password."""

    kind: Kind
    given: str
    """The variable, the command line, the context's name in the keyring, or whom to ask for."""
    place: str
    """Where that stands, for errors."""

    def fetch(self, environment: Mapping[str, str] | None = None) -> str:
        """Ask for the password.

        Raises:
            ConfigError: there is none, and what to do about it.
        """
        if self.kind == "environment":
            return self._from_environment(os.environ if environment is None else environment)
        if self.kind == "command":
            return _first_line(self._printed(), self.place, self._program)
        if self.kind == "token":
            return _token(self._printed(), self.place, self._program)
        return self._from_keyring() if self.kind == "keyring" else self._from_prompt()

    def __str__(self) -> str:
        shown = {
            "environment": f"environment variable {self.given}",
            "command": "a command",  # its arguments may be secret themselves
            "keyring": "the keyring",
            "prompt": "asked for",
            "token": "a token by a command",
        }
        return shown[self.kind]

    def _from_environment(self, environment: Mapping[str, str]) -> str:
        value = environment.get(self.given)
        if not value:
            raise ConfigError(f"{self.place}: {self.given} is not set", hint=f"export {self.given} with the password")
        return value

    @property
    def _program(self) -> str:
        return self._words[0]

    @property
    def _words(self) -> list[str]:
        import shlex

        try:
            words = shlex.split(self.given)
        except ValueError as error:
            raise ConfigError(f"{self.place}: the command cannot be read: {error}") from None
        if not words:
            raise ConfigError(f"{self.place}: the command is empty")
        return words

    def _printed(self) -> str:
        """What the command prints."""
        import subprocess  # only who has such a context pays for it

        words = self._words
        # For a password it may have to ask its user something; a token is got again while a screen is drawn.
        aside = subprocess.DEVNULL if self.kind == "token" else None
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
                words, stdin=aside, stdout=subprocess.PIPE, stderr=aside
            )
        except OSError as error:
            hint = "install it, or change the command there"
            raise ConfigError(f"{self.place}: cannot run {words[0]}: {error.strerror}", hint=hint) from None
        try:
            printed, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{self.place}: {words[0]} took more than {COMMAND_TIMEOUT_S:g} s") from None
        finally:
            _end(process)
        if process.returncode:
            raise ConfigError(f"{self.place}: {words[0]} ended with {process.returncode}", hint="run it by hand")
        return printed.decode("utf-8", "replace")

    def _from_keyring(self) -> str:
        found = keyring_backend().get_password(KEYRING_SERVICE, self.given)
        if not found:
            raise ConfigError(
                f"{self.place}: the keyring holds no password for {self.given!r}",
                hint=f"keyring set {KEYRING_SERVICE} {self.given}",
            )
        return str(found)

    def _from_prompt(self) -> str:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"{self.place} names user {self.given!r} without a password, and there is no terminal to ask for it",
                hint="name a password_env, password_command or password_keyring in its context",
            )
        return ask(f"Password of {safe_text(self.given)}: ")


def ask(text: str) -> str:
    """Ask at the terminal, without showing what is typed."""
    import getpass

    return getpass.getpass(text)


def keyring_backend() -> _Keyring:
    """Give the optional keyring package, its failures translated.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import keyring
    except ImportError:
        raise ConfigError(
            "password_keyring needs the package keyring, which is not installed",
            hint="put it beside busctl: pipx inject busctl keyring, or pip install keyring",
        ) from None
    return _Keyring(keyring)


class _Keyring:
    """The door to the keyring package."""

    def __init__(self, package: object) -> None:
        self._package = package

    def get_password(self, service: str, name: str) -> str | None:
        found: str | None = self._call("get_password", service, name)
        return found

    def set_password(self, service: str, name: str, password: str) -> None:
        self._call("set_password", service, name, password)

    def delete_password(self, service: str, name: str) -> None:
        self._call("delete_password", service, name)

    def _call(self, verb: str, *arguments: str) -> str | None:
        try:
            answer: str | None = getattr(self._package, verb)(*arguments)
        except Exception as error:  # noqa: BLE001 - every backend has errors of its own; their text may hold anything
            raise ConfigError(
                f"the keyring does not answer: {type(error).__name__}", hint="is there a keyring in this session?"
            ) from None
        return answer


def _first_line(printed: str, place: str, program: str) -> str:
    first = printed.partition("\n")[0].rstrip("\r")
    if not first:
        raise ConfigError(f"{place}: {program} printed nothing", hint="its first line is the password")
    return first


def _token(printed: str, place: str, program: str) -> str:
    """The token that a command printed: its first line, or what a token endpoint answers."""
    import json

    text = printed.strip()
    if text.startswith("{"):
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        found = answer.get("access_token") if isinstance(answer, dict) else None
        text = found if isinstance(found, str) else ""
    token = text.partition("\n")[0].strip()
    if not token or " " in token or not token.isprintable():
        raise ConfigError(
            f"{place}: {program} printed no access token",
            hint="its first line is the token, or all of it is JSON with an access_token",
        )
    return token


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind; a grandchild that holds the pipe must not hold us."""
    if process.poll() is None:
        process.kill()
    if process.stdout is not None:
        process.stdout.close()
    process.wait()
