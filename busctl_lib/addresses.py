"""Addresses of a broker's two doors, read so that no error repeats a password, also one that is not percent-encoded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote_to_bytes

from busctl_lib.errors import ConfigError

_AMQP_PORTS = {"amqp": 5672, "amqps": 5671}
_API_PORTS = {"http": 80, "https": 443}
_AMQP, _API = "AMQP address", "address of a management API"
_ENCODED = "in a password, # is written %23, / %2F, ? %3F, @ %40 and % %25"
_EXAMPLES = {_AMQP: "amqp://user:password@host:5672/vhost", _API: "http://user:password@host:15672"}
_HOST = r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>[^\s\[\]:@/?#%<>\"\\]+))"
_PLACE = re.compile(_HOST + "(?::(?P<port>[0-9]{1,5})?)?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECRETS = re.compile(r"([?&]password=)[^&#]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address in its parts, percent-decoded where not said otherwise."""

    scheme: str
    host: str
    """An IPv6 address without its brackets."""
    port: int | None = None
    username: str | None = None
    """None where the address names none."""
    password: str | None = field(default=None, repr=False)
    path: str = ""
    """As written, with its slash."""
    query: str = field(default="", repr=False)
    """As written, without its question mark."""

    @property
    def vhost(self) -> str | None:
        """The virtual host of an AMQP address; None where it names none."""
        return _decoded(self.path[1:], "virtual host", _AMQP) if len(self.path) > 1 else None

    @property
    def place(self) -> str:
        """host:port, as in an address; the host alone where it names no port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def login(self) -> str:
        """The user and the password as they stand in an address, with the @; "" where it names no user."""
        if self.username is None:
            return ""
        secret = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{quote(self.username, safe='')}{secret}@"

    @property
    def url(self) -> str:
        """All of it, percent-encoded as it should be."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.login}{self.place}{self.path}{query}"

    @property
    def shown(self) -> str:
        """What may be shown of it: no password and no parameters."""
        user = "" if self.username is None else f"{quote(self.username, safe='')}@"
        return f"{self.scheme}://{user}{self.place}{self.path}"


def amqp_address(url: str) -> Address:
    """Read `amqp[s]://user:password@host:port/vhost?parameters`.

    Raises:
        ConfigError: it is none.
    """
    found = _read(url, tuple(_AMQP_PORTS), _AMQP)
    return replace(found, port=found.port or _AMQP_PORTS[found.scheme])


def api_address(url: str) -> Address:
    """Read `http[s]://user:password@host:port/prefix`; a page of the management UI, `/#/queues`, does as well.

    Raises:
        ConfigError: it is none.
    """
    found = _read(url, tuple(_API_PORTS), _API)
    if found.query:
        raise ConfigError(f"an {_API} takes no parameters: {found.shown}?...", hint="leave out what begins at the ?")
    return found


def host_and_port(text: str) -> tuple[str, int | None]:
    """Read "host" or "host:port", an IPv6 address in brackets.

    Raises:
        ConfigError: it is neither, or an address with a login.
    """
    found = _PLACE.fullmatch(text)
    port = int(found["port"]) if found is not None and found["port"] else None
    if found is None or (port is not None and not 0 < port <= 65535):
        raise ConfigError("not a host, or host:port", hint="whole addresses, with user and password, are urls=[...]")
    return (found["six"] or found["name"]).lower(), port


def with_password(url: str, password: str) -> str:
    """Put a password into the address of either door, where it names a user without one."""
    found = (amqp_address if url.startswith(tuple(_AMQP_PORTS)) else api_address)(url)
    return url if found.username is None or found.password is not None else replace(found, password=password).url


def without_password(url: str) -> str:
    """Give an address with its passwords, if any, blotted out; also one that cannot be read."""
    hidden = re.sub(r"^([^:/]*://[^:@]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return _SECRETS.sub(r"\1***", hidden)


def _read(url: str, schemes: tuple[str, ...], what: str) -> Address:
    """Take an address apart. No error tells more of it than one character: anything may be a piece of a password."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.lower() not in schemes or not rest:
        wanted = " or ".join(f"{each}://" for each in schemes)
        raise ConfigError(f"an {what} begins with {wanted} and names a host", hint=f"for example {_EXAMPLES[what]}")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    if "@" in behind:
        raise _unencoded(behind[0], what)
    login, at, place = authority.rpartition("@")
    try:
        host, port = host_and_port(place)
    except ConfigError:
        raise ConfigError(
            f"the {what} cannot be read: no host, or no port that is a number to 65535, where they belong",
            hint=f"for example {_EXAMPLES[what]}; {_ENCODED}",
        ) from None
    username, colon, password = login.partition(":")
    path, query = _behind(behind, what)
    return Address(
        scheme=scheme.lower(),
        host=host,
        port=port,
        username=_decoded(username, "user name", what) if at else None,
        password=_decoded(password, "password", what) if colon else None,
        path=path,
        query=query,
    )


def _unencoded(character: str, what: str) -> ConfigError:
    return ConfigError(
        f"the {what} cannot be read: it has a {character} and then an @, of which one is not percent-encoded",
        hint=f"{_ENCODED}; behind the host an @ is %40 too",
    )


def _behind(text: str, what: str) -> tuple[str, str]:
    """What follows the host: path and query, as written."""
    before, mark, fragment = text.partition("#")
    if mark and not (what == _API and (not fragment or fragment.startswith("/"))):
        raise ConfigError(f"the {what} has a # that is not percent-encoded", hint="write it as %23")
    path, _, query = before.partition("?")
    return path, query


def _decoded(text: str, part: str, what: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ConfigError(
            f"the {part} of the {what} has a % that begins no percent-encoded character",
            hint=_ENCODED,
        )
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"the {part} of the {what} is not percent-encoded UTF-8", hint=_ENCODED) from None
