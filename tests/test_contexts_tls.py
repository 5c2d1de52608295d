"""Contexts with TLS: a private authority, a certificate of one's own, both doors; and addresses in parts."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_tls import Authority

from busctl import contexts
from busctl.cli import main
from busctl.config import Flags, resolve
from busctl.contexts import config_path
from busctl_lib.errors import ConfigError
from busctl_lib.names import names
from busctl_lib.sandbox import PrivateBroker
from busctl_lib.tls import TlsFiles

Run = Callable[..., tuple[int, str, str]]


class Secured(NamedTuple):
    amqp: int
    api: int
    authority: Authority
    client: tuple[Path, Path]
    node: PrivateBroker


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    certificate, key = authority.issue("server", "bus.example")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        amqp, api = one.getsockname()[1], two.getsockname()[1]
    files = {"cacertfile": str(authority.path), "certfile": str(certificate), "keyfile": str(key)}
    config = {
        "listeners.ssl.1": f"127.0.0.1:{amqp}",
        **{f"ssl_options.{name}": path for name, path in files.items()},
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "management.ssl.ip": "127.0.0.1",
        "management.ssl.port": str(api),
        **{f"management.ssl.{name}": path for name, path in files.items()},
    }
    with PrivateBroker(config=config) as node:
        yield Secured(amqp, api, authority, authority.issue("client"), node)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def write(text: str) -> Path:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def context(secured: Secured, monkeypatch: pytest.MonkeyPatch, tls: str) -> None:
    monkeypatch.setenv("MQ_PASS", secured.node.password)
    write(
        f"[contexts.t]\nhost = '127.0.0.1'\nport = {secured.amqp}\nusername = '{secured.node.username}'\n"
        f"password_env = 'MQ_PASS'\napi_url = 'https://127.0.0.1:{secured.api}'\n[contexts.t.tls]\n{tls}\n"
    )


def check(run: Run) -> tuple[int, Any]:
    code, out, err = run("contexts", "check", "t", "-o", "json")
    assert "Traceback" not in err
    return code, json.loads(out)


def test_both_doors_open_with_the_private_authority_and_our_certificate(
    secured: Secured, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = secured.client
    files = f"ca = '{secured.authority.path}'\ncert = '{cert}'\nkey = '{key}'\n"
    context(secured, monkeypatch, f"{files}server_name = 'bus.example'")
    code, told = check(run)
    assert (code, told["amqp"]["works"], told["api"]["works"]) == (0, True, True), told
    assert run("-c", "t", "queues", "-o", "json") == (0, "[]\n", "")
    at = resolve(Flags(context="t")).with_password()
    assert names(at.api_url, "vhosts", at.vhost, timeout_s=30, tls=at.tls) == ["/"], "what a shell completes"
    context(secured, monkeypatch, files)
    code, told = check(run)
    assert (code, told["amqp"]["works"], told["api"]["works"]) == (3, False, False), "the name is another one"
    code, out, err = run("-c", "t", "queues")
    assert (code, out) == (3, "")
    assert (
        "not valid for '127.0.0.1') (use the name in the certificate as the host, or say it as tls.server_name" in err
    )


def test_who_is_not_trusted_is_told_by_both_doors_and_may_be_trusted_all_the_same(
    secured: Secured, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = secured.client
    context(secured, monkeypatch, f"cert = '{cert}'\nkey = '{key}'\nserver_name = 'bus.example'")
    code, told = check(run)
    assert code == 3
    for door in ("amqp", "api"):
        assert "certificate verify failed" in told[door]["error"].lower(), told
    context(secured, monkeypatch, f"cert = '{cert}'\nkey = '{key}'\nverify = false")
    code, told = check(run)
    assert (code, told["amqp"]["works"], told["api"]["works"]) == (0, True, True), told
    assert any("not verified" in each for each in told["missing"])


@contextlib.contextmanager
def shaking_hands(certificate: Path, key: Path) -> Iterator[int]:
    """A port where TLS is spoken with a certificate, and nothing after that."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with contextlib.suppress(OSError), peer, tls.wrap_socket(peer, server_side=True):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_why_tls_fails_is_told_in_a_sentence_with_what_to_do(
    secured: Secured, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = secured.authority.issue("expired", "127.0.0.1", ends_in=datetime.timedelta(hours=-1))
    with shaking_hands(*expired) as port:
        old = secured._replace(amqp=port, api=port)
        context(old, monkeypatch, f"ca = '{secured.authority.path}'")
        code, told = check(run)
        for door in ("amqp", "api"):
            assert told[door]["error"].endswith("TLS failed (certificate verify failed: certificate has expired)")
        assert code == 3
        assert "its owner has to renew it" in run("-c", "t", "queues")[2]
    plain = secured._replace(amqp=secured.node.port, api=secured.node.api_port)
    context(plain, monkeypatch, f"ca = '{secured.authority.path}'")
    code, told = check(run)
    assert code == 3
    assert told["api"]["error"].endswith("TLS failed (that port does not speak TLS)")
    context(secured, monkeypatch, "server_name = 'bus.example'")
    code, out, err = run("-c", "t", "queues")
    assert (code, out) == (3, "")
    assert "(name the authority that signed it as tls.ca" in err
    assert "_ssl.c" not in err


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("host = 'h'\namqp_url = 'amqp://h'\n", 2, "both amqp_url and host"),
        ("port = 5671\n", 2, "port without host"),
        ("host = 'h'\n[contexts.a.tls]\nverfy = false\n", 4, "did you mean verify?"),
        ("amqp_url = 'amqp://h'\n[contexts.a.tls]\nca = 'x'\n", 3, "no address with amqps://"),
        ("host = 'h'\ntls = { verify = 'no' }\n", 3, "expected `bool`"),
    ],
)
def test_a_mistake_is_told_with_its_line(run: Run, text: str, line: int, said: str) -> None:
    path = write(f"[contexts.a]\n{text}")
    code, _, err = run("contexts")
    assert (code, f"{path}, line {line}" in err, said in err) == (2, True, True), err


def test_parts_make_an_address_and_paths_are_relative_to_the_file() -> None:
    path = write(
        "[contexts.a]\nhost = '::1'\nusername = 'a b'\n"
        "[contexts.b]\nhost = 'h'\nport = 7\n[contexts.b.tls]\nca = 'c.pem'"
    )
    found = contexts.load(path).contexts
    assert found["a"].amqp_url == "amqp://a%20b@[::1]"
    assert found["b"].amqp_url == "amqps://h:7"
    assert resolve(Flags(context="b")).tls == TlsFiles(ca=str(path.parent / "c.pem"))
    assert resolve(Flags(context="b", amqp_url="amqps://other")).tls is None, "the files are of another broker"


def test_a_context_is_added_with_its_files(secured: Secured, run: Run, tmp_path: Path) -> None:
    add = ("contexts", "add", "a", "--amqp-url", "amqps://h")
    code, _, err = run(*add, "--tls-ca", str(tmp_path / "absent.pem"))
    assert (code, "absent.pem cannot be read" in err) == (2, True)
    assert run(*add, "--tls-ca", str(secured.authority.path), "--tls-server-name", "x")[0] == 0
    assert resolve(Flags(context="a")).tls == TlsFiles(ca=str(secured.authority.path), server_name="x")


def test_files_that_are_none_are_told(tmp_path: Path, secured: Secured) -> None:
    odd = tmp_path / "odd.pem"
    odd.write_text("hello")
    with pytest.raises(ConfigError, match=r"odd\.pem holds no certificate"):
        TlsFiles(ca=str(odd)).context()
    with pytest.raises(ConfigError, match=r"odd\.pem are no certificate with its key"):
        TlsFiles(cert=str(odd)).context()
    with pytest.raises(ConfigError, match="without its certificate"):
        TlsFiles(key=str(odd)).context()
