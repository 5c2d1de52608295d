"""What an import may cost: help loads nothing heavy, and no module does any work when it is imported."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys

import pytest

import busctl
import busctl_lib

RUN = """
import json, sys
sys.argv = ["busctl", *sys.argv[1:]]
from busctl.cli.main import main
try:
    main()
except SystemExit as end:
    print(json.dumps({"status": end.code, "loaded": sorted(sys.modules)}), file=sys.stderr)
"""

# Everything is imported twice: what the packages of others do at import happens the first time. The events are those by
# which code touches the world:
# https://docs.python.org/3/library/audit_events.html.
IMPORT = """
import importlib, json, os, sys, threading
TOUCHING = {"socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.fork", "os.posix_spawn", "os.mkdir",
            "os.remove", "os.rename", "os.putenv", "sqlite3.connect", "signal.pthread_kill"}
names, noted, now = sys.argv[1:], [], None
def note(event, values):
    writes = event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR)
    if now and (writes or event in TOUCHING):
        noted.append([now, event, repr(values[:2])])
for name in names:
    importlib.import_module(name)
for name in names:
    sys.modules.pop(name)
sys.addaudithook(note)
for now in names:
    importlib.import_module(now)
now = None
print(json.dumps({"noted": noted, "threads": threading.active_count()}))
"""


def modules():
    """Every module of the two packages by name."""
    for package in (busctl, busctl_lib):
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            yield module.name


def python(code, *arguments):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=60
    )


def loaded_by_help(*command):
    done = python(RUN, *command, "--help")
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["status"] in (0, None)
    assert "Usage:" in done.stdout
    return {name.partition(".")[0] for name in told["loaded"]}


@pytest.mark.parametrize("command", [[], ["tail"]], ids=["busctl", "busctl tail"])
def test_help_loads_neither_the_console_nor_amqp(command):
    assert not loaded_by_help(*command) & {"textual", "textual_plot", "numpy", "pika", "http", "jq", "pydantic"}


def test_a_command_takes_what_is_typed_without_pydantic():
    done = python(RUN, "contexts", "-o", "json", "--vhost", "v")
    assert "pydantic" not in json.loads(done.stderr.splitlines()[-1])["loaded"]


def test_importing_the_library_loads_no_client():
    done = python("import sys, busctl_lib; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pika", "http", "msgspec", "typer", "rich", "textual"}


def test_the_pytest_plugin_is_light():
    # It is loaded by every pytest run on a machine where the library is installed.
    done = python(
        "import sys, pytest; before = set(sys.modules); import busctl_lib.pytest_plugin as plugin\n"
        "print(*set(sys.modules) - before)"
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pika", "msgspec", "http"}
    assert "busctl_lib.pytest_plugin" in done.stdout


def test_importing_a_module_does_no_work():
    done = python(IMPORT, *modules())
    assert (done.returncode, done.stderr) == (0, "")
    *printed, told = done.stdout.splitlines()
    assert printed == []
    assert json.loads(told) == {"noted": [], "threads": 1}
