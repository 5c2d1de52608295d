"""The parameters of an AMQP address: each is kept to, or refused by its name with what to use instead.

They are RabbitMQ's own, as its shovels and federation links take them, in its units.
Source: https://www.rabbitmq.com/docs/uri-query-parameters.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from busctl_lib.addresses import Address
from busctl_lib.errors import ConfigError
from busctl_lib.tls import TlsFiles

FRAME_MIN, FRAME_MAX = 4096, 131_072
Known = tuple[str, Any, str]
"""What a parameter sets, to which value, and the words for it."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter, and what became of it."""

    name: str
    value: str
    """As written; a password is blotted out."""
    effect: str


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What an address says beside where to go; None where it does not say."""

    heartbeat_s: int | None = None
    connect_timeout_s: float | None = None
    channel_max: int | None = None
    frame_max: int | None = None
    external: bool | None = None
    """Log in by the client certificate."""
    tls: TlsFiles | None = None
    told: list[Parameter] = []


def parameters_of(address: Address) -> Parameters:
    """Read the parameters of an AMQP address.

    Raises:
        ConfigError: some that are not known, have a wrong value or cannot be kept to; all of them are named.
    """
    reading = _Reading(address)
    for item in filter(None, address.query.split("&")):
        name, _, raw = item.partition("=")
        try:
            reading.take(name, unquote(raw))
        except _Wrong as wrong:
            reading.faults.append((_name(name), wrong))
    if reading.faults:
        hints = [wrong.hint if len(reading.faults) == 1 else f"{name}: {wrong.hint}" for name, wrong in reading.faults]
        text = "; ".join(f"{name} {wrong.text}" for name, wrong in reading.faults)
        raise ConfigError(f"{address.shown}: {text}", hint="; ".join(hints))
    tls = TlsFiles(**reading.files) if reading.files else None
    return Parameters(**reading.found, tls=tls, told=reading.told)


class _Reading:
    """What was read so far."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._seen: set[str] = set()
        self.told: list[Parameter] = []
        self.found: dict[str, Any] = {}
        self.files: dict[str, Any] = {}
        self.faults: list[tuple[str, _Wrong]] = []

    def take(self, name: str, value: str) -> None:
        """Take in one parameter. Raises _Wrong."""
        reads = _KNOWN.get(name)
        if reads is None:
            raise _Wrong("is no parameter of an AMQP address", _meant(name))
        if name in _TLS and self._address.scheme != "amqps":
            raise _Wrong("is for TLS, and the address begins with amqp://", "use amqps://, or leave it out")
        if not value:
            raise _Wrong("has no value", f"write {name}=VALUE, or leave it out")
        again = name in self._seen
        if again and name != _MECHANISM:
            raise _Wrong("is there twice", "keep one of the two")
        key, parsed, effect = reads(value)
        if again:  # of several mechanisms RabbitMQ's own client takes the first as well
            effect = "without effect: the first one is tried"
        elif key:
            (self.files if name in _TLS else self.found)[key] = parsed
        self._seen.add(name)
        self.told.append(Parameter(name=name, value="***" if name == "password" else value, effect=effect))


class _Wrong(Exception):
    """A parameter that cannot be kept to."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.text, self.hint = text, hint


def _name(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]{1,60}", name, re.ASCII) else f"{name!a:.60}"


def _meant(name: str) -> str:
    if (instead := _INSTEAD.get(name.lower().replace("_", "").replace("-", ""))) is not None:
        return instead
    near = difflib.get_close_matches(name.lower(), _KNOWN, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(_KNOWN))}"


def _number(field: str, least: int, most: int, unit: str, divided_by: int = 1) -> Callable[[str], Known]:
    def read(value: str) -> Known:
        if not (value.isascii() and value.isdecimal()) or not least <= int(value) <= most:
            raise _Wrong(f"must be a whole number from {least} to {most}, found {value!r:.40}", f"its unit: {unit}")
        number = int(value)
        return field, number / divided_by if divided_by > 1 else number, f"kept to: {number:,} {unit}"

    return read


def _file(field: str, what: str) -> Callable[[str], Known]:
    return lambda value: (field, value, f"kept to: {what}")


def _verify(value: str) -> Known:
    if value not in ("verify_peer", "verify_none"):
        raise _Wrong(f"must be verify_peer or verify_none, found {value!r:.40}", "verify_peer is the default")
    checked = "who answers is checked" if value == "verify_peer" else "whoever answers is trusted"
    return "verify", value == "verify_peer", f"kept to: {checked}"


def _server_name(value: str) -> Known:
    if value == "disable":
        raise _Wrong("cannot be disabled here", "give the name in the broker's certificate, or verify=verify_none")
    return "server_name", value, "kept to: the name in the broker's certificate"


def _peer_certificate(value: str) -> Known:
    if value not in ("true", "false"):
        raise _Wrong(f"must be true or false, found {value!r:.40}", "leave it out: it is for servers")
    return "", None, "without effect: it is for servers, a client always gets a certificate"


def _hostname_check(value: str) -> Known:
    if value != "https":
        raise _Wrong(f"must be https, found {value!r:.40}", "names are always checked so: leave it out")
    return "", None, "kept to: names are always checked so"


def _depth(_value: str) -> Known:
    raise _Wrong("cannot be set here", "leave it out: a chain may be as long as OpenSSL allows")


def _mechanism(value: str) -> Known:
    if value.lower() not in ("plain", "external"):
        hint = "plain is by user and password, external by the client certificate"
        raise _Wrong(f"must be plain or external, found {value!r:.40}", hint)
    external = value.lower() == "external"
    return "external", external, f"kept to: login by {'the client certificate' if external else 'user and password'}"


_MECHANISM = "auth_mechanism"
_TLS: dict[str, Callable[[str], Known]] = {
    "cacertfile": _file("ca", "the authority to trust"),
    "certfile": _file("cert", "our certificate"),
    "keyfile": _file("key", "its key"),
    "password": _file("key_password", "opens the key"),
    "verify": _verify,
    "server_name_indication": _server_name,
    "fail_if_no_peer_cert": _peer_certificate,
    "customize_hostname_check": _hostname_check,
    "depth": _depth,
}
OF_TLS = frozenset(_TLS)
"""Those that describe TLS."""
_KNOWN: dict[str, Callable[[str], Known]] = {
    **_TLS,
    "heartbeat": _number("heartbeat_s", 0, 65_535, "s"),
    "connection_timeout": _number("connect_timeout_s", 1, 3_600_000, "ms", 1000),
    "channel_max": _number("channel_max", 1, 65_535, "channels"),
    "frame_max": _number("frame_max", FRAME_MIN, FRAME_MAX, "bytes"),
    _MECHANISM: _mechanism,
}
_TIMEOUT = "use connection_timeout, in milliseconds"
_RETRIES = "leave it out: a lost connection is tried again by itself"
_LOGIN = "they stand before the @: amqp://user:password@host"
_INSTEAD = {
    **dict.fromkeys(("timeout", "connecttimeout", "sockettimeout", "stacktimeout", "logintimeout"), _TIMEOUT),
    **dict.fromkeys(("connectionattempts", "retrydelay", "reconnect", "maxretries"), _RETRIES),
    **dict.fromkeys(("user", "username", "login"), _LOGIN),
    **dict.fromkeys(("ssl", "tls", "ssloptions", "usetls"), "amqps:// is with TLS; cacertfile, certfile and keyfile"),
    **dict.fromkeys(("cafile", "cacert", "capath", "tlsca"), "use cacertfile"),
    **dict.fromkeys(("noverifyssl", "sslverify", "insecure"), "use verify=verify_none"),
    **dict.fromkeys(("vhost", "virtualhost"), "it is the path of the address: amqp://host/vhost"),
    "blockedconnectiontimeout": "leave it out: every publish has a deadline of its own",
    "servername": "use server_name_indication",
    "name": "leave it out: a connection is named by who opens it",
    "locale": "leave it out: RabbitMQ has one",
}
