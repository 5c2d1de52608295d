"""Logins beside user and password: access tokens that are renewed, certificates, and names that HTTP cannot carry."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from api_at_socket import Road
from conftest import ROOT
from jwts import Issuer
from proxy import Proxy
from test_tls import Authority
from trying import Busctl
from waiting import wait_until

from busctl.config import Flags, resolve
from busctl.contexts import config_path
from busctl.session import Session
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.errors import AccessForbidden, ApiLoginRefused, BusError, ConfigError, LoginRefused
from busctl_lib.journal import journal_path
from busctl_lib.management import ManagementClient
from busctl_lib.names import names
from busctl_lib.rights import Need, Rights
from busctl_lib.sandbox import PrivateBroker
from busctl_lib.tls import TlsFiles
from busctl_lib.tokens import TokenSource, ends_at


class Node(NamedTuple):
    """A broker that takes tokens of `issuer` and certificates of `authority`."""

    node: PrivateBroker
    issuer: Issuer
    authority: Authority
    tls_port: int
    tls_api: int

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.node.port}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.node.api_port}"

    def source(self, lasts_s: float = 3600) -> tuple[TokenSource, list[str]]:
        """A source of tokens, and those it gave."""
        given: list[str] = []

        def fetch() -> str:
            given.append(self.issuer.token(lasts_s=lasts_s))
            return given[-1]

        return TokenSource(fetch), given


@pytest.fixture(scope="module")
def at() -> Iterator[Node]:
    top = Path(ROOT) if ROOT else Path("/")  # what the node reads must lie where it sees it
    folder = Path(tempfile.mkdtemp(dir=top / "var/tmp" if ROOT else None))
    issuer, authority = Issuer(), Authority(folder)
    issuer.write_public_key(folder / "public.pem")
    certificate, key = authority.issue("server", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        port, api = one.getsockname()[1], two.getsockname()[1]
    paths = {"cacertfile": authority.path, "certfile": certificate, "keyfile": key, "key": folder / "public.pem"}
    seen = {name: f"/{path.resolve().relative_to(top.resolve())}" for name, path in paths.items()}
    signing = seen.pop("key")
    config = {
        "auth_backends.1": "rabbit_auth_backend_oauth2",
        "auth_backends.2": "internal",
        "auth_oauth2.resource_server_id": "rabbitmq",
        "auth_oauth2.signing_keys.key": signing,
        "auth_oauth2.default_key": "key",
        "auth_oauth2.algorithms.1": "RS256",
        "auth_mechanisms.1": "PLAIN",
        "auth_mechanisms.2": "EXTERNAL",
        "ssl_cert_login_from": "common_name",
        "listeners.ssl.1": f"127.0.0.1:{port}",
        **{f"ssl_options.{name}": path for name, path in seen.items()},
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "false",
        "management.ssl.ip": "127.0.0.1",
        "management.ssl.port": str(api),
        **{f"management.ssl.{name}": path for name, path in seen.items()},
    }
    plugins = ("rabbitmq_auth_backend_oauth2", "rabbitmq_auth_mechanism_ssl")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        node = stack.enter_context(PrivateBroker(root=ROOT, plugins=plugins, config=config))
        yield Node(node, issuer, authority, port, api)


@pytest.fixture
def user(at: Node) -> Iterator[Callable[..., None]]:
    """Make users of the broker's own database, who may do everything unless said otherwise."""
    made = []
    with ManagementClient(at.node.api_url) as api:

        def make(name: str, password: str = "pass", rights: str = ".*") -> None:
            path = name.replace(":", "%3A")
            api._http.change("PUT", f"users/{path}", {"password": password, "tags": "administrator"})
            made.append(path)
            api._http.change("PUT", f"permissions/%2F/{path}", dict.fromkeys(("configure", "write", "read"), rights))

        yield make
        for path in made:
            api._http.change("DELETE", f"users/{path}")


@pytest.fixture
def road(at: Node) -> Iterator[Road]:
    """A way to the API that counts who comes."""
    road = Road(at.node.api_url)
    yield road
    road.cut()


def command(folder: Path, text: str, name: str = "token") -> str:
    """Write a program that prints a text; the command that runs it."""
    script = folder / f"{name}.py"
    script.write_text(f"import pathlib\nprint({text!r})\npathlib.Path({str(folder / 'runs')!r}).open('a').write('x')\n")
    return shlex.join([sys.executable, str(script)])


def context(**values: str) -> None:
    """Write the context `t`, the current one."""
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    path.write_text(f"current = 't'\n[contexts.t]\n{lines}")


def told_of(error: BusError) -> str:
    return "".join(traceback.format_exception(error)) + f"{error.hint} {vars(error)}"


# --- tokens


def test_a_token_opens_both_doors(at: Node, busctl: Busctl, tmp_path: Path) -> None:
    token = at.issuer.token()
    for printed in (token, json.dumps({"access_token": token, "expires_in": 3600}, indent=1)):
        context(amqp_url=at.url, api_url=at.api_url, token_command=command(tmp_path, printed))
        code, out, err = busctl("contexts", "check", "-o", "json")
        told = json.loads(out)
        assert (code, told["amqp"]["works"], told["api"]["works"]) == (0, True, True), out + err
        assert told["api"]["user"] == "ann"
        assert busctl("declare", "queue", "by-token", "--yes").returncode == 0
        assert busctl("publish", "by-token", "hello").returncode == 0
        assert busctl("delete", "queue", "by-token", "--yes").returncode == 0
    assert "a token by a command" in busctl("contexts", "-o", "json").stdout
    assert "token_command" in busctl("contexts", "check").stdout


def test_a_command_is_run_once_for_both_doors(at: Node, tmp_path: Path) -> None:
    context(amqp_url=at.url, api_url=at.api_url, token_command=command(tmp_path, at.issuer.token()))
    settings = resolve(Flags())
    assert not (tmp_path / "runs").exists(), "not before a session is opened"
    with Session(settings) as session:
        session.broker.connect()
        assert session.management.whoami().name == "ann"
    assert (tmp_path / "runs").read_text() == "x"


def test_a_token_is_renewed_on_the_open_link_before_it_ends(at: Node) -> None:
    source, given = at.source(lasts_s=4)
    with MessageBroker(url=at.url, password=source) as broker:
        first = ends_at(given[0]) or 0.0
        queue = broker.declare_queue("", exclusive=True).queue
        got: list[Any] = []
        broker.subscribe(queue, got.append, auto_ack=True)
        publisher = MessagePublisher(broker)
        sent: list[int] = []
        while time.time() < first + 3:
            sent.append(len(sent))
            publisher.publish(queue, {"n": len(sent)})
            broker.declare_queue(queue, passive=True)
            wait_until(lambda: len(got) == len(sent), what="what was published comes back")
        assert len(given) >= 2
        assert broker.stats().reconnects == 0


def works(broker: MessageBroker) -> bool:
    """Whether the broker lets us do something now."""
    with contextlib.suppress(BusError):
        return bool(broker.declare_queue("", exclusive=True, timeout=5).queue)
    return False


def test_a_link_outlives_a_bad_token_and_a_time_without_any(at: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("busctl_lib.tokens._JUST_NOW_S", 0.0)
    monkeypatch.setattr("busctl_lib.tokens._AGAIN_S", 0.2)
    away = threading.Event()
    tokens = [at.issuer.token(lasts_s=3), "no-token-at-all", at.issuer.token(lasts_s=3)]

    def fetch() -> str:
        if away.is_set():
            raise ConfigError("the provider is away")
        return tokens.pop(0) if tokens else at.issuer.token()

    source = TokenSource(fetch)
    with MessageBroker(url=at.url, password=source) as broker:
        wait_until(lambda: len(tokens) < 2 and works(broker), what="the bad token is replaced")
        away.set()
        wait_until(lambda: source.ended, what="the token has ended")
        wait_until(lambda: not works(broker), what="and is no good any more")
        away.clear()
        wait_until(lambda: works(broker), what="a new one is told to the broker")


def test_a_link_that_comes_back_later_comes_with_a_new_token(at: Node) -> None:
    source, given = at.source(lasts_s=4)
    with Proxy("127.0.0.1", at.node.port) as proxy:
        with MessageBroker(url=f"amqp://127.0.0.1:{proxy.port}", password=source) as broker:
            proxy.refuse()
            proxy.cut()
            wait_until(lambda: source.ended or len(given) > 1, what="the first token ends")
            proxy.refuse(False)
            broker.connect_now()
            assert broker.declare_queue("", exclusive=True, timeout=20).queue
        assert len(given) > 1


def test_a_token_that_was_revoked_is_got_anew_once_by_either_door(at: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("busctl_lib.tokens._JUST_NOW_S", 0.0)
    revoked = Issuer().token()
    for use in (
        lambda source: MessageBroker(url=at.url, password=source).connect().close(),
        lambda source: ManagementClient(at.api_url, token=source).whoami(),
    ):
        tokens = [revoked, at.issuer.token()]
        source = TokenSource(lambda tokens=tokens: tokens.pop(0))  # type: ignore[misc]
        use(source)
        assert tokens == []
        endless = iter(lambda: Issuer().token(), None)
        asked: list[int] = []
        wrong = TokenSource(lambda endless=endless, asked=asked: asked.append(1) or next(endless))  # type: ignore[misc]
        with pytest.raises((LoginRefused, ApiLoginRefused)):
            use(wrong)
        assert len(asked) == 2


def test_a_refused_token_is_told_with_its_end_and_never_itself(
    at: Node, caplog: pytest.LogCaptureFixture, busctl: Busctl, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    token = at.issuer.token(lasts_s=-60)
    said = ""
    for use in (
        lambda: MessageBroker(url=at.url, password=TokenSource(lambda: token)).connect(),
        lambda: ManagementClient(at.api_url, token=TokenSource(lambda: token)).whoami(),
    ):
        with pytest.raises(BusError, match="the access token, which ended 20") as caught:
            use()
        said += told_of(caught.value)
    context(amqp_url=at.url, api_url=at.api_url, token_command=command(tmp_path, token))
    for words in (["queues"], ["publish", "q", "x"], ["tail", "q"], ["contexts", "check"]):
        code, out, err = busctl("--debug", *words)
        assert code == 3
        said += out + err
    assert not [piece for piece in token.split(".") if piece in said + caplog.text]


def test_a_token_is_in_no_output_log_or_file(
    at: Node, caplog: pytest.LogCaptureFixture, busctl: Busctl, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    source, given = at.source(lasts_s=3)
    with MessageBroker(url=at.url, password=source) as broker, ManagementClient(at.api_url, token=source) as api:
        wait_until(lambda: api.whoami() and len(given) > 1, what="a renewal")
        broker.declare_queue("", exclusive=True)
        with pytest.raises(BusError) as caught:
            broker.declare_queue("nowhere", passive=True)
        said = repr([broker, api, source, *broker.endpoints]) + told_of(caught.value)
    token = at.issuer.token()
    context(amqp_url=at.url, api_url=at.api_url, token_command=command(tmp_path / "..", token, f"{tmp_path.name}-t"))
    for words in (["declare", "queue", "by-token"], ["publish", "by-token", "x"], ["purge", "by-token", "--yes"]):
        code, out, err = busctl("--debug", *words)
        assert code == 0, err
        said += out + err
    assert busctl("delete", "queue", "by-token", "--yes").returncode == 0
    said += str(busctl("contexts", "check"))
    kept = b"".join(path.read_bytes() for path in journal_path().parent.rglob("*") if path.is_file()).decode("latin-1")
    signatures = [each.rpartition(".")[2] for each in (token, *given)]
    assert not [each for each in signatures if each in said + caplog.text + kept + config_path().read_text()]


def test_rights_of_a_token_are_those_of_its_scopes(at: Node) -> None:
    token = at.issuer.token("read:*/*")
    with MessageBroker(url=at.url, password=TokenSource(lambda: token)) as broker, pytest.raises(AccessForbidden):
        broker.declare_queue("not-mine")
    with pytest.raises(BusError, match=r"the user of the access token may not GET .*tag 'management'") as caught:
        ManagementClient(at.api_url, token=TokenSource(lambda: token)).overview()
    assert "scope tag:management" in str(caught.value.hint)


def test_a_right_that_another_backend_grants_is_found_by_trying(at: Node, user: Callable[..., None]) -> None:
    user("ann", rights="^$")
    need = Need(verb="configure", kind="queue", name="anything")
    token = at.issuer.token()
    with (
        ManagementClient(at.node.api_url) as api,
        MessageBroker(url=at.url, password=TokenSource(lambda: token)) as broker,
    ):
        assert Rights("/", management=api, username="ann").may(need) is False
        assert Rights("/", management=api, username="ann", broker=broker).may(need) is True
        assert Rights("/", management=api, broker=broker).patterns is None, "it is not known whom the token stands for"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys; print('s3cr3t'); sys.exit(3)", "ended with 3"),
        ("import sys; sys.stderr.write('s3cr3t'); sys.exit(4)", "ended with 4"),
        ("import sys; sys.exit(sys.stdin.isatty() or len(sys.stdin.read()))", "printed no access token"),
        ("print('')", "printed no access token"),
        ("print('s3cr3t words')", "printed no access token"),
        ('print(\'{"error": "s3cr3t"}\')', "printed no access token"),
    ],
)
def test_a_command_that_gives_no_token_is_told_without_what_it_printed(
    busctl: Busctl, tmp_path: Path, body: str, said: str
) -> None:
    (tmp_path / "t.py").write_text(body)
    context(amqp_url="amqp://h", token_command=shlex.join([sys.executable, str(tmp_path / "t.py")]))
    code, out, err = busctl("queues")
    assert (code, out) == (2, "")
    assert said in err
    assert "token_command" in err
    assert "s3cr3t" not in err
    assert busctl("contexts").returncode == 0, "the list asks nobody"


def test_a_context_names_one_way_to_log_in(busctl: Busctl) -> None:
    context(amqp_url="amqp://h", token_command="t", password_env="P")
    assert "both password_env and token_command" in busctl("queues").stderr
    context(amqp_url="amqp://u:p@h", token_command="t")
    assert "token_command, and a password in amqp_url" in busctl("queues").stderr
    config_path().unlink()
    assert busctl("contexts", "add", "t", "--amqp-url", "amqp://h", "--token-command", "get it").returncode == 0
    settings = resolve(Flags(context="t"), {})
    assert (settings.token is not None, settings.password) == (True, None)
    assert settings.amqp_url == "amqp://h:5672/%2F", "no user is made up"


def test_the_end_of_a_token_is_read_where_there_is_one() -> None:
    issuer = Issuer()
    assert abs((ends_at(issuer.token(lasts_s=100)) or 0) - time.time() - 100) < 3
    for opaque in ("", "abc", "a.b.c", "a.b", "a.eyJhIjoxfQ.c", "a.W10.c", "a.eyJleHAiOiJ4In0.c", "é.é.é", "a" * 9000):
        assert ends_at(opaque) is None
    with pytest.raises(ConfigError, match="none"):
        TokenSource(lambda: "two words")()


def test_a_token_is_got_by_one_at_a_time_and_an_old_one_serves_while_the_new_one_fails() -> None:
    issuer, asked = Issuer(), []

    def fetch() -> str:
        asked.append(1)
        if len(asked) > 1:
            raise ConfigError("away")
        return issuer.token(lasts_s=100)

    source = TokenSource(fetch)
    threads = [threading.Thread(target=source) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert len(asked) == 1
    first = source()
    source._renew_at = 0.0
    assert source() == first
    assert len(asked) == 2
    assert source() == first, "and is not asked for at each use"
    assert len(asked) == 2
    source._renew_at, source.ends_at = 0.0, 1.0
    with pytest.raises(ConfigError, match="away"):
        source()


# --- certificates


def certificate(at: Node, name: str) -> str:
    """The parameters that log in by the certificate of a name."""
    cert, key = at.authority.issue(name)
    files = f"cacertfile={at.authority.path}&certfile={cert}&keyfile={key}"
    return f"amqps://127.0.0.1:{at.tls_port}/%2F?{files}&auth_mechanism=external"


def test_a_certificate_logs_in_to_amqp(at: Node, user: Callable[..., None], busctl: Busctl) -> None:
    user("bob")
    url = certificate(at, "bob")
    with MessageBroker(url=url) as broker, ManagementClient(at.node.api_url) as api:
        broker.declare_queue("", exclusive=True)
        wait_until(lambda: "bob" in {each.user for each in api.connections()}, what="bob is there")
    code, out, _ = busctl("contexts", "check", "--amqp-url", url, "--api-url", at.node.api_url, "-o", "json")
    told = json.loads(out)
    assert (code, told["amqp"]["works"], told["api"]["works"]) == (0, True, True)
    assert {each["name"] for each in told["parameters"]} >= {"auth_mechanism", "certfile"}
    cert, key = at.authority.issue("bob")
    add = ("contexts", "add", "t", "--amqp-url", f"amqps://bob@127.0.0.1:{at.tls_port}", "--auth-mechanism", "external")
    files = ("--tls-ca", str(at.authority.path), "--tls-cert", str(cert), "--tls-key", str(key))
    assert busctl(*add, *files, "--password-env", "MQ", "--api-url", f"https://127.0.0.1:{at.tls_api}").returncode == 0
    code, out, err = busctl("-c", "t", "queues", "-o", "json", MQ="pass")
    assert (code, err) == (0, "")
    assert busctl("-c", "t", "publish", "nowhere", "x", MQ="not that of AMQP").returncode == 6, "AMQP asks for none"


def test_the_api_takes_no_certificate_and_is_not_asked_as_somebody_else(
    at: Node, user: Callable[..., None], busctl: Busctl, road: Road
) -> None:
    user("bob")
    addresses = ("--amqp-url", certificate(at, "bob"), "--api-url", f"http://127.0.0.1:{road.port}")
    code, out, err = busctl("queues", *addresses)
    assert (code, out) == (3, "")
    assert "there is no login for the management API" in err
    assert "name a user for the API" in err
    code, out, _ = busctl("contexts", "check", *addresses)
    assert code == 0
    assert "amqp       works" in out
    assert road.taken == 0, "guest was not tried"
    cert, key = at.authority.issue("bob")
    files = TlsFiles(ca=str(at.authority.path), cert=str(cert), key=str(key))
    with (
        ManagementClient(f"https://127.0.0.1:{at.tls_api}", username="bob", password="wrong", tls=files) as api,
        pytest.raises(ApiLoginRefused),
    ):
        api.whoami()


def test_a_certificate_that_is_nobodys_is_told(at: Node) -> None:
    with pytest.raises(LoginRefused, match="refused the login of the client certificate") as caught:
        MessageBroker(url=certificate(at, "nobody"), connect_timeout_s=4).connect()
    assert "a user of the broker named as it says" in str(caught.value.hint)


@pytest.mark.parametrize(
    "url",
    ["amqp://h?auth_mechanism=external", "amqps://h?auth_mechanism=external", "amqps://u@h?auth_mechanism=external"],
)
def test_without_a_certificate_there_is_no_login_by_it(busctl: Busctl, url: str) -> None:
    with pytest.raises(ConfigError, match="certificate of ours"):
        MessageBroker(url=url)
    code, out, err = busctl("queues", "--amqp-url", url)
    assert (code, out) == (2, "")
    assert "certificate of ours" in err


# --- a colon in the name


def test_a_user_name_with_a_colon_opens_amqp_and_is_told_at_the_api(
    at: Node, user: Callable[..., None], busctl: Busctl, road: Road
) -> None:
    user("ops:reader", "pa:ss")
    url = at.url.replace("://", "://ops%3Areader:pa%3Ass@")
    addresses = ("--amqp-url", url, "--api-url", f"http://127.0.0.1:{road.port}")
    code, out, err = busctl("contexts", "check", *addresses)
    assert (code, err) == (0, "")
    assert "amqp       works" in out
    assert "user 'ops:reader' cannot log in to the management API" in out
    code, out, err = busctl("queues", *addresses)
    assert (code, out) == (3, "")
    assert "HTTP ends a user name at its colon, so the broker would see 'ops'" in err
    assert "name another user for the API" in err
    assert busctl("publish", "nowhere", "x", *addresses).returncode == 6
    with pytest.raises(ValueError, match="colon"):
        names(resolve(Flags(amqp_url=url), {}).api_url, "queues", "/", timeout_s=5)
    assert road.taken == 0, "no login was tried"
    user("ops", "pass")
    other = at.api_url.replace("://", "://ops:pass@")
    assert busctl("queues", "--amqp-url", url, "--api-url", other).returncode == 0
