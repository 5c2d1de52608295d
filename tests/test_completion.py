"""Completion in the shell: live names, in time or not at all, and never a line that a shell would run."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_at_socket import refusing_port, reverse_proxy
from test_docs import all_commands
from trying import ROOT

from busctl.cli import completing, main
from busctl.config import config_path
from busctl_lib import MessageBroker

Complete = Callable[[str], list[str]]
HOSTILE = ["or\x1b[31m", "or$(reboot)", "or;ls", "or der", "-or", "or'", "or`ls`", 'or"', "or\\", "or*", "or\u202e"]


@pytest.fixture
def complete(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What bash would offer for a command line whose last word is being typed."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    return offered


def offered(line: str, shell: str = "bash", left_s: float = 30) -> list[str]:
    environment = {**os.environ, completing.VARIABLE: shell, completing.LINE: f"busctl {line}"}
    return completing.answer(environment, time.monotonic() + left_s).split("\n")


def test_names_come_from_the_live_broker(complete: Complete, vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        for name in ("orders", "orders.dead", "trades", "a:b:c", *HOSTILE):
            broker.declare_queue(name)
        broker.declare_exchange("market", "topic")
    assert complete("queues or") == ["orders", "orders.dead"], "none of which a shell makes something else"
    assert complete("queues -o json or") == ["orders", "orders.dead"]
    assert complete("tail tr") == ["trades"]
    assert complete("tail trades ord") == ["orders", "orders.dead"]
    assert complete("publish orders.") == ["orders.dead"]
    assert complete("publish orders tr") == [""], "the second word is a message"
    assert complete("move orders tra") == ["trades"]
    assert complete("move orders trades or") == [""]
    assert complete("delete queue trad") == ["trades"]
    assert complete("exchanges ma") == ["market"]
    assert complete("topology mar") == ["market"]
    assert complete("tail --exchange mar") == ["market"]
    assert vhost.name in complete("queues --vhost test-")
    assert vhost.name in complete("queues --vhost=test-"), "bash keeps what stands before the ="
    assert complete("purge no.such") == [""]
    assert complete("queues -- or") == ["orders", "orders.dead"]
    assert complete("queues 'or") == ["orders", "orders.dead"]


def test_names_as_long_as_a_broker_takes_are_offered(complete: Complete, vhost: Any) -> None:
    names = sorted(f"billing.{number:02}{'.-' * 122}" for number in range(30))  # each a half longer as a pattern
    with MessageBroker(url=vhost.amqp_url) as broker:
        for name in names:
            broker.declare_queue(name)
    assert complete("queues billing.") == names
    assert complete(f"queues {names[7][:254]}") == [names[7]]


def test_names_of_another_vhost_are_not_offered(
    complete: Complete, vhost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("orders")
    with reverse_proxy(vhost.api_url, lambda path: path.replace("%2F", "")) as proxy:
        monkeypatch.setenv("BUSCTL_API_URL", proxy.url)
        assert complete("queues ord") == ["orders"]
        assert complete("queues --vhost / ord") == [""]


def test_a_word_of_bash_begins_after_its_breaks(complete: Complete, vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("a:b:c")
    assert complete("queues a:") == ["b:c"]
    assert complete("queues a:b:") == ["c"]
    assert complete("queues 'a:b") == ["a:b:c"], "in quotes it does not"
    assert offered("queues a:", "fish") == ["a:b:c"]
    assert r'"a\\:b\\:c"' in offered("queues a:", "zsh")[0]


def test_commands_options_methods_and_contexts(complete: Complete) -> None:
    assert complete("exch") == ["exchanges"]
    assert complete("policies s") == ["set"]
    assert complete("queues --so") == ["--sort"]
    assert complete("queues --sort name --so") == [""], "it is there already"
    assert complete("events --via ") == ["auto", "exchange", "snapshots"]
    assert complete("queues -oj") == [""]
    assert complete("declare queue --type=q") == ["quorum"]
    assert complete("rpc get_orderb") == ["get_orderbook"]
    assert complete("rpc mock get_orderb") == ["get_orderbook"]
    assert complete("rpc list get_order get_orderb") == ["get_orderbook"]
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text("[contexts.prod]\namqp_url = 'amqp://p'\n[contexts.dev]\namqp_url = 'amqp://d'\n")
    assert complete("-c pr") == ["prod"]
    assert complete("queues --context d") == ["dev"]
    assert complete("contexts use ") == ["dev", "prod"]


def test_a_broker_that_does_not_answer_offers_nothing(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("queues or", left_s=0) == [""]
    assert offered("exch", left_s=0) == ["exchanges"], "what needs no broker is still there"
    monkeypatch.setenv("BUSCTL_API_URL", f"http://127.0.0.1:{refusing_port()}")
    assert complete("queues or") == [""]


def test_nobody_is_asked_for_a_password(complete: Complete, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("BUSCTL_AMQP_URL", "BUSCTL_API_URL"):
        monkeypatch.delenv(name)
    ran = tmp_path / "ran"
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text(
        f"[contexts.a]\namqp_url = 'amqp://u@h'\npassword_command = 'touch {ran}'\n[contexts.b]\namqp_url = 'amqp://u@h'\n"
    )
    assert complete("-c a queues or") == [""]
    assert complete("-c b queues or") == [""]
    assert not ran.exists()


def test_the_table_is_what_the_program_takes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make.py"))
    assert completing.TABLE.read_text(encoding="utf-8") == made["table"](), "stale: run `make docs`"


def test_every_command_and_option_is_offered() -> None:
    for path, command in all_commands():
        options = {name for each in command.params if not getattr(each, "hidden", False) for name in long_names(each)}
        assert {*offered(f"{path} --")} >= options | {"--help"}, path
        for below in getattr(command, "commands", {}):
            assert command.commands[below].hidden or below in offered(f"{path} "), path


def long_names(parameter: Any) -> Iterator[str]:
    return (name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--"))


def program(line: str, shell: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, completing.VARIABLE: shell, completing.LINE: line}
    return subprocess.run([sys.executable, "-m", "busctl"], env=environment, capture_output=True, timeout=60)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_program_itself_answers_each_shell(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    answer = program("busctl overv", shell)
    assert (answer.returncode, b"overview" in answer.stdout, answer.stderr) == (0, True, b"")
    nothing = program("busctl overview x", shell)
    assert (nothing.returncode, nothing.stdout.strip()) == (0, b"_files" if shell == "zsh" else b"")
    assert main.run(["completion", shell]) == 0
    script = capfd.readouterr().out
    assert f"{completing.VARIABLE}={shell}" in script
    assert "mbusctl" in script


def test_an_answer_loads_no_command() -> None:
    run = (
        "import json, os, sys; os._exit = lambda code: print(json.dumps(sorted(sys.modules)))\n"
        "import busctl.__main__ as program; program.main()"
    )
    environment = {**os.environ, completing.VARIABLE: "bash", completing.LINE: "busctl queues or"}
    done = subprocess.run([sys.executable, "-c", run], env=environment, capture_output=True, timeout=60)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "busctl.config" in loaded
    assert not {"typer", "rich", "http", "http.client", "requests", "pika", "busctl.cli.main"} & {*loaded}


def test_bash_completes_by_the_script(vhost: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("a:b c")
        broker.declare_queue("a:b")
    patient = tmp_path / "busctl"  # the 0.3 s of a Tab are not for this machine to keep
    patient.write_text(
        f"#!{sys.executable}\n"
        "from busctl.cli import completing\n"
        "completing.BUDGET_S = 30\n"
        "from busctl import __main__ as program\n"
        "program.main()\n"
    )
    patient.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    tab = (
        "source <(busctl completion bash); COMP_LINE='busctl queues a: more'; COMP_POINT=16\n"
        "_busctl_completion busctl; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", tab], env=environment, capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"b\n", b"")


def test_an_unknown_shell_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "csh"]) == 2
    assert "bash, zsh, fish" in capfd.readouterr().err
