"""The names of what lives on a broker, and nothing else, in as little time as can be: for completion in a shell.

It speaks HTTP over a socket: loading a client, even that of the standard library, takes longer than the broker does.
"""

from __future__ import annotations

import json
import re
import socket
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from busctl_lib.tls import TlsFiles

Noun = Literal["queues", "exchanges", "vhosts", "policies", "nodes", "users"]
_OF_VHOST = ("queues", "exchanges", "policies")
_MOST = 200
_ANSWER_MAX_BYTES = 1_000_000


def names(
    api_url: str, noun: Noun, vhost: str, prefix: str = "", *, timeout_s: float, tls: TlsFiles | None = None
) -> list[str]:
    """Give the names that begin with `prefix`, at most 200 of them.

    Args:
        api_url: With credentials.
        noun: What is asked for.
        vhost: Of queues, exchanges and policies.
        prefix: What was typed so far.
        timeout_s: For all of it but the look-up of the host's name.
        tls: As of ManagementClient.

    Raises:
        OSError, ValueError: there is no answer in time, or not one that is understood.
    """
    parts = urlsplit(api_url)
    login = _login(parts.netloc)
    path = f"{parts.path.rstrip('/').removesuffix('/api')}/api/{noun}"
    if noun in _OF_VHOST:
        path += f"/{quote(vhost, safe='')}"
    query: dict[str, str | int] = {"disable_stats": "true"}
    if noun in ("queues", "exchanges"):  # without `columns=`, which cost the broker more than they save
        query |= {"page": 1, "page_size": _MOST, "name": f"^{re.escape(prefix)}", "use_regex": "true"}
    else:
        query["columns"] = "name,vhost"
    ends_at = time.monotonic() + timeout_s
    host = parts.hostname or "localhost"
    # Text would load the tables of international names first.
    address = host.encode() if host.isascii() else host
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with (
        socket.create_connection((address, port), timeout=timeout_s) as plain,  # type: ignore[arg-type]
        plain if parts.scheme != "https" else _secured(plain, host, tls) as connection,
    ):
        # By version 1.0 an answer is whole when the connection ends.
        shown_host = f"[{host}]" if ":" in host else host
        head = f"GET {path}?{urlencode(query)} HTTP/1.0\r\nHost: {shown_host}:{port}\r\n"
        connection.sendall(f"{head}Authorization: {login}\r\n\r\n".encode())
        answer = json.loads(_body_of(_received(connection, ends_at)))
    entries = answer["items"] if isinstance(answer, dict) else answer
    if noun in _OF_VHOST and any(entry["vhost"] != vhost for entry in entries):
        raise ValueError("a proxy on the way asked about another vhost")
    found = sorted(str(entry["name"]) for entry in entries)
    return [name for name in found if name.startswith(prefix)][:_MOST]


def _secured(plain: socket.socket, host: str, tls: TlsFiles | None) -> socket.socket:
    import ssl

    context = tls.context() if tls is not None else ssl.create_default_context()
    server_name = tls.server_name if tls is not None else None
    return context.wrap_socket(plain, server_hostname=server_name or host)


def _received(connection: socket.socket, ends_at: float) -> bytes:
    received = bytearray()
    while len(received) < _ANSWER_MAX_BYTES:
        connection.settimeout(max(ends_at - time.monotonic(), 0.001))
        if not (piece := connection.recv(1 << 16)):
            return bytes(received)
        received += piece
    raise ValueError("the answer is too long")


def _body_of(answer: bytes) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise ValueError(f"the API answered {status}")
    return body


def _login(netloc: str) -> str:
    from base64 import b64encode

    user, _, password = (netloc.rpartition("@")[0] or "guest:guest").partition(":")
    if ":" in unquote(user):
        raise ValueError("HTTP ends a user name at its colon")
    return f"Basic {b64encode(f'{unquote(user)}:{unquote(password)}'.encode()).decode()}"
