"""How the program ends when things go wrong around it: an early Ctrl-C, a full disk, odd bytes, a wrong port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_at_socket import answering

from busctl.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line on the test's vhost: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


INTERRUPTED_WHILE_LOADING = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = ["busctl", "queues"]
import runpy
runpy.run_module("busctl", run_name="__main__")
"""


def test_ctrl_c_while_the_program_loads_is_quiet() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_LOADING], capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["queues", "--help"], ["--version"], ["contexts"]])
def test_a_full_disk_under_stdout_is_one_sentence(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "busctl", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr.count(b"\n")) == (1, 1)
    assert b"standard output cannot be written: No space left on device" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("rpc", "get_orderbook", "\udcff"),
        ("publish", "orders", "x", "-H", "a:=99999999999999999999"),
        ("publish", "q" * 300, "x"),
    ],
)
def test_what_cannot_be_sent_at_all_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("status", "body"), [("200 OK", b"<html>a page</html>"), ("404 Not Found", b"nothing"), ("502 Bad Gateway", b"")]
)
def test_a_port_that_is_not_rabbitmqs_api_is_no_connection(run: Run, status: str, body: bytes) -> None:
    with answering(body, status) as url:
        code, _, err = run("queues", "--api-url", url)
    assert (code, err.count("\n")) == (3, 1), err


def test_python_m_is_the_same_program() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "busctl", "--version"], capture_output=True, timeout=60, check=False, env=os.environ
    )
    assert (ended.returncode, ended.stdout.startswith(b"busctl ")) == (0, True)
