"""Deduplication: what was handled is not handled again, whoever dies when; what was not handled is."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher
from busctl_lib.dedup import Claim, MemorySeenStore, SeenStore, SqliteSeenStore
from busctl_lib.errors import BusError
from busctl_lib.journal import Journal
from busctl_lib.management import ManagementClient
from busctl_lib.retry import RetryPolicy, stage_of
from busctl_lib.transfers import Request, Transfer


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q", dead_letter=True)
        yield broker


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., SeenStore]]:
    made: list[SqliteSeenStore] = []

    def store(**options: Any) -> SeenStore:
        if request.param == "memory":
            return MemorySeenStore(**options)
        made.append(SqliteSeenStore(tmp_path / "seen.db", **options))
        return made[-1]

    yield store
    for each in made:
        each.close()


def depth(broker: MessageBroker, queue: str = "q") -> int:
    return broker.declare_queue(queue, passive=True).message_count


def test_a_claim_is_one_callers_until_it_is_settled(make: Callable[..., SeenStore]) -> None:
    store = make()
    assert store.claim("a", 0) is Claim.OURS
    assert store.claim("a", 0) is Claim.BUSY
    assert store.claim("b", 0) is Claim.OURS
    store.release("a")
    assert store.claim("a", 0) is Claim.OURS
    store.moved("a", 1)
    assert store.claim("a", 0) is Claim.SEEN  # the copy for the next attempt goes on
    assert store.claim("a", 1) is Claim.OURS
    store.done("a")
    assert [store.claim("a", stage) for stage in (0, 1, 9)] == [Claim.SEEN] * 3


def test_a_copy_is_of_a_later_stage_and_a_replay_of_a_later_one_than_any_attempt() -> None:
    stages = [{}, {"busctl-attempt": 1}, {"busctl-attempt": 2**40}, {"busctl-replays": 1}]
    stages += [{"busctl-replays": 1, "busctl-attempt": 1}, {"busctl-replays": 2}, {"busctl-replays": 2**62}]
    found = [stage_of(headers) for headers in stages]
    assert found == sorted(set(found))
    assert found[-1] < 2**63
    assert {stage_of({"busctl-replays": odd, "busctl-attempt": odd}) for odd in (True, -1, "1", None, 0)} == {0}


def test_the_window_ends(make: Callable[..., SeenStore]) -> None:
    store = make(window_s=0.05)
    store.claim("a", 0)
    store.done("a")
    wait_until(lambda: store.claim("a", 0) is Claim.OURS)


def until(path: Path, key: str) -> float:
    """When the claim of a key ends."""
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
        return float(database.execute("SELECT until FROM seen WHERE key = ?", (key,)).fetchone()[0])


def test_a_living_process_keeps_its_claim_and_a_dead_one_loses_it(tmp_path: Path) -> None:
    path = tmp_path / "seen.db"
    living, other = SqliteSeenStore(path, lease_s=8.0), SqliteSeenStore(path)
    assert living.claim("a", 0) is Claim.OURS
    lease = until(path, "a")
    code = "import os, sys; from busctl_lib.dedup import *; s = SqliteSeenStore(sys.argv[1], lease_s=0.2); "
    code += "assert s.claim('b', 0) is Claim.OURS; os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    wait_until(lambda: other.claim("b", 0) is Claim.OURS, 30)
    wait_until(lambda: until(path, "a") > lease, 30)
    assert other.claim("a", 0) is Claim.BUSY
    living.close()
    other.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "seen.db").write_text("this is no database" * 1000)
    for path in (tmp_path / "seen.db", tmp_path / "absent" / "seen.db"):
        with pytest.raises(BusError, match=r"deduplication file .* cannot be used"):
            SqliteSeenStore(path)


def test_a_second_copy_is_not_handled_again(broker: MessageBroker, make: Callable[..., SeenStore]) -> None:
    handled: list[Any] = []
    consumer = MessageConsumer(broker, workers=4, dedup=make())
    consumer.register_handler("work", lambda message, _properties: handled.append(message["n"]))
    consumer.start_consuming("q", background=True)
    publisher = MessagePublisher(broker)
    for n in range(60):
        publisher.publish("q", {"action": "work", "n": n % 20}, message_id=f"m-{n % 20}")
    publisher.publish("q", {"action": "work", "n": "last"})
    wait_until(lambda: len(set(handled)) == 21 and depth(broker) == 0, 30)
    consumer.stop()
    assert sorted(n for n in handled if n != "last") == list(range(20))


def test_a_failed_message_is_tried_again_all_the_same(broker: MessageBroker, make: Callable[..., SeenStore]) -> None:
    attempts: list[Any] = []

    def work(_message: Any, properties: Any) -> None:
        attempts.append((properties.headers or {}).get("busctl-attempt", 0))
        raise RuntimeError("no")

    policy = RetryPolicy(max_attempts=3, first_delay_s=0.1)
    consumer = MessageConsumer(broker, dedup=make(), retry=policy)
    consumer.register_handler("work", work)
    consumer.start_consuming("q", background=True)
    publisher = MessagePublisher(broker)
    publisher.publish("q", {"action": "work"}, message_id="m")
    wait_until(lambda: depth(broker, "q.dead") == 1, 30)
    publisher.publish("q", {"action": "work"}, message_id="m")
    wait_until(lambda: depth(broker) == 0, 30)
    consumer.stop()
    assert attempts == [0, 1, 2]
    assert depth(broker, "q.dead") == 1


def test_another_key_than_the_message_id_may_be_what_counts(broker: MessageBroker) -> None:
    handled: list[Any] = []
    consumer = MessageConsumer(
        broker, dedup=MemorySeenStore(), dedup_key=lambda delivery: delivery.headers.get("order")
    )
    consumer.register_handler("work", lambda message, _properties: handled.append(message["n"]))
    consumer.start_consuming("q", background=True)
    publisher = MessagePublisher(broker)
    for n, order in enumerate(["a", "b", "a", None, None]):
        publisher.publish("q", {"action": "work", "n": n}, headers={"order": order} if order else None)
    wait_until(lambda: len(handled) >= 4 and depth(broker) == 0, 30)
    consumer.stop()
    assert handled == [0, 1, 3, 4]


WORKER = """
import os, sys, threading
from busctl_lib import MessageBroker, MessageConsumer
from busctl_lib.consumers.running import Running
from busctl_lib.dedup import SqliteSeenStore
from busctl_lib.retry import RetryPolicy
url, folder, moment = sys.argv[1:]
log = os.open(os.path.join(folder, "handled"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
marker = os.path.join(folder, "died")

working = threading.Lock()  # what a handler has done and not told yet, nobody can know: no kill there

def die():
    with working:
        if not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), 9)

def handle(message, properties):
    attempt = (properties.headers or {}).get("busctl-attempt", 0)
    if message["n"] == 7 and moment == "in handler":
        die()
    if message["n"] % 5 == 0 and attempt == 0:
        raise RuntimeError("the first attempt fails")
    working.acquire()
    os.write(log, b"%d\\n" % message["n"])

class Seen(SqliteSeenStore):
    def done(self, key):
        super().done(key)
        working.release()
        if moment == "before ack" and key.endswith("m-7"):
            die()
    def moved(self, key, attempt):
        if moment == "before moved" and key.endswith("m-10"):
            die()
        super().moved(key, attempt)
        if moment == "after moved" and key.endswith("m-10"):
            die()

with MessageBroker(url=url) as broker:
    seen = Seen(os.path.join(folder, "seen.db"), lease_s=4.0)
    consumer = MessageConsumer(broker, dedup=seen, retry=RetryPolicy(first_delay_s=0.2), workers=3)
    consumer.register_handler("work", handle)
    consumer.start_consuming("q")
"""


def start_worker(url: str, folder: Path, moment: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", WORKER, url, str(folder), moment]
    return subprocess.Popen(arguments, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("moment", ["before ack", "before moved"])
def test_a_worker_killed_at_the_worst_moment_loses_and_doubles_nothing(
    broker: MessageBroker, vhost: Any, tmp_path: Path, moment: str
) -> None:
    kill_workers(broker, vhost, tmp_path, moment, 20)


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["in handler", "before ack", "before moved", "after moved"])
def test_workers_killed_at_every_moment_lose_and_double_nothing(
    broker: MessageBroker, vhost: Any, tmp_path: Path, moment: str
) -> None:
    kill_workers(broker, vhost, tmp_path, moment, 500)


def kill_workers(broker: MessageBroker, vhost: Any, folder: Path, moment: str, count: int) -> None:
    """Two processes share the work; one kills itself once, at the given moment, and is started again."""
    workers = [start_worker(vhost.amqp_url, folder, moment) for _ in range(2)]
    handled = folder / "handled"

    def all_handled() -> bool:
        for place, worker in enumerate(workers):
            if worker.poll() is not None:
                workers[place] = start_worker(vhost.amqp_url, folder, moment)
        return handled.exists() and len(set(handled.read_text().split())) == count

    try:
        publisher = MessagePublisher(broker)
        for n in range(count):
            publisher.publish("q", {"action": "work", "n": n}, message_id=f"m-{n}")
        wait_until(all_handled, 90)
        wait_until(lambda: (folder / "died").exists() and depth(broker) == 0, 30)
        time_for_doubles(broker)
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    assert sorted(map(int, handled.read_text().split())) == list(range(count))
    assert depth(broker, "q.dead") == 0


FAILING = """
import os, sys
from busctl_lib import MessageBroker, MessageConsumer
from busctl_lib.consumers import Reject
from busctl_lib.dedup import SqliteSeenStore
url, folder = sys.argv[1:]
log = os.open(os.path.join(folder, "handled"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)

def handle(message, properties):
    if not os.path.exists(os.path.join(folder, "mended")):
        raise Reject("not mended yet")
    os.write(log, b"%d\\n" % message["n"])

class Seen(SqliteSeenStore):
    def moved(self, key, stage):
        died = os.path.join(folder, "died")
        if key.endswith("m-1") and not os.path.exists(died):
            open(died, "w").close()
            os.kill(os.getpid(), 9)
        super().moved(key, stage)

with MessageBroker(url=url) as broker:
    consumer = MessageConsumer(broker, dedup=Seen(os.path.join(folder, "seen.db"), lease_s=2.0))
    consumer.register_handler("work", handle)
    consumer.start_consuming("q")
"""


def test_what_is_replayed_from_the_dead_letters_is_handled_once_also_a_twin_that_a_kill_left(
    broker: MessageBroker, vhost: Any, tmp_path: Path
) -> None:
    publisher = MessagePublisher(broker)
    for n in range(3):
        publisher.publish("q", {"action": "work", "n": n}, message_id=f"m-{n}")
    command = [sys.executable, "-c", FAILING, vhost.amqp_url, str(tmp_path)]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == -signal.SIGKILL
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: depth(broker, "q.dead") == 4 and depth(broker) == 0, 30)
        (tmp_path / "mended").touch()
        with (
            Journal(tmp_path / "journal.db") as journal,
            ManagementClient(vhost.api_url) as management,
            Transfer(broker, management, journal, Request(kind="replay", source="q.dead")) as transfer,
        ):
            assert [each for step in (transfer.planning, transfer.running) for each in step()]
        publisher.publish("q", {"action": "work", "n": 9}, message_id="m-9")
        wait_until(lambda: "9\n" in (tmp_path / "handled").read_text(), 30)
    finally:
        worker.kill()
        worker.wait()
    assert sorted((tmp_path / "handled").read_text().split()) == ["0", "1", "2", "9"]
    assert depth(broker, "q.dead") == 0


def time_for_doubles(broker: MessageBroker) -> None:
    """Wait until nothing is under way any more: in no level of the ladder, and nothing unacked."""
    for level in ("00", "01"):
        wait_until(lambda level=level: depth(broker, f"busctl.delay.{level}") == 0, 30)
    wait_until(lambda: depth(broker) == 0, 30)
