"""Exchanges that share messages out among their queues, of every type that the broker has: told from all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.envelope import Envelope, Properties
from busctl_lib.errors import GuardRefused
from busctl_lib.management import ManagementClient
from busctl_lib.taps import plan_tap
from busctl_lib.topology_map import Place, read
from busctl_lib.transfers.routes import RouteMap

SHARING = ("x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random")


@pytest.fixture
def api(vhost: Any) -> Iterator[ManagementClient]:
    with ManagementClient(vhost.api_url) as api:
        yield api


@pytest.mark.parametrize("kind", SHARING)
def test_nothing_is_added_to_an_exchange_that_shares_out_and_no_route_through_it_is_sure(
    vhost: Any, api: ManagementClient, kind: str
) -> None:
    types = {str(each["name"]) for each in api.get_json("overview")["exchange_types"]}
    if kind not in types:
        pytest.skip(f"this broker has no exchange type {kind}: a newer version, or a plug-in, brings it")
    key = "" if "random" in kind else "1"
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_exchange("share", kind)
        for name in ("one", "two"):
            broker.declare_queue(name)
            broker.bind_queue(name, "share", key)
        for target in ({"queue": "one"}, {"exchange": "share", "key": key}):
            with pytest.raises(GuardRefused, match=f"its type {kind} may share messages out") as told:
                plan_tap(api, vhost.name, via="copy", **target)
            assert told.value.refused[0].way == "copy"
        assert plan_tap(api, vhost.name, exchange="share", key=key).way == "firehose"
        reach = RouteMap(api, vhost.name).reach(
            Envelope(exchange="share", routing_key=key, properties=Properties(), body=b"")
        )
        assert (reach.queues, reach.sure) == (["one", "two"], False)
        reached = read(api, vhost.name).reached(Place("exchange", "share"), key)
        assert {place.name for place in reached} == {"share", "one", "two"}
        MessagePublisher(broker).publish("", {"n": 1}, exchange="share", routing_key=key)
        depths = [broker.declare_queue(name, passive=True).message_count for name in ("one", "two")]
        assert sum(depths) == 1, "one of them got it"
