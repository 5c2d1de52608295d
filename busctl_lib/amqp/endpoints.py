"""Where to dial: AMQP addresses, their order, and what a failed dial means."""

from __future__ import annotations

import random
import re
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pika
from pika import exceptions as pika_exceptions
from pika.credentials import ExternalCredentials

from busctl_lib.address_parameters import Parameters, parameters_of
from busctl_lib.addresses import Address, amqp_address, host_and_port
from busctl_lib.amqp.pika_compat import DialParameters, shape_of
from busctl_lib.errors import CannotConnect, ConfigError, LoginRefused, VhostNotFound
from busctl_lib.tls import failure
from busctl_lib.tokens import TokenSource, said_end

_CHANNEL_MAX = 65_535
_SAID_BY_PARAMETERS = ("heartbeat_s", "external", "connect_timeout_s", "channel_max", "frame_max")
_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 30.0
_ACCESS_REFUSED, _NOT_ALLOWED = 403, 530
_CUT_OFF = (pika_exceptions.ProbableAuthenticationError, pika_exceptions.ProbableAccessDeniedError)
_LIMIT = re.compile(r"(?:user )?connection limit \(\d+\) is reached")


@dataclass(frozen=True)
class Endpoint:
    """One broker address with what is needed to log in. The password is not in its repr."""

    host: str = "localhost"
    port: int = 5672
    virtual_host: str = "/"
    username: str = "guest"
    password: str | Callable[[], str] = field(default="guest", repr=False)
    """Itself, or who knows it: asked at each dial, so that it may be rotated. A TokenSource is an OAuth 2 token."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    heartbeat_s: int = 15
    server_name: str | None = None
    external: bool = False
    """Log in by the certificate that `tls` shows, without user and password."""
    connect_timeout_s: float | None = None
    """For this host, where it is not the broker object's."""
    channel_max: int | None = None
    frame_max: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.heartbeat_s < 1 << 16:
            raise ConfigError(f"heartbeat must be 0 to 65535 seconds, found {self.heartbeat_s}")

    @property
    def token(self) -> TokenSource | None:
        """The access token that we log in by, if by one."""
        return self.password if isinstance(self.password, TokenSource) and not self.external else None

    @property
    def who(self) -> str:
        """Who logs in, for people; the broker alone knows whom a token or a certificate stands for."""
        if self.external:
            return "the client certificate"
        return f"user {self.username!r}" if self.token is None else "the access token"

    @property
    def address(self) -> str:
        """host:port, for people."""
        return f"{self.host}:{self.port}"

    @classmethod
    def from_url(cls, url: str, **defaults: Any) -> Endpoint:
        """Read `amqp[s]://user:password@host:port/vhost?parameters`; parts that are absent take the defaults.

        Raises:
            ConfigError: not such an address, or a parameter that cannot be kept to; it never tells the password.
        """
        found = amqp_address(url)
        more = parameters_of(found)
        given: dict[str, Any] = dict(defaults) | {"host": found.host, "port": found.port}
        said = {"username": found.username, "password": found.password, "virtual_host": found.vhost}
        said |= {name: getattr(more, name) for name in _SAID_BY_PARAMETERS}
        given |= {name: value for name, value in said.items() if value is not None}
        if found.username is None and (more.external or isinstance(given.get("password"), TokenSource)):
            given["username"] = ""
        return cls(**given | _tls_of(found, more, given))

    def parameters(self, connect_timeout_s: float, client_properties: dict[str, Any]) -> DialParameters:
        """Pika's form of it: one host, one attempt; trying again is the link's business."""
        options = None
        login: pika.PlainCredentials | ExternalCredentials = ExternalCredentials()
        if not self.external:
            password = self.password() if callable(self.password) else self.password
            login = pika.PlainCredentials(self.username, password)
        if self.tls is not None:
            options = pika.SSLOptions(self.tls, self.server_name or self.host)
        patience_ms = max(2 * self.heartbeat_s, 10) * 1000
        return DialParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.virtual_host,
            credentials=login,
            heartbeat=self.heartbeat_s,
            channel_max=self.channel_max or _CHANNEL_MAX,
            frame_max=self.frame_max or 0,  # as large as the broker agrees to
            connection_attempts=1,
            retry_delay=0,
            socket_timeout=connect_timeout_s,
            stack_timeout=connect_timeout_s,
            ssl_options=options,
            client_properties=client_properties,
            tcp_options={"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": patience_ms},
        )

    def failure(self, error: BaseException) -> CannotConnect:
        """What a failed dial means, in one sentence."""
        if isinstance(error, pika_exceptions.ConnectionClosedByBroker):
            return self._closed_by_broker(error.reply_code, error.reply_text)
        cause = shape_of(error)
        facts = {"address": self.address, "reason": str(cause) or type(cause).__name__}
        if isinstance(cause, pika_exceptions.AuthenticationError):
            return self._not_offered(facts)
        if (told := failure(cause)) is not None:
            return CannotConnect(f"cannot connect to {self.address}: TLS failed ({told[0]})", hint=told[1], **facts)
        return CannotConnect(f"cannot connect to {self.address}: {_plain(cause)}", hint=_hint(cause), **facts)

    def _closed_by_broker(self, code: int, text: str) -> CannotConnect:
        """What a broker means that closes the connection as it is opened."""
        facts = {"address": self.address, "reason": text, "code": code}
        if code == _ACCESS_REFUSED:
            return self._login_refused(facts)
        if (full := _LIMIT.search(text)) is not None:
            return CannotConnect(
                f"{self.address} takes no more connections: {full[0]}", hint="Close some, or raise the limit.", **facts
            )
        if code == _NOT_ALLOWED:
            return VhostNotFound(
                f"virtual host {self.virtual_host!r} at {self.address} does not exist, "
                f"or {self.who} has no access to it",
                hint="name another one with --vhost or in the address, or ask for permissions",
                **facts,
            )
        return CannotConnect(
            f"{self.address} closed the connection as it was opened: {text} (AMQP {code})",
            hint="the log of the node says more",
            **facts,
        )

    def _not_offered(self, facts: dict[str, Any]) -> LoginRefused:
        way = "a client certificate (EXTERNAL)" if self.external else "user and password (PLAIN)"
        hint = "does it want a certificate? auth_mechanism=external shows ours"
        if self.external:
            hint = (
                "its plug-in rabbitmq_auth_mechanism_ssl must be on, EXTERNAL among its auth_mechanisms, and tls have "
            )
            hint += "a certificate of ours"
        return LoginRefused(f"{self.address} takes no login by {way} here", hint=hint, **facts)

    def _login_refused(self, facts: dict[str, Any]) -> LoginRefused:
        if self.external:
            hint = "is one shown, and a user of the broker named as it says (ssl_cert_login_from)?"
        elif self.token is not None:
            hint = "the broker's log says why: its signature, its audience, or that it ended"
        else:
            hint = "check the user name and the password, which in an address is percent-encoded"
        end = said_end(self.token) if self.token is not None else ""
        return LoginRefused(f"{self.address} refused the login of {self.who}{end}", hint=hint, **facts)


def _tls_of(found: Address, more: Parameters, given: dict[str, Any]) -> dict[str, Any]:
    """How an endpoint of this address is verified and what it is shown."""
    tls, server_name = given.get("tls"), given.get("server_name")
    if tls is not None and more.tls is not None:
        raise ConfigError(f"{found.shown}: TLS is described twice", hint="in the address, or as tls=")
    if more.external and tls is None and (more.tls is None or more.tls.cert is None):
        raise ConfigError(
            f"{found.shown}: auth_mechanism external needs TLS and a certificate of ours",
            hint="amqps://host?auth_mechanism=external&certfile=FILE&keyfile=FILE, or tls=",
        )
    if more.tls is not None:
        tls, server_name = more.tls.context(), more.tls.server_name or server_name
    elif tls is None and found.scheme == "amqps":
        tls = ssl.create_default_context()
    return {"tls": tls, "server_name": server_name}


def _plain(cause: BaseException) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(cause, _CUT_OFF):
        return "it ended the connection while that was opened, without a word"
    if _speaks_no_amqp(cause):
        gone = "Transport indicated EOF" in str(cause) or isinstance(cause, pika_exceptions.IncompatibleProtocolError)
        return (
            f"it {'closed the connection without an AMQP answer' if gone else 'took the connection and never answered'}"
        )
    if isinstance(cause, TimeoutError) or "imeout" in type(cause).__name__:
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _hint(cause: BaseException) -> str | None:
    if isinstance(cause, ConfigError):  # of who was asked for the password
        return cause.hint
    if isinstance(cause, _CUT_OFF):
        return "the log of the node says more"
    if _speaks_no_amqp(cause):
        return "is this the AMQP port (5672, or 5671 and amqps:// for TLS), and the node healthy?"
    return "is the broker up, and the address right?"


def _speaks_no_amqp(cause: BaseException) -> bool:
    """Whether there was a TCP connection, and no AMQP handshake over it (told from pika 1.4's words)."""
    if isinstance(cause, pika_exceptions.IncompatibleProtocolError):
        return True
    words = ("before connection finished opening", "Transport indicated EOF", "Timeout while setting up AMQP")
    return any(each in str(cause) for each in words)


def resolve_endpoints(
    default: Endpoint, *, url: str | None = None, urls: Sequence[str] | None = None, hosts: Sequence[str] | None = None
) -> list[Endpoint]:
    """The endpoints that the arguments of a MessageBroker name, in random order so that clients spread over nodes.

    Args:
        default: what the parts of an address that are not given are taken from.
        url: one address.
        urls: several addresses of one cluster.
        hosts: several "host" or "host:port" of one cluster.
    """
    base = {
        "virtual_host": default.virtual_host,
        "username": default.username,
        "password": default.password,
        "tls": default.tls,
        "heartbeat_s": default.heartbeat_s,
        "server_name": default.server_name,
        "external": default.external,
    }
    if url is not None:
        return [Endpoint.from_url(url, **base)]
    if urls:
        endpoints = [Endpoint.from_url(one, **base) for one in urls]
    elif hosts:
        endpoints = [_with_host(default, host) for host in hosts]
    else:
        return [default]
    random.shuffle(endpoints)
    return endpoints


def _with_host(default: Endpoint, text: str) -> Endpoint:
    host, port = host_and_port(f"[{text}]" if text.count(":") > 1 and "[" not in text else text)
    return replace(default, host=host, port=port or default.port)


class Rotation:
    """Which endpoint to dial next, and how long to wait before it: exponential with full jitter."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = deque(endpoints)
        self._failures = 0

    def __len__(self) -> int:
        return len(self._endpoints)

    @property
    def current(self) -> Endpoint:
        """The one to dial."""
        return self._endpoints[0]

    @property
    def all_tried(self) -> bool:
        """Whether each has failed since the last success."""
        return self._failures >= len(self._endpoints)

    def failed(self) -> None:
        """The current one did not answer as it should: the next one's turn."""
        self._failures += 1
        self._endpoints.rotate(-1)

    def put_off(self) -> None:
        """The current one works but wants to be left alone: the others first."""
        self._endpoints.rotate(-1)

    def succeeded(self) -> None:
        """Begin anew with short waits."""
        self._failures = 0

    def delay_s(self) -> float:
        """Seconds to wait before the next dial."""
        return random.uniform(0, min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** min(self._failures, 10)))  # noqa: S311
