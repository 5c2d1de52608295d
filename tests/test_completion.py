"""Completion in the shell, by the protocol that shells speak: live names, in time or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from api_at_socket import refusing_port

from busctl.cli import completion, main
from busctl.config import config_path
from busctl_lib import MessageBroker

Complete = Callable[..., list[str]]
HOSTILE = ["or\x1b[31m", "or$(reboot)", "or;ls", "or der", "-or", "or'"]


@pytest.fixture
def complete(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Complete:
    """What bash would offer for a command line whose last word is being typed."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    monkeypatch.setenv(completion.VARIABLE, "complete_bash")
    monkeypatch.setattr(completion, "BUDGET_S", time.process_time() + 30)  # what is tested is not this machine

    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", " ".join(["busctl", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        capfd.readouterr()
        assert main.run([]) == 0
        captured = capfd.readouterr()
        assert captured.err == ""
        return captured.out.split()

    return complete


def test_names_come_from_the_live_broker(complete: Complete, vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        for name in ("orders", "orders.dead", "trades", *HOSTILE):
            broker.declare_queue(name)
        broker.declare_exchange("market", "topic")
    assert complete("queues", "or") == ["orders", "orders.dead"]
    assert complete("tail", "tr") == ["trades"]
    assert complete("publish", "orders.") == ["orders.dead"]
    assert complete("publish", "orders", "tr") == [], "the second word is a message"
    assert complete("delete", "queue", "trad") == ["trades"]
    assert complete("exchanges", "ma") == ["market"]
    assert complete("tail", "--exchange", "mar") == ["market"]
    assert vhost.name in complete("queues", "--vhost", "test-")
    assert complete("purge", "no.such") == []


def test_commands_options_methods_and_contexts(complete: Complete) -> None:
    assert complete("exch") == ["exchanges"]
    assert "--sort" in complete("queues", "--so")
    assert "get_orderbook" in complete("rpc", "get_")
    assert "get_orderbook" in complete("rpc", "mock", "get_")
    assert "get_orderbook" in complete("rpc", "list", "get_")
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text("[contexts.prod]\namqp_url = 'amqp://p'\n[contexts.dev]\namqp_url = 'amqp://d'\n")
    assert complete("-c", "pr") == ["prod"]
    assert complete("queues", "--context", "d") == ["dev"]
    assert complete("contexts", "use", "") == ["dev", "prod"]


def test_a_broker_that_does_not_answer_offers_nothing(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSCTL_API_URL", f"http://127.0.0.1:{refusing_port()}")
    assert complete("queues", "or") == []
    monkeypatch.setattr(completion, "BUDGET_S", 0.0)
    assert complete("queues", "or") == []
    assert complete("exch") == ["exchanges"], "what needs no broker is still there"


def test_nobody_is_asked_for_a_password(complete: Complete, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("BUSCTL_AMQP_URL", "BUSCTL_API_URL"):
        monkeypatch.delenv(name)
    ran = tmp_path / "ran"
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text(
        f"[contexts.a]\namqp_url = 'amqp://u@h'\npassword_command = 'touch {ran}'\n[contexts.b]\namqp_url = 'amqp://u@h'\n"
    )
    assert complete("-c", "a", "queues", "or") == []
    assert complete("-c", "b", "queues", "or") == []
    assert not ran.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_program_itself_answers_each_shell(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    line = "busctl overv"
    asked = {"COMP_WORDS": line, "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": line}
    asked |= {"_BUSCTL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    program = [sys.executable, "-m", "busctl"]
    answer = subprocess.run(program, env=os.environ | asked, capture_output=True, timeout=60, check=False)
    assert (answer.returncode, b"overview" in answer.stdout, answer.stderr) == (0, True, b"")
    assert main.run(["completion", shell]) == 0
    script = capfd.readouterr().out
    assert f"_BUSCTL_COMPLETE=complete_{shell}" in script
    assert "mbusctl" in script


def test_an_unknown_shell_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "csh"]) == 2
    assert "bash, zsh, fish" in capfd.readouterr().err
