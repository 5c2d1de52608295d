"""How links end: in time whatever the broker does; and a connection that it closes is told as what that was for."""

from __future__ import annotations

import time
from typing import Any

import pytest
from amqp_at_socket import amqp_server
from pika import spec
from proxy import Proxy
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.amqp import wire
from busctl_lib.amqp.channels import GOODBYE_S
from busctl_lib.envelope import Envelope, Properties
from busctl_lib.errors import BusError, CannotConnect, LoginRefused, NoConfirm, TimedOut, VhostNotFound

PATIENCE_S = 5.0
"""What an end may take that gives a silent broker two seconds for its last word, on a busy machine."""


def took(end: Any) -> float:
    began = time.monotonic()
    end()
    return time.monotonic() - began


# -- closing


def test_a_close_that_all_answers_come_to_is_not_forced(vhost: Any) -> None:
    broker = MessageBroker(url=vhost.amqp_url).connect()
    broker.declare_queue("q")
    MessagePublisher(broker).publish("q", {"n": 1})
    assert broker.close().forced is False


def test_a_peer_that_stops_reading_does_not_hold_a_close_up(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy:
        broker = MessageBroker(url=proxy.url(vhost.amqp_url)).connect()
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        broker.subscribe("q", lambda _delivery: None)
        proxy.stall()
        with pytest.raises(NoConfirm, match="no confirm before the deadline"):
            publisher.publish("q", {"n": 2}, timeout=0.5)
        with pytest.raises(TimedOut, match=r"no answer from the broker after 0\.5 s"):
            broker.declare_queue("q", passive=True, timeout=0.5)
        assert took(lambda: closed_by_force(broker)) < 2 * PATIENCE_S


def closed_by_force(broker: MessageBroker) -> None:
    assert broker.close().forced is True


@pytest.mark.parametrize("method", [(20, 40), (10, 50)], ids=["channel.close", "connection.close"])
def test_a_goodbye_that_is_not_answered_is_not_waited_for(method: tuple[int, int]) -> None:
    with amqp_server(deaf_to={method}) as stage:
        broker = MessageBroker(url=stage.url)
        MessagePublisher(broker).publish("q", {"n": 1}, timeout=5)
        assert took(lambda: closed_by_force(broker)) < PATIENCE_S


def test_two_links_say_goodbye_at_the_same_time() -> None:
    with amqp_server(deaf_to={(10, 50)}) as stage:
        broker = MessageBroker(url=stage.url).connect()
        MessagePublisher(broker).publish("q", {"n": 1}, timeout=5)
        assert took(lambda: broker.close(10)) < 1.8 * GOODBYE_S


def test_leaving_a_broker_object_with_open_publishes_ends_at_the_given_time(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy:
        broker = MessageBroker(url=proxy.url(vhost.amqp_url)).connect()
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        proxy.stall()
        waiting = publisher.publish_nowait("q", {"n": 2}, timeout=60)
        wait_until(lambda: broker.stats().unconfirmed == 1)
        assert took(lambda: broker.close(1)) < PATIENCE_S
        with pytest.raises(BusError, match="closed"):
            waiting.wait(5)


def test_a_connect_waits_no_longer_than_the_publish_that_needs_it() -> None:
    with amqp_server(deaf_to={(20, 10)}) as stage:  # the channel never opens, so the link never comes up
        publisher = MessagePublisher(MessageBroker(url=stage.url, connect_timeout_s=30))
        assert took(lambda: never_up(publisher)) < PATIENCE_S


def never_up(publisher: MessagePublisher) -> None:
    with pytest.raises(CannotConnect, match="no answer in time"):
        publisher.publish("q", {"n": 1}, timeout=1)


# -- what closes a connection as it is opened


@pytest.mark.parametrize(
    ("code", "text", "kind", "words"),
    [
        (541, "INTERNAL_ERROR", CannotConnect, r"INTERNAL_ERROR \(AMQP 541\)"),
        (541, "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down", CannotConnect, "is down"),
        (320, "CONNECTION_FORCED - broker forced connection closure", CannotConnect, r"\(AMQP 320\)"),
        (530, "NOT_ALLOWED - vhost v not found", VhostNotFound, "does not exist"),
        (530, "NOT_ALLOWED - connection refused: connection limit (1) is reached", CannotConnect, r"limit \(1\)"),
        (403, "ACCESS_REFUSED - Login was refused", LoginRefused, "refused the login of user 'u'"),
        (504, "CHANNEL_ERROR - who knows", CannotConnect, r"CHANNEL_ERROR - who knows \(AMQP 504\)"),
    ],
)
@pytest.mark.parametrize("when", ["at_login", "at_open"])
def test_what_closes_a_connection_is_told_as_it_is(
    when: str, code: int, text: str, kind: type[CannotConnect], words: str
) -> None:
    with amqp_server(**{when: spec.Connection.Close(code, text, 0, 0)}) as stage:
        with pytest.raises(CannotConnect, match=words) as caught:
            MessageBroker(url=stage.url, connect_timeout_s=3).connect()
        assert type(caught.value) is kind


@pytest.mark.parametrize("when", ["at_login", "at_open"])
def test_an_end_without_a_word_is_no_wrong_password_and_no_missing_vhost(when: str) -> None:
    with amqp_server(**{when: "silence"}) as stage:
        with pytest.raises(CannotConnect, match="without a word") as caught:
            MessageBroker(url=stage.url, connect_timeout_s=3).connect()
        assert type(caught.value) is CannotConnect


# -- the size of frames


@pytest.mark.parametrize("frame_max", [4096, 8192, 131_072])
def test_no_frame_is_larger_than_agreed_from_the_first_message_on(frame_max: int) -> None:
    with amqp_server(frame_max=frame_max) as stage, MessageBroker(url=stage.url) as broker:
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"long": "x" * 200_000}, headers={"h": "y" * (frame_max // 2)}, timeout=10)
        assert max(stage.frames) == frame_max
        with pytest.raises(BusError, match=rf"this link carries {frame_max - min(4096, frame_max // 4)}"):
            publisher.publish("q", {}, headers={"h": "y" * frame_max}, timeout=10)


def test_what_came_through_a_frame_can_go_through_one_again() -> None:
    widest = wire.encode_properties(Properties(headers={"h": "y" * 131_000}))
    message = Envelope(exchange="", routing_key="q", properties=Properties(headers={"h": "y" * 131_000}), body=b"{}")
    assert wire.encode_publish(1, message, True, 131_072, moves=True).count(widest) == 1
    with pytest.raises(BusError, match="this link carries"):
        wire.encode_publish(1, message, True, 131_072)


def test_frames_are_as_large_as_the_broker_agrees_to() -> None:
    with amqp_server(frame_max=1 << 20) as stage, MessageBroker(url=stage.url) as broker:
        MessagePublisher(broker).publish("q", {"long": "x" * 2_000_000}, timeout=10)
        assert max(stage.frames) == 1 << 20
