"""A broker low on memory or disk: who publishes is told why, in time, and leaving does not wait for its end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from trying import Busctl
from victims import Victim
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.errors import NeverSent, NoConfirm

ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "absolute", "1MB"), ("set_vm_memory_high_watermark", "0.6")),
    "disk": (("set_disk_free_limit", "900000GB"), ("set_disk_free_limit", "1MB")),
}


@pytest.fixture(params=["memory", pytest.param("disk", marks=pytest.mark.faults)])
def alarm(victim: Victim, request: pytest.FixtureRequest) -> Iterator[str]:
    """What the broker is low on while the test runs."""
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.declare_queue("alarmed")
    raised, lifted = ALARMS[request.param]
    victim.ctl(*raised)
    try:
        yield str(request.param)
    finally:
        victim.ctl(*lifted)


def is_raised(victim: Victim) -> bool:
    """The first publish after an alarm is what a connection is blocked at, so each try has one of its own."""
    with MessageBroker(url=victim.amqp_url) as broker:
        try:
            MessagePublisher(broker).publish("alarmed", {"n": 0}, timeout=0.5)
        except (NoConfirm, NeverSent):
            return broker.stats().publish_state.value == "blocked"
    return False


def test_an_alarm_is_named_in_time_and_leaving_does_not_wait_for_its_end(
    victim: Victim, alarm: str, busctl: Busctl
) -> None:
    wait_until(lambda: is_raised(victim), timeout=30)
    why = f"the broker takes no publishes: low on {alarm}"
    began = time.monotonic()
    with MessageBroker(url=victim.amqp_url) as broker:
        publisher = MessagePublisher(broker)
        with pytest.raises(NoConfirm, match=why):  # it was under way when the broker stopped reading
            publisher.publish("alarmed", {"n": 1}, timeout=1)
        with pytest.raises(NeverSent, match=why):
            publisher.publish("alarmed", {"n": 2}, timeout=1)
        left_at = time.monotonic()
    assert time.monotonic() - left_at < 3
    assert time.monotonic() - began < 8
    began = time.monotonic()
    ended = busctl(
        *("publish", "alarmed", "hi", "--timeout", "2s"), BUSCTL_AMQP_URL=victim.amqp_url, BUSCTL_API_URL=victim.api_url
    )
    assert (ended.returncode, ended.stdout) == (5, "")
    assert why in ended.stderr
    assert time.monotonic() - began < 6
