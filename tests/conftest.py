"""One broker a run, a virtual host a test, and nothing of the developer's own settings."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dead_letters import Yard
from hypothesis import HealthCheck, settings
from trying import Busctl
from victims import Victim

from busctl_lib.pytest_plugin import TestBroker, own_vhost
from busctl_lib.sandbox import PrivateBroker

# How fast a machine is says nothing about what is tested.
settings.register_profile("busctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busctl")

# As the program itself does: to search all that is loaded for garbage again and again takes a tenth of the time.
gc.set_threshold(50_000)


ROOT = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")
_COMPUTING = (
    *("test_tui_console.py", "test_tui_snapshots.py", "test_tui_lists.py", "test_tui_work.py", "test_tui_watching.py"),
    *("test_tui_tail.py", "test_demo.py", "test_cli_tail.py", "test_tui_work_snapshots.py", "test_benchmarks.py"),
)
_WAITING = (
    *("test_transfer_faults.py", "test_faults.py", "test_sandbox.py", "test_resume.py", "test_transfers.py"),
    *("test_large_bus.py", "test_delays.py", "test_taps.py", "test_tui_terminal.py", "test_management.py"),
    *("test_poller.py", "test_queue_detail.py", "test_links.py", "test_consuming.py", "test_rpc_faults.py"),
    *("test_cli_rpc_calls.py", "test_tls.py", "test_poller_parts.py", "test_management_way.py", "test_names.py"),
)
_FIRST = [name for pair in itertools.zip_longest(_COMPUTING, _WAITING) for name in pair if name]
"""The files that take longest, those that compute and those that wait in turn."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker-only",
        action="store_true",
        help="only what depends on the release of RabbitMQ: neither pictures nor what asks no broker",
    )


def pytest_configure() -> None:
    # A run in the background of a script inherits an ignored SIGINT, one under nohup an ignored SIGHUP, and so would
    # every program that a test ends by a signal.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_unconfigure() -> None:
    gc.freeze()  # what is left goes with the process: not searched five times more


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one of them at the end."""
    if config.getoption("--broker-only"):
        asking = [item for item in items if asks_a_broker(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in asking])
        items[:] = asking
    places = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def asks_a_broker(item: pytest.Item) -> bool:
    """Whether a test uses the broker of this run, or is of a file that starts nodes of its own."""
    assert isinstance(item, pytest.Function)
    return "busctl_broker" in item.fixturenames or hasattr(item.module, "PrivateBroker")


@pytest.fixture(scope="session")
def node(busctl_broker: Any) -> Any:
    """The RabbitMQ of this run: the one BUSCTL_TEST_AMQP_URL names, or a private one."""
    return busctl_broker


@pytest.fixture(scope="module")
def victim(node: Any) -> Iterator[Victim]:
    """A node that may be killed: the one of this process, which runs one test at a time, unless it is somebody's."""
    with contextlib.ExitStack() as stack:
        killed = node if isinstance(node, PrivateBroker) else stack.enter_context(PrivateBroker(root=ROOT))
        vhost = stack.enter_context(own_vhost(killed))
        stack.callback(killed.start)  # should the test that killed it have failed
        yield Victim(killed, vhost)


@pytest.fixture
def vhost(busctl_vhost: TestBroker) -> TestBroker:
    return busctl_vhost


@pytest.fixture
def yard(vhost: TestBroker, tmp_path: Path) -> Iterator[Yard]:
    """Dead letters in a virtual host of their own."""
    yard = Yard(vhost, tmp_path)
    yield yard
    yard.close()


@pytest.fixture
def quorum_yard(vhost: TestBroker, tmp_path: Path) -> Iterator[Yard]:
    """The same with quorum queues."""
    yard = Yard(vhost, tmp_path, "quorum")
    yield yard
    yard.close()


@pytest.fixture
def busctl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Busctl:
    return Busctl(monkeypatch, capfd)


@pytest.fixture(autouse=True)
def _own_settings_stay_out(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No context, credential or journal of the person who runs the tests is read or written."""
    for name in [name for name in os.environ if name.startswith("BUSCTL_") and not name.startswith("BUSCTL_TEST_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name, folder in [("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state"), ("XDG_DATA_HOME", "data")]:
        monkeypatch.setenv(name, str(home / folder))
    return home
