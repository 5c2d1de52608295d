"""The names of what lives on a broker, and nothing else, in as little time as can be: for completion in a shell.

It speaks HTTP by the standard library: loading the management client would take longer than the answer may.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from busctl_lib.tls import TlsFiles

Noun = Literal["queues", "exchanges", "vhosts", "policies", "nodes", "users"]
_OF_VHOST = ("queues", "exchanges", "policies")
_MOST = 200


def names(
    api_url: str, noun: Noun, vhost: str, prefix: str = "", *, timeout_s: float, tls: TlsFiles | None = None
) -> list[str]:
    """Give the names that begin with `prefix`, at most 200 of them.

    Args:
        api_url: With credentials.
        noun: What is asked for.
        vhost: Of queues, exchanges and policies.
        prefix: What was typed so far.
        timeout_s: For each step of the connection; the caller keeps the time of all.
        tls: As of ManagementClient.

    Raises:
        OSError, ValueError, HTTPException: there is no answer, or not one that is understood.
    """
    parts = urlsplit(api_url)
    path = f"{parts.path.rstrip('/').removesuffix('/api')}/api/{noun}"
    if noun in _OF_VHOST:
        path += f"/{quote(vhost, safe='')}"
    query: dict[str, str | int] = {"columns": "name", "disable_stats": "true"}
    if noun in ("queues", "exchanges"):
        query |= {"page": 1, "page_size": _MOST, "name": f"^{re.escape(prefix)}", "use_regex": "true"}
    connection = _connect(parts.scheme, parts.hostname or "localhost", parts.port, timeout_s, tls)
    try:
        connection.request("GET", f"{path}?{urlencode(query)}", headers={"Authorization": _login(parts.netloc)})
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"the API answered {response.status}")
    entries = answer["items"] if isinstance(answer, dict) else answer
    found = sorted(str(entry["name"]) for entry in entries)
    return [name for name in found if name.startswith(prefix)][:_MOST]


def _connect(scheme: str, host: str, port: int | None, timeout_s: float, tls: TlsFiles | None) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    if scheme != "https":
        return HTTPConnection(host, port, timeout=timeout_s)
    import ssl

    context = tls.context() if tls is not None else ssl.create_default_context()
    server_name = tls.server_name if tls is not None else None

    class Https(HTTPSConnection):
        def connect(self) -> None:
            """Check the name that the certificate has, where it is not the host's."""
            HTTPConnection.connect(self)
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name or host)

    return Https(host, port, timeout=timeout_s, context=context)


def _login(netloc: str) -> str:
    from base64 import b64encode

    user, _, password = (netloc.rpartition("@")[0] or "guest:guest").partition(":")
    return f"Basic {b64encode(f'{unquote(user)}:{unquote(password)}'.encode()).decode()}"
