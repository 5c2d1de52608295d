"""HTTP to the management API: errors translated once, answers decoded straight from bytes."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import time
from collections.abc import Iterator, Mapping
from http.client import InvalidURL
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec

from busctl_lib.addresses import api_address
from busctl_lib.errors import (
    ApiError,
    ApiForbidden,
    ApiLoginRefused,
    ApiUnreachable,
    BusError,
    ConfigError,
    GuardRefused,
    NotFound,
)
from busctl_lib.management.connections import BROKEN, Answer, Connections, ConnectTimeout, OutOfTime, Timing
from busctl_lib.management.gateways import BROKERS_SERVER, NOT_RABBITMQ, gateway_error, is_gateways
from busctl_lib.management.logins import Login
from busctl_lib.management.proxies import LOOPBACK
from busctl_lib.tls import TlsFiles, failure
from busctl_lib.tokens import TokenSource

T = TypeVar("T")
Params = Mapping[str, str | int]

NO_PATH = (".", "..")
"""Names that no path can hold."""
_OPEN_CONNECT_S = 1.0
_LEAST_S = 0.3
"""Every request has so much time."""
_ABSENT = "Not Found"  # the API's reason; its `error` is "Object Not Found"
_PATH = re.compile(r"at `\$(.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|(\[\.\.\.\])")
_ERLANG_TEXT = re.compile(r'<<"([^"]*)">>')
_MARK = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_DEPTH = 100
_NOT_IT = (401, 403, 502, 504)
_MISSING_TAG = re.compile(r"not (management|monitor|policymaker|administrator) user", re.IGNORECASE)


class Transport:
    """Requests to one API address. Thread: any; connections come from a shared pool."""

    def __init__(
        self,
        api_url: str,
        username: str | None,
        password: str | None,
        timeout_s: tuple[float, float],
        read_only: bool,
        tls: TlsFiles | None = None,
        token: TokenSource | None = None,
    ) -> None:
        address = api_address(api_url)
        self.host = address.host
        self.url = f"{address.scheme}://{address.place}{address.path.rstrip('/').removesuffix('/api')}"
        user = username if username is not None else address.username or "guest"
        secret = password if password is not None else address.password
        self.login = Login(self.url, user, "guest" if secret is None else secret, token)
        self.read_only = read_only
        self._timeout_s = timeout_s
        self._until: float | None = None
        """When all must be answered (monotonic); see `within`."""
        secure = self.url.startswith("https:")
        if tls is not None and secure:
            tls.context()  # which tells what is wrong with a file better than the first request
        self._connections = Connections(tls if secure else None)
        self._headers = {"Accept": "application/json", "User-Agent": "busctl"}

    def get(self, path: str, kind: type[T], params: Params | None = None, *, total_s: float | None = None) -> T:
        """GET one answer as `kind`; `total_s` is for one that takes the broker long."""
        return _decode(self._request("GET", path, params=params, total_s=total_s), kind, f"{self.url}/api/{path}")

    def look(self, path: str) -> tuple[int, bytes]:
        """GET an answer whatever its status, which matters itself; but not of who refuses us, or is not the broker."""
        answer = self._answer("GET", path)
        if answer.status in _NOT_IT or is_gateways(answer.status):
            raise self._refused(answer, "GET", path)
        return answer.status, answer.body

    def get_open(self, url: str, *, hurry: bool = False) -> bytes | None:
        """GET what another listener of the broker tells everyone, without our login; None when it does not.

        In a `hurry` it comes unpacked from this machine: packing takes the broker a third of its time.
        """
        headers = {"Accept": "text/plain"}
        if hurry and self.host in LOOPBACK:
            headers["Accept-Encoding"] = "identity"
        connect_s, read_s = self._timeout_s
        try:
            answer = self._connections.ask("GET", url, headers, Timing(_OPEN_CONNECT_S, read_s, connect_s + read_s))
        except BROKEN:
            return None
        return answer.body if answer.status == 200 else None

    def change(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        total_s: float | None = None,
    ) -> None:
        """Send a request that changes something."""
        if self.read_only:
            raise GuardRefused(
                f"refused: {method} {path} would change the broker and this session is read-only",
                hint="use a context without read_only",
            )
        self._request(method, path, body=body, headers=headers, total_s=total_s)

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._connections.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        total_s: float | None = None,
    ) -> bytes:
        answer = self._answer(method, path, params=params, body=body, headers=headers, total_s=total_s)
        if not 200 <= answer.status < 300:
            raise self._refused(answer, method, path)
        return answer.body

    def _answer(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        total_s: float | None = None,
    ) -> Answer:
        data = msgspec.json.encode(body) if body is not None else None
        url = f"{self.url}/api/{path}{f'?{urlencode(params)}' if params else ''}"
        connect_s, read_s = self._timeout_s
        timing = Timing(connect_s, max(read_s, total_s or 0), total_s or (connect_s + read_s) * 2)
        headers = {**self._headers, **({} if data is None else {"Content-Type": "application/json"}), **(headers or {})}
        login = self.login.header()
        answer = self._ask(method, url, {**headers, "Authorization": login}, timing, data)
        refused = answer.status == 401 and isinstance(self._refused(answer, method, path), ApiLoginRefused)
        if refused and self.login.another(login):  # nothing was done: the login is looked at first
            return self._ask(method, url, {**headers, "Authorization": self.login.header()}, timing, data)
        return answer

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let all that is asked meanwhile, by whomever, be answered within so many seconds."""
        before, self._until = self._until, time.monotonic() + seconds
        try:
            yield
        finally:
            self._until = before

    def _ask(self, method: str, url: str, headers: Mapping[str, str], timing: Timing, data: bytes | None) -> Answer:
        if self._until is not None:
            left_s = max(_LEAST_S, self._until - time.monotonic())
            timing = Timing(*(min(each, left_s) for each in timing))
        try:
            return self._connections.ask(method, url, headers, timing, data)
        except (InvalidURL, UnicodeError) as error:
            raise ConfigError(f"{self.url} is not an address of a management API: {error}") from error
        except BROKEN as error:
            raise self._unreachable(error, timing) from error

    def _unreachable(self, error: BaseException, timing: Timing) -> ApiUnreachable:
        reason, hint = _reason(error, timing)
        return ApiUnreachable(
            f"the management API at {self.url} does not answer: {reason}", hint=hint, url=self.url, reason=reason
        )

    def _refused(self, answer: Answer, method: str, path: str) -> BusError:
        what, told = f"{method} {path}", _broker_error(answer)
        if told is None or is_gateways(answer.status):
            return gateway_error(answer, what, f"{self.url}/api/{path}", self.url)
        status, text = answer.status, _error_text(told)
        facts: dict[str, Any] = {"status": status, "url": self.url, "text": text, "error": told.get("error")}
        if status == 404 and text == _ABSENT:
            return NotFound(f"not found: {path}", code=404, **facts)
        if status in (401, 403):
            return self._not_allowed(what, text, facts)
        return ApiError(f"{self.url} answered {what} with {status}: {text}", **facts)

    def _not_allowed(self, what: str, text: str, facts: dict[str, Any]) -> BusError:
        # RabbitMQ answers 401 to a wrong password and to a missing tag alike; only the text tells.
        tag = _MISSING_TAG.search(text)
        if tag is not None:
            name = {"monitor": "monitoring"}.get(tag[1].lower(), tag[1].lower())
            return ApiForbidden(
                f"{self.login.who} may not {what} at {self.url}: it needs the tag {name!r}",
                hint=self.login.tag_needed(name),
                tag=name,
                **facts,
            )
        if facts["status"] == 403 or "virtual host" in text or "access object" in text:
            return ApiForbidden(f"{self.login.who} may not {what} at {self.url}: {text}", **facts)
        return self.login.refusal(facts)


def segment(name: str) -> str:
    """One name as a part of an API path; the vhost "/" becomes %2F."""
    if name in NO_PATH:  # HTTP clients and servers fold these away: the request would hit another object
        raise GuardRefused(f"an object named {name!r} cannot be addressed through the management API")
    if not name:  # the address would be that of the whole list
        raise ConfigError("a name is empty")
    return quote(name, safe="", errors="surrogateescape")  # bytes typed on a command line stay these bytes


def _reason(error: BaseException, timing: Timing) -> tuple[str, str | None]:
    """Why there was no answer, in a few words, and what to do."""
    if isinstance(error, OutOfTime):
        return f"its answer was not whole within {timing.total_s:g} s", "the node or the way to it is overloaded"
    if isinstance(error, ConnectTimeout):
        return f"no connection within {timing.connect_s:g} s", "is the host right, and a firewall in between?"
    if isinstance(error, TimeoutError):
        return f"no answer within {timing.read_s:g} s", "the node may be overloaded or partitioned"
    if isinstance(error, socket.gaierror):
        return "the host name is not known", "check the host name of the API address"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused", "is the broker running and its management plug-in enabled (port 15672)?"
    if (told := failure(error)) is not None:
        return f"TLS failed ({told[0]})", told[1]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower(), "is this the port of the management API (15672 by default)?"
    if str(error).startswith("Tunnel connection failed"):
        return f"its proxy refused ({error})", "check the proxy that the environment names, or NO_PROXY"
    return "the connection broke before an answer came", "is this the port of the management API, and not of https?"


def _broker_error(response: Answer) -> dict[str, Any] | None:
    """What the broker says is wrong; None where the answer is not the broker's."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        told = msgspec.json.decode(response.body)
        if isinstance(told, dict) and (told.get("reason") or told.get("error")):
            return told
    is_brokers = response.headers.get("server", "").lower() == BROKERS_SERVER  # a fault of it has no words
    return {"reason": response.reason} if is_brokers else None


def _error_text(told: Mapping[str, Any]) -> str:
    import html  # its tables take longer to load than an answer takes

    plain = html.unescape(str(told.get("reason") or told.get("error")))  # it is written for a web page
    return " ".join(_ERLANG_TEXT.sub(r'"\1"', plain).split())


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _decode(raw: bytes, kind: type[T], where: str) -> T:
    try:
        return cast(T, _decoder(cast(Any, kind)).decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        return _decode(_shallow(raw), kind, where)
    try:
        return _without_misfits(msgspec.json.decode(raw.decode("utf-8", "replace")), kind)
    except msgspec.DecodeError as error:
        raise ApiUnreachable(
            f"{where} did not answer like a RabbitMQ management API: {error}",
            hint="is this the right port?",
            status=200,
            url=where,
            reason=NOT_RABBITMQ,
        ) from error


def _shallow(raw: bytes) -> bytes:
    """An answer with null for what is nested beyond all use, which whoever may declare a queue can put there."""
    parts: list[bytes] = []
    depth = kept = 0
    for mark in _MARK.finditer(raw):
        if mark[0] in b"[{":
            depth += 1
            if depth == _DEPTH + 1:
                parts += (raw[kept : mark.start()], b"null")
        elif mark[0] in b"]}":
            if depth == _DEPTH + 1:
                kept = mark.end()
            depth -= 1
    return b"".join((*parts, raw[kept:]))


def _without_misfits(answer: object, kind: type[T]) -> T:
    """Leave out what is not of its type ("unknown" for a port, [] for a table) and keep the rest."""
    while True:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            if not _drop(answer, str(error)):
                raise


def _drop(answer: object, complaint: str) -> bool:
    """Remove the value a validation error points at; False when it is the whole answer."""
    place = _PATH.search(complaint)
    steps: list[str | int] = []
    for key, index, anything in _STEP.findall(place[1] if place else ""):
        if anything:  # msgspec does not say which key: give up the whole table
            break
        steps.append(key or int(index))
    parent: Any = answer
    for step in steps[:-1]:
        parent = parent[step]
    if not steps or (isinstance(parent, list) and parent is answer):
        return False
    del parent[steps[-1]]
    return True
