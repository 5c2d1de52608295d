"""The HTTP proxy that the environment names for the world outside: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import ipaddress
import os
import sys
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from busctl_lib.errors import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Proxy(NamedTuple):
    """Whom to ask instead of the server."""

    host: str
    port: int
    headers: dict[str, str]
    """Our login there."""


def basic(user: str, password: str) -> str:
    """Make the header of a login."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """Find the proxy for a server; none leads to this machine.

    Raises:
        ConfigError: one that is not an HTTP proxy.
    """
    named = sys.platform == "darwin" or any(name.lower().endswith("_proxy") for name in os.environ)
    if host in LOOPBACK or not named:
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or proxy_bypass(host) or _in_network(host, proxies.get("no", "")):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError:  # its text may quote a piece of a password
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"the proxy for {scheme}:// is not an http:// address", hint=f"unset {scheme}_proxy")
    login = basic(unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Proxy(parts.hostname, port, {"Proxy-Authorization": login} if login else {})


def _in_network(host: str, exceptions: str) -> bool:
    """Whether NO_PROXY has a network of this address: 10.0.0.0/8."""
    try:
        address = ipaddress.ip_address(host)
        networks = [each.strip() for each in exceptions.split(",") if "/" in each]
        return any(address in ipaddress.ip_network(each, strict=False) for each in networks)
    except ValueError:
        return False
