"""The config file: named brokers, read with their mistakes told by line, and changed without losing a comment."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec
import platformdirs

from busctl.passwords import Kind, PasswordSource
from busctl.tomlfile import Source, read_text
from busctl_lib.addresses import amqp_address
from busctl_lib.errors import ConfigError
from busctl_lib.tls import TlsFiles

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

PREVIOUS = "-"
"""As typed for the context before the current one."""
_SOURCES: dict[str, Kind] = {
    "password_env": "environment",
    "password_command": "command",
    "password_keyring": "keyring",
    "token_command": "token",
}


class ContextConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A named broker in the config file."""

    amqp_url: str | None = None
    """Or its parts: host, port, username; amqps where there is a `tls` table."""
    host: str | None = None
    port: int | None = None
    username: str | None = None
    tls: TlsFiles | None = None
    """Paths are relative to the config file."""
    api_url: str | None = None
    vhost: str | None = None
    password_env: str | None = None
    """The environment variable that holds the password."""
    password_command: str | None = None
    """What prints it on its first line; run without a shell."""
    password_keyring: bool = False
    """It is in the keyring, under `busctl` and the context's name."""
    token_command: str | None = None
    """What prints an OAuth 2 access token, for both doors; run again before it ends."""
    auth_mechanism: Literal["plain", "external"] | None = None
    """Of AMQP: external is the certificate of `tls` instead of a password."""
    production: bool = False
    """Ask twice before anything that changes the bus."""
    read_only: bool = False
    """Refuse whatever changes the bus."""
    color: str | None = None
    """Of the state line, so that one sees where one is."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(production={self.production}, read_only={self.read_only})"

    def __post_init__(self) -> None:
        if self.amqp_url is None and self.host is not None:
            scheme = "amqp" if self.tls is None else "amqps"
            user = f"{quote(self.username, safe='')}@" if self.username else ""
            host = f"[{self.host}]" if ":" in self.host else self.host
            self.amqp_url = f"{scheme}://{user}{host}{f':{self.port}' if self.port is not None else ''}"

    def password_source(self, name: str, place: str) -> PasswordSource | None:
        """Who knows the password of this context, where that is said."""
        for key, kind in _SOURCES.items():
            if given := getattr(self, key):
                return PasswordSource(kind, name if kind == "keyring" else given, f"{place}: {key}")
        return None


class DemoContext(ContextConfig):
    """A demo that runs now, named as if it stood in the config file."""


class ConsoleConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How the console looks and listens."""

    theme: str | None = None
    keys: dict[str, str] = {}
    """Other keys, by what they do: "queues.tail" = "T"; `?` names both."""
    aliases: dict[str, str] = {}
    """Names for whole command lines: dlq = "queues *.dead"."""


class ConfigFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The config file."""

    current: str | None = None
    """The context to use when none is named."""
    previous: str | None = None
    """The one that was current before: `-`."""
    contexts: dict[str, ContextConfig] = {}
    console: ConsoleConfig = ConsoleConfig()


def config_path() -> Path:
    """Where the config file is looked for."""
    return platformdirs.user_config_path("busctl", appauthor=False) / "config.toml"


def load(path: Path) -> ConfigFile:
    """Read a config file; one that is not there is empty.

    Raises:
        ConfigError: file, line, key and the nearest right key.
    """
    return parse(read_text(path), path)


def load_with_demos(path: Path) -> ConfigFile:
    """Read a config file, and add what `busctl demo` runs in another terminal; a name in the file stays as it is."""
    from busctl.demo.registry import running

    file = load(path)
    for demo in running():
        file.contexts.setdefault(demo.name, DemoContext(amqp_url=demo.amqp_url, api_url=demo.api_url))
    return file


def parse(text: str, path: Path) -> ConfigFile:
    """Read the text of a config file; `path` is for errors."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}", path=str(path)) from error
    source = Source(path, text)
    source.check_keys(raw, ConfigFile.__struct_fields__, ())
    if isinstance(raw.get("console"), dict):
        source.check_keys(raw["console"], ConsoleConfig.__struct_fields__, ("console",))
    contexts = raw.get("contexts", {})
    for name, table in contexts.items() if isinstance(contexts, dict) else ():
        at = ("contexts", name)
        if isinstance(table, dict):
            source.check_keys(table, ContextConfig.__struct_fields__, at)
            _check_parts(source, table, at)
        _check_password(source, source.convert(table, ContextConfig, at), at)
    file: ConfigFile = source.convert(raw, ConfigFile, ())
    for context in file.contexts.values():
        context.tls = context.tls and context.tls.under(path.absolute().parent)
    if file.current is not None and file.current not in file.contexts:
        raise no_context(file.current, f"`current` in {path}", file.contexts, path)
    return file


def _check_parts(source: Source, table: Mapping[str, Any], at: tuple[str, ...]) -> None:
    """Refuse an address that is said twice or half, and unknown keys of its `tls` table."""
    if isinstance(table.get("tls"), dict):
        source.check_keys(table["tls"], TlsFiles.__struct_fields__, (*at, "tls"))
    parts = [name for name in ("host", "port", "username") if name in table]
    if parts and "amqp_url" in table:
        raise source.error((*at, parts[0]), f"{'.'.join(at)}: both amqp_url and {parts[0]}", "keep one of them")
    if parts and "host" not in table:
        raise source.error((*at, parts[0]), f"{'.'.join(at)}: {parts[0]} without host", "add its host")
    urls = [str(table.get(name, "")) for name in ("amqp_url", "api_url")]
    if "tls" in table and "host" not in table and not any(url.startswith(("amqps:", "https:")) for url in urls):
        raise source.error((*at, "tls"), f"{'.'.join(at)}: tls, but no address with amqps:// or https://", None)


def no_context(name: str, source: str, contexts: Iterable[str], path: Path) -> ConfigError:
    """Make the error for a context that is not there."""
    known = sorted(contexts)
    near = difflib.get_close_matches(name, known, n=1)
    none = f"none is defined in {path}; `busctl contexts add NAME --amqp-url URL` makes one"
    there = f"there are: {', '.join(known)}" if known else none
    return ConfigError(
        f"no context {name!r} ({source})", hint=f"did you mean {near[0]}?" if near else there, path=str(path)
    )


def previous_of(file: ConfigFile, path: Path) -> str:
    """Give the context that was current before.

    Raises:
        ConfigError: there was none, or it is gone.
    """
    if file.previous is None:
        raise ConfigError("there is no previous context", hint="`busctl contexts use NAME` makes one", path=str(path))
    if file.previous not in file.contexts:
        raise no_context(file.previous, f"`previous` in {path}", file.contexts, path)
    return file.previous


# --- changing it


def add(path: Path, name: str, context: ContextConfig) -> None:
    """Write a new context.

    Raises:
        ConfigError: the name is taken or cannot be one, or the context would not be valid.
    """
    check_free(path, name)
    import tomlkit

    with _changed(path) as document:
        contexts = document.setdefault("contexts", tomlkit.table(is_super_table=True))
        table = tomlkit.table()
        for key, value in msgspec.to_builtins(context).items():
            table.add(key, value)
        contexts[name] = table


def check_free(path: Path, name: str) -> None:
    """Check that a new context may have this name.

    Raises:
        ConfigError: the name is taken or cannot be one.
    """
    if not re.fullmatch(r"[\w.@][\w.@+-]*", name):
        raise ConfigError(f"{name!r} cannot name a context", hint="use letters, digits and . _ - @ +")
    if name in load(path).contexts:
        raise ConfigError(f"there is a context {name!r} already in {path}", hint=f"busctl contexts remove {name}")


def existing(path: Path, name: str) -> ContextConfig:
    """Give a context that stands in the file.

    Raises:
        ConfigError: it does not.
    """
    contexts = load(path).contexts
    if name not in contexts:
        raise no_context(name, "not in the config file", contexts, path)
    return contexts[name]


def use(path: Path, name: str) -> str:
    """Make a context, or with "-" the previous one, the current one; returns its name.

    Raises:
        ConfigError: it does not stand in the file.
    """
    file = load(path)
    wanted = previous_of(file, path) if name == PREVIOUS else name
    if wanted not in file.contexts:
        if wanted in load_with_demos(path).contexts:
            raise ConfigError(
                f"{wanted!r} is a running demo, it has no place in {path}",
                hint=f"-c {wanted} names it for a command, export BUSCTL_CONTEXT={wanted} for this shell",
            )
        existing(path, wanted)
    if wanted != file.current:
        with _changed(path) as document:
            _set_at_top(document, "previous", file.current)
            _set_at_top(document, "current", wanted)
    return wanted


def remove(path: Path, name: str) -> None:
    """Take a context out of the file.

    Raises:
        ConfigError: it does not stand there.
    """
    existing(path, name)
    with _changed(path) as document:
        document["contexts"].remove(name)
        for key in ("current", "previous"):
            if document.get(key) == name:
                del document[key]


def _set_at_top(document: TOMLDocument, key: str, value: str | None) -> None:
    if value is None:
        document.pop(key, None)
    else:
        document[key] = value


@contextlib.contextmanager
def _changed(path: Path) -> Iterator[TOMLDocument]:
    """Give the file's document to change; it replaces the file in one step, and only if it is valid.

    Effect: the file is readable by its user alone, its folder too where it is made here.
    """
    import tomlkit

    from busctl import privatefile

    text = read_text(path)
    parse(text, path)
    document = tomlkit.parse(text)
    yield document
    text = tomlkit.dumps(document)
    parse(text, path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        privatefile.write(path, text.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", path=str(path)) from error


# --- telling mistakes


def _check_password(source: Source, context: ContextConfig, at: tuple[str, ...]) -> None:
    named = [key for key in _SOURCES if getattr(context, key)]
    if len(named) > 1:
        raise source.error((*at, named[1]), f"{'.'.join(at)}: both {named[0]} and {named[1]}", "keep one of them")
    if named and context.amqp_url is None:
        raise source.error((*at, named[0]), f"{'.'.join(at)}: {named[0]} without address", "add its amqp_url, or host")
    if named and _has_password(context.amqp_url or ""):
        hint = "take the password out of the address"
        raise source.error((*at, named[0]), f"{'.'.join(at)}: {named[0]}, and a password in amqp_url", hint)


def _has_password(url: str) -> bool:
    try:
        return amqp_address(url).password is not None
    except ConfigError:  # told when the context is used
        return False
