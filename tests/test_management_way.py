"""What was asked for is what is touched: the API behind proxies that pass addresses on as they are, and others."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
import requests
from api_at_socket import answering, refusing_port, reverse_proxy
from trying import Busctl
from waiting import wait_until

from busctl_lib.errors import ApiError, ApiUnreachable, GuardRefused, NotFound, VhostNotFound
from busctl_lib.management import ManagementClient

Rewrite = Callable[[str], str]


def merged(path: str) -> str:
    """As nginx does it with a path behind the port of `proxy_pass`."""
    return quote(re.sub("/+", "/", unquote(path)), safe="/")


CHANGING: dict[str, Rewrite] = {
    "decoded and slashes merged": merged,
    "decoded": lambda path: quote(unquote(path), safe="/"),
    "decoded twice": lambda path: quote(unquote(unquote(path)), safe="/"),
    "slashes decoded": lambda path: path.replace("%2F", "/"),
    "double slashes merged": lambda path: re.sub("(%2F)+", "%2F", path),
    "percent signs decoded": lambda path: path.replace("%25", "%"),
    "encoded again": lambda path: path.replace("%", "%25"),
    "slashes encoded again": lambda path: path.replace("%2F", "%252F"),
    "what is encoded is cut": lambda path: path.partition("%")[0],
}


@pytest.fixture
def member(vhost: Any) -> Iterator[str]:
    """The API's address for a user of this vhost alone, with no tag but management."""
    name = f"{vhost.name}-member"
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    put(vhost.api_url, f"users/{name}", {"password": "p", "tags": "management,policymaker"})
    put(vhost.api_url, f"permissions/{vhost.name}/{name}", rights)
    yield urlsplit(vhost.api_url)._replace(netloc=f"{name}:p@{vhost.api_url.rpartition('@')[2]}").geturl()
    requests.delete(f"{vhost.api_url}/api/users/{name}", timeout=10)


@pytest.fixture
def nested(vhost: Any) -> Iterator[str]:
    """A vhost whose name has a slash and the encoding of one, with a queue in it."""
    name = f"{vhost.name}/a%2Fb"
    put(vhost.api_url, f"vhosts/{quote(name, safe='')}", {})
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    put(vhost.api_url, f"permissions/{quote(name, safe='')}/{vhost.username}", rights)
    put(vhost.api_url, f"queues/{quote(name, safe='')}/inner", {})
    yield name
    requests.delete(f"{vhost.api_url}/api/vhosts/{quote(name, safe='')}", timeout=10)


def put(api_url: str, path: str, body: object) -> None:
    requests.put(f"{api_url}/api/{path}", json=body, timeout=10).raise_for_status()


# --- changes


@pytest.mark.parametrize("rewrite", CHANGING.values(), ids=CHANGING)
def test_no_change_goes_through_a_proxy_that_changes_names(vhost: Any, member: str, rewrite: Rewrite) -> None:
    put(vhost.api_url, f"policies/{vhost.name}/cap", {"pattern": "^q", "definition": {"max-length": 9}})
    with reverse_proxy(member, rewrite) as proxy, ManagementClient(proxy.url) as api:
        for change in (
            lambda: api.delete_policy(vhost.name, "cap"),
            lambda: api.put_policy(vhost.name, "more", "x", {"max-length": 1}),
            lambda: api.import_definitions({}, vhost.name),
            lambda: api.close_connection("nobody", "none"),
        ):
            with pytest.raises(GuardRefused, match="nothing was done") as caught:
                change()
            assert "a proxy on the way" in str(caught.value)
            assert "proxy_pass http://BROKER:15672;" in str(caught.value.hint)
        assert [line for line in proxy if not line.startswith("GET")] == []
        assert [policy.name for policy in api.policies(vhost.name)] == ["cap"]


def test_a_good_way_is_proven_once_and_by_reading(vhost: Any, member: str) -> None:
    with reverse_proxy(member) as proxy, ManagementClient(proxy.url) as api:
        for name in ("one", "a/b%2Fc"):
            api.put_policy(vhost.name, name, "^q", {"max-length": 9})
            api.delete_policy(vhost.name, name)
        assert [line.partition(" ")[0] for line in proxy] == ["GET", "PUT", "DELETE", "PUT", "DELETE"]


def test_who_is_refused_is_told_before_a_plan_and_a_question(vhost: Any, busctl: Busctl) -> None:
    put(vhost.api_url, f"policies/{vhost.name}/cap", {"pattern": "^q", "definition": {"max-length": 9}})
    put(vhost.api_url, f"queues/{vhost.name}/outer", {})
    bind = {"routing_key": "k"}
    requests.post(f"{vhost.api_url}/api/bindings/{vhost.name}/e/amq.topic/q/outer", json=bind, timeout=10)
    with reverse_proxy(vhost.api_url, merged) as proxy:
        where = {"BUSCTL_AMQP_URL": vhost.amqp_url, "BUSCTL_API_URL": proxy.url}
        for words in (
            ("delete", "vhost", vhost.name),
            ("delete", "binding", "outer", "-x", "amq.topic"),
            ("policies", "set", "more", "^q", "max-length:=1"),
            ("policies", "clear", "cap"),
            ("definitions", "import", "-"),
            ("close-connection", "somebody"),
        ):
            done = busctl(*words, stdin=b'{"queues": []}', **where)
            assert (done.returncode, done.stdout) == (9, ""), words
            assert len(done.stderr.splitlines()) == 1, "no plan is shown"
            assert "nothing was done" in done.stderr
        checked = busctl("contexts", "check", **where)
        assert "changes by the API: refused" in checked.stdout
        assert "proxy_pass" in checked.stdout


def test_the_firehose_is_not_switched_by_a_way_that_changes_names(vhost: Any) -> None:
    with reverse_proxy(vhost.api_url, merged) as proxy, ManagementClient(proxy.url) as api:
        with pytest.raises(GuardRefused, match="nothing was done"):
            api.set_tracing(vhost.name, True)
        assert api.vhost(vhost.name).tracing is False


def test_a_firehose_that_could_not_be_switched_on_is_not_said_to_be_on(vhost: Any, busctl: Busctl) -> None:
    put(vhost.api_url, f"queues/{vhost.name}/work", {})
    with reverse_proxy(vhost.api_url, merged) as proxy:
        where = {"BUSCTL_AMQP_URL": vhost.amqp_url, "BUSCTL_API_URL": proxy.url}
        done = busctl("tail", "work", "--via", "firehose", "--for", "1s", **where)
        assert done.returncode == 9
        assert "nothing was done" in done.stderr
        assert "switched off" not in done.stderr


def test_a_way_that_cannot_be_proven_takes_no_change_and_is_read(vhost: Any) -> None:
    def own_page(_: str, status: int) -> tuple[int, bytes] | None:
        return (503, b"sorry") if status == 503 else None

    with reverse_proxy(vhost.api_url, instead=own_page) as proxy, ManagementClient(proxy.url) as api:
        with pytest.raises(GuardRefused, match="nothing proves that names arrive"):
            api.put_vhost(vhost.name, description="x")
        assert api.queues("/") is not None
        with pytest.raises(NotFound):
            api.queue("/", "nope%2F")


def test_a_prefix_is_told_to_the_broker_too(vhost: Any) -> None:
    def below(path: str) -> str:
        return merged(path.removeprefix("/mq"))

    with reverse_proxy(vhost.api_url, below) as proxy, ManagementClient(f"{proxy.url}/mq") as api:
        with pytest.raises(GuardRefused) as caught:
            api.delete_vhost("/")
        assert "management.path_prefix = /mq" in str(caught.value.hint)


# --- readings


QUESTIONS: tuple[Callable[[ManagementClient, str], Any], ...] = (
    lambda api, vhost: api.queues(vhost),
    lambda api, vhost: api.queues_with_rates(vhost),
    lambda api, vhost: api.queue(vhost, "inner"),
    lambda api, vhost: api.queue(vhost, "absent"),
    lambda api, vhost: api.exchange(vhost, "amq.topic"),
    lambda api, vhost: api.exchange(vhost, ""),
    lambda api, vhost: api.exchanges(vhost),
    lambda api, vhost: api.consumers(vhost),
    lambda api, vhost: api.bindings(vhost),
    lambda api, vhost: api.queue_bindings(vhost, "inner"),
    lambda api, vhost: api.exchange_bindings(vhost, "amq.topic"),
    lambda api, vhost: api.exchange_sources(vhost, "amq.topic"),
    lambda api, vhost: api.policies(vhost),
    lambda api, vhost: api.operator_policies(vhost),
    lambda api, vhost: api.permissions(vhost),
    lambda api, vhost: api.connections(vhost),
    lambda api, vhost: api.channels(vhost),
    lambda api, vhost: api.definitions(vhost)["queues"],
    lambda api, vhost: api.vhost(vhost),
    lambda api, vhost: list(api.queues_one_by_one([(vhost, "inner"), (vhost, "absent")])),
    lambda api, vhost: list(api.queues_named([(vhost, "inner"), (vhost, "absent")])),
    lambda api, vhost: api.queue(vhost.partition("/")[0], "50%2Fslash/"),
    lambda api, vhost: api.exchange(vhost.partition("/")[0], "?query#hash"),
    lambda api, vhost: api.channel("127.0.0.1:1 -> 127.0.0.1:2 (1)"),
)


def told(ask: Callable[[ManagementClient, str], Any], api: ManagementClient, vhost: str) -> Any:
    """The names in an answer, or that there is none."""
    try:
        found = ask(api, vhost)
    except (NotFound, VhostNotFound) as error:
        return type(error)
    named = [str(getattr(each, "name", each)) for each in (found if isinstance(found, list) else [found])]
    return sorted(named)


@pytest.mark.parametrize("rewrite", CHANGING.values(), ids=CHANGING)
def test_nothing_of_another_vhost_is_shown_and_no_absence_is_made_up(vhost: Any, nested: str, rewrite: Rewrite) -> None:
    put(vhost.api_url, f"queues/{vhost.name}/outer", {})
    refused = 0
    with (
        reverse_proxy(vhost.api_url, rewrite) as proxy,
        ManagementClient(vhost.api_url) as direct,
        ManagementClient(proxy.url) as api,
    ):
        for number, ask in enumerate(QUESTIONS):
            try:
                assert told(ask, api, nested) == told(ask, direct, nested), f"question {number}"
            except GuardRefused as error:
                assert "a proxy on the way" in str(error)  # noqa: PT017
                refused += 1
    assert refused > len(QUESTIONS) / 2 or rewrite is CHANGING["double slashes merged"]


def test_a_list_of_the_root_vhost_never_has_another_in_it(vhost: Any, member: str) -> None:
    put(vhost.api_url, f"queues/{vhost.name}/outer", {})
    for url in (vhost.api_url, member):
        with reverse_proxy(url, merged) as proxy, ManagementClient(proxy.url) as api:
            with pytest.raises(GuardRefused, match=r"asked about vhost '/' and answered about '.*a proxy on the way"):
                api.queues("/")
            assert [info.name for info in api.queues(vhost.name)] == ["outer"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("queues",), 9),
        (("queues", "nope"), 9),
        (("definitions", "export", "-"), 9),
        (("purge", "outer", "--yes"), 9),
        (("delete", "queue", "outer", "--yes"), 9),
        (("policies", "clear", "cap", "--yes"), 9),
        (("tail", "outer", "--explain"), 9),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands_say_which_proxy_misleads_them(vhost: Any, busctl: Busctl, words: tuple[str, ...], code: int) -> None:
    put(vhost.api_url, f"queues/{vhost.name}/outer", {})
    with reverse_proxy(vhost.api_url, merged) as proxy:
        done = busctl("--api-url", proxy.url, "--amqp-url", vhost.at_vhost("/").amqp_url, *words)
    assert done.returncode == code, done.stderr
    assert "proxy_pass" in done.stderr
    assert done.stdout == ""


# --- real nginx

NGINX = shutil.which("nginx", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin")))
SET_UPS = {
    "no path behind the port": ("", "location / { proxy_pass http://$B; }", True),
    "a slash behind the port": ("", "location / { proxy_pass http://$B/; }", False),
    "a slash, slashes not merged": ("", "merge_slashes off; location / { proxy_pass http://$B/; }", False),
    "a prefix cut by a path": ("/mq", "location /mq/ { proxy_pass http://$B/; }", False),
    "a prefix cut by rewrite": ("/mq", "location /mq/ { rewrite ^/mq/(.*)$ /$1 break; proxy_pass http://$B; }", False),
    "a prefix cut from the raw address": (
        "/mq",
        'location /mq/ { if ($request_uri ~* "^/mq/(.*)") { proxy_pass http://$B/$1; } }',
        True,
    ),
    "own pages for errors": (
        "",
        "location / { proxy_pass http://$B; proxy_intercept_errors on; error_page 503 =503 /x; }",
        False,
    ),
}


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize(("prefix", "server", "is_good"), SET_UPS.values(), ids=SET_UPS)
def test_nginx_is_judged_by_what_it_does(vhost: Any, tmp_path: Path, prefix: str, server: str, is_good: bool) -> None:
    port = refusing_port()
    login, _, address = urlsplit(vhost.api_url).netloc.rpartition("@")
    temps = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors; events {{ worker_connections 64; }}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/body; {temps}\n"
        f"server {{ listen 127.0.0.1:{port}; {server.replace('$B', address)} }} }}\n"
    )
    running = subprocess.Popen([str(NGINX), "-p", str(tmp_path), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        with ManagementClient(f"http://{login}@127.0.0.1:{port}{prefix}") as api:
            wait_until(lambda: answers(api), what="an answer through nginx")
            if is_good:
                api.put_policy(vhost.name, "a/b%2Fc", "^q", {"max-length": 9})
                assert [policy.name for policy in api.policies(vhost.name)] == ["a/b%2Fc"]
            else:
                with pytest.raises(GuardRefused, match="nothing was done"):
                    api.put_policy(vhost.name, "cap", "^q", {"max-length": 9})
                assert api.policies(vhost.name) == []
    finally:
        running.terminate()
        running.wait(10)


def answers(api: ManagementClient) -> bool:
    with contextlib.suppress(ApiError):
        return bool(api.whoami().name)
    return False


# --- in place of the broker


@pytest.mark.parametrize(
    ("status", "location", "told"),
    [
        ("301 Moved", "https://mq.example.org/api/queues", "leads to https://mq.example.org/api/queues"),
        ("302 Found", "//u:secret@mq.example.org/x", "leads to http://mq.example.org/x"),
        ("307 Temporary", "/login?next=1", r"leads to http://127\.0\.0\.1:\d+/login\?next=1"),
        ("308 Permanent", "http://u:secret@[", "leads to"),
        ("303 See Other", "", "does not say where"),
    ],
)
def test_a_redirect_is_told_and_not_followed(status: str, location: str, told: str) -> None:
    heard: list[bytes] = []
    where = {"Location": location} if location else {}
    with answering(b"", status, heard, **where) as url, pytest.raises(ApiUnreachable, match=told) as caught:
        ManagementClient(url).overview()
    assert status[:3] in str(caught.value)
    assert "secret" not in repr(caught.value.facts) + str(caught.value)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("status", "body", "headers", "told"),
    [
        ("429 Too Many Requests", b'{"message":"slow"}', {"Retry_After": "30"}, r"429 \(by kong\): .*pause of 30 s"),
        ("429 Too Many Requests", b"", {}, "429 .*too many requests"),
        ("429 Too Many Requests", b"", {"Retry_After": "Fri, 31 Dec 1999 23:59:59 GMT"}, "pause of 0 s"),
        ("502 Bad Gateway", b"<html>", {}, "502 .*does not reach the broker"),
        ("503 Service Unavailable", b'{"message":"x"}', {}, "503 .*no broker to ask"),
        ("504 Gateway Time-out", b"<html>", {}, "504 .*did not answer it in time"),
        ("401 Unauthorized", b"<html>", {}, "401 .*a login of its own"),
        ("403 Forbidden", b"<html>", {}, "403 .*does not let this through"),
        ("413 Request Entity Too Large", b"<html>", {}, "413 .*too much for it"),
        ("414 URI Too Long", b"", {}, "414 .*too long for it"),
        ("520 Unknown", b"error code: 520", {}, "520 .*not an answer of RabbitMQ"),
        ("404 Not Found", b"<html>", {}, "404 .*not an answer of RabbitMQ"),
    ],
)
def test_what_stands_before_the_broker_says_what_it_is(
    status: str, body: bytes, headers: dict[str, str], told: str
) -> None:
    with answering(body, status, Server="kong", **headers) as url:
        with pytest.raises(ApiUnreachable, match=told) as caught:
            ManagementClient(url).overview()
        assert url in str(caught.value)
        assert "kong" in str(caught.value)
        assert re.search("again|own address|AllowEncodedSlashes", str(caught.value.hint))
        with pytest.raises((ApiUnreachable, GuardRefused)):
            ManagementClient(url).delete_vhost("x")


def test_an_error_of_the_broker_itself_stays_its_own() -> None:
    with answering(b'{"error":"bad","reason":"no quorum"}', "503 Service Unavailable") as url:
        with pytest.raises(ApiError, match="503: no quorum") as caught:
            ManagementClient(url).overview()
        assert not isinstance(caught.value, ApiUnreachable)
    with answering(b"", "500 Internal Server Error", Server="Cowboy") as url:
        with pytest.raises(ApiError, match=r"500: Internal Server Error$") as caught:
            ManagementClient(url).overview()
        assert not isinstance(caught.value, ApiUnreachable)


# --- who may not enter


def test_no_access_is_told_apart_from_no_vhost_by_every_question(vhost: Any, nested: str, member: str) -> None:
    for_all = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 20)
    with ManagementClient(member) as api:
        for number in for_all:
            with pytest.raises(VhostNotFound, match=r"member' has no access to vhost '.*a%2Fb'") as caught:
                QUESTIONS[number](api, nested)
            assert "set_permissions" in str(caught.value.hint), number
            with pytest.raises(VhostNotFound, match=r"no vhost 'nowhere' .*it does not exist"):
                QUESTIONS[number](api, "nowhere")


def test_an_empty_list_is_the_truth_where_one_may_look(vhost: Any, member: str) -> None:
    with ManagementClient(member) as api:
        assert api.consumers(vhost.name) == []
        assert api.exchange_bindings(vhost.name, "amq.topic") == []
