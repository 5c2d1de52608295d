"""Private nodes: that they start, that they keep what they should, and that they never stay behind."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pika
import pytest
import requests
from waiting import wait_until

from busctl_lib.errors import SandboxError
from busctl_lib.sandbox import PrivateBroker, guarded
from busctl_lib.sandbox.guardian import identity
from busctl_lib.sandbox.ports import Ports

ROOT = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")

OWNER = """
import json, os, sys
from busctl_lib.sandbox import PrivateBroker
node = PrivateBroker(root=os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")).start()
print(json.dumps({"pid": node.pid, "folder": str(node.log_path.parent), "amqp_url": node.amqp_url}), flush=True)
sys.stdin.read()
"""


def records_of(owner_pid):
    """What is on record as running for this process."""
    noted = []
    for path in guarded.registry().glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # a node of somebody else's that ended just now
            noted.append(json.loads(path.read_text()))
    return [record for record in noted if record["owner"][0] == owner_pid]


class Owner:
    """Another Python process with a private node of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        told = json.loads(self.process.stdout.readline())
        self.node_pid, self.folder, self.amqp_url = told["pid"], Path(told["folder"]), told["amqp_url"]
        records = records_of(self.process.pid)
        self.guardians = [record["guardian"] for record in records]
        self.children = [record["child"] for record in records]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def leftovers(self) -> list:
        """What is still there of its node: the node, its epmd, whatever they started, the folder."""
        left = [child for child in self.children if identity(child[0]) == child]
        inside = str(Path("/") / self.folder.relative_to(ROOT or "/")).encode()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                if b"HOME=" + inside in environment.read_bytes():
                    left.append(environment)
            except OSError:
                continue
        return left + [self.folder] * self.folder.exists()


@dataclasses.dataclass
class Nodes:
    kept: PrivateBroker
    owner: Owner
    choices: list[Ports]
    """The ports that the first one tried."""
    taken_port: int


@pytest.fixture(scope="module")
def directory():
    # The node must see it: it lies inside the root directory that the node runs in.
    folder = Path(tempfile.mkdtemp(prefix="busctl-test-", dir=ROOT and Path(ROOT) / "var/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def nodes(directory):
    """Two private nodes, started at the same moment; one of them finds a port taken that was free before."""
    choices = []
    free, first = Ports.free, itertools.chain([True], itertools.repeat(False))

    def free_but_for_one() -> Ports:
        ports = free()
        if next(first):
            ports = dataclasses.replace(ports, dist=taken.getsockname()[1])
        choices.append(ports)
        return ports

    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as taken,
        ThreadPoolExecutor() as pool,
    ):
        patch.setattr(Ports, "free", free_but_for_one)
        owner = pool.submit(Owner)
        kept = PrivateBroker(directory, root=ROOT).start()
        taken_port = taken.getsockname()[1]
        nodes = Nodes(kept, owner.result(), choices, taken_port)
    yield nodes
    nodes.kept.kill()
    nodes.kept.stop()
    nodes.owner.close()
    wait_until(lambda: not nodes.owner.leftovers(), 30)


def channel_of(node):
    return pika.BlockingConnection(pika.URLParameters(node.amqp_url)).channel()


def put_aside(node, queue):
    """Leave one persistent message in a durable queue, on disk."""
    leave_in(node, queue)
    # The node keeps its log of declarations in memory for up to two seconds: kill -9 in that time would lose the queue.
    node.ctl("eval", "mnesia:sync_log().")


def leave_in(node, queue):
    channel = channel_of(node)
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"kept", pika.BasicProperties(delivery_mode=2))
    channel.connection.close()


def taken_from(node, queue):
    channel = channel_of(node)
    _, _, body = channel.basic_get(queue, auto_ack=True)
    channel.connection.close()
    return body


def listening_addresses(pid):
    """The local addresses on which a process listens, as the kernel has them."""
    sockets = {os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir() if descriptor.is_symlink()}
    addresses = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                host, port = fields[1].split(":")
                addresses[int(port, 16)] = host
    return addresses


def test_nodes_started_at_once_do_not_collide(nodes):
    leave_in(nodes.kept, "only-here")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel_of(nodes.owner).queue_declare("only-here", passive=True)
    assert taken_from(nodes.kept, "only-here") == b"kept"
    assert nodes.kept.pid != nodes.owner.node_pid


def test_a_port_taken_in_the_last_moment_is_replaced(nodes):
    spoilt, used = nodes.choices
    assert spoilt.dist == nodes.taken_port
    assert used.amqp == nodes.kept.port


def test_both_doors_open_with_the_password_and_not_as_guest(nodes):
    node = nodes.kept
    overview = requests.get(f"{node.api_url}/api/overview", timeout=10).json()
    assert overview["node"] == node.node_name
    assert requests.get(f"http://guest:guest@{node.host}:{node.api_port}/api/overview", timeout=10).status_code == 401
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        channel_of(dataclasses.make_dataclass("Guest", ["amqp_url"])(f"amqp://guest:guest@{node.host}:{node.port}/"))


def test_the_plugins_are_there(nodes):
    node = nodes.kept
    address = f"{node.api_url}/api/nodes/{node.node_name}"
    enabled = wait_until(lambda: requests.get(address, timeout=10).json().get("enabled_plugins"))
    wanted = ("management", "prometheus", "event_exchange", "shovel", "shovel_management", "stream")
    assert {f"rabbitmq_{name}" for name in wanted} <= set(enabled)
    assert "rabbitmq_build_info" in requests.get(f"{node.prometheus_url}/metrics", timeout=10).text


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's tables in /proc")
def test_everything_listens_on_loopback_only(nodes):
    addresses = listening_addresses(nodes.kept.pid)
    assert len(addresses) == 5, "AMQP, API, Prometheus, streams, distribution"
    assert set(addresses.values()) == {"0100007F"}


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_secrets_are_for_the_owner_only(nodes):
    folder = nodes.kept.log_path.parent
    for name in (".erlang.cookie", "rabbitmq.conf", "identity.json"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert nodes.kept.password not in repr(nodes.kept)


def test_rabbitmqctl_speaks_to_this_node(nodes):
    assert nodes.kept.ctl("list_users", "--no-table-headers").split()[0] == "busctl"
    with pytest.raises(SandboxError, match=r"(?s)rabbitmqctl no_such_command failed: .*no_such_command"):
        nodes.kept.ctl("no_such_command")
    with pytest.raises(SandboxError, match=r"did not end within 0\.1 s"):
        nodes.kept.ctl("eval", "timer:sleep(5000).", timeout=0.1)


def test_a_folder_takes_one_node_at_a_time(nodes, directory):
    with pytest.raises(SandboxError, match="another node lives in"):
        PrivateBroker(directory, root=ROOT).start()
    assert nodes.kept.running


@pytest.mark.faults
def test_after_kill_it_starts_again_with_its_data_at_the_same_address(nodes):
    node = nodes.kept
    before = node.amqp_url, node.api_url, node.node_name
    put_aside(node, "orders")
    killed = identity(node.pid)
    node.kill()
    assert not node.running
    assert identity(killed[0]) != killed
    node.start()
    assert (node.amqp_url, node.api_url, node.node_name) == before
    assert taken_from(node, "orders") == b"kept"


@pytest.mark.faults
def test_a_given_folder_is_kept_and_taken_up_again(nodes, directory):
    put_aside(nodes.kept, "orders")
    nodes.kept.kill()
    nodes.kept.stop()
    with pytest.raises(SandboxError, match="not been started"):
        nodes.kept.amqp_url
    nodes.kept = PrivateBroker(directory, root=ROOT).start()
    assert taken_from(nodes.kept, "orders") == b"kept"


def test_a_node_ends_with_its_owner_killed_by_kill_9(nodes):
    owner = nodes.owner
    assert {owner.node_pid} < {child[0] for child in owner.children}, "the node and its epmd are on record"
    owner.process.kill()
    wait_until(lambda: not owner.leftovers(), 15)


@pytest.mark.faults
def test_a_start_finds_and_ends_what_killed_owners_left(nodes, tmp_path):
    owner = Owner()
    for pid, _ in owner.guardians:
        os.kill(pid, signal.SIGKILL)
    owner.process.kill()
    owner.process.wait()
    wait_until(lambda: all(identity(guardian[0]) is None for guardian in owner.guardians))
    assert all(identity(child[0]) == child for child in owner.children), "nobody is left to end the node"
    with pytest.raises(SandboxError):
        PrivateBroker(root=tmp_path).start()  # nothing is installed there: it ends them before all else
    wait_until(lambda: not owner.leftovers())
    assert nodes.kept.running, "a living owner's node is left alone"
    owner.close()


@pytest.mark.faults
def test_the_folder_of_a_killed_node_goes_with_its_owner():
    code = OWNER.replace("sys.stdin.read()", "node.kill()\nos.kill(os.getpid(), 9)")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    wait_until(lambda: not Path(json.loads(told)["folder"]).exists())


def test_reaping_leaves_a_process_alone_that_is_not_the_one_on_record(tmp_path):
    bystander = subprocess.Popen(["sleep", "60"])
    gone = [2**22 - 1, "0"]
    notes = {"mark": "-home /nowhere ", "remove": None, "owner": gone, "guardian": gone}
    try:
        for name, child in [("mark", identity(bystander.pid)), ("time", [bystander.pid, "1"])]:
            mark = {"mark": "sleep"} if name == "time" else {}
            record = guarded.registry() / f"test-{os.getpid()}-{name}.json"
            record.write_text(json.dumps({**notes, **mark, "child": child}))
        guarded.reap()
        assert not list(guarded.registry().glob(f"test-{os.getpid()}-*"))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_failed_start_tells_the_node_s_own_reason_and_leaves_nothing():
    before = len(records_of(os.getpid()))
    broker = PrivateBroker(root=ROOT, config={"no_such_setting": "1"})
    with pytest.raises(SandboxError) as failure:
        broker.start()
    assert "unknown variable: no_such_setting" in str(failure.value)
    assert str(failure.value).splitlines()[-1].endswith("{error,failed_to_prepare_configuration}")
    assert repr(broker) == "<PrivateBroker not started>"
    assert len(records_of(os.getpid())) == before


def test_without_rabbitmq_it_says_how_to_install_it(tmp_path):
    with pytest.raises(SandboxError, match="rabbitmq-server is not installed") as failure:
        PrivateBroker(root=tmp_path).start()
    assert "install it" in failure.value.hint


@pytest.mark.faults
def test_three_nodes_form_a_cluster_and_a_killed_member_comes_back():
    with (
        PrivateBroker(root=ROOT) as first,
        PrivateBroker(root=ROOT, peer=first) as second,
        PrivateBroker(root=ROOT, peer=first) as third,
    ):
        channel = channel_of(first)
        channel.queue_declare("orders", durable=True, arguments={"x-queue-type": "quorum"})
        channel.confirm_delivery()
        channel.basic_publish("", "orders", b"kept")
        first.kill()
        assert wait_until(lambda: members_running(second) == 2, 30)
        assert wait_until(lambda: waiting_in(second, "orders") == 1, 30)
        first.start()
        third.restart()
        assert waiting_in(third, "orders") == 1
        assert wait_until(lambda: members_running(third) == 3, 30)


def members_running(node):
    found = requests.get(f"{node.api_url}/api/nodes", timeout=10).json()
    return sum(member["running"] for member in found)


def waiting_in(node, queue):
    try:
        channel = channel_of(node)
        count = channel.queue_declare(queue, passive=True).method.message_count
    except pika.exceptions.AMQPError:
        return None
    channel.connection.close()
    return count


def test_a_guardian_that_does_not_answer_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(guarded.guardian, "__file__", str(silent))
    monkeypatch.setattr(guarded, "_ANSWER_S", 0.2)
    with pytest.raises(SandboxError, match="true could not be started in time"):
        guarded.Guarded(["true"], env={}, folder=tmp_path, log=tmp_path / "log", mark="true")
