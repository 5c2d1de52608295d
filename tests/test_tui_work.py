"""The console at work on a real broker: operations from plan to undo, publish, peek, filters that run elsewhere."""

from __future__ import annotations

import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl

import pytest
from api_at_socket import Road
from consoles import on_loop, opened
from textual.widgets import Input, TextArea

from busctl.tui.messages import OpenTransfer
from busctl.tui.screens.peek import PeekScreen
from busctl_lib import MessageBroker, MessagePublisher
from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.transfers import Request


@pytest.fixture
def bus(vhost: TestBroker) -> Iterator[MessageBroker]:
    """A queue whose two messages expired into its dead letters."""
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("orders")
        broker.declare_queue("orders.dead")
        broker.declare_queue(
            "brief",
            arguments={"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders.dead"},
        )
        yield broker


def count(bus: MessageBroker, queue: str) -> int:
    return bus.declare_queue(queue, passive=True).message_count


@on_loop
async def test_dead_letters_are_replayed_from_plan_to_account(vhost: TestBroker, bus: MessageBroker) -> None:
    publisher = MessagePublisher(bus)
    for number in range(2):
        publisher.publish("brief", {"n": number})
    async with opened(vhost) as console:
        await console.until(lambda: count(bus, "orders.dead") == 2, "both died")
        await console.command("replay orders.dead --to orders")
        await console.shows(
            "Replay 2 messages of orders.dead?", "reaches orders", "$ busctl replay orders.dead --to orders"
        )
        assert count(bus, "orders") == 0
        await console.press("c", "enter")
        await console.shows("canary", "5 first, watched for 30 s", "--canary 5 --watch 30s")
        await console.press("e")
        await console.shows("--group", "--where", "plan anew")
        console.app.screen.query_one("#transfer-input", Input).value = "--to orders --limit 1"
        await console.press("enter")
        await console.shows("Replay 1 message of orders.dead?", "--limit 1")
        await console.press("enter")
        await console.shows("done: 1 of 1", timeout=30)
        assert (count(bus, "orders"), count(bus, "orders.dead")) == (1, 1)
        await console.press("escape", "9")
        await console.shows("overview › operations", "replay", "orders.dead", "done")


@on_loop
async def test_dead_letters_by_cause_are_edited_and_replayed(vhost: TestBroker, bus: MessageBroker) -> None:
    publisher = MessagePublisher(bus)
    for number in range(3):
        publisher.publish("brief", {"n": number})
    async with opened(vhost, (160, 40)) as console:
        await console.until(lambda: count(bus, "orders.dead") == 3, "all died")
        await console.command("dead orders.dead")
        await console.shows("dead orders.dead", "1 cause in all 3 messages", "expired", timeout=30)
        await console.press("enter")
        await console.shows("Error and where it came from", "died in    brief", '"n": 0')
        await console.press("f")
        await console.shows("› brief", "Nobody consumes from here.")
        await console.press("escape", "e")
        await console.shows("Edit the body")
        console.app.screen.query_one(TextArea).text = '{"n": 70}'
        await console.press("f5")
        await console.shows("Replay 1 message of orders.dead?", '+  "n": 70', timeout=30)
        await console.press("e")
        line = console.app.screen.query_one("#transfer-input", Input)
        line.value += " --to orders"
        await console.press("enter")
        await console.shows("reaches orders", timeout=30)
        await console.press("enter")
        await console.shows("done: 1 of 1", timeout=30)
        assert (count(bus, "orders"), count(bus, "orders.dead")) == (1, 2)
        await console.press("escape", "escape", "escape")
        await console.shows("dead orders.dead", "1 message moved since: p looks again")


@on_loop
async def test_emptied_queues_are_asked_for_by_name_and_count_and_come_back(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    publisher = MessagePublisher(bus)
    for number in range(3):
        publisher.publish("orders", {"n": number})
    async with opened(vhost) as console:
        await console.command("queues orders")
        await console.shows("1 of 3", timeout=20)
        await console.press("ctrl+x")
        await console.shows("Discard 3 messages of orders?", "it can be undone")
        await console.press("enter")
        await console.shows("done: 3 of 3", "u puts it back", timeout=30)
        assert count(bus, "orders") == 0
        await console.press("u")
        await console.shows("Put back 3 messages of orders")
        await console.press("enter")
        await console.shows("undo", "done: 3 of 3", timeout=30)
        assert count(bus, "orders") == 3


@on_loop
async def test_a_plan_that_nobody_sees_any_more_keeps_no_messages(vhost: TestBroker, bus: MessageBroker) -> None:
    for number in range(3):
        MessagePublisher(bus).publish("orders.dead", {"n": number})
    async with opened(vhost) as console:
        await console.command("replay orders.dead --to orders")
        await console.shows("Replay 3 messages of orders.dead?")
        assert count(bus, "orders.dead") == 0
        await console.press("2")
        await console.until(lambda: count(bus, "orders.dead") == 3, "all are given back")


@on_loop
async def test_an_operation_that_was_left_is_found_again_paused_and_stopped(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    for number in range(30):
        MessagePublisher(bus).publish("orders", {"n": number})
    async with opened(vhost) as console:
        await console.command("move orders orders.dead --rate 1")
        await console.shows("Move 30 messages of orders?")
        await console.press("enter")
        await console.shows("▶ moving")
        await console.press("escape")
        await console.shows("goes on")
        await console.press("9")
        await console.shows("running")
        await console.press("enter")
        await console.shows("▶ moving")
        await console.press("space")
        await console.shows("‖ PAUSED")
        await console.press("x")
        await console.shows("cancelled: ", "of 30")
        await console.until(lambda: count(bus, "orders") + count(bus, "orders.dead") == 30, "all are given back")


@on_loop
async def test_what_failed_elsewhere_is_told_without_raw_names(vhost: TestBroker) -> None:
    async with opened(vhost) as console:
        console.app.begin(OpenTransfer(request=Request(kind="discard", source="evil\x1b[31m")))
        screen = await console.shows("discard evil\\x1b[31m")
        assert "\x1b" not in screen


@on_loop
async def test_marked_queues_are_emptied_at_once_after_one_question(vhost: TestBroker, bus: MessageBroker) -> None:
    publisher = MessagePublisher(bus)
    for queue in ("orders", "orders.dead"):
        publisher.publish(queue, {})
    async with opened(vhost) as console:
        await console.command("queues orders*")
        await console.shows("2 of 3", timeout=20)
        await console.press("g", "space", "space", "ctrl+x")
        await console.shows("2 queues?", "orders.dead", "y yes")
        await console.press("n")
        await console.hides("y yes")
        assert count(bus, "orders") == 1
        await console.shows("2 marked")
        await console.press("ctrl+x")
        await console.shows("y yes")
        await console.press("y")
        await console.until(lambda: count(bus, "orders") + count(bus, "orders.dead") == 0, "both are empty", 30)
        await console.shows("^z or :undo")
        await console.until(lambda: console.app.last_undoable, "one can be undone")
        await console.press("ctrl+z")
        await console.shows("Put back 1 message of orders", timeout=30)


@on_loop
async def test_what_is_written_is_published_or_told_why_not(vhost: TestBroker, bus: MessageBroker) -> None:
    async with opened(vhost) as console:
        await console.command("publish orders")
        await console.shows("f5 sends")
        screen = console.app.screen
        key, headers = (screen.query_one(f"#publish-{name}", Input) for name in ("key", "headers"))
        body = screen.query_one(TextArea)
        headers.value = "n:=NaN"
        await console.press("f5")
        await console.shows("✖ headers: n: 'NaN' is not JSON")
        headers.value, body.text = "", "[" * 2_000
        await console.press("f5")
        await console.shows("● confirmed")
        assert bus.purge_queue("orders") == 1
        key.value = "nowhere"
        await console.press("f5")
        await console.shows("✖ ", "nowhere")
        key.value, headers.value, body.text = "orders", "kind=test n:=2", '{"a": 1}'
        await console.press("f5")
        await console.shows("● confirmed")
        assert count(bus, "orders") == 1
        await console.press("escape")
        await console.command("peek orders")
        await console.shows('{"a": 1}', "1 of 1 waited", "given back in order", "not repeated", timeout=20)
        assert isinstance(console.app.screen, PeekScreen)
        await console.press("enter")
        await console.shows("kind", "test", "content_type")


@on_loop
async def test_a_tail_is_filtered_by_what_runs_elsewhere(vhost: TestBroker, bus: MessageBroker) -> None:
    bus.declare_exchange("market", "topic")
    bus.bind_queue("orders", "market", "#")
    publisher = MessagePublisher(bus)

    def send(number: int) -> None:
        text = "a" * 40 + "!"
        publisher.publish(
            "", {"n": number, "text": text}, exchange="market", routing_key="k", correlation_id=f"c{number % 2}"
        )

    async with opened(vhost) as console:
        await console.command("tail orders")
        await console.shows("FOLLOWING")
        for number in range(4):
            send(number)
        await console.shows('"n":3,')
        await console.press("up", "r")
        await console.shows("2 of 4 kept match", '/=.properties.correlation_id == "c0"', timeout=30)
        await console.press("escape", "G", "/")
        console.app.screen.query_one("#prompt-text", Input).value = '^k .*"n":[13],'
        await console.press("enter")
        await console.shows("FOLLOWING", "2 of 4 kept match", timeout=30)
        send(5)
        send(13)
        send(3)
        await console.shows("3 of 7 kept match", timeout=30)


@on_loop
async def test_what_a_tap_could_not_give_back_is_told_when_the_console_ends(
    vhost: TestBroker, bus: MessageBroker
) -> None:
    road = Road(vhost.api_url)
    async with opened(vhost, api_url=road.url) as console:
        await console.command("tail orders")
        await console.shows("FOLLOWING", "costs tracing")
        road.cut()
        held = console.app.held
    assert held.wait(40)
    assert any("tracing" in sentence for sentence in held.told)


def test_the_terminal_is_left_as_it_was(vhost: TestBroker) -> None:
    """The real program on a real terminal: starts, hears keys, follows a new size, leaves nothing switched on."""
    leader, follower = pty.openpty()
    ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(follower)
    words = [sys.executable, "-m", "busctl", "--amqp-url", vhost.amqp_url, "--api-url", vhost.api_url]
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        words, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    )
    said = b""

    def until(text: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + 40
        while text not in said:
            assert time.monotonic() < deadline, said[-2000:]
            if select.select([leader], [], [], 0.2)[0]:
                said += os.read(leader, 65536)

    try:
        until(b"no alarms")
        os.write(leader, b"2")
        until(b"READY")
        ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        said = b""
        os.write(leader, b"8")
        until(b"DISK FREE")
        said = b""
        os.write(leader, b"q")
        until(b"\x1b[?1049l")
        until(b"\x1b[?25h")
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([leader], [], [], 0.1)[0]:
                said += os.read(leader, 65536)
        assert process.poll() == 0
        assert b"\x1b[?1000l" in said
        assert b"Traceback" not in said
        assert termios.tcgetattr(follower)[:4] == before[:4]
    finally:
        process.kill()
        process.wait()
        os.close(leader)
        os.close(follower)
