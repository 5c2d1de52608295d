"""What the node's folder holds: its identity, its configuration, its log."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from busctl_lib.errors import SandboxError
from busctl_lib.sandbox.installation import Installation
from busctl_lib.sandbox.ports import LOOPBACK, Ports

_LOOPBACK_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True)
class Identity:
    """What a node keeps for as long as its data."""

    node_name: str
    password: str
    cookie: str

    @classmethod
    def new(cls, peer: Identity | None = None) -> Self:
        """Make up an identity: a peer's cookie and password under another name, or all of its own."""
        name = f"busctl-{secrets.token_hex(4)}@localhost"
        if peer is not None:
            return cls(name, peer.password, peer.cookie)
        return cls(name, secrets.token_hex(16), secrets.token_hex(16))


class NodeFolder:
    """The folder of one node: a given one, which stays, or a temporary one.

    Raises:
        SandboxError: another node lives in the given folder at this moment, or the node's root directory is elsewhere.
    """

    def __init__(self, place: Installation, directory: Path | None, peer: Identity | None) -> None:
        self.place = place
        self.temporary = directory is None
        if directory is None:
            temporary = None if place.root == Path("/") else place.root / "var/tmp"
            self.path = Path(tempfile.mkdtemp(prefix="busctl-node-", dir=temporary)).resolve()
        else:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path = directory.resolve()
        if not self.path.is_relative_to(place.root):
            raise SandboxError(f"{self.path} is not inside {place.root}, and so out of the node's sight")
        self.lock = self._take_lock()
        self.log = self.path / "node.log"
        self.identity = self._identity(peer)

    def _take_lock(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise SandboxError(
                f"another node lives in {self.path}", hint="stop it, or give a folder of its own"
            ) from None
        return lock

    def _identity(self, peer: Identity | None) -> Identity:
        kept = self.path / "identity.json"
        if kept.exists():
            return Identity(**json.loads(kept.read_text()))
        identity = Identity.new(peer)
        _write_secret(kept, json.dumps(asdict(identity)))
        return identity

    @property
    def inside(self) -> Path:
        """The folder as the node sees it, from inside its root directory."""
        return Path("/") / self.path.relative_to(self.place.root)

    @property
    def mark(self) -> str:
        """What the node's command line contains and no other does."""
        return f"-home {self.inside} "

    def configure(self, lines: Mapping[str, str | int], plugins: Sequence[str]) -> None:
        """Write everything the node reads at its start."""
        for name in ("data", "log", "conf.d"):
            (self.path / name).mkdir(exist_ok=True)
        _write_secret(self.path / ".erlang.cookie", self.identity.cookie, mode=0o400)
        _write_secret(self.path / "rabbitmq.conf", "".join(f"{key} = {value}\n" for key, value in lines.items()))
        (self.path / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")

    def environment(self, ports: Ports, epmd_port: int) -> dict[str, str]:
        """Return the whole environment of the node and of its rabbitmqctl: nothing of the caller's reaches them."""
        inside = self.inside
        return {
            "PATH": self.place.path,
            "LANG": "C.UTF-8",
            "HOME": str(inside),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": self.identity.node_name,
            "RABBITMQ_DIST_PORT": str(ports.dist),
            "RABBITMQ_MNESIA_BASE": str(inside / "data"),
            "RABBITMQ_LOG_BASE": str(inside / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(inside / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(inside / "rabbitmq.conf"),
            # Named so that the system's own files of these kinds are not read.
            "RABBITMQ_CONFIG_FILES": str(inside / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(inside / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _LOOPBACK_ONLY,
            "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK_ONLY,
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            # Makes the script become the node (exec) instead of waiting for it as a child.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def log_since(self, offset: int) -> str:
        """Return what the node wrote after this offset of its log."""
        with self.log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def close(self, *, remove: bool) -> None:
        """Let go of the folder, and remove it."""
        os.close(self.lock)
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)


def _write_secret(path: Path, text: str, mode: int = 0o600) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
