"""Ctrl-C and SIGTERM count at once, whatever is waited for; what hangs is left behind, the second one ends sooner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from api_at_socket import Road
from proxy import Proxy
from waiting import wait_until

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher
from busctl_lib.errors import ApiUnreachable, LinkLost
from busctl_lib.management import ManagementClient

AT_ONCE_S = 3.0
"""On a machine that does much else."""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield listener.getsockname()[1]


def started(*words: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "busctl", *words],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def took(process: subprocess.Popen[bytes], number: signal.Signals) -> tuple[float, bytes]:
    """How long it takes to end after a signal, and what it says."""
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return time.monotonic() - began, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("line", ["queues", "peek q", "publish q hi", "tail q", "move a b --dry-run", "contexts check"])
def test_what_waits_for_a_silent_broker_ends_at_a_signal(silent: int, line: str, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as heard:
        heard.settimeout(20)
        doors = {"queues": "BUSCTL_API_URL"}
        first = doors.get(line, "BUSCTL_AMQP_URL")  # what it asks first tells when it waits
        urls = {
            "BUSCTL_AMQP_URL": f"amqp://u:p@127.0.0.1:{silent}/",
            "BUSCTL_API_URL": f"http://u:p@127.0.0.1:{silent}",
        }
        urls[first] = urls[first].replace(str(silent), str(heard.getsockname()[1]))
        process = started(*line.split(), **urls)
        peer, _ = heard.accept()
        with peer:
            seconds, said = took(process, number)
    assert (process.returncode, said) == (130, b"")
    assert seconds < AT_ONCE_S


def test_a_name_that_is_looked_up_for_ever_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()

    def never(*_: Any, **__: Any) -> Any:
        going_on.wait(20)
        raise socket.gaierror(-3, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    began = time.monotonic()
    with pytest.raises(ApiUnreachable, match=r"no connection within 0\.3 s"):
        ManagementClient("http://somewhere.test:15672", timeout_s=(0.3, 5.0)).overview()
    going_on.set()
    assert time.monotonic() - began < AT_ONCE_S


def test_a_host_name_that_is_not_known_is_still_told_as_that() -> None:
    with pytest.raises(ApiUnreachable, match="the host name is not known"):
        ManagementClient("http://no-such-host.invalid:15672", timeout_s=(5.0, 5.0)).overview()


def test_giving_back_to_a_broker_that_hangs_says_so_and_ends_at_the_next_signal(vhost: Any) -> None:
    road = Road(vhost.api_url)
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        MessagePublisher(broker).publish_many(("q", {"n": n}) for n in range(3))
        doors = {"BUSCTL_AMQP_URL": proxy.url(vhost.amqp_url), "BUSCTL_API_URL": road.url}
        process = started("tail", "q", "--via", "hold", "-o", "jsonl", **doors)
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        proxy.stall()
        road.jammed = True
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"giving back what was borrowed" not in (line := process.stderr.readline()):
            assert line, "it ended without a word"
        seconds, said = took(process, signal.SIGINT)
        assert (process.returncode, b"Traceback" in said) == (130, False)
        assert seconds < AT_ONCE_S
        proxy.cut()
        wait_until(lambda: broker.declare_queue("q", passive=True).message_count == 3)
    road.cut()


def test_a_signal_at_the_very_end_keeps_the_code() -> None:
    program = (
        "import os, signal\nfrom busctl.cli import exits\nprint('data')\nexits.leave_at_signals(6)\n"
        "os.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(20)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (6, b"data\n", b"")


# -- the library


def test_a_forked_process_is_told_that_the_link_is_not_its_own(vhost: Any) -> None:
    program = """
import os, sys
from busctl_lib import MessageBroker, MessagePublisher
broker = MessageBroker(url=sys.argv[1]).connect()
broker.declare_queue("q")
publisher = MessagePublisher(broker)
publisher.publish("q", {"n": 0})
if (pid := os.fork()) == 0:
    try:
        publisher.publish("q", {"n": 1}, timeout=5)
    except Exception as error:
        print(type(error).__name__, flush=True)
    broker.close(5)
    os._exit(0)
os.waitpid(pid, 0)
publisher.publish("q", {"n": 2})
print(broker.stats().reconnects, broker.close().forced)
"""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, vhost.amqp_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == [LinkLost.__name__, "0", "False"], done.stderr
    assert time.monotonic() - began < 2 * AT_ONCE_S


def test_a_close_in_a_callback_is_refused_there(vhost: Any) -> None:
    told: list[Exception] = []
    with MessageBroker(url=vhost.amqp_url) as broker:

        def close(_delivery: Any) -> None:
            try:
                broker.close(3)
            except RuntimeError as error:
                told.append(error)

        broker.declare_queue("q")
        broker.subscribe("q", close, auto_ack=True)
        MessagePublisher(broker).publish("q", {})
        wait_until(lambda: told)
        assert broker.declare_queue("q", passive=True).consumer_count == 1


def test_a_second_signal_while_a_consumer_stops_waits_for_nothing(vhost: Any) -> None:
    """A handler of signals that calls `stop` may be struck by the next signal in the midst of it."""
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q")
        consumer, at_work, gate = MessageConsumer(broker), threading.Event(), threading.Event()

        def work(_message: Any, _properties: Any) -> None:
            at_work.set()
            gate.wait(20)

        consumer.register_default(work)
        consumer.start_consuming("q", background=True)
        MessagePublisher(broker).publish("q", {})
        assert at_work.wait(20)
        struck: list[float] = []

        def again(*_: object) -> None:
            began = time.monotonic()
            consumer.stop(20)
            struck.append(time.monotonic() - began)
            gate.set()

        before = signal.signal(signal.SIGUSR1, again)
        try:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            consumer.stop(20)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert struck
        assert struck[0] < AT_ONCE_S
