"""A user's password shows nowhere: not in ps, logs, tracebacks, screens, captures or the journal."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from consoles import on_loop, opened

from busctl.cli import main
from busctl.config import Flags, config_path, resolve
from busctl.session import Session
from busctl_lib import MessageBroker
from busctl_lib.errors import BusError
from busctl_lib.journal import journal_path
from busctl_lib.management import ManagementClient

PASSWORD = "s3cr3t/Horse@Battery"
FORMS = (PASSWORD, quote(PASSWORD, safe=""), "s3cr3t")


@pytest.fixture
def prod(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a user with the password, and a context that finds it in the environment; gives the user's name."""
    name = f"ann-{vhost.name}"
    with ManagementClient(vhost.api_url) as api:
        api._http.change("PUT", f"users/{name}", {"password": PASSWORD, "tags": "administrator"})
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        api._http.change("PUT", f"permissions/{vhost.name}/{name}", rights)
        amqp, http = urlsplit(vhost.amqp_url), urlsplit(vhost.api_url)
        path = config_path()
        path.parent.mkdir(parents=True)
        path.write_text(
            f"current = 'p'\n[contexts.p]\namqp_url = 'amqp://{name}@{amqp.hostname}:{amqp.port}'\n"
            f"api_url = 'http://{http.hostname}:{http.port}'\nvhost = '{vhost.name}'\npassword_env = 'MQ_PASS'\n"
        )
        monkeypatch.setenv("MQ_PASS", PASSWORD)
        yield name
        api._http.change("DELETE", f"users/{name}")


def found_in(text: str) -> list[str]:
    return [form for form in FORMS if form in text]


def test_in_no_output_log_capture_or_journal(
    prod: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = ""

    def run(*arguments: str, code: int = 0) -> None:
        nonlocal said
        assert main.run(["--debug", *arguments]) == code, capfd.readouterr()
        captured = capfd.readouterr()
        said += captured.out + captured.err

    capture = tmp_path / "held.jsonl"
    run("declare", "queue", "orders")
    run("publish", "orders", "hello")
    run("queues", "-o", "json")
    run("contexts", "-o", "json")
    run("contexts", "check")
    run("connections", "-o", "json")
    run("record", str(capture), "orders", "--via", "hold", "-n", "1", "--for", "20s")
    run("definitions", "export")
    run("purge", "orders", "--yes")
    run("delete", "queue", "orders", "--yes")
    assert capture.stat().st_size
    kept = b"".join(path.read_bytes() for path in [capture, *journal_path().parent.rglob("*")] if path.is_file())
    for where, text in (("output", said), ("log", caplog.text), ("files", kept.decode("latin-1"))):
        assert found_in(text) == [], where
    assert "orders" in kept.decode("latin-1"), "there is a journal"


@pytest.mark.parametrize(
    "arguments",
    [
        ["queues", "--vhost", "no such"],
        ["tail", "orders", "--vhost", "no such"],
        ["purge", "absent", "--yes"],
        ["queues", "--api-url", "http://127.0.0.1:1"],
        ["publish", "orders", "x", "--timeout", "5s"],
    ],
)
def test_in_no_traceback(
    prod: str, arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(["--debug", *arguments]) != 0
    assert found_in("".join(capfd.readouterr())) == []
    monkeypatch.setenv("MQ_PASS", f"{PASSWORD} wrong")
    assert main.run(["--debug", *arguments]) != 0
    assert found_in("".join(capfd.readouterr())) == []


def test_in_no_repr(prod: str) -> None:
    settings = resolve(Flags())
    with Session(settings) as session:
        session.broker.connect()
        shown = [settings, session.settings, session, session.broker, session.management, *session.broker.endpoints]
        assert found_in(repr(shown) + str(session.settings.explain())) == []
        with pytest.raises(BusError) as caught:
            session.management.get_json("no/such/path")
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert found_in(told) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux has /proc")
def test_in_no_process_list(prod: str, vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("orders")
    program = [sys.executable, "-m", "busctl", "tail", "orders", "--via", "firehose", "--for", "60s"]
    process = subprocess.Popen(program, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        assert process.stderr.readline(), "it watches by now"
        lines = b"".join(_command_lines())
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert b"firehose" in lines
    assert found_in(lines.decode("latin-1")) == []


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            yield path.read_bytes()


@on_loop
async def test_in_no_screenshot(prod: str, vhost: Any) -> None:
    async with opened(vhost, (160, 40), context="p") as console:
        await console.shows(vhost.name)
        shots = console.app.export_screenshot()
        for line, shown in (("contexts", "amqp://"), ("connections", "connections")):
            await console.command(line)
            await console.shows(shown, timeout=30)
            shots += console.app.export_screenshot()
    assert "amqp:" in shots
    assert found_in(shots) == []
