"""Queues that are there and cannot be reached: no verb waits for them, none takes them for absent or for empty."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from trying import Busctl, Ended
from victims import Victim
from waiting import wait_until

from busctl.session import Session
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.amqp.channels import refusal
from busctl_lib.errors import BusError, NotFound, PreconditionFailed, QueueAway
from busctl_lib.management import ManagementClient, QueueInfo, why_away
from busctl_lib.sandbox import PrivateBroker

ROOT = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")
A, B, C = "rabbit@a", "rabbit@b", "rabbit@c"
AWAY_S = 2 * 5.0
"""Within this time it is known; twice what is promised, for the machine may be busy."""


# -- what is said, and what it means


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"type": "classic", "state": "running", "node": A}, None),
        ({"type": "classic", "state": "down", "node": B}, f"the node {B} that holds it is down"),
        ({"type": "classic", "state": "down"}, "the node that holds it is down"),
        ({"type": "classic", "state": "stopped", "node": A}, "it was stopped by the broker"),
        ({"type": "classic", "state": "crashed", "node": A}, "it has crashed and stays down"),
        ({"type": "quorum", "members": [A, B, C], "online": [A, B]}, None),
        ({"type": "quorum", "members": [A, B, C], "online": [A]}, "it has no majority: 1 of 3 members online"),
        ({"type": "quorum", "members": [A, B], "online": [A]}, "it has no majority: 1 of 2 members online"),
        ({"type": "quorum", "members": [A, B, C], "state": "minority"}, "it has no majority: too few"),
        ({"type": "quorum", "members": [B], "online": []}, f"its only member, on {B}, is not online"),
        ({"type": "quorum", "members": [B], "online": [], "state": "down"}, f"the node {B} that holds it is down"),
        ({"type": "quorum", "members": [A, B, C]}, None),
        ({"type": "stream", "members": [A, B, C], "online": []}, "it has no majority: 0 of 3 members online"),
        ({"type": "stream", "node": A, "state": "running"}, None),
        ({}, None),
    ],
)
def test_why_a_queue_cannot_be_reached(facts: dict[str, Any], why: str | None) -> None:
    found = why_away(QueueInfo(name="q", vhost="/", **facts))
    assert (found is None) == (why is None)
    assert (found or "").startswith(why or "")


@pytest.mark.parametrize(
    ("code", "text", "kind", "words"),
    [
        (404, "NOT_FOUND - no queue 'q' in vhost '/'", NotFound, "no queue 'q'"),
        (404, "NOT_FOUND - no queue 'home node' in vhost 'is down'", NotFound, "no queue 'home node'"),
        (
            404,
            f"NOT_FOUND - home node '{B}' of durable queue 'it's here' in vhost '/' is down or inaccessible",
            QueueAway,
            f'queue "it\'s here" is there, but the node {B} that holds it is down',
        ),
        (
            404,
            "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout",
            QueueAway,
            "queue 'q' is there, but it does not answer",
        ),
        (404, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor", QueueAway, "has stopped it"),
        (404, "NOT_FOUND - queue 'q' in vhost '/' has crashed and failed to restart", QueueAway, "has crashed"),
        (
            406,
            "PRECONDITION_FAILED - stream queue 'q' in vhost '/' does not have a running replica on the local node",
            QueueAway,
            "no running replica",
        ),
        (406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q'", PreconditionFailed, "inequivalent"),
    ],
)
def test_what_the_broker_answers_of_a_queue_that_is_away_is_no_absence(
    code: int, text: str, kind: type[BusError], words: str
) -> None:
    error = refusal(code, text)
    assert type(error) is kind
    assert words in str(error)


@contextlib.contextmanager
def api(answers: dict[str, Any]) -> Iterator[ManagementClient]:
    """An API that answers each path below /api/ (with "?..." where the query begins so) by a document, or 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def do_GET(self) -> None:
            asked = unquote(self.path.removeprefix("/api/"))
            found = next((answers[start] for start in sorted(answers, reverse=True) if asked.startswith(start)), None)
            body = json.dumps({"error": "Object Not Found", "reason": "Not Found"} if found is None else found)
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with ManagementClient(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
    finally:
        server.shutdown()
        server.server_close()


def page(*infos: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(infos), "page_count": 1}


NODES = [{"name": A, "running": True}, {"name": B, "running": False}]
VHOST = {"name": "amq.match", "vhost": "/"}


def test_a_queue_that_3_10_hides_alone_and_lists_as_down_is_there() -> None:
    listed = {"name": "q.1", "vhost": "/", "type": "classic", "state": "down", "node": B}
    answers = {
        "queues///?disable_stats=true&enable": page(),
        "queues//?disable_stats=true&enable": page(),
        "queues//?disable_stats=true&name": page(listed),
        "exchanges///amq.match": VHOST,
        "exchanges//": VHOST,
    }
    with api(answers) as client:
        info = client.queue("/", "q.1")
        assert (info.state, info.node, info.messages) == ("down", B, None)
        with pytest.raises(QueueAway, match=rf"queue 'q\.1' is there, but the node {B} that holds it is down"):
            client.queue_at_hand("/", "q.1")
        with pytest.raises(NotFound, match=r"no queue 'q\.2'"):
            client.queue_at_hand("/", "q.2")


def test_a_queue_that_4_3_calls_running_alone_and_lists_as_down_is_down() -> None:
    alone = {"name": "q", "vhost": "/", "type": "classic", "state": "running", "node": B}
    answers = {
        "queues///q": alone,
        "queues//?disable_stats=true&enable": page(),
        "queues//?disable_stats=true&name": page({**alone, "state": "down"}),
    }
    with api(answers) as client, pytest.raises(QueueAway, match=f"the node {B} that holds it is down"):
        client.queue_at_hand("/", "q")


@pytest.mark.parametrize("members", [None, [A, B]], ids=["as 3.10 lists it", "as 3.10 tells it alone"])
def test_a_stream_is_held_against_the_nodes_that_run(members: list[str] | None) -> None:
    stream = {"name": "s", "vhost": "/", "type": "stream", "state": "running", "node": B, "messages": 3}
    if members is not None:
        stream |= {"members": members, "online": members}  # as it was before the node died
    answers = {
        "queues///s": stream,
        "queues//?disable_stats=true": page({"name": "s", "vhost": "/", "type": "stream", "state": "live", "node": B}),
        "queues//?columns": [stream],
        "nodes": NODES,
    }
    words = "1 of 2 members online" if members else f"the node {B} that holds it is down"
    with api(answers) as client:
        with pytest.raises(QueueAway, match=words):
            client.queue_at_hand("/", "s")
        assert [why_away(info) is not None for info in client.queues_with_rates("/")] == [True]


def test_the_light_list_names_those_that_it_cannot_count() -> None:
    there = {"name": "there", "vhost": "/", "type": "classic", "state": "live", "node": A}
    answers = {
        "queues//?disable_stats=true&enable_queue_totals": [{**there, "state": "running", "messages": 7}],
        "queues//?disable_stats=true": [there, {**there, "name": "away", "state": "down", "node": B}],
    }
    with api(answers) as client:
        found = {info.name: (info.state, info.messages) for info in client.queues("/")}
    assert found == {"there": ("running", 7), "away": ("down", None)}


# -- a quorum queue whose one member does not run, on one node


def say(busctl: Busctl, node: Any, *words: str) -> Ended:
    """Run a command; it ends in time, and a hint never proposes the name that was typed."""
    began = time.monotonic()
    ended = busctl(*words, BUSCTL_AMQP_URL=node.amqp_url, BUSCTL_API_URL=node.api_url)
    took = time.monotonic() - began
    assert took < AWAY_S + (2.0 if "--timeout" in words else 0.0), f"{words}: {took:.1f} s"
    for name in words:
        assert f"did you mean {name}?" not in ended.stderr
    assert "no queue '" not in ended.stderr
    return ended


VERBS = (
    "peek {} -n 1",
    "tail {} --for 1s",
    "tail {} --for 1s --via hold",
    "tail {} --for 1s --via consume --yes",
    "dead {}",
    "purge {} --yes",
    "delete queue {} --yes",
    "move {} near --dry-run",
    "replay {} --dry-run",
    "discard {} --yes",
)


def test_a_quorum_queue_without_a_leader_is_neither_absent_nor_empty(victim: Victim, busctl: Busctl) -> None:
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.declare_queue("near")
        broker.declare_queue("qq", arguments={"x-queue-type": "quorum"})
        MessagePublisher(broker).publish_many(("qq", {"n": n}) for n in range(3))
        tells = not broker.server_version.startswith("4.0")  # whose API goes on saying that it runs
    member = f"quorum_queues, {{'{unquote(urlsplit(victim.amqp_url).path[1:])}_qq', node()}}"
    victim.ctl("eval", f"ra:stop_server({member}).")
    try:
        for verb in VERBS:
            ended = say(busctl, victim, *verb.format("qq").split())
            if tells:
                assert (ended.returncode, ended.stdout) == (4, ""), (verb, ended)
                assert "queue 'qq' is there, but" in ended.stderr
            elif verb.split()[0] in ("purge", "delete", "move", "discard"):
                assert ended.returncode == 3, (verb, ended)  # what the broker says of it closes the connection
        ended = say(busctl, victim, "publish", "qq", "hi", "--timeout", "2s")
        assert ended.returncode == 1
        assert ("is there, but" in ended.stderr) is tells
    finally:
        victim.ctl("eval", f"ra:restart_server({member}).")
    with MessageBroker(url=victim.amqp_url) as broker:
        wait_until(lambda: broker.declare_queue("qq", passive=True).message_count == 3, timeout=30)


# -- a cluster that loses its nodes one by one


@pytest.fixture
def cluster() -> Iterator[list[PrivateBroker]]:
    nodes: list[PrivateBroker] = []
    try:
        for _ in range(3):
            nodes.append(PrivateBroker(root=ROOT, peer=nodes[0] if nodes else None).start(120))
        yield nodes
    finally:
        for node in reversed(nodes):
            node.stop()


def declared(near: PrivateBroker, far: PrivateBroker) -> None:
    """Queues of each type that only the far node holds, and that all hold, with three messages each."""
    of_one = {"quorum": "x-quorum-initial-group-size", "stream": "x-initial-cluster-size"}
    with MessageBroker(url=far.amqp_url) as broker:
        broker.declare_queue("classic", arguments={"x-queue-type": "classic"})
        for kind, size in of_one.items():
            broker.declare_queue(f"{kind}-of-one", arguments={"x-queue-type": kind, size: 1})
    with MessageBroker(url=near.amqp_url) as broker:
        broker.declare_queue("near")
        for kind in of_one:
            broker.declare_queue(f"{kind}-of-all", arguments={"x-queue-type": kind})
        for name in ("classic", "quorum-of-one", "stream-of-one", "quorum-of-all", "stream-of-all", "near"):
            report = MessagePublisher(broker).publish_many((name, {"n": n}) for n in range(3))
            assert report.confirmed == 3


def refused(busctl: Busctl, node: PrivateBroker, queue: str, why: str, *, locks: bool = True) -> None:
    """Each verb tells why the queue is away; what publishing to it does is told as it is.

    Where nothing can be declared (`locks`), no other queue can be locked to move messages from it.
    """
    for verb in VERBS:
        ended = say(busctl, node, *verb.format(queue).split())
        assert (ended.returncode, ended.stdout) == (4, ""), (verb, ended)
        assert f"queue '{queue}' is there, but {why}" in ended.stderr
    assert why in say(busctl, node, "queues", queue).stdout
    if locks:
        ended = say(busctl, node, "move", "near", queue, "--limit", "1", "--dry-run")
        assert f"would stay: queue '{queue}' is there, but {why}" in ended.stdout
    ended = say(busctl, node, "publish", queue, "hi", "--timeout", "2s")
    assert ended.returncode in (1, 5, 6), ended
    assert f"queue '{queue}' is there, but {why}" in ended.stderr


@pytest.mark.faults
def test_what_a_cluster_without_its_nodes_cannot_reach_is_told(cluster: list[PrivateBroker], busctl: Busctl) -> None:
    near, far, third = cluster
    declared(near, far)
    far.kill()
    down = f"the node {far.node_name} that holds it is down"

    of_one = ("classic", "quorum-of-one", "stream-of-one")
    wait_until(lambda: all(down in say(busctl, near, "queues", name).stdout for name in of_one), timeout=60)
    for name in of_one:
        refused(busctl, near, name, down)
    assert say(busctl, near, "peek", "quorum-of-all", "-o", "jsonl").stdout.count("\n") == 3

    third.kill()
    wait_until(lambda: "1 of 3 members online" in say(busctl, near, "queues", "quorum-of-all").stdout, timeout=60)
    began = time.monotonic()
    ended = busctl("declare", "queue", "new", BUSCTL_AMQP_URL=near.amqp_url, BUSCTL_API_URL=near.api_url)
    locks = ended.returncode == 0  # where what is declared is kept in Mnesia, which asks for no majority
    if not locks:
        assert (ended.returncode, "1 of 3 nodes run: without a majority" in ended.stderr) == (5, True), ended
        assert time.monotonic() - began < 20
    for queue in ("quorum-of-all", "stream-of-all"):
        refused(busctl, near, queue, "it has no majority: 1 of 3 members online", locks=locks)
    assert say(busctl, near, "peek", "near", "-o", "jsonl").stdout.count("\n") == 3

    for node in (third, far):
        node.start(120)
    counts = {"classic": 3, "quorum-of-one": 3, "near": 3}
    with MessageBroker(url=near.amqp_url) as broker:
        for name, count in counts.items():
            wait_until(lambda name=name, count=count: depth(broker, name) == count, timeout=60)  # type: ignore[misc]
        wait_until(lambda: depth(broker, "quorum-of-all") in (3, 4), timeout=60)


def depth(broker: MessageBroker, queue: str) -> int | None:
    try:
        return broker.declare_queue(queue, passive=True, timeout=5).message_count
    except BusError:
        return None


@pytest.mark.faults
def test_a_hold_whose_queue_loses_its_majority_ends(cluster: list[PrivateBroker], busctl: Busctl) -> None:
    near, far, third = cluster
    declared(near, far)
    killing = threading.Timer(2.0, lambda: (far.kill(), third.kill()))
    killing.start()
    began = time.monotonic()
    ended = busctl(
        *("tail", "quorum-of-all", "--via", "hold", "--for", "6s", "-o", "jsonl"),
        BUSCTL_AMQP_URL=near.amqp_url,
        BUSCTL_API_URL=near.api_url,
    )
    took = time.monotonic() - began
    killing.join()
    assert took < 25
    assert ended.stdout.count("\n") == 3
    for node in (third, far):
        node.start(120)
    with MessageBroker(url=near.amqp_url) as broker:
        wait_until(lambda: depth(broker, "quorum-of-all") == 3, timeout=60)


def test_a_hint_is_never_the_name_that_was_typed(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from busctl.config import Flags, resolve

    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    with Session(resolve(Flags())) as session:
        session.broker.declare_queue("orders")
        assert session.hint_for_queue("orders") == "queue 'orders' is there: try again"
        assert session.hint_for_queue("order") == "did you mean orders?"
