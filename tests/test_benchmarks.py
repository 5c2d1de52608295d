"""The benchmarks run, whole and small; no times are looked at."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import wait_until

from busctl_lib.management import ManagementClient

RUN = Path(__file__).parent.parent / "benchmarks" / "run.py"
PEERS = {"aio-pika": "aio_pika", "kombu": "kombu", "amqpstorm": "amqpstorm"}
OUR_ROW = re.compile(r"^\| \*\*busctl_lib\*\* \| [\d,]+ \|", re.MULTILINE)


@pytest.fixture
def start(vhost: Any) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(RUN), "--broker", f"here={vhost.amqp_url}", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def queues_left(vhost: Any) -> list[str]:
    with ManagementClient(vhost.api_url) as api:
        return [queue.name for queue in api.queues(vhost.name)]


TASKS = ["publish", "publish-one", "consume", "call", "call-64"]


@pytest.mark.parametrize("tasks", [["publish", "call"], pytest.param(TASKS, marks=pytest.mark.faults)], ids=len)
def test_every_task_is_measured_for_every_client_that_is_installed(
    start: Any, vhost: Any, tmp_path: Path, tasks: list[str]
) -> None:
    page = tmp_path / "page.md"

    chosen = [word for task in tasks for word in ("--task", task)]
    process = start(*chosen, "--rounds", "1", "--scale", "0.002", "--memory", "--output", str(page))
    _, progress = process.communicate(timeout=120)

    assert process.returncode == 0, progress
    text = page.read_text()
    assert re.findall(r"^### .*\((.*)\)$", text, re.MULTILINE) == [
        *(f"`{task}`" for task in tasks),
        "`--memory`",
    ]
    assert len(OUR_ROW.findall(text)) == len(tasks)
    assert text.count("| ceiling |") == len({"publish", "consume"} & {*tasks})
    for peer, package in PEERS.items():
        here = package in sys.modules or find_spec(package) is not None
        assert (f"| {peer} |" in text) is here
        assert (f"{peer} is not installed" in progress) is not here
    assert vhost.password not in text.replace("`", "")  # not in the command line it tells
    assert queues_left(vhost) == []


def test_ctrl_c_ends_it_and_leaves_nothing_on_the_broker(start: Any, vhost: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    process = start("--task", "call", "--task", "publish", "--client", "busctl_lib", "--output", str(page))
    children = wait_until(lambda: [pid for pid in children_of(process.pid) if measures(pid)])
    assert wait_until(lambda: queues_left(vhost))

    process.send_signal(signal.SIGINT)
    _, progress = process.communicate(timeout=30)

    assert process.returncode == 130, progress
    assert "Traceback" not in progress
    assert queues_left(vhost) == []
    assert not [pid for pid in children if measures(pid)]
    assert not page.exists()


def test_a_measurement_that_fails_is_told_and_the_others_go_on(start: Any, vhost: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    full = {"pattern": "publish$", "definition": {"max-length": 5, "overflow": "reject-publish"}}
    requests.put(f"{vhost.api_url}/api/policies/{vhost.name}/full", json=full, timeout=10).raise_for_status()
    small = ("--rounds", "1", "--scale", "0.002", "--output", str(page))

    process = start("--task", "publish", "--task", "call", "--client", "busctl_lib", *small)
    process.communicate(timeout=60)

    assert process.returncode == 1
    assert "publish, busctl_lib, round 1: ended with 1" in page.read_text()
    assert OUR_ROW.search(page.read_text())


def test_calls_are_measured_beside_their_peers(vhost: Any, tmp_path: Path) -> None:
    page = tmp_path / "calls.md"
    command = [sys.executable, str(RUN.with_name("calls.py")), "--broker", f"here={vhost.amqp_url}", "--rounds", "1"]
    done = subprocess.run([*command, "--scale", "0.01", "--output", str(page)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (busctl_lib|aio-pika|pika-blocking, \d+) \| [\d,]+ \|", page.read_text(), re.MULTILINE)
    assert rows == ["busctl_lib", "aio-pika", "pika-blocking, 64", "pika-blocking, 1"]
    assert queues_left(vhost) == []


def test_a_broker_without_a_name_is_a_usage_error(start: Any) -> None:
    done = subprocess.run([sys.executable, str(RUN), "--broker", "amqp://a/%3D"], capture_output=True, text=True)

    assert done.returncode == 2
    assert "NAME=AMQP_URL" in done.stderr


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in listed.split()]


def measures(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc").is_dir() else b"measure.py"
        os.kill(pid, 0)
    except OSError:
        return False
    return b"measure.py" in command or b"echo.py" in command
