"""Erlang's name server, one per node or cluster."""

from __future__ import annotations

import time
from pathlib import Path

from busctl_lib.errors import SandboxError
from busctl_lib.sandbox.guarded import Guarded
from busctl_lib.sandbox.installation import Installation
from busctl_lib.sandbox.ports import LOOPBACK, accepts, free_ports

_TRIES = 5
_DEADLINE_S = 10.0


class Epmd:
    """The name server by which the members of one cluster find each other; it ends with the last of them.

    It runs in the foreground, guarded like the node: a node that finds none starts one as a daemon, and that would
    outlive everything.
    """

    def __init__(self) -> None:
        self.port = 0
        self._members: set[object] = set()
        self._process: Guarded | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.running

    def enter(self, member: object, place: Installation, log: Path, remove: Path | None) -> None:
        """Start it unless it runs, and let it run for this member.

        Args:
            remove: a folder to delete when the owner is gone. The name server outlives a node that was killed, and so
                sees to that node's folder.

        Raises:
            SandboxError: it does not start.
        """
        if not self.running:
            self._start(place, log, remove)
        self._members.add(member)

    def leave(self, member: object) -> None:
        """End it if this was the last member."""
        self._members.discard(member)
        if not self._members and self._process is not None:
            self._process.kill()
            self._process = None

    def _start(self, place: Installation, log: Path, remove: Path | None) -> None:
        for port in [self.port] if self.port else free_ports(_TRIES):
            arguments = ("-port", str(port), "-address", LOOPBACK)
            process = Guarded(
                place.command(place.epmd, *arguments),
                env={"PATH": place.path},
                folder=Path("/"),
                log=log,
                mark=f"epmd {' '.join(arguments)}",
                remove=remove,
            )
            deadline = time.monotonic() + _DEADLINE_S
            while process.running and not accepts(port) and time.monotonic() < deadline:
                time.sleep(0.01)
            if process.running and accepts(port):
                self.port, self._process = port, process
                return
            process.kill()
        raise SandboxError(f"Erlang's epmd did not start: {log.read_text(errors='replace').strip()}")
