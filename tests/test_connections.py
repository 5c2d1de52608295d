"""How the management API is reached: connections are kept, answers come packed, and proxies are honoured."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from api_at_socket import Road

from busctl_lib.errors import ApiUnreachable, ConfigError
from busctl_lib.management import ManagementClient

WHO = b'{"name":"ops","tags":[]}'


class Heard:
    """What a web server on loopback was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, target and the login at a proxy."""
        self.connections = 0


@contextlib.contextmanager
def web_server(*, packed: bool = False, lasting: bool = True) -> Iterator[Heard]:
    """A web server that answers everything, keeps its connections for one more request, and refuses tunnels."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            heard.connections += 1
            super().setup()

        def do_GET(self) -> None:
            self.note()
            body = gzip.compress(WHO) if packed and "gzip" in self.headers["Accept-Encoding"] else WHO
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)
            if not lasting:
                self.close_connection = True

        def do_CONNECT(self) -> None:
            self.note()
            self.send_error(502, "No Way")

        def note(self) -> None:
            heard.requests.append((self.command, self.path, self.headers.get("Proxy-Authorization")))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        heard = Heard(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield heard
        finally:
            server.shutdown()


def test_a_connection_is_kept_and_one_that_was_closed_at_rest_is_replaced(vhost: Any) -> None:
    with web_server() as heard, ManagementClient(f"http://127.0.0.1:{heard.port}") as api:
        for _ in range(3):
            assert api.whoami().name == "ops"
        assert (heard.connections, len(heard.requests)) == (1, 3)
    with web_server(lasting=False) as heard, ManagementClient(f"http://127.0.0.1:{heard.port}") as api:
        for _ in range(3):
            assert api.whoami().name == "ops"
        assert (heard.connections, len(heard.requests)) == (3, 3)
    road = Road(vhost.api_url)
    with ManagementClient(road.url) as api:
        api.put_vhost(vhost.name, description="one")
        road.cut()
        road.mend()
        api.put_vhost(vhost.name, description="two")  # a change, which is never sent twice
        assert api.vhost(vhost.name).description == "two"
    road.cut()


def test_answers_come_packed() -> None:
    with web_server(packed=True) as heard, ManagementClient(f"http://127.0.0.1:{heard.port}") as api:
        assert api.whoami().name == "ops"


def test_a_proxy_is_for_the_world_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server() as heard:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{heard.port}")
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{heard.port}")
        monkeypatch.setenv("no_proxy", "near.invalid,192.0.2.0/24")
        with ManagementClient("http://far.invalid:15672/mq") as api:
            assert api.whoami().name == "ops"
        assert heard.requests == [("GET", "http://far.invalid:15672/mq/api/whoami", "Basic bWU6cEBzcw==")]
        with ManagementClient("https://far.invalid:15671") as api, pytest.raises(ApiUnreachable, match="502 No Way"):
            api.whoami()
        assert heard.requests[1:] == [("CONNECT", "far.invalid:15671", None)]
        with ManagementClient(f"http://127.0.0.1:{heard.port}") as api:
            api.whoami()
        assert heard.requests[2:] == [("GET", "/api/whoami", None)]
        for url in ("http://near.invalid:1", "http://192.0.2.7:1"):
            with ManagementClient(url, timeout_s=(0.1, 0.1)) as api, pytest.raises(ApiUnreachable):
                api.whoami()
        assert len(heard.requests) == 3, "none for those"


def test_a_proxy_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://u:secret@127.0.0.1:1")
    with (
        ManagementClient("http://far.invalid") as api,
        pytest.raises(ConfigError, match="the proxy for http://") as caught,
    ):
        api.whoami()
    assert "secret" not in str(caught.value)
