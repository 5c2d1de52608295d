"""Quorum queues that lost a member, or may lose no more: in the list, in the overview, by a flag."""

from __future__ import annotations

import json
import os

import pytest
from waiting import wait_until

from busctl.cli import main
from busctl.views import overview, queues, replicas
from busctl.views.queues import QUEUES
from busctl.views.view import Tone
from busctl_lib import MessageBroker
from busctl_lib.management import QueueInfo
from busctl_lib.sandbox import PrivateBroker


def quorum(members: int, online: int | None, **more: object) -> QueueInfo:
    names = [f"rabbit@{letter}" for letter in "abcde"]
    there = names[:online] if online is not None else None
    return QueueInfo(name="q", vhost="/", type="quorum", members=names[:members], online=there, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "online", "word"),
    [
        (1, 1, None),
        (3, 3, None),
        (5, 4, replicas.LOST),
        (5, 3, replicas.LAST),
        (3, 2, replicas.LAST),
        (2, 2, replicas.LAST),
        (3, 1, replicas.STOPPED),
        (1, 0, replicas.STOPPED),
        (3, None, None),
    ],
)
def test_what_a_queue_can_still_lose_is_said(members: int, online: int | None, word: str | None) -> None:
    info = quorum(members, online)
    assert replicas.trouble(info) == word
    assert (queues.state(info).word == word) is (word is not None)
    assert QUEUES.column("members").cell(info).text == f"{'–' if online is None else online}/{members}"


def test_it_stands_out_and_the_overview_names_it() -> None:
    assert queues.state(quorum(3, 1)).tone is Tone.BAD
    assert queues.state(quorum(3, 2)).tone is Tone.WARN
    found = overview.attention([quorum(3, 3, messages=0), quorum(3, 2, messages=0, messages_ready=0, consumers=2)])
    assert [(each.name, each.text, each.tone) for each in found] == [
        ("q", "one from stopping, 0 ready, 2 consumers", Tone.WARN)
    ]


def test_a_classic_queue_has_no_members() -> None:
    info = QueueInfo(name="q", vhost="/", type="classic")
    assert replicas.trouble(info) is None
    assert QUEUES.column("members").cell(info).text == ""


@pytest.mark.faults
def test_a_killed_member_of_a_real_cluster_is_seen(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")
    with (
        PrivateBroker(root=root) as first,
        PrivateBroker(root=root, peer=first) as second,
        PrivateBroker(root=root, peer=first) as third,
        MessageBroker(url=first.amqp_url) as broker,
    ):
        monkeypatch.setenv("BUSCTL_AMQP_URL", first.amqp_url)
        monkeypatch.setenv("BUSCTL_API_URL", first.api_url)

        def run(*arguments: str) -> str:
            capfd.readouterr()
            assert main.run(arguments) == 0
            return capfd.readouterr().out

        broker.declare_queue("orders", arguments={"x-queue-type": "quorum"})
        broker.declare_queue("plain")
        wait_until(lambda: "3/3 online" in run("queues", "orders"), timeout=60)
        assert run("queues", "--at-risk", "-o", "json") == "[]\n"
        release = tuple(map(int, json.loads(run("overview", "-o", "json"))["rabbitmq_version"].split(".")[:2]))
        if release >= (4, 0):  # what a node is in maintenance for is not told before
            second.ctl("eval", "rabbit_maintenance:drain().")
            wait_until(lambda: f"{second.node_name}  being drained" in run("overview"), timeout=60)
            drained = {each["name"]: each["being_drained"] for each in json.loads(run("nodes", "-o", "json"))}
            assert drained[second.node_name] is True
            assert drained[first.node_name] is False
            second.ctl("eval", "rabbit_maintenance:revive().")
            wait_until(lambda: "being drained" not in run("nodes"), timeout=60)
            wait_until(lambda: "3/3 online" in run("queues", "orders"), timeout=60)
        third.kill()
        wait_until(lambda: "2/3 online, one from stopping" in run("queues", "orders"), timeout=60)
        listed = [json.loads(line) for line in run("queues", "--at-risk", "-o", "jsonl").splitlines()]
        assert [each["name"] for each in listed] == ["orders"]
        assert f"{third.node_name} (offline)" in run("queues", "orders")
        assert "one from stopping" in run("overview")
        assert second.running
