"""Timestamps in any unit are moments; no view tells an age of what is yet to come, and replay keeps what was sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trying import Busctl
from waiting import wait_until

from busctl.views import formats
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.deadletters.triage import group
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.moments import as_datetime, moment_of

DAY_S = 86_400
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@given(st.integers(min_value=200_000_000, max_value=90_000_000_000), st.sampled_from(list(UNITS.values())))
def test_a_moment_is_the_same_in_each_unit(seconds: int, unit: int) -> None:
    assert moment_of(seconds * unit) == pytest.approx(seconds)


@given(st.one_of(st.integers(min_value=-(2**63), max_value=2**64), st.floats()))
def test_any_number_is_a_moment_of_this_calendar_or_none(timestamp: float) -> None:
    moment, shown = moment_of(timestamp), as_datetime(timestamp)
    assert (moment is None) == (shown is None)
    assert shown is None or datetime(1970, 1, 1, tzinfo=UTC) <= shown


@pytest.mark.parametrize("timestamp", [None, 0, -1, float("nan"), float("inf"), 2**70])
def test_what_says_no_time_is_none(timestamp: float | None) -> None:
    assert moment_of(timestamp) is None


def test_a_moment_ahead_has_no_age() -> None:
    now = time.time()
    assert formats.ago(now - 3 * DAY_S) == "3 d ago"
    assert formats.ago(now + 1) == "0.0 s ago", "another machine's clock"
    assert formats.ago(now + 60) == formats.ago(None) == formats.UNKNOWN


@pytest.mark.parametrize("unit", UNITS.values())
def test_groups_tell_when_messages_were_sent_whatever_the_unit(unit: int) -> None:
    sent = int(time.time()) - 3 * DAY_S

    def letter(timestamp: int) -> Delivery:
        properties = Properties(timestamp=timestamp)
        return Delivery(
            exchange="", routing_key="q", properties=properties, body=b"{}", queue="q", received_at=0.0, via="peek"
        )

    (one,) = group([letter(sent * unit), letter((sent + 60) * unit), letter((sent + 40 * DAY_S) * unit), letter(0)])
    assert one.count == 4
    assert one.first_seen == datetime.fromtimestamp(sent, UTC)
    assert one.last_seen == datetime.fromtimestamp(sent + 60, UTC), "none is told as of a day to come"


# --- what the broker tells of a queue's first message


@pytest.fixture
def broker(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessageBroker]:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


def test_the_oldest_of_a_queue_is_told_in_its_own_age(broker: MessageBroker, busctl: Busctl) -> None:
    sent = int(time.time()) - 3 * DAY_S
    stamps = {f"{unit}.dead": sent * factor for unit, factor in UNITS.items()}
    stamps["ahead.dead"] = int(time.time()) + 3 * DAY_S
    publisher = MessagePublisher(broker)
    for queue, timestamp in stamps.items():
        broker.declare_queue(queue)
        envelope = Envelope(exchange="", routing_key=queue, properties=Properties(timestamp=timestamp), body=b"{}")
        publisher.publish_envelope(envelope)

    def listed() -> dict[str, Any]:
        found = {each["name"]: each.get("oldest") for each in json.loads(busctl("dead", "-o", "json").stdout)}
        return found if None not in found.values() and len(found) == len(stamps) else {}

    found = wait_until(listed, 30, every_s=0.5)
    assert {found.pop(f"{unit}.dead") for unit in UNITS} == {sent}
    lines = {line.split()[0]: line for line in busctl("dead").stdout.splitlines()[1:]}
    assert all("3 d ago" in lines[f"{unit}.dead"] for unit in UNITS)
    assert "ago" not in lines["ahead.dead"]
    for unit in UNITS:
        assert "the oldest sent 3 d ago" in busctl("queues", f"{unit}.dead").stdout
        assert "sent 3 d ago" in busctl("purge", f"{unit}.dead").stderr
        assert f'"timestamp":{stamps[f"{unit}.dead"]}' in busctl("peek", f"{unit}.dead", "-o", "jsonl").stdout
    assert "ago" not in busctl("queues", "ahead.dead").stdout.partition("rates")[0]
