"""Contexts with TLS: how they are written down, and addresses in parts (test_tls.py opens the doors)."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_tls import Authority
from trying import Busctl

from busctl import contexts
from busctl.config import Flags, resolve
from busctl.contexts import config_path
from busctl_lib.errors import ConfigError
from busctl_lib.tls import TlsFiles


def write(text: str) -> Path:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


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
def test_a_mistake_is_told_with_its_line(busctl: Busctl, text: str, line: int, said: str) -> None:
    path = write(f"[contexts.a]\n{text}")
    code, _, err = busctl("contexts")
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


def test_a_context_is_added_with_its_files(busctl: Busctl, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    add = ("contexts", "add", "a", "--amqp-url", "amqps://h")
    code, _, err = busctl(*add, "--tls-ca", str(tmp_path / "absent.pem"))
    assert (code, "absent.pem cannot be read" in err) == (2, True)
    assert busctl(*add, "--tls-ca", str(authority.path), "--tls-server-name", "x")[0] == 0
    assert resolve(Flags(context="a")).tls == TlsFiles(ca=str(authority.path), server_name="x")


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    odd = tmp_path / "odd.pem"
    odd.write_text("hello")
    with pytest.raises(ConfigError, match=r"odd\.pem holds no certificate"):
        TlsFiles(ca=str(odd)).context()
    with pytest.raises(ConfigError, match=r"odd\.pem are no certificate with its key"):
        TlsFiles(cert=str(odd)).context()
    with pytest.raises(ConfigError, match="without its certificate"):
        TlsFiles(key=str(odd)).context()
