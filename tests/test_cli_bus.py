"""`busctl bus`: a bus file made from a live broker is valid, and so are all its examples."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from busctl import busfile
from busctl.cli.main import run
from busctl_lib.broker import MessageBroker
from busctl_lib.pytest_plugin import TestBroker

OBS = ["obs.audit", "obs_requests", "obs_requests.dead", "obs_responses"]
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(vhost: TestBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        return code, *capfd.readouterr()

    return call


def test_init_writes_what_is_there_and_every_example_in_it_is_valid(
    vhost: TestBroker, cli: Cli, tmp_path: Path
) -> None:
    odd = 'odd "name" \\ \x1b[31m é #x = 1'
    with MessageBroker(url=vhost.amqp_url) as broker:
        for queue in (*OBS, "orders", odd, f"{odd}.2", "_", "1"):
            broker.declare_queue(queue)
        broker.declare_exchange("trades", "topic")
        broker.bind_queue("orders", "trades", "aapl.#")
        code, out, err = cli("bus", "init")
    assert (code, out) == (0, "")
    assert "bus.toml is written" in err
    text = (tmp_path / "bus.toml").read_text()
    assert "\x1b" not in text
    assert '#   trades (topic), bound by "aapl.#"' in text
    plain = busfile.load(tmp_path / "bus.toml")
    assert plain.groups["obs"] == OBS
    assert [odd, f"{odd}.2"] in plain.groups.values()
    assert "ask_obs_requests_dead" not in text, "nobody answers dead letters"
    switched_on = re.sub(r"^#(?=[\[A-Za-z])", "", text, flags=re.MULTILINE)
    whole = busfile.parse(switched_on, tmp_path / "bus.toml")
    method = whole.method("ask_obs_requests")
    assert (method.queue, method.reply_queue) == ("obs_requests", "obs_responses")
    assert method.signature == "symbol [depth=10] [side]"
    assert list(whole.decoders) == ["orders"]


def test_init_overwrites_nothing_unless_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bus.toml").write_text("# mine\n")
    code, _, err = cli("bus", "init")
    assert (code, "--force" in err) == (2, True)
    assert (tmp_path / "bus.toml").read_text() == "# mine\n"
    code, out, _ = cli("bus", "init", "-")
    assert (code, "[filters]" in out) == (0, True)
    assert cli("bus", "init", "--force")[0] == 0
    assert busfile.load(tmp_path / "bus.toml").filters


def test_check_tells_what_is_there_or_where_the_mistake_is(cli: Cli, tmp_path: Path) -> None:
    assert cli("bus", "check")[0] == 2
    (tmp_path / "bus.toml").write_text('[methods.fib]\nqueue = "rpc_queue"\n[schemas]\norder = "order.json"\n')
    code, _, err = cli("bus", "check")
    assert code == 2
    assert "line 4: schemas.order: cannot read" in err
    (tmp_path / "order.json").write_text('{"type": "object", "properties": {"a": {"type": "number"}}}')
    code, out, _ = cli("bus", "check")
    assert code == 0
    assert re.search(r"^methods +fib$", out, re.MULTILINE)
    code, out, _ = cli("rpc", "list", "-o", "tsv", "--bus-file", str(tmp_path / "bus.toml"))
    assert (code, out) == (0, "name\targuments\tqueue\thelp\nfib\t[BODY]\trpc_queue\t\n")
