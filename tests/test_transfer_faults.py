"""`busctl replay` and `move` killed at random moments, and the broker under them: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dead_letters import QUEUES, Yard
from victims import Victim
from waiting import wait_until

from busctl_lib.transfers import Request, Transfer

LONG = pytest.mark.faults
TURNS = 400


class Operator:
    """Runs busctl as a program, again and again until an operation has ended, and may be killed meanwhile."""

    def __init__(self, yard: Yard) -> None:
        self._environment = {**os.environ, "BUSCTL_AMQP_URL": yard.amqp_url, "BUSCTL_API_URL": yard.api_url}
        self.last: subprocess.Popen[bytes] | None = None
        self.kills = 0
        self.told: Counter[int] = Counter()
        """How often each message was told unknown, by its number."""

    def start(self, *arguments: str, limit_file: int | None = None) -> subprocess.Popen[bytes]:
        def limit() -> None:
            if limit_file is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file, limit_file))

        command = [sys.executable, "-m", "busctl", *arguments]
        pipe = subprocess.PIPE
        self.last = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=self._environment, preexec_fn=limit)
        return self.last

    def run(self, *arguments: str) -> tuple[int, bytes, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err.decode()

    def operations(self) -> list[dict[str, Any]]:
        code, out, err = self.run("ops", "-o", "json")
        assert code == 0, err
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def unknown(self, operation: str) -> list[int]:
        """The numbers of the messages that the audit calls unknown."""
        code, out, err = self.run("ops", "export", operation)
        assert code == 0, err
        lines = [json.loads(line) for line in out.splitlines()]
        return [int(line["message_id"][2:]) for line in lines if line.get("outcome") == "unknown"]

    def until_done(self, *arguments: str, kill_after: Callable[[], float | None]) -> dict[str, Any]:
        """Run it, kill it, resume it; the operation at its end."""
        process = self.start(*arguments)
        for _ in range(TURNS):
            delay = kill_after()
            if delay is not None:
                try:
                    process.wait(delay)
                except subprocess.TimeoutExpired:
                    process.kill()
                    self.kills += 1
            _, err = process.communicate(timeout=300)
            found = self.operations()
            if not found:
                process = self.start(*arguments)
                continue
            operation = found[0]
            if operation["unknown"]:
                self.told.update(self.unknown(operation["id"]))
            print(
                f"{time.monotonic():.1f}", {name: operation[name] for name in ("state", "moved", "unknown")}, err[-200:]
            )
            if operation["state"] in ("done", "partial") and not operation["unknown"]:
                return operation
            more = ["--unknown", "resend"] if operation["unknown"] else []
            process = self.start("ops", "resume", operation["id"], *more)
        raise AssertionError(f"not done after {TURNS} turns: {err.decode()} {operation}")


@pytest.fixture(params=[pytest.param("classic", marks=LONG), "quorum"])
def yard(request: pytest.FixtureRequest, vhost: Any, tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(vhost, tmp_path, request.param)
    yield yard
    yard.close()


def arrived(yard: Yard, kind: str) -> Counter[int]:
    """What is at the targets, each at its own route."""
    if kind == "move":
        return Counter(yard.numbers("elsewhere"))
    found = yard.drain(*QUEUES)
    for delivery in found:
        number = json.loads(delivery.body)["n"]
        assert (delivery.exchange, delivery.routing_key) == ("trading", yard.routes[number])
    return Counter(json.loads(delivery.body)["n"] for delivery in found)


def command(kind: str, fast: bool, rate: int) -> list[str]:
    target = ["elsewhere"] if kind == "move" else []
    return [kind, "dead", *target, "--yes", "--rate", str(rate), *(["--fast"] if fast else [])]


@pytest.mark.parametrize(("total", "kills"), [(900, 3), pytest.param(10_000, 50, marks=LONG)], ids=["short", "long"])
@pytest.mark.parametrize(
    ("kind", "fast"),
    [("replay", False), pytest.param("replay", True, marks=LONG), pytest.param("move", False, marks=LONG)],
    ids=["replay", "replay-fast", "move"],
)
def test_killed_at_random_moments_it_loses_and_doubles_nothing(
    yard: Yard, kind: str, fast: bool, total: int, kills: int
) -> None:
    yard.kill_messages(total)
    operator = Operator(yard)
    chance = random.Random(total)
    rate = max(200, int(total / (kills * 0.5)))

    def kill_after() -> float | None:
        return chance.uniform(0.5, 1.8) if operator.kills < kills else None

    operation = operator.until_done(*command(kind, fast, rate), kill_after=kill_after)
    assert (operation["state"], operation["moved"]) == ("done", total)
    found, left = arrived(yard, kind), yard.waiting("dead")
    assert (sorted(set(range(total)) - set(found)), left) == ([], 0)
    assert found - operator.told <= Counter(range(total)), "doubled without having been told unknown"
    print(f"doubled {sum(found.values()) - total}, told {len(operator.told)}")
    if not fast and yard.arguments["x-queue-type"] == "classic":  # quorum queues may lose what a dead client gave them
        assert not operator.told


def test_ctrl_c_gives_an_account_and_130_and_the_rest_is_resumed(vhost: Any, tmp_path: Path) -> None:
    yard = Yard(vhost, tmp_path)
    yard.kill_messages(400)
    operator = Operator(yard)
    process = operator.start(*command("replay", False, 150), "-o", "json")
    wait_until(lambda: yard.waiting("orders") + yard.waiting("fills") > 0, timeout=30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    account = json.loads(out)
    assert account["state"] == "interrupted"
    assert 0 < account["moved"] < 400
    assert f"busctl ops resume {account['id']}".encode() in err
    done = operator.until_done("ops", "resume", account["id"], kill_after=lambda: None)
    assert (done["state"], done["moved"]) == ("done", 400)
    assert arrived(yard, "replay") == Counter(range(400))
    yard.close()


def test_a_full_disk_stops_it_before_the_next_message(vhost: Any, tmp_path: Path) -> None:
    yard = Yard(vhost, tmp_path)
    yard.put(3000)
    operator = Operator(yard)
    process = operator.start("move", "dead", "elsewhere", "--yes", "-o", "json", limit_file=400_000)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (1, 8), err
    assert b"journal" in err
    assert b"Traceback" not in err
    done = operator.until_done("move", "dead", "elsewhere", "--yes", kill_after=lambda: None)
    assert done["unknown"] == 0
    assert sorted(yard.numbers("elsewhere") + yard.numbers("dead")) == list(range(3000))
    yard.close()


@pytest.mark.parametrize(
    ("queue_type", "kind", "fast", "total", "kills", "tool_kills"),
    [
        pytest.param("classic", "replay", False, 800, 1, 0, id="short"),
        *(
            pytest.param(queue_type, kind, fast, 10_000, 5, 10, id=f"{queue_type}-{kind}{'-fast' * fast}", marks=LONG)
            for queue_type in ("classic", "quorum")
            for kind, fast in (("replay", False), ("move", False), ("replay", True))
        ),
    ],
)
def test_a_broker_killed_meanwhile_loses_nothing_and_doubles_no_more_than_is_told(
    victim: Victim,
    tmp_path: Path,
    queue_type: str,
    kind: str,
    fast: bool,
    total: int,
    kills: int,
    tool_kills: int,
) -> None:
    yard = Yard(victim, tmp_path, queue_type)
    try:
        yard.kill_messages(total)
        # What the broker dead-lettered by itself it may not have written yet: that would be its loss, not the tool's.
        victim.keep("quorum" if tool_kills else queue_type)
        wait_until(lambda: yard.broker.state.value == "open", timeout=60)
        wait_until(lambda: yard.waiting("dead") == total, timeout=60)
        operator = Operator(yard)
        chance = random.Random(total + kills)
        targets = ("elsewhere",) if kind == "move" else QUEUES
        killed = 0

        def kill_after() -> float | None:
            """Kill the node under the running tool, a few times; and the tool as well."""
            nonlocal killed
            if killed < kills:
                goal = (killed + 1) * total // (kills + 2)
                wait_until(lambda: sum(map(yard.waiting, targets)) >= goal or has_ended(), timeout=120)
                print(f"{time.monotonic():.1f} kill {killed + 1} at {sum(map(yard.waiting, targets))}, {has_ended()=}")
                victim.kill()
                victim.start()
                yard.reconnect()
                killed += 1
            return chance.uniform(0.5, 2.0) if operator.kills < tool_kills else None

        def has_ended() -> bool:
            return operator.last is not None and operator.last.poll() is not None

        operation = operator.until_done(*command(kind, fast, 200), kill_after=kill_after)
        assert killed == kills
        assert operation["unknown"] == 0
        found = arrived(yard, kind)
        assert set(found) == set(range(total))
        print(f"doubled {sum(found.values()) - total}, told {len(operator.told)}, tool kills {operator.kills}")
        assert found - operator.told <= Counter(range(total)), "doubled without having been told unknown"
        assert yard.waiting("dead") == 0
    finally:
        yard.close()


def test_a_blocked_connection_is_waited_for_and_told(victim: Victim, tmp_path: Path) -> None:
    yard = Yard(victim, tmp_path)
    try:
        yard.put(1500)
        request = Request(kind="move", source="dead", target="elsewhere")
        with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
            for _ in transfer.planning():
                pass
            victim.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
            told = ""
            try:
                for progress in transfer.running():
                    if progress.waiting and not told:
                        told = progress.waiting
                        victim.ctl("set_vm_memory_high_watermark", "0.6")
            finally:
                victim.ctl("set_vm_memory_high_watermark", "0.6")
            assert "takes no publishes" in told
            assert transfer.account is not None
            assert (transfer.account.operation.state, transfer.account.operation.moved) == ("done", 1500)
        assert yard.numbers("elsewhere") == list(range(1500))
    finally:
        yard.close()
