"""`busctl dead`, `replay`, `purge`, `delete` and `ops` as commands: what they print, their codes, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dead_letters import Yard
from waiting import wait_until

from busctl.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def test_from_dead_letters_to_their_replay_by_group(yard: Yard, run: Run) -> None:
    yard.kill_messages(10)
    code, out, _ = run("dead", "-o", "json")
    assert code == 0
    assert [each["name"] for each in json.loads(out)] == ["dead"]
    heads = run("dead", "dead")[1].splitlines()[0].split()
    assert heads == ["GROUP", "CAUSE", "FROM", "COUNT", "FIRST", "LAST", "REPLAYED"], "the cause has room"
    assert "routing_key\t" in run("dead", "dead", "-o", "tsv")[1]
    code, out, err = run("dead", "dead", "-o", "json")
    groups = json.loads(out)["groups"]
    assert sum(each["count"] for each in groups) == 10
    assert "all 10 messages read" in err
    chosen = next(each for each in groups if each["routing_key"] == "orders.0")
    code, out, _ = run("dead", "dead", "--group", chosen["id"], "-o", "jsonl")
    assert len(out.splitlines()) == chosen["count"]
    code, out, _ = run("replay", "dead", "--group", chosen["id"], "--dry-run")
    assert (code, yard.waiting("dead")) == (0, 10)
    assert f"replay {chosen['count']} of 10 messages of dead" in out
    code, out, err = run("replay", "dead", "--group", chosen["id"])
    assert (code, yard.waiting("dead")) == (9, 10)  # no terminal, no --yes
    code, out, _ = run("replay", "dead", "--group", chosen["id"], "--yes", "-o", "json")
    operation = json.loads(out)
    assert (code, operation["state"], operation["moved"]) == (0, "done", chosen["count"])
    assert yard.waiting("orders") == chosen["count"]
    code, out, _ = run("ops", operation["id"][:6], "-o", "json")
    assert json.loads(out)["id"] == operation["id"]
    code, out, _ = run("ops", "export", operation["id"])
    assert len(out.splitlines()) == 1 + chosen["count"]


def test_what_stays_makes_exit_code_8_and_names_exchange_and_key(yard: Yard, run: Run) -> None:
    yard.kill_messages(4)
    yard.broker.delete_queue("fills")
    code, out, _ = run("replay", "dead", "--yes")
    assert code == 8
    assert "partial: 2 of 4, 2 returned" in out
    assert "exchange 'trading', key 'fills." in out
    assert run("ops", "undo", json.loads(run("ops", "-o", "json")[1])[0]["id"], "--yes")[0] == 9


def test_a_plan_is_written_and_done(yard: Yard, run: Run, tmp_path: Path) -> None:
    yard.kill_messages(4)
    plan = str(tmp_path / "plan.json")
    code, _, err = run("replay", "dead", "--dry-run", "--plan", plan)
    assert (code, yard.waiting("dead")) == (0, 4)
    assert plan in err
    code, _, err = run("replay", "dead", "--plan", plan, "--to", "elsewhere", "--yes")
    assert (code, yard.waiting("dead")) == (2, 4)
    assert "--to" in err
    code, out, err = run("replay", "dead", "--plan", plan, "--yes", "--canary", "1", "--watch", "1s", "-o", "json")
    assert (code, json.loads(out)["moved"]) == (0, 4), err
    assert json.loads(out)["came_back"] == []
    assert yard.waiting("dead") == 0
    code, _, err = run("replay", "dead", "--plan", plan, "--yes")
    assert code == 9
    assert "no longer in dead" in err


def test_purge_and_delete_go_into_the_trash_and_come_back(yard: Yard, run: Run) -> None:
    yard.put(6)
    yard.broker.bind_queue("dead", "trading", "kept.#")
    code, out, _ = run("purge", "dead", "--yes", "-o", "json")
    assert (code, json.loads(out)["moved"], yard.waiting("dead")) == (0, 6, 0)
    assert run("ops", "undo", json.loads(out)["id"], "--yes")[0] == 0
    assert yard.waiting("dead") == 6
    code, out, _ = run("delete", "queue", "dead", "--yes", "-o", "json")
    assert code == 0
    operation = json.loads(out)["id"]
    assert run("ops", "undo", operation, "--yes")[0] == 0
    assert yard.numbers("dead") == list(range(6))
    name = yard.broker.virtual_host
    wait_until(
        lambda: (
            {each.routing_key for each in yard.management.queue_bindings(name, "dead") if each.source} == {"", "kept.#"}
        )
    )
    assert run("ops", "undo", operation, "--yes")[0] == 9  # not twice


def test_what_a_full_queue_refused_to_take_back_can_be_put_back_later(yard: Yard, run: Run) -> None:
    yard.put(6)
    operation = json.loads(run("discard", "dead", "--yes", "-o", "json")[1])["id"]
    yard.broker.delete_queue("dead")
    yard.broker.declare_queue("dead", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    assert run("ops", "undo", operation, "--yes")[0] == 8
    back = yard.numbers("dead")
    assert 0 < len(back) < 6
    yard.broker.delete_queue("dead")
    yard.broker.declare_queue("dead")
    assert run("ops", "undo", operation, "--yes")[0] == 0
    assert sorted(back + yard.numbers("dead")) == list(range(6))
    assert run("ops", "undo", operation, "--yes")[0] == 9


def test_mistakes_are_told_in_a_sentence(yard: Yard, run: Run) -> None:
    for arguments, code, words in [
        (("replay", "nowhere", "--yes"), 4, "nowhere"),
        (("move", "dead", "dead", "--yes"), 2, "one queue"),
        (("ops", "resume", "zzz"), 2, "no operation 'zzz'"),
        (("replay", "dead", "--canary", "3", "--yes"), 2, "--watch"),
        (("replay", "dead", "--where", ".body.", "--yes"), 2, "--where"),
        (("dead", "dead", "--group", "zz"), 2, "no group"),
    ]:
        found, out, err = run(*arguments)
        assert (found, out) == (code, ""), err
        assert words in err
        assert "Traceback" not in err
