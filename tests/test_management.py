"""The management client against a real broker, and against what no real broker gives on demand."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from api_at_socket import answering, dripping, refusing_port
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.errors import (
    ApiError,
    ApiForbidden,
    ApiLoginRefused,
    ApiUnreachable,
    ConfigError,
    GuardRefused,
    NotFound,
    VhostNotFound,
)
from busctl_lib.management import History, ManagementClient, QueueInfo, UserInfo, VhostInfo, rate_of

ODD_NAMES = ["a.b", "x|y(z)*", "é ☃", "50%2Fslash/", "?query#hash"]


@pytest.fixture
def api(vhost: Any) -> Iterator[ManagementClient]:
    with ManagementClient(vhost.api_url) as client:
        yield client


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


def put(api_url: str, path: str, body: object) -> None:
    requests.put(f"{api_url}/api/{path}", json=body, timeout=10).raise_for_status()


# --- what it knows


def test_overview_nodes_and_whoami_tell_who_and_where(api: ManagementClient) -> None:
    overview = api.overview(History())
    assert overview.rabbitmq_version is not None
    assert overview.node in [node.name for node in api.nodes()]
    assert "administrator" in api.whoami().tag_names


def test_no_sample_is_asked_for_that_the_broker_may_have_dropped() -> None:
    # Seen on a node that ran for more than ten minutes: of 600 s the oldest came as 0 half of the time, of 580 never.
    ten_minutes = {"lengths_age": 580, "lengths_incr": 20, "msg_rates_age": 580, "msg_rates_incr": 20}
    assert History(600, 20).params() == ten_minutes
    assert History(60, 5).params(rates=False) == {"lengths_age": 60, "lengths_incr": 5}
    assert History(3600, 60).params(rates=False) == {"lengths_age": 3600, "lengths_incr": 60}


def test_the_light_list_has_counts_and_a_stream_has_none(
    vhost: Any, api: ManagementClient, broker: MessageBroker
) -> None:
    broker.declare_queue("orders")
    broker.declare_queue("log", arguments={"x-queue-type": "stream"})
    MessagePublisher(broker).publish("orders", {"n": 1})

    def light() -> dict[str, QueueInfo]:
        return {info.name: info for info in api.queues(vhost.name)}

    wait_until(lambda: light()["orders"].messages == 1)
    assert light()["orders"].consumers is None
    assert light()["log"].messages is None
    assert light()["log"].type == "stream"


def test_a_queue_just_declared_already_has_its_counts_in_the_list_with_rates(
    vhost: Any, api: ManagementClient, broker: MessageBroker
) -> None:
    broker.declare_queue("fresh")
    [info] = api.queues_with_rates(vhost.name)
    assert (info.messages, info.state) == (0, "running")


def test_lists_have_rates_consumers_and_history_once_the_broker_has_them(
    vhost: Any, api: ManagementClient, broker: MessageBroker
) -> None:
    for name in ODD_NAMES:
        broker.declare_queue(name)
    broker.subscribe(ODD_NAMES[0], lambda delivery: None, prefetch=7)
    MessagePublisher(broker).publish(ODD_NAMES[0], {"n": 1})

    def has_statistics() -> bool:
        infos = {info.name: info for info in api.queues_with_rates(vhost.name)}
        busy = infos[ODD_NAMES[0]]
        known = all(info.consumers is not None for info in infos.values())
        return known and busy.consumers == 1 and rate_of(busy.message_stats, "publish") is not None

    wait_until(has_statistics, timeout=15)
    keys = {(vhost.name, name) for name in ODD_NAMES}
    named = api.queues_named({*keys, (vhost.name, "absent")}, history=History(age_s=60, step_s=5))
    assert named.keys() == keys
    details = named[vhost.name, ODD_NAMES[0]].messages_details
    assert details is not None
    assert len(details.samples or []) == 13
    assert api.queues_named(keys)[vhost.name, ODD_NAMES[0]].consumers == 1

    [consumer] = api.queue(vhost.name, ODD_NAMES[0]).consumer_details or []
    assert consumer.prefetch_count == 7
    assert [each.queue.name for each in api.consumers(vhost.name)] == [ODD_NAMES[0]]
    assert {connection.vhost for connection in api.connections(vhost.name)} == {vhost.name}
    assert {channel.vhost for channel in api.channels(vhost.name)} == {vhost.name}


def test_many_names_take_several_requests_and_none_is_lost(
    vhost: Any, api: ManagementClient, broker: MessageBroker
) -> None:
    names = [f"{number:03}.{'.' * 200}" for number in range(40)]
    for name in names:
        broker.declare_queue(name)
    wanted = {(vhost.name, name) for name in names}
    wait_until(lambda: api.queues_named(wanted).keys() == wanted)


def test_exchanges_and_bindings(vhost: Any, api: ManagementClient, broker: MessageBroker) -> None:
    broker.declare_queue("orders")
    broker.declare_exchange("trading", "topic")
    broker.bind_queue("orders", "trading", "order.#")

    assert api.exchange(vhost.name, "trading").type == "topic"
    assert api.exchange(vhost.name, "").name == ""
    assert "amq.topic" in [info.name for info in api.exchanges(vhost.name)]
    expected = [("", "orders"), ("trading", "order.#")]
    assert sorted((info.source, info.routing_key) for info in api.queue_bindings(vhost.name, "orders")) == expected
    assert sorted((info.source, info.routing_key) for info in api.bindings(vhost.name)) == expected
    assert [info.destination for info in api.exchange_bindings(vhost.name, "trading")] == ["orders"]


def test_policies_keep_their_own_spelling(vhost: Any, api: ManagementClient) -> None:
    definition = {"max-length": 10}
    put(vhost.api_url, f"policies/{vhost.name}/cap", {"pattern": "^q", "definition": definition, "apply-to": "queues"})
    [policy] = api.policies(vhost.name)
    assert (policy.name, policy.definition, policy.apply_to) == ("cap", definition, "queues")


# --- the tracing flag


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"description": "our bus, é", "tags": ["prod", "a,b"], "default_queue_type": "quorum"},
        {"description": "", "tags": "one,two"},
    ],
)
def test_tracing_changes_and_nothing_else_of_the_vhost(vhost: Any, api: ManagementClient, body: dict[str, Any]) -> None:
    put(vhost.api_url, f"vhosts/{vhost.name}", {"tracing": False, **body})

    def everything() -> dict[str, Any]:
        info = api.get_json(f"vhosts/{vhost.name}")
        kept = ("name", "description", "tags", "default_queue_type", "metadata", "tracing", "protected_from_deletion")
        return {name: value for name, value in info.items() if name in kept}

    protection = f"{vhost.api_url}/api/vhosts/{vhost.name}/deletion/protection"
    requests.post(protection, timeout=10)  # 405 before RabbitMQ 4.1
    try:
        before = everything()
        api.set_tracing(vhost.name, True)
        assert everything() == {**before, "tracing": True}
        assert api.vhost(vhost.name).tracing is True
        api.set_tracing(vhost.name, False)
        assert everything() == before
    finally:
        requests.delete(protection, timeout=10)


def test_a_read_only_client_changes_nothing(vhost: Any) -> None:
    with ManagementClient(vhost.api_url, read_only=True) as api:
        with pytest.raises(GuardRefused, match="read-only"):
            api.set_tracing(vhost.name, True)
        assert api.vhost(vhost.name).tracing is False


# --- what it refuses, and how it says so


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.queues("nope"),
        lambda api: api.queues_with_rates("nope"),
        lambda api: api.queue("nope", "q"),
        lambda api: api.exchanges("nope"),
        lambda api: api.connections("nope"),
        lambda api: api.vhost("nope"),
        lambda api: api.set_tracing("nope", True),
    ],
)
def test_an_unknown_vhost_is_said_to_be_unknown(
    api: ManagementClient, ask: Callable[[ManagementClient], object]
) -> None:
    with pytest.raises(VhostNotFound, match="nope"):
        ask(api)


def test_an_unknown_queue_is_not_found(vhost: Any, api: ManagementClient) -> None:
    with pytest.raises(NotFound, match="no queue 'nope'"):
        api.queue(vhost.name, "nope")


def test_a_wrong_password_is_said_to_be_wrong_and_not_repeated(vhost: Any) -> None:
    client = ManagementClient(vhost.api_url, password="hunter2")
    with pytest.raises(ApiLoginRefused, match="wrong user or password") as caught:
        client.overview()
    for shown in (
        str(caught.value),
        repr(caught.value),
        repr(caught.value.facts),
        repr(client),
        str(caught.value.hint),
    ):
        assert "hunter2" not in shown
        assert vhost.password not in shown.replace(vhost.username, "") or vhost.password == vhost.username


@pytest.fixture
def user(vhost: Any) -> Iterator[Callable[[str], ManagementClient]]:
    made = []

    def make(tags: str) -> ManagementClient:
        name = f"{vhost.name}-{tags or 'none'}"
        made.append(name)
        put(vhost.api_url, f"users/{name}", {"password": "secret", "tags": tags})
        return ManagementClient(vhost.api_url, username=name, password="secret")

    yield make
    for name in made:
        requests.delete(f"{vhost.api_url}/api/users/{name}", timeout=10)


def test_a_missing_tag_is_named(vhost: Any, user: Callable[[str], ManagementClient]) -> None:
    for tags, missing in [("", "management"), ("management", "monitoring")]:
        with pytest.raises(ApiForbidden) as caught:
            user(tags).nodes()
        assert caught.value.facts["tag"] == missing
        assert "set_user_tags" in str(caught.value.hint)


def test_a_vhost_without_permission_is_no_vhost_for_us(vhost: Any, user: Callable[[str], ManagementClient]) -> None:
    with pytest.raises(VhostNotFound, match="no access"):
        user("management").queues(vhost.name)


def test_one_vhost_can_be_read_without_being_administrator(vhost: Any, user: Callable[[str], ManagementClient]) -> None:
    assert user("monitoring").vhost(vhost.name).name == vhost.name


def test_a_port_nobody_listens_on_is_known_at_once() -> None:
    with pytest.raises(ApiUnreachable, match="connection refused"):
        ManagementClient(f"http://127.0.0.1:{refusing_port()}").overview()


def test_an_api_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = ManagementClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=(1, 0.2))
        with pytest.raises(ApiUnreachable, match=r"no answer within 0\.2 s"):
            client.overview()


def test_an_api_that_answers_byte_by_byte_is_given_up_in_time() -> None:
    with dripping() as url, pytest.raises(ApiUnreachable, match="not whole within 2 s"):
        ManagementClient(url, timeout_s=(0.5, 0.5)).overview()


def test_a_port_that_speaks_amqp_is_not_the_api(vhost: Any) -> None:
    with pytest.raises(ApiUnreachable) as caught:
        ManagementClient(f"http://{vhost.host}:{vhost.port}").overview()
    assert "15672" in str(caught.value.hint)


def test_a_connection_that_is_closed_instead_of_an_answer_is_tried_once_more_for_a_reading() -> None:
    heard: list[bytes] = []
    with answering(b'{"name":"ops","tags":[]}', heard=heard, hang_ups=1) as url, ManagementClient(url) as api:
        assert api.whoami().name == "ops"
    assert len(heard) == 2
    heard.clear()
    with answering(b"{}", heard=heard, hang_ups=2) as url, ManagementClient(url) as api:
        with pytest.raises(ApiUnreachable):
            api.whoami()
        assert len(heard) == 2
    heard.clear()
    with answering(b"{}", heard=heard, hang_ups=1) as url, ManagementClient(url) as api:
        with pytest.raises(ApiUnreachable):
            api._http.change("DELETE", "policies/%2F/p")
        assert len(heard) == 1  # a change may have been made


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"a":'])
def test_another_web_server_is_not_taken_for_the_api(body: bytes) -> None:
    with answering(body) as url, pytest.raises(ApiError, match="did not answer like"):
        ManagementClient(url).whoami()


def test_an_error_of_the_server_is_passed_on() -> None:
    with (
        answering(b'{"error":"bad","reason":"out of\\n order"}', "503 Service Unavailable") as url,
        pytest.raises(ApiError, match="503: out of order"),
    ):
        ManagementClient(url).overview()
    with answering(b"nothing here", "404 Not Found") as url, pytest.raises(ApiError, match="not an answer of RabbitMQ"):
        ManagementClient(url).overview()


@pytest.mark.parametrize("url", ["localhost:15672", "amqp://h", "http://", "http://u:se/cret@h:1", "http://[::1"])
def test_an_address_that_cannot_be_one_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ManagementClient(url)
    assert "cret" not in str(caught.value)


# --- answers of other versions and other plug-ins


def test_a_value_of_another_type_counts_as_absent_and_the_rest_is_kept() -> None:
    body = (
        b'[{"name":"q","vhost":"/","arguments":[],"messages":"unknown","consumers":3,"new_field":{},'
        b'"message_stats":{"publish_details":{"rate":"?"},"ack_details":{"rate":2.5}},"members":["a",7,"b"]}]'
    )
    with answering(body) as url:
        [info] = ManagementClient(url).queues()
    assert (info.arguments, info.messages, info.consumers, info.members) == (None, None, 3, ["a", "b"])
    assert (rate_of(info.message_stats, "publish"), rate_of(info.message_stats, "ack")) == (None, 2.5)


def test_text_that_is_not_utf8_does_not_hide_the_rest() -> None:
    with answering(b'{"name":"v","description":"\xff!","tags":"a"}') as url:
        info = ManagementClient(url)._http.get("any", VhostInfo)
    assert (info.name, info.description, info.tags) == ("v", "\ufffd!", None)


def test_user_tags_are_read_from_a_list_and_from_a_string() -> None:
    assert UserInfo(name="u", tags="a, b").tag_names == UserInfo(name="u", tags=["a", "b"]).tag_names == ["a", "b"]
    assert UserInfo(name="u", tags="").tag_names == []


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_a_path_cannot_hold_reaches_no_other_object(api: ManagementClient, name: str) -> None:
    with pytest.raises(GuardRefused):
        api.queue("/", name)


@pytest.mark.parametrize("levels", [5_000, 100_000])
def test_a_queue_with_arguments_nested_beyond_all_use_does_not_hide_the_others(levels: int) -> None:
    deep = b'{"a]":[' * levels + b"1" + b"]}" * levels
    queues = b'[{"name":"deep","vhost":"/","arguments":%b},{"name":"}\\"[","vhost":"/"}]' % deep
    with answering(queues) as url:
        found = ManagementClient(url)._http.get("queues", list[QueueInfo])
    assert [info.name for info in found] == ["deep", '}"[']
    assert found[0].arguments is not None
    assert found[0].arguments["a]"][0]["a]"] is not None
