"""A process that never outlives its owner, and the reaping of those that nevertheless did.

Between owner and process stands a guardian (see `guardian.py`). Owner and guardian killed together leave a record
behind: the next start of any private node on this machine finds it and ends what it names.
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
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from busctl_lib.errors import SandboxError
from busctl_lib.sandbox import guardian

_ANSWER_S = 60.0
"""How long the guardian may take to start a command."""
_GRACE_S = 20.0
"""How long a command may take to end by itself."""


class Guarded:
    """One running command that ends when the process that made this object does.

    Args:
        command: what to run; must stay one process (exec, not fork) for its id to mean something.
        env: its whole environment.
        folder: its working directory.
        log: a file that its output is added to.
        mark: a part of its command line by which it is recognised before anything is ended by its id.
        remove: a folder to delete when the owner is gone; it also means that there is no need to end gracefully.
        keep_open: file descriptors the guardian holds while the command runs.

    Raises:
        SandboxError: the command cannot be run.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        log: Path,
        mark: str,
        remove: Path | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._record = registry() / f"{uuid.uuid4().hex}.json"
        spec = {
            "command": list(command),
            "env": dict(env),
            "folder": str(folder),
            "log": str(log),
            "mark": mark,
            "remove": str(remove) if remove else None,
            "grace_s": _GRACE_S,
            "owner": guardian.identity(os.getpid()),
            "record": str(self._record),
        }
        self._guardian = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A session of its own: the Ctrl-C and the hang-up of a terminal are for the owner to answer.
            start_new_session=True,
            pass_fds=keep_open,
        )
        assert self._guardian.stdin is not None
        assert self._guardian.stdout is not None
        self._guardian.stdin.write(json.dumps(spec).encode() + b"\n")
        self._guardian.stdin.flush()
        answer = "could not be started in time"
        if select.select([self._guardian.stdout], [], [], _ANSWER_S)[0]:
            answer = self._guardian.stdout.readline().decode().strip()
        else:
            self._guardian.kill()
        if not answer.isdecimal():
            self._close()
            raise SandboxError(f"{command[0]} {answer or 'could not be started'}")
        self.pid = int(answer)

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._guardian.poll() is None

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait until it is gone."""
        self._order(guardian.KILL)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), insist after the grace period, wait until it is gone."""
        self._order(guardian.TERMINATE)

    def _order(self, order: bytes) -> None:
        assert self._guardian.stdin is not None
        if self._guardian.stdin.closed:  # ended before
            return
        with contextlib.suppress(BrokenPipeError):
            self._guardian.stdin.write(order)
            self._guardian.stdin.flush()
        self._guardian.wait(_GRACE_S + 10)
        self._close()
        if self._record.exists():  # the guardian was killed before it could do its work
            _end(self._record)

    def _close(self) -> None:
        for stream in (self._guardian.stdin, self._guardian.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._guardian.wait(_GRACE_S + 10)


def registry() -> Path:
    """Return the folder of this user's records, made when it is not there.

    Raises:
        SandboxError: the folder belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"busctl-nodes-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # What stands in a record gets killed: records by another hand are not to be trusted.
    if status.st_uid != os.getuid() or status.st_mode & 0o022 or folder.is_symlink():
        raise SandboxError(
            f"{folder} is not this user's alone", hint="remove that folder, or set TMPDIR to a folder of your own"
        )
    return folder


def reap() -> int:
    """End every recorded process whose owner and guardian are both gone; return how many records were dealt with."""
    reaped = 0
    for record in registry().glob("*.json"):
        try:
            noted = json.loads(record.read_text())
        except (OSError, ValueError):  # ended by its own guardian meanwhile
            continue
        if not _is_running(noted["owner"]) and not _is_running(noted["guardian"]):
            _end(record)
            reaped += 1
    return reaped


def _is_running(noted: list[Any] | None) -> bool:
    return noted is not None and guardian.identity(noted[0]) == noted


def _end(record: Path) -> None:
    try:
        noted = json.loads(record.read_text())
    except FileNotFoundError:
        return
    child = noted["child"]
    deadline = time.monotonic() + 10
    while _is_running(child) and noted["mark"] in guardian.command_line(child[0]) and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child[0], signal.SIGKILL)
        time.sleep(0.02)
    if noted["remove"]:
        shutil.rmtree(noted["remove"], ignore_errors=True)
    record.unlink(missing_ok=True)
