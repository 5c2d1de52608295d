"""Answers that real nodes gave (tests/recorded) are read whole: each version writes some things differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from busctl.views.bindings import BINDINGS
from busctl.views.channels import CHANNELS
from busctl.views.connections import CONNECTIONS
from busctl.views.consumers import CONSUMERS
from busctl.views.exchanges import EXCHANGES
from busctl.views.federation import FEDERATION
from busctl.views.nodes import NODES
from busctl.views.overview import facts
from busctl.views.permissions import PERMISSIONS
from busctl.views.policies import POLICIES
from busctl.views.queues import QUEUES, features
from busctl.views.shovels import SHOVELS
from busctl.views.users import USERS
from busctl.views.vhosts import VHOSTS
from busctl.views.view import View
from busctl_lib.management import (
    AccountInfo,
    BindingInfo,
    ChannelInfo,
    ConnectionInfo,
    ConsumerInfo,
    ExchangeInfo,
    FederationLinkInfo,
    NodeInfo,
    OverviewInfo,
    PermissionInfo,
    PolicyInfo,
    QueueInfo,
    ShovelInfo,
    UserInfo,
    VhostInfo,
    rate_of,
)
from busctl_lib.management.infos import Info
from busctl_lib.management.transport import _decode

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = sorted(path.name for path in RECORDED.iterdir() if (path / "overview.json").exists())


class Page(Info):
    items: list[QueueInfo]


KINDS: dict[str, Any] = {
    "overview": OverviewInfo,
    "whoami": UserInfo,
    "nodes": list[NodeInfo],
    "vhosts": list[VhostInfo],
    "policies": list[PolicyInfo],
    "queues": list[QueueInfo],
    "queues_with_rates": list[QueueInfo],
    "queues_named": Page,
    "queue": QueueInfo,
    "queue_bindings": list[BindingInfo],
    "exchanges": list[ExchangeInfo],
    "exchange": ExchangeInfo,
    "exchange_bindings": list[BindingInfo],
    "bindings": list[BindingInfo],
    "consumers": list[ConsumerInfo],
    "connections": list[ConnectionInfo],
    "channels": list[ChannelInfo],
    "users": list[AccountInfo],
    "permissions": list[PermissionInfo],
    "shovels": list[ShovelInfo],
    "federation_links": list[FederationLinkInfo],
}
VIEWS: dict[str, View[Any]] = {
    "nodes": NODES,
    "vhosts": VHOSTS,
    "policies": POLICIES,
    "queues_with_rates": QUEUES,
    "exchanges": EXCHANGES,
    "bindings": BINDINGS,
    "consumers": CONSUMERS,
    "connections": CONNECTIONS,
    "channels": CHANNELS,
    "users": USERS,
    "permissions": PERMISSIONS,
    "shovels": SHOVELS,
    "federation_links": FEDERATION,
}


def recorded(version: str, name: str) -> Any:
    """One answer as the client reads it."""
    raw = (RECORDED / version / f"{name}.json").read_bytes()
    if name != "channels":  # the one place where a broker's own federation writes "undefined" for a port
        return msgspec.json.decode(raw, type=KINDS[name])
    return _decode(raw, KINDS[name], name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", KINDS)
def test_a_recorded_answer_is_of_our_types(version: str, name: str) -> None:
    found = recorded(version, name)
    assert found
    assert msgspec.json.decode(msgspec.json.encode(found), type=KINDS[name]) == found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", VIEWS)
def test_a_recorded_list_has_a_row_each(version: str, name: str) -> None:
    view = VIEWS[name]
    infos = recorded(version, name)
    for info in view.sorted(infos):
        cells = view.row(info, view.select(wide=True))
        assert any(cell.text for cell in cells)
        assert all(cell.text.isprintable() for cell in cells)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_matters_is_found_in_the_answers_of_each_version(version: str) -> None:
    overview = recorded(version, "overview")
    assert overview.rabbitmq_version == version
    assert overview.queue_totals.messages_details.samples
    assert {"http", "http/prometheus"} <= {listener.protocol for listener in overview.listeners}
    assert [fact.text for fact in facts(overview, recorded(version, "nodes")) if fact.label == "nodes"] == [
        "1/1 running"
    ]

    queues = {info.name: info for info in recorded(version, "queues_with_rates")}
    assert {name: info.type for name, info in queues.items() if ":" not in name} == {
        "away": "classic",
        "log": "stream",
        "orders": "classic",
        "orders.dead": "classic",
        "trades": "quorum",
    }
    orders = queues["orders"]
    assert (orders.consumers, orders.policy, orders.effective_policy_definition) == (1, "limits", {"max-length": 1000})
    assert rate_of(orders.message_stats, "publish") is not None
    assert features(orders) == "D DLX Lim Pol"
    assert queues["trades"].members == queues["trades"].online == ["rabbit@bus"]
    detail = recorded(version, "queue")
    assert [consumer.prefetch_count for consumer in detail.consumer_details] == [7]
    assert len(detail.messages_details.samples) == 13

    light = {info.name: info for info in recorded(version, "queues")}
    assert light["orders"].messages is not None
    assert (light["orders"].consumers, light["log"].messages) == (None, None)


@pytest.mark.parametrize("version", VERSIONS)
def test_shovels_and_federation_links_have_their_state_and_no_password(version: str) -> None:
    [shovel] = recorded(version, "shovels")
    assert (shovel.name, shovel.state, shovel.src_queue, shovel.dest_queue) == (
        "rescue",
        "running",
        "orders.dead",
        "away",
    )
    [link] = recorded(version, "federation_links")
    assert (link.upstream, link.exchange, link.status) == ("north", "fed", "running")


@pytest.mark.parametrize("kind", [ShovelInfo, FederationLinkInfo])
def test_a_password_in_an_address_goes_no_further(kind: Any) -> None:
    said = "cannot reach amqp://u:hunter2@north/v"
    fields = {"src_uri": said, "dest_uri": said, "reason": said, "uri": said, "error": said, "name": "s"}
    info = msgspec.convert(fields, kind)
    assert "hunter2" not in repr(info)
    assert b"north/v" in msgspec.json.encode(info)
