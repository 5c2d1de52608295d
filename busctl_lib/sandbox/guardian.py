"""Run one command and end it when its owner is gone, however the owner went.

A program of its own (`python -I -S guardian.py`), so that it lives on when the owner gets kill -9. The owner holds the
other end of its standard input: first one JSON line says what to run, then a byte is an order, and the end of the
stream means that nobody is left to give one. Standard library only, and nothing of this package.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

KILL = b"k"
"""The order to end the command at once (SIGKILL)."""
TERMINATE = b"t"
"""The order to let the command end by itself (SIGTERM), with SIGKILL after `grace_s`."""

_OWNER_CHECK_S = 1.0


def identity(pid: int) -> list[Any] | None:
    """Name a running process so that a later one with the same id is not taken for it; None when it does not run."""
    if Path("/proc/self/stat").exists():
        try:
            # The command in parentheses may hold spaces and parentheses itself: what counts comes after the last.
            state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else [pid, fields[18]]
    started = _ps(pid, "lstart")
    return [pid, started] if started else None


def command_line(pid: int) -> str:
    """Return what a process was called with; "" when it does not run."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _ps(pid, "command")


def _ps(pid: int, column: str) -> str:
    asked = ["/bin/ps", "-ww", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603


class _Guardian:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.owner_is_gone = False
        with open(spec["log"], "ab") as log:
            self.child = subprocess.Popen(  # noqa: S603
                spec["command"], env=spec["env"], cwd=spec["folder"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def note(self) -> None:
        """Leave a record from which the command can be found and ended should this guardian be killed as well."""
        record = {
            "owner": self.spec["owner"],
            "guardian": identity(os.getpid()),
            "child": identity(self.child.pid),
            "mark": self.spec["mark"],
            "remove": self.spec["remove"],
        }
        path = Path(self.spec["record"])
        path.with_suffix(".new").write_text(json.dumps(record))
        path.with_suffix(".new").replace(path)

    def obey(self) -> None:
        """Wait for an order or the owner's end; both end the command."""
        owner_pid = self.spec["owner"][0]
        while True:
            ready, _, _ = select.select([0], [], [], _OWNER_CHECK_S)
            if ready:
                order = os.read(0, 1)
                break
            # A child forked by the owner may hold the stream open after the owner's end.
            if os.getppid() != owner_pid:
                order = b""
                break
        self.owner_is_gone = not order
        if order == KILL or (not order and self.spec["remove"]):
            self.child.kill()
            return
        self.child.terminate()
        try:
            self.child.wait(self.spec["grace_s"])
        except subprocess.TimeoutExpired:
            self.child.kill()

    def abandon(self, *_: object) -> None:
        """Take a signal to this guardian as the owner's end."""
        self.owner_is_gone = True
        self.child.kill()

    def run(self) -> int:
        """Stay until the command has ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.abandon)
        try:
            self.note()
            with contextlib.suppress(BrokenPipeError):  # nobody there to be told; `obey` finds out by itself
                print(self.child.pid, flush=True)  # noqa: T201
            threading.Thread(target=self.obey, daemon=True).start()
            return self.child.wait()
        finally:
            self.child.kill()
            if self.owner_is_gone and self.spec["remove"]:
                shutil.rmtree(self.spec["remove"], ignore_errors=True)
            Path(self.spec["record"]).unlink(missing_ok=True)


def main() -> int:
    """Run what the first line of standard input says."""
    try:
        guardian = _Guardian(json.loads(sys.stdin.buffer.readline()))
    except (OSError, ValueError) as error:
        print(f"cannot run: {error}", flush=True)  # noqa: T201
        return 127
    return 0 if guardian.run() == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
