"""Addresses of both doors: what is in them is kept to or refused by name, and no error tells a password."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from trying import Busctl

from busctl.config import Flags, resolve
from busctl_lib import MessageBroker
from busctl_lib.address_parameters import parameters_of
from busctl_lib.addresses import amqp_address, api_address, with_password, without_password
from busctl_lib.errors import BrokerRefused, BusError, CannotConnect, ConfigError
from busctl_lib.management import ManagementClient

MARKS = "#/?%@:[]\\ &=+'\"<>"
RAW = [f"s3cr3t{mark}tail" for mark in MARKS] + ["12#s3cr3t", "12/s3cr3t", "s3cr3t%4", "s3cr3t%zz", "a@b/s3cr3t", "%ff"]
PIECES = ("s3cr3t", "tail", "%ff")


def told_by(work: Callable[[], object]) -> str:
    """All that an error says, its trace and its facts too; "" where there is none."""
    try:
        work()
    except BusError as error:
        return "".join(traceback.format_exception(error)) + f" {error.hint} {vars(error)}"
    return ""


@pytest.mark.parametrize("password", RAW)
def test_a_password_that_is_not_percent_encoded_is_in_no_error(password: str) -> None:
    for place in ("h:5672/v", "h", "h:port", "[::1", ""):
        for url in (f"amqp://u:{password}@{place}", f"amqp://u:{password}"):
            http = url.replace("amqp", "http")
            for read in (
                lambda url=url: MessageBroker(url=url),
                lambda url=url: resolve(Flags(amqp_url=url), {}),
                lambda http=http: resolve(Flags(amqp_url="amqp://h", api_url=http), {}),
                lambda http=http: ManagementClient(http),
            ):
                said = told_by(read)
                assert not [piece for piece in PIECES if piece in said], said


@pytest.mark.parametrize("password", [*RAW[:-1], "\u00e9\u4e2d", "%41"])
def test_percent_encoded_every_password_is_itself(password: str) -> None:
    url = f"amqp://{quote(password, safe='')}:{quote(password, safe='')}@h/{quote(password, safe='')}"
    found = amqp_address(url)
    assert (found.username, found.password, found.vhost) == (password, password, password)
    assert amqp_address(found.url) == found
    assert resolve(Flags(amqp_url=url), {}).vhost == password
    assert amqp_address(resolve(Flags(amqp_url=url), {}).amqp_url).password == password
    assert api_address(resolve(Flags(amqp_url=url), {}).api_url).password == password
    assert password not in repr(amqp_address(f"amqp://u:{quote(password, safe='')}@h/v"))
    assert with_password("amqp://u@h:1/v", password) == f"amqp://u:{quote(password, safe='')}@h:1/v"


@pytest.mark.parametrize("password", ["p:w", "p@w", "p[w]", "p w", "p&w=1"])
def test_what_can_only_be_meant_one_way_needs_no_encoding(password: str) -> None:
    found = amqp_address(f"amqp://u:{password}@h:1/v")
    assert (found.username, found.password, found.place) == ("u", password, "h:1")


@pytest.mark.parametrize("mark", "#/?")
def test_how_it_is_written_is_told(mark: str) -> None:
    with pytest.raises(ConfigError, match=f"has a [{mark}] and then an @") as caught:
        amqp_address(f"amqp://u:p{mark}w@h:5672/")
    assert f"{mark} " in str(caught.value.hint)
    assert quote(mark, safe="") in str(caught.value.hint)
    with pytest.raises(ConfigError, match="password of the AMQP address has a %"):
        amqp_address("amqp://u:p%w@h")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://h", "amqp://h:5672"),
        (" AMQPS://u:p@H.example\n", "amqps://u@h.example:5671"),
        ("amqp://u@[::1]:7/%2F", "amqp://u@[::1]:7/%2F"),
        ("amqp://:token@h/a/b", "amqp://@h:5672/a/b"),
        ("amqp://h:/", "amqp://h:5672/"),
    ],
)
def test_an_address_is_read(url: str, shown: str) -> None:
    assert amqp_address(url).shown == shown


def test_the_address_of_the_api_may_be_that_of_its_pages() -> None:
    assert api_address("http://u:p@h:15672/#/queues").shown == "http://u@h:15672/"
    with ManagementClient("https://u:p@[::1]:15671/rabbit/api/") as api:
        assert (api.url, api.username) == ("https://[::1]:15671/rabbit", "u")
    with pytest.raises(ConfigError, match="takes no parameters"):
        api_address("http://h:15672/?timeout=3")


def test_several_hosts_are_hosts_and_no_addresses() -> None:
    hosts = ["one", "two:5673", "[::1]:5674", "::2", "10.0.0.1"]
    found = {each.address for each in MessageBroker(hosts=hosts).endpoints}
    assert found == {"one:5672", "two:5673", "::1:5674", "::2:5672", "10.0.0.1:5672"}
    for wrong in ("u:s3cr3t@h", "amqp://u:s3cr3t@h", "h:port", "h:70000", "", "h/v", "u:s3cr3t"):
        said = told_by(lambda wrong=wrong: MessageBroker(hosts=[wrong]))  # type: ignore[misc]
        assert "not a host" in said
        assert "s3cr3t" not in said


def test_secrets_are_blotted_out_wherever_they_stand() -> None:
    assert without_password("amqps://h/v?password=s3cr3t&verify=verify_none").endswith(
        "?password=***&verify=verify_none"
    )
    for password in RAW:
        assert "s3cr3t" not in without_password(f"amqp://u:{password}@h:5672/v")


# --- parameters


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("heartbeet=5", "heartbeet is no parameter of an AMQP address"),
        ("heartbeet=5", "(did you mean heartbeat?"),
        ("Heartbeat=5", "did you mean heartbeat?"),
        ("connection-timeout=5", "did you mean connection_timeout?"),
        ("channelMax=5", "did you mean channel_max?"),
        ("timeout=5", "use connection_timeout, in milliseconds"),
        ("socket_timeout=5", "use connection_timeout, in milliseconds"),
        ("vhost=a", "it is the path of the address"),
        ("zzz=1", "there are: auth_mechanism, cacertfile"),
        ("heartbeat=abc", "heartbeat must be a whole number from 0 to 65535, found 'abc'"),
        ("heartbeat=-1", "found '-1'"),
        ("heartbeat=70000", "found '70000'"),
        ("heartbeat=", "heartbeat has no value"),
        ("heartbeat", "heartbeat has no value"),
        ("heartbeat=1&heartbeat=2", "heartbeat is there twice"),
        ("frame_max=1000", "frame_max must be a whole number from 4096 to 131072"),
        ("channel_max=0", "channel_max must be"),
        ("auth_mechanism=amqplain", "auth_mechanism must be plain or external, found 'amqplain'"),
        ("cacertfile=/x.pem", "cacertfile is for TLS, and the address begins with amqp://"),
        ("heartbeet=5&verfy=no", "heartbeet: did you mean heartbeat? verfy: did you mean verify?"),
    ],
)
def test_a_parameter_that_cannot_be_kept_to_is_refused_by_its_name(busctl: Busctl, query: str, said: str) -> None:
    url = f"amqp://u:s3cr3t@h:5672/v?{query}"
    error = told_by(lambda: MessageBroker(url=url))
    assert "amqp://u@h:5672/v: " in error
    for command in (("contexts", "check"), ("queues",), ("contexts", "add", "a", "--store-password")):
        code, out, err = busctl(*command, "--amqp-url", url)
        assert (code, out) == (2, "")
        assert said in err
        assert "s3cr3t" not in err


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("verify=yes", "verify must be verify_peer or verify_none, found 'yes'"),
        ("depth=3", "depth cannot be set here"),
        ("server_name_indication=disable", "server_name_indication cannot be disabled here"),
        ("fail_if_no_peer_cert=maybe", "fail_if_no_peer_cert must be true or false"),
        ("cacertfile=/nowhere/ca.pem", "/nowhere/ca.pem cannot be read"),
        ("keyfile=/nowhere/key.pem", "a key without its certificate"),
    ],
)
def test_a_parameter_of_tls_that_cannot_be_kept_to_is_refused(query: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MessageBroker(url=f"amqps://u:s3cr3t@h/v?{query}")
    assert said in str(caught.value)


def test_an_unreadable_address_says_where_it_stands(busctl: Busctl) -> None:
    assert "(flag)" in busctl("queues", "--amqp-url", "amqp://h?zzz=1")[2]
    assert "(environment)" in busctl("queues", BUSCTL_AMQP_URL="amqp://u:p/w@h")[2]
    assert "(flag)" in busctl("queues", "--amqp-url", "amqp://h", "--api-url", "http://u:p#w@h")[2]


def test_parameters_are_kept_to(vhost: Any) -> None:
    url = f"{vhost.amqp_url}?heartbeat=7&channel_max=3&frame_max=8192&connection_timeout=5000&auth_mechanism=PLAIN"
    with MessageBroker(url=url) as broker:
        link = broker.links.consume
        assert link.connection is not None
        params = link.connection.params
        assert (params.heartbeat, params.channel_max, params.frame_max) == (7, 3, 8192)
        queue = broker.declare_queue("", exclusive=True).queue
        for _ in range(3):
            broker.subscribe(queue, lambda _delivery: None)
        with pytest.raises(BrokerRefused, match="all 3 channels of this connection are in use"):
            broker.subscribe(queue, lambda _delivery: None)
        assert link.reconnects == 0, "what is too much costs nothing but itself"


def test_the_timeout_of_an_address_is_that_of_its_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(CannotConnect):
            MessageBroker(url=f"amqp://127.0.0.1:{silent.getsockname()[1]}?connection_timeout=300").connect()
        assert time.monotonic() - began < 5


def test_each_parameter_is_listed_with_what_became_of_it(busctl: Busctl, vhost: Any) -> None:
    url = f"{vhost.amqp_url}?heartbeat=7&auth_mechanism=plain&auth_mechanism=external"
    code, out, _ = busctl("contexts", "check", "--amqp-url", url, "--api-url", vhost.api_url)
    assert code == 0
    lines = [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("parameter")]
    assert lines == [
        "heartbeat=7: kept to: 7 s",
        "auth_mechanism=plain: kept to: login by user and password",
        "auth_mechanism=external: without effect: the first one is tried",
    ]


def test_the_files_of_an_address_are_those_of_both_doors_and_are_said_once() -> None:
    settings = resolve(Flags(amqp_url="amqps://u:p@h/v?cacertfile=/a%26b.pem&verify=verify_none&heartbeat=3"), {})
    assert settings.tls is not None
    assert (settings.tls.ca, settings.tls.verify) == ("/a&b.pem", False)
    assert settings.amqp_url == "amqps://u:p@h:5671/v?heartbeat=3"
    told = parameters_of(amqp_address("amqps://h?certfile=/c.pem&password=s3cr3t&fail_if_no_peer_cert=false"))
    assert [(each.name, each.value) for each in told.told] == [
        ("certfile", "/c.pem"),
        ("password", "***"),
        ("fail_if_no_peer_cert", "false"),
    ]
    assert "s3cr3t" not in repr(told)


def test_what_is_not_said_is_as_without_parameters() -> None:
    assert MessageBroker(url="amqp://h").endpoints == MessageBroker(host="h").endpoints
