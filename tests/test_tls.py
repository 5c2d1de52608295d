"""TLS: verified by default, with a client's own certificate, and no less exact about what was sent; both doors."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from proxy import Proxy
from trying import Busctl
from waiting import wait_until

from busctl.config import Flags, resolve
from busctl.contexts import config_path
from busctl_lib import MessageBroker, MessagePublisher, Outcome
from busctl_lib.errors import CannotConnect, ConfigError, LoginRefused
from busctl_lib.names import names
from busctl_lib.sandbox import PrivateBroker

A_DAY = datetime.timedelta(days=1)


class Authority:
    """A private CA that writes certificates and keys into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private CA")])
        self._certificate = self._sign(self._name, self._key, None, is_authority=True)
        self.path = self._write("ca", self._certificate, None)

    def issue(self, name: str, *hosts: str, ends_in: datetime.timedelta = A_DAY) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        certificate = self._sign(subject, key, x509.SubjectAlternativeName(names) if names else None, ends_in)
        return self._write(name, certificate, None), self._write(f"{name}.key", None, key)

    def _sign(
        self, subject: Any, key: Any, names: Any, ends_in: datetime.timedelta = A_DAY, *, is_authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - A_DAY)
            .not_valid_after(now + ends_in)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        # Python 3.13 trusts no certificate that does not say whose key signed it.
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(signer, critical=False)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: Any, key: Any) -> Path:
        path = self._folder / f"{name}.pem"
        if key is not None:
            path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        else:
            path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


class TlsNode(NamedTuple):
    node: PrivateBroker
    port: int
    api: int
    authority: Authority
    client: tuple[Path, Path]

    def url(self, port: int | None = None) -> str:
        login = f"{self.node.username}:{self.node.password}"
        return f"amqps://{login}@127.0.0.1:{port or self.port}/%2F"

    def context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.path))
        if with_certificate:
            context.load_cert_chain(*self.client)
        return context


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNode]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    certificate, key = authority.issue("server", "127.0.0.1", "bus.example")
    client = authority.issue("client")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        port, api = one.getsockname()[1], two.getsockname()[1]
    files = {"cacertfile": str(authority.path), "certfile": str(certificate), "keyfile": str(key)}
    config = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        **{f"ssl_options.{name}": path for name, path in files.items()},
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "management.ssl.ip": "127.0.0.1",
        "management.ssl.port": str(api),
        **{f"management.ssl.{name}": path for name, path in files.items()},
    }
    with PrivateBroker(config=config) as node:
        yield TlsNode(node, port, api, authority, client)


def test_a_certificate_of_an_unknown_authority_is_refused(tls: TlsNode) -> None:
    with pytest.raises(CannotConnect, match=r"(?i)certificate verify failed"):
        MessageBroker(url=tls.url(), connect_timeout_s=4).connect()


def test_a_private_authority_and_a_client_certificate_connect(tls: TlsNode) -> None:
    with MessageBroker(url=tls.url(), tls=tls.context()) as broker:
        queue = broker.declare_queue("", exclusive=True).queue
        MessagePublisher(broker).publish(queue, {"n": 1})


def test_without_the_client_certificate_the_broker_hangs_up(tls: TlsNode) -> None:
    with pytest.raises(CannotConnect):
        MessageBroker(url=tls.url(), tls=tls.context(with_certificate=False), connect_timeout_s=4).connect()


def test_the_name_in_the_certificate_is_checked_and_may_be_given(tls: TlsNode) -> None:
    url = tls.url().replace("127.0.0.1", "localhost")  # not in the certificate
    with pytest.raises(CannotConnect, match=r"(?i)hostname mismatch|not valid for"):
        MessageBroker(url=url, tls=tls.context(), connect_timeout_s=4).connect()
    MessageBroker(url=url, tls=tls.context(), server_name="bus.example").connect().close()


def test_the_files_of_an_address_do_as_well(tls: TlsNode, tmp_path: Path) -> None:
    cert, key = tls.client
    locked = tmp_path / "locked.pem"
    opened = serialization.load_pem_private_key(key.read_bytes(), None)
    scheme = serialization.BestAvailableEncryption(b"pass/word")
    locked.write_bytes(
        opened.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption_algorithm=scheme)
    )
    authority = f"{tls.url()}?cacertfile={tls.authority.path}"
    MessageBroker(url=f"{authority}&certfile={cert}&keyfile={key}").connect().close()
    MessageBroker(url=f"{authority}&certfile={cert}&keyfile={locked}&password=pass%2Fword").connect().close()
    with pytest.raises(ConfigError, match="the key is encrypted"):
        MessageBroker(url=f"{authority}&certfile={cert}&keyfile={locked}")
    with pytest.raises(ConfigError, match="TLS is described twice"):
        MessageBroker(url=authority, tls=tls.context())
    by_name = authority.replace("127.0.0.1", "localhost") + f"&certfile={cert}&keyfile={key}"
    MessageBroker(url=f"{by_name}&server_name_indication=bus.example").connect().close()
    with pytest.raises(CannotConnect, match=r"(?i)hostname mismatch|not valid for"):
        MessageBroker(url=by_name, connect_timeout_s=4).connect()
    anyone = f"{tls.url()}?verify=verify_none&certfile={cert}&keyfile={key}"
    MessageBroker(url=anyone).connect().close()


def test_a_broker_that_takes_no_certificate_as_a_login_is_told(tls: TlsNode) -> None:
    cert, key = tls.client
    url = f"{tls.url()}?cacertfile={tls.authority.path}&certfile={cert}&keyfile={key}&auth_mechanism=external"
    with pytest.raises(LoginRefused, match=r"takes no login by a client certificate \(EXTERNAL\) here") as caught:
        MessageBroker(url=url, connect_timeout_s=4).connect()
    assert "rabbitmq_auth_mechanism_ssl must be on" in str(caught.value.hint)


def test_a_tls_link_cut_under_publishes_doubles_nothing_and_loses_nothing_confirmed(tls: TlsNode) -> None:
    with Proxy("127.0.0.1", tls.port) as proxy, MessageBroker(url=tls.url(proxy.port), tls=tls.context()) as broker:
        broker.declare_queue("cut")

        def messages() -> Iterator[tuple[str, Any]]:
            for n in range(6000):
                if n in (1000, 4000):
                    proxy.cut()
                yield "cut", {"n": n}

        report = MessagePublisher(broker).publish_many(messages())
        unknown = {entry.index for entry in report.unconfirmed}
        assert set(report.counts) <= {Outcome.CONFIRMED, Outcome.UNKNOWN}
        seen: list[int] = []
        with MessageBroker(url=tls.node.amqp_url) as direct:
            direct.subscribe("cut", lambda delivery: seen.append(int(delivery.body[5:-1])), auto_ack=True)
            wait_until(lambda: set(range(6000)) - unknown <= set(seen))
            direct.delete_queue("cut")
        assert len(seen) == len(set(seen))


def context(tls: TlsNode, monkeypatch: pytest.MonkeyPatch, files: str) -> None:
    """Write the context `t`, by a name that is not in the certificate."""
    monkeypatch.setenv("MQ_PASS", tls.node.password)
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"[contexts.t]\nhost = 'localhost'\nport = {tls.port}\nusername = '{tls.node.username}'\n"
        f"password_env = 'MQ_PASS'\napi_url = 'https://localhost:{tls.api}'\n[contexts.t.tls]\n{files}\n"
    )


def check(busctl: Busctl) -> tuple[int, Any]:
    code, out, err = busctl("contexts", "check", "t", "-o", "json")
    assert "Traceback" not in err
    return code, json.loads(out)


def test_both_doors_open_with_the_private_authority_and_our_certificate(
    tls: TlsNode, busctl: Busctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = tls.client
    files = f"ca = '{tls.authority.path}'\ncert = '{cert}'\nkey = '{key}'\n"
    context(tls, monkeypatch, f"{files}server_name = 'bus.example'")
    code, told = check(busctl)
    assert (code, told["amqp"]["works"], told["api"]["works"]) == (0, True, True), told
    assert busctl("-c", "t", "queues", "-o", "json") == (0, "[]\n", "")
    at = resolve(Flags(context="t")).with_password()
    assert names(at.api_url, "vhosts", at.vhost, timeout_s=30, tls=at.tls) == ["/"], "what a shell completes"
    context(tls, monkeypatch, files)
    code, told = check(busctl)
    assert (code, told["amqp"]["works"], told["api"]["works"]) == (3, False, False), "the name is another one"
    code, out, err = busctl("-c", "t", "queues")
    assert (code, out) == (3, "")
    assert "'localhost'" in err
    assert "(use the name in the certificate as the host, or say it as tls.server_name" in err


def test_who_is_not_trusted_is_told_by_both_doors_and_may_be_trusted_all_the_same(
    tls: TlsNode, busctl: Busctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = tls.client
    context(tls, monkeypatch, f"cert = '{cert}'\nkey = '{key}'\nserver_name = 'bus.example'")
    code, told = check(busctl)
    assert code == 3
    for door in ("amqp", "api"):
        assert "certificate verify failed" in told[door]["error"].lower(), told
    context(tls, monkeypatch, f"cert = '{cert}'\nkey = '{key}'\nverify = false")
    code, told = check(busctl)
    assert (code, told["amqp"]["works"], told["api"]["works"]) == (0, True, True), told
    assert any("not verified" in each for each in told["missing"])


@contextlib.contextmanager
def shaking_hands(certificate: Path, key: Path) -> Iterator[int]:
    """A port where TLS is spoken with a certificate, and nothing after that."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with contextlib.suppress(OSError), peer, server.wrap_socket(peer, server_side=True):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_why_tls_fails_is_told_in_a_sentence_with_what_to_do(
    tls: TlsNode, busctl: Busctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = tls.authority.issue("expired", "localhost", ends_in=datetime.timedelta(hours=-1))
    with shaking_hands(*expired) as port:
        context(tls._replace(port=port, api=port), monkeypatch, f"ca = '{tls.authority.path}'")
        code, told = check(busctl)
        for door in ("amqp", "api"):
            assert told[door]["error"].endswith("TLS failed (certificate verify failed: certificate has expired)")
        assert code == 3
        assert "its owner has to renew it" in busctl("-c", "t", "queues")[2]
    plain = tls._replace(port=tls.node.port, api=tls.node.api_port)
    context(plain, monkeypatch, f"ca = '{tls.authority.path}'")
    code, told = check(busctl)
    assert code == 3
    assert told["api"]["error"].endswith("TLS failed (that port does not speak TLS)")
    context(tls, monkeypatch, "server_name = 'bus.example'")
    code, out, err = busctl("-c", "t", "queues")
    assert (code, out) == (3, "")
    assert "(name the authority that signed it as tls.ca" in err
    assert "_ssl.c" not in err
