"""Dead letters of real clients that are not ours: a replay brings back what they sent, and they go on with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from conftest import ROOT
from dead_letters import Yard
from waiting import wait_until

from busctl_lib.deadletters import triage
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.management.transport import segment
from busctl_lib.pytest_plugin import TestBroker, own_vhost
from busctl_lib.sandbox import PrivateBroker
from busctl_lib.sandbox.ports import LOOPBACK, free_ports
from busctl_lib.transfers import Request, Transfer

IS_NEW = bool(ROOT)
"""A root directory holds a RabbitMQ 4; the installed one is 3.10."""

APP = """
import pathlib, sys
from celery import Celery
from celery.exceptions import Reject
from kombu import Exchange, Queue
app = Celery(broker=sys.argv[-1])
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, task_default_queue="work",
    task_queues=[Queue("work", Exchange("work", type="topic"), routing_key="work", queue_arguments={
        "x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work.dead"})],
    broker_native_delayed_delivery_queue_type="quorum",
)
here = pathlib.Path(sys.argv[-2])

@app.task(name="work.place")
def place(number):
    if not (here / "mended").exists():
        raise Reject("broken", requeue=False)
    (here / f"ran-{number}").touch()

if sys.argv[1] == "send":
    place.apply_async((int(sys.argv[2]),), countdown=int(sys.argv[3]) or None, routing_key="work")
else:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "-P", "solo", "-l", "warning", *quiet])
"""


class Ports:
    """Where a node takes other protocols."""

    def __init__(self) -> None:
        (self.mqtt,) = free_ports(1)


@pytest.fixture(scope="module")
def ports() -> Ports:
    return Ports()


@pytest.fixture(scope="module")
def polyglot(ports: Ports) -> Iterator[PrivateBroker]:
    """A node that speaks MQTT and AMQP 1.0 as well."""
    config = {"mqtt.listeners.tcp.1": f"{LOOPBACK}:{ports.mqtt}"}
    plugins = ["rabbitmq_mqtt", *([] if IS_NEW else ["rabbitmq_amqp1_0"])]
    with PrivateBroker(root=ROOT, plugins=plugins, config=config) as node:
        yield node


@pytest.fixture
def foreign(polyglot: PrivateBroker, tmp_path: Path) -> Iterator[Yard]:
    with own_vhost(polyglot) as vhost:
        yard = Yard(vhost, tmp_path)
        yield yard
        yard.close()


def reject_all(yard: Yard, queue: str, count: int, dead: str) -> None:
    taken: list[Delivery] = []
    subscription = yard.broker.subscribe(queue, taken.append)
    wait_until(lambda: len(taken) == count)
    for delivery in taken:
        subscription.dead_letter(delivery)
    wait_until(lambda: yard.waiting(dead) == count)
    subscription.cancel()


def celery(folder: Path, url: str, *words: str) -> subprocess.Popen[bytes]:
    script = folder / "app.py"
    script.write_text(APP)
    command = [sys.executable, str(script), *words, str(folder), url]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture
def worker(vhost: TestBroker, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = celery(tmp_path, vhost.amqp_url, "work")
    yield process
    process.kill()
    process.communicate(timeout=30)


@pytest.mark.parametrize("countdown", ["0", "1"], ids=["at once", "delayed"])
def test_a_celery_task_that_was_rejected_runs_after_its_replay(
    vhost: TestBroker, tmp_path: Path, worker: subprocess.Popen[bytes], countdown: str
) -> None:
    yard = Yard(vhost, tmp_path)
    yard.broker.declare_queue("work.dead")
    wait_until(lambda: worker.poll() is None and consumed(yard, "work"), timeout=60)
    sender = celery(tmp_path, vhost.amqp_url, "send", "7", countdown)
    assert sender.wait(60) == 0, sender.communicate()[1]
    wait_until(lambda: yard.waiting("work.dead") == 1, timeout=60)
    found, _ = triage(yard.broker, yard.management, yard.broker.virtual_host, "work.dead")
    assert [(each.queue, each.reason, each.dialect) for each in found.groups] == [("work", "rejected", "celery")]
    (tmp_path / "mended").touch()
    assert yard.run(Request(kind="replay", source="work.dead")).operation.moved == 1
    wait_until(lambda: (tmp_path / "ran-7").exists(), timeout=60)
    yard.close()


def consumed(yard: Yard, queue: str) -> bool:
    found = yard.management.consumers(yard.broker.virtual_host)
    return any(each.queue is not None and each.queue.name == queue for each in found)


def mqtt_client(polyglot: PrivateBroker, ports: Ports, yard: Yard, protocol: int) -> Any:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol)
    client.username_pw_set(f"{yard.broker.virtual_host}:{polyglot.username}", polyglot.password)
    client.connect(LOOPBACK, ports.mqtt)
    client.loop_start()
    return client


def dying(yard: Yard, queue: str) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}.dead"}
    yard.broker.declare_queue(f"{queue}.dead")
    yard.broker.declare_queue(queue, arguments=arguments)


def test_a_message_of_mqtt_3_reaches_its_subscribers_after_a_replay(
    polyglot: PrivateBroker, ports: Ports, foreign: Yard
) -> None:
    dying(foreign, "requests")
    foreign.broker.bind_queue("requests", "amq.topic", "req.#")
    client = mqtt_client(polyglot, ports, foreign, mqtt.MQTTv311)
    client.publish("req/1", b"21", qos=1).wait_for_publish(10)
    reject_all(foreign, "requests", 1, "requests.dead")
    assert foreign.run(Request(kind="replay", source="requests.dead")).operation.moved == 1
    (back,) = foreign.drain("requests")
    assert (back.exchange, back.routing_key, back.body) == ("amq.topic", "req.1", b"21")
    client.disconnect()
    client.loop_stop()


@pytest.mark.skipif(not IS_NEW, reason="MQTT 5 is from RabbitMQ 3.13 on: not on the installed one")
def test_a_request_of_mqtt_5_gets_its_reply_after_a_replay(
    polyglot: PrivateBroker, ports: Ports, foreign: Yard
) -> None:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties as MqttProperties

    dying(foreign, "requests")
    foreign.broker.bind_queue("requests", "amq.topic", "req.#")
    client = mqtt_client(polyglot, ports, foreign, mqtt.MQTTv5)
    replies: list[Any] = []
    client.on_message = lambda _client, _data, message: replies.append(message)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.subscribe("rep/1", qos=1)
    assert subscribed.wait(10)
    asked = MqttProperties(PacketTypes.PUBLISH)
    asked.ResponseTopic, asked.CorrelationData = "rep/1", b"\x00\xff"
    asked.UserProperty = [("x-tenant", "acme")]
    client.publish("req/1", b"21", qos=1, properties=asked).wait_for_publish(10)
    reject_all(foreign, "requests", 1, "requests.dead")
    assert foreign.run(Request(kind="replay", source="requests.dead")).operation.moved == 1
    (request,) = foreign.drain("requests")
    headers = request.headers
    assert headers["x-tenant"] == "acme"
    reply = Properties(headers={"x-correlation-id": headers["x-correlation-id"]}, delivery_mode=2)
    answer = Envelope(exchange="amq.topic", routing_key=headers["x-reply-to-topic"], properties=reply, body=b"42")
    foreign.publish([answer])
    wait_until(lambda: bool(replies))
    assert (replies[0].payload, replies[0].properties.CorrelationData) == (b"42", b"\x00\xff")
    client.disconnect()
    client.loop_stop()


@pytest.mark.skipif(not IS_NEW, reason="AMQP 1.0 in the core, with vhosts in the address, is from RabbitMQ 4.0 on")
def test_a_message_of_amqp_10_is_read_back_as_it_was_sent_but_for_what_the_plan_names(
    polyglot: PrivateBroker, foreign: Yard
) -> None:
    proton = pytest.importorskip("proton", reason="python-qpid-proton could not be compiled here")
    from proton.utils import BlockingConnection

    dying(foreign, "ten")

    def connect() -> Any:
        host = f"vhost:{foreign.broker.virtual_host}"
        url = f"amqp://{LOOPBACK}:{polyglot.port}"
        options = {"user": polyglot.username, "password": polyglot.password, "allowed_mechs": "PLAIN"}
        return BlockingConnection(url, virtual_host=host, timeout=20, **options)

    link = connect()
    sent = proton.Message(body={"a": 1}, id="m1", subject="sub", correlation_id="c1", durable=True, priority=5)
    sent.properties = {"k": "v", "n": proton.int32(5), "u": proton.uint(7), "f": 1.5, "yes": True}
    sent.annotations = {proton.symbol("x-opt-tenant"): "acme"}
    link.create_sender(f"/queues/{segment('ten')}").send(sent)
    reject_all(foreign, "ten", 1, "ten.dead")
    with (
        foreign.journal() as journal,
        Transfer(foreign.broker, foreign.management, journal, Request(kind="replay", source="ten.dead")) as transfer,
    ):
        list(transfer.planning())
        assert transfer.plan is not None
        assert any("AMQP 1.0" in warning and "subject" in warning for warning in transfer.plan.warnings)
        list(transfer.running())
    receiver = link.create_receiver(f"/queues/{segment('ten')}")
    got = receiver.receive(timeout=10)
    receiver.accept()
    link.close()
    assert (got.body, got.id, got.correlation_id, got.durable, got.priority) == ({"a": 1}, "m1", "c1", True, 5)
    assert {name: got.properties[name] for name in sent.properties} == sent.properties
    assert got.annotations[proton.symbol("x-opt-tenant")] == "acme"
