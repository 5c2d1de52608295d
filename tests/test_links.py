"""A link that is lost, comes back and ends: what waits for it is done once, or told that it will not be."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests
from proxy import Proxy
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.amqp import links, movers, subscriptions
from busctl_lib.amqp.channels import Channel
from busctl_lib.amqp.io_thread import IoThread
from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.broker import State
from busctl_lib.errors import CannotConnect, ConfigError, LinkLost, NeverSent, NotFound, TimedOut, VhostNotFound


def reached(broker: MessageBroker, state: State) -> None:
    wait_until(lambda: broker.state is state, timeout=30)


def test_what_timed_out_is_not_done_behind_its_callers_back(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        MessagePublisher(broker).publish("q", {"n": 1})
        proxy.refuse()
        proxy.cut()
        reached(broker, State.RECOVERING)
        with pytest.raises(TimedOut):
            broker.purge_queue("q", timeout=0.2)
        proxy.refuse(False)
        broker.connect_now()
        reached(broker, State.OPEN)
        assert broker.declare_queue("q", passive=True).message_count == 1


def test_a_part_that_joins_while_the_others_come_back_comes_up_with_them(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        link, joined = broker.links.consume, threading.Event()

        class Part:
            def __init__(self, begin: Any) -> None:
                self._begin = begin

            async def start(self, connection: Any) -> None:
                self._begin()

            async def finish(self) -> None: ...

            def resume(self) -> None: ...

            def tick(self, now: float) -> None: ...

        late = Part(joined.set)
        early = Part(lambda: link.add(late) if link.state is State.REPLAYING and late not in link.parts else None)
        link.submit(lambda: link.add(early))
        broker.declare_queue("q")
        proxy.cut()
        assert joined.wait(30)


def test_whoever_waits_for_a_publish_is_told_when_a_broker_that_is_away_is_closed(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy:
        broker = MessageBroker(url=proxy.url(vhost.amqp_url)).connect()
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: broker.stats().publish_state is State.RECOVERING)
        waiting = publisher.publish_nowait("q", {"n": 2})
        broker.close(1)
        with pytest.raises(NeverSent, match="closed"):
            waiting.wait(10)


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_published_after_a_loss_waits_until_its_queue_is_declared_again(
    vhost: Any, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        queue = broker.declare_queue("q", exclusive=exclusive).queue
        publisher = MessagePublisher(broker)
        publisher.publish(queue, {"n": 1})
        consume, publish = broker.links.consume, broker.links.publish
        # Left alone the consumers' link would be back a while after the publishers'.
        monkeypatch.setattr(consume._dialer.rotation, "delay_s", lambda: 60.0)
        monkeypatch.setattr(publish._dialer.rotation, "delay_s", lambda: 0.2)
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: {consume.state, publish.state} == {State.RECOVERING})
        if not exclusive:
            with MessageBroker(url=vhost.amqp_url) as other:  # as a broker that lost it with its power
                other.delete_queue("q")
        proxy.refuse(False)
        publisher.publish(queue, {"n": 2}, timeout=30)
        assert broker.declare_queue("q", passive=True).message_count == 1


def test_what_is_published_does_not_wait_for_ever_for_the_other_link(
    vhost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_REPLAY_WAIT_S", 0.3)
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        publisher = MessagePublisher(broker)
        publisher.publish("q", {"n": 1})
        consume, publish = broker.links.consume, broker.links.publish
        monkeypatch.setattr(consume, "_dial", lambda: None)
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: {consume.state, publish.state} == {State.RECOVERING})
        proxy.refuse(False)
        publisher.publish("q", {"n": 2}, timeout=60)
        assert consume.state is State.RECOVERING


def test_a_password_that_cannot_be_had_once_is_asked_for_again(vhost: Any) -> None:
    asked: list[int] = []

    def password() -> str:
        asked.append(1)
        if len(asked) == 2:
            raise OSError("the vault is locked")
        return str(vhost.password)

    with Proxy(vhost.host, vhost.port) as proxy:
        where = {"host": "127.0.0.1", "port": proxy.port, "username": vhost.username, "virtual_host": vhost.name}
        with MessageBroker(password=password, **where) as broker:
            proxy.cut()
            wait_until(lambda: len(asked) > 1)
            broker.connect_now()
            wait_until(lambda: len(asked) > 2 and broker.state is State.OPEN)
            assert broker.declare_queue("q").queue == "q"


def test_a_password_that_cannot_be_had_is_told_at_once_with_what_to_do() -> None:
    def locked() -> str:
        raise ConfigError("the vault is locked", hint="unlock it")

    with pytest.raises(CannotConnect, match="the vault is locked") as caught:
        MessageBroker(password=locked).connect()
    assert caught.value.hint == "unlock it"


def test_a_connection_that_is_ending_is_a_lost_link_and_not_an_error_of_pikas(vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        link = broker.links.consume

        async def work() -> None:
            assert link.connection is not None
            link.connection.close()
            await link.with_channel(lambda channel: channel.ask("basic_qos", prefetch_count=1))

        with pytest.raises(LinkLost):
            link.run(work, 10)


def test_a_consumer_whose_queue_stays_away_tries_once_at_a_time(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions.random, "uniform", lambda _low, _high: 0.05)
    told: list[str] = []
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        subscription = broker.subscribe("q", lambda _delivery: None, on_cancelled=told.append)
        broker.delete_queue("q")
        wait_until(lambda: subscription._tries >= 5)
        subscription.cancel()
        assert len(told) == subscription._tries
        assert sum("deleted" not in each for each in told) == len(told) - 1
        assert broker.stats().reconnects == 0


def test_a_mover_whose_queue_stays_away_tries_once_at_a_time(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movers, "_PATIENCE_S", 3.0)
    opened: list[int] = []
    genuine = Channel.consume

    async def counted(self: Channel, *args: Any, **options: Any) -> str:
        opened.append(1)
        return await genuine(self, *args, **options)

    monkeypatch.setattr(Channel, "consume", counted)
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        with MessageBroker(url=proxy.url(vhost.amqp_url)) as away:
            mover = Mover(away.links.another("transfer"), "q", lock="lock", mode=Mode.EXACT, window=10).open()
            proxy.refuse()
            proxy.cut()
            wait_until(lambda: mover.link.state is State.RECOVERING)
            broker.delete_queue("q")
            proxy.refuse(False)
            mover.link.connect_now()
            wait_until(lambda: mover.failure is not None)
            assert isinstance(mover.failure, NotFound)
            assert mover.link.reconnects == 1
            assert 2 <= len(opened) <= 8
            mover.close()


def test_a_thread_that_is_started_again_at_once_leaves_no_other_behind() -> None:
    def threads() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "busctl-link-again"]

    io = IoThread("again", on_turn=lambda _begins: None, on_tick=lambda _now: None, on_failure=lambda: None)
    io.start()
    (first,) = threads()
    io.submit(lambda: (io.stop(), io.start()))
    wait_until(lambda: first not in threads(), timeout=10)
    done = threading.Event()
    io.submit(done.set)
    assert done.wait(10)
    io.submit(io.stop)
    wait_until(lambda: not threads())


@pytest.mark.parametrize("text", ["99999", "²", "-1", "1.5"])
def test_a_heartbeat_that_cannot_be_one_is_told_before_anything_is_dialled(text: str) -> None:
    with pytest.raises(ConfigError, match="heartbeat must be"):
        MessageBroker(url=f"amqp://localhost/?heartbeat={text}")


def test_a_vhost_that_takes_no_more_connections_is_not_called_absent(vhost: Any) -> None:
    requests.put(
        f"{vhost.api_url}/api/vhost-limits/{vhost.name}/max-connections", json={"value": 0}, timeout=5
    ).raise_for_status()
    with pytest.raises(CannotConnect, match=r"takes no more connections: connection limit \(0\)") as caught:
        MessageBroker(url=vhost.amqp_url).connect()
    assert not isinstance(caught.value, VhostNotFound)


def test_a_consumer_that_began_too_late_for_its_caller_holds_nothing(vhost: Any) -> None:
    with (
        Proxy(vhost.host, vhost.port) as proxy,
        MessageBroker(url=vhost.amqp_url) as other,
        MessageBroker(url=proxy.url(vhost.amqp_url)) as broker,
    ):
        other.declare_queue("q")
        MessagePublisher(other).publish("q", {"n": 1})
        proxy.stall()
        with pytest.raises(TimedOut):
            broker.subscribe("q", lambda _delivery: None, timeout=0.3)
        proxy.resume()
        assert broker.declare_queue("q", passive=True).queue == "q"
        wait_until(lambda: ready_and_consumers(other) == (1, 0))
        broker.declare_queue("another")
        assert ready_and_consumers(other) == (1, 0)


def test_a_consumer_that_never_began_keeps_no_channel_number(vhost: Any) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as broker:
        broker.declare_queue("q")
        link = broker.links.consume
        proxy.refuse()
        proxy.cut()
        reached(broker, State.RECOVERING)
        free = link.take_number()
        link.free_number(free)
        with pytest.raises(TimedOut):
            broker.subscribe("q", lambda _delivery: None, timeout=0.2)
        proxy.refuse(False)
        broker.connect_now()
        reached(broker, State.OPEN)
        assert link.take_number() == free


def ready_and_consumers(broker: MessageBroker) -> tuple[int, int]:
    found = broker.declare_queue("q", passive=True)
    return found.message_count, found.consumer_count
