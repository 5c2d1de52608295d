"""What the console shows of newer brokers: their own checks, what is deprecated, priorities, readers of streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import msgspec
import pytest
from consoles import on_loop, opened

from busctl.tui.messages import OwnAsked
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.management import DeprecatedFeature, HealthCheck, ManagementClient, StreamTracking
from busctl_lib.pytest_plugin import TestBroker


@pytest.fixture
def bus(vhost: TestBroker) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@on_loop
async def test_the_overview_tells_what_the_broker_says_of_itself(vhost: TestBroker, bus: MessageBroker) -> None:
    with ManagementClient(vhost.api_url) as api:
        release = api.overview().release or ()
    async with opened(vhost, (160, 40)) as console:
        await console.shows("no alarms", "Nothing needs attention. Good.")
        await console.until(lambda: console.app.screen._own is not None, timeout=60)
        if release >= (4, 3):
            await console.shows("checks ", " of 5 ok")  # others may have queues without a leader
        bad = HealthCheck(name="is-in-service", status="failed", reason="node is \x1bdrained")
        used = [DeprecatedFeature(name="global_qos", deprecation_phase="permitted_by_default")]
        console.app.screen.post_message(OwnAsked([bad], used))
        text = await console.shows("✖ is-in-service", "checks 0 of 1 ok  deprecated in use: global_qos")
        assert "node is \\x1bdrained" in text
        console.app.feed.stop()  # the next beat would say it anew
        seen = console.app.feed.snapshot
        tagged = msgspec.structs.replace(seen.overview, cluster_tags={"region": "[eu]"})
        console.app.screen._say_own(dataclasses.replace(seen, overview=tagged))
        await console.shows("Nodes, region=[eu]")


@on_loop
async def test_a_queue_tells_its_priorities_and_a_stream_its_readers(
    vhost: TestBroker, bus: MessageBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = StreamTracking(offsets={"audit": 1200})
    with ManagementClient(vhost.api_url) as api:
        release = api.overview().release or ()
    bus.declare_queue("orders", arguments={"x-queue-type": "quorum"})
    bus.declare_queue("tape", arguments={"x-queue-type": "stream"})
    MessagePublisher(bus).publish("orders", {"n": 1}, priority=9)
    bus.subscribe("tape", lambda delivery: None, stream=True, arguments={"x-stream-offset": "next"})
    async with opened(vhost, (200, 40)) as console:
        await console.shows("no alarms")
        await console.command("queues orders")
        await console.press("enter")
        await console.shows("› orders", "1 ready", timeout=60)
        if release >= (4, 3):
            await console.shows("by priority 1 of 9", timeout=60)
        await console.press("escape")
        await console.command("queues tape")
        await console.press("enter")
        await console.shows("› tape", "stream", "TIMEOUT", timeout=60)
        monkeypatch.setattr("busctl.tui.screens.queue.tracking_of", lambda *_: (read, None))
        await console.shows("read by audit at 1,200")
