"""PrivateBroker: a RabbitMQ node of one's own from the installed rabbitmq-server."""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from busctl_lib.errors import SandboxError
from busctl_lib.sandbox import guarded, installation
from busctl_lib.sandbox.epmd import Epmd
from busctl_lib.sandbox.guarded import Guarded
from busctl_lib.sandbox.node_folder import NodeFolder
from busctl_lib.sandbox.ports import LOOPBACK, Ports

PLUGINS = (
    "rabbitmq_management",
    "rabbitmq_prometheus",
    "rabbitmq_event_exchange",
    "rabbitmq_shovel",
    "rabbitmq_shovel_management",
    "rabbitmq_stream",
)

_USER = "busctl"
_TRIES = 5
_LOG_LINES = 15
_LOG_WIDTH = 300
_NO_LOCALHOST = "this machine does not know localhost: put the line `127.0.0.1 localhost` into /etc/hosts"
_PORT_TAKEN = re.compile(r"eaddrinuse|already.in.use|port_in_use|dist_port_already_used", re.IGNORECASE)


class _PortTaken(SandboxError):
    """Another process was faster at a port that was free a moment ago."""


class PrivateBroker:
    """A RabbitMQ node of one's own, ready in about 7 s and gone with its owner.

    It takes the installed rabbitmq-server and nothing else of the system: data, log, plugins, configuration and cookie
    are in a folder of its own, everything listens on free ports of the loopback interface only. The one user is
    `busctl`, an administrator with a random password; there is no guest. However the owner ends, kill -9 included, the
    node, its epmd and a temporary folder do not stay behind.

    Args:
        directory: where the node lives. Kept, and taken up again by the next node there. None: a temporary folder.
        root: a root directory in which another RabbitMQ is installed; it is run by chroot (as root only).
        peer: a node whose cluster this one joins at its first start; it must be running then.
        plugins: plugins to enable besides `PLUGINS`.
        config: lines for rabbitmq.conf, added to ours or in place of them.

    Example:
        ::

            with PrivateBroker() as node, MessageBroker(url=node.amqp_url) as broker:
                ...
    """

    host = LOOPBACK
    username = _USER

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        root: Path | str | None = None,
        peer: PrivateBroker | None = None,
        plugins: Iterable[str] = (),
        config: Mapping[str, str | int] | None = None,
    ) -> None:
        self._directory = Path(directory).absolute() if directory else None
        self._root = root
        self._peer = peer
        self._plugins = list(dict.fromkeys([*PLUGINS, *plugins]))
        self._config = dict(config or {})
        self._folder: NodeFolder | None = None
        self._ports: Ports | None = None
        self._epmd = Epmd()
        self._process: Guarded | None = None

    def __repr__(self) -> str:
        where = f"{self.node_name} {self.host}:{self.port}" if self._folder and self._ports else "not started"
        return f"<PrivateBroker {where}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What it is

    @property
    def running(self) -> bool:
        """Whether the node's process runs."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id of the node (the Erlang machine, `beam.smp`)."""
        if self._process is None:
            raise _not_started()
        return self._process.pid

    @property
    def node_name(self) -> str:
        """The Erlang name of the node, as rabbitmqctl and the API show it."""
        return self._home.identity.node_name

    @property
    def password(self) -> str:
        """The password of `username`."""
        return self._home.identity.password

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self._listens.amqp

    @property
    def api_port(self) -> int:
        """The port of the management API."""
        return self._listens.api

    @property
    def stream_port(self) -> int:
        """The port of the stream protocol."""
        return self._listens.stream

    @property
    def amqp_url(self) -> str:
        """The AMQP address with user and password, at the default virtual host."""
        return f"amqp://{self.username}:{self.password}@{self.host}:{self.port}/%2F"

    @property
    def api_url(self) -> str:
        """The address of the management API with user and password."""
        return f"http://{self.username}:{self.password}@{self.host}:{self.api_port}"

    @property
    def prometheus_url(self) -> str:
        """The address under which `/metrics` and `/metrics/detailed` are."""
        return f"http://{self.host}:{self._listens.prometheus}"

    @property
    def log_path(self) -> Path:
        """The file that the node logs to."""
        return self._home.log

    @property
    def _home(self) -> NodeFolder:
        if self._folder is None:
            raise _not_started()
        return self._folder

    @property
    def _listens(self) -> Ports:
        if self._ports is None:
            raise _not_started()
        return self._ports

    # What it does

    def start(self, timeout: float = 60.0) -> Self:
        """Start the node and return when AMQP and the management API answer.

        After `kill` it goes on with the same data on the same ports. Nodes left behind by killed owners are ended
        first.

        Raises:
            SandboxError: not installed, or it did not start in time; the text ends with the last lines of its log.
        """
        if self.running:
            return self
        guarded.reap()
        first = self._folder is None
        try:
            self._prepare()
            self._launch_on_free_ports(time.monotonic() + timeout)
        except BaseException:
            if first:
                self.stop()
            elif self._process is not None:
                self._process.kill()
            raise
        return self

    def stop(self, *, keep: bool = False) -> None:
        """End the node and remove its temporary folder; without effect on a node that is not there.

        Args:
            keep: shut down in order and keep the folder and the ports, so that `start` goes on with the same data.
        """
        if self._folder is None:
            return
        if self._process is not None:
            if keep or not self._folder.temporary:
                self._process.terminate()
            else:
                self._process.kill()
            self._process = None
        if keep:
            return
        self._epmd.leave(self)
        self._folder.close(remove=self._folder.temporary)
        self._folder = self._ports = None

    def kill(self) -> None:
        """End the node as a power cut would (SIGKILL). Its data and ports are kept for `start`."""
        if self._process is not None:
            self._process.kill()

    def restart(self, timeout: float = 60.0) -> Self:
        """Shut the node down in order and start it again on the same data and ports."""
        self.stop(keep=True)
        return self.start(timeout)

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run `rabbitmqctl` on this node and return what it printed.

        Raises:
            SandboxError: it failed, and the text is its own; or it did not end within `timeout` seconds.
        """
        home, ports = self._home, self._listens
        try:
            done = subprocess.run(  # noqa: S603
                home.place.command("rabbitmqctl", "--quiet", *arguments),
                env=home.environment(ports, self._epmd.port),
                cwd=home.path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SandboxError(f"rabbitmqctl {' '.join(arguments)} did not end within {timeout:g} s") from None
        if done.returncode != 0:
            said = "\n".join(line for line in (done.stderr + done.stdout).splitlines() if line.strip())
            raise SandboxError(f"rabbitmqctl {' '.join(arguments)} failed: {said}")
        return done.stdout

    # How it starts

    def _prepare(self) -> None:
        if self._folder is not None:
            return
        peer = self._peer
        self._folder = NodeFolder(installation.find(self._root), self._directory, peer._home.identity if peer else None)
        # Members of a cluster ask one name server for each other.
        self._epmd = peer._epmd if peer else Epmd()

    def _launch_on_free_ports(self, deadline: float) -> None:
        if self._ports is not None:
            self._launch(deadline)
            return
        for tries_left in reversed(range(_TRIES)):
            self._ports = Ports.free()
            try:
                self._launch(deadline)
            except _PortTaken:
                if not tries_left:
                    raise
            else:
                return

    def _launch(self, deadline: float) -> None:
        home, ports = self._home, self._listens
        remove = home.path if home.temporary else None
        self._epmd.enter(self, home.place, home.path / "epmd.log", remove)
        home.configure(self._config_lines(), self._plugins)
        log_start = home.log.stat().st_size if home.log.exists() else 0
        self._process = Guarded(
            home.place.command("rabbitmq-server"),
            env=home.environment(ports, self._epmd.port),
            folder=home.path,
            log=home.log,
            mark=home.mark,
            remove=remove,
            keep_open=[home.lock],
        )
        while not self._answers():
            written = home.log_since(log_start)
            ended = not self._process.running
            # The node says so long before it has ended itself over it.
            taken = next((line for line in written.splitlines() if _PORT_TAKEN.search(line)), None)
            if not taken and not ended and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            self._process.kill()
            if taken:
                raise _PortTaken(f"the private RabbitMQ found a port taken: {taken[:_LOG_WIDTH]}")
            what = "ended while starting" if ended else "was not ready in time"
            hint = _NO_LOCALHOST if "nxdomain" in written else None
            raise SandboxError(f"the private RabbitMQ {what}\nits log ends so:\n{_last_lines(written)}", hint=hint)

    def _config_lines(self) -> dict[str, str | int]:
        ports = self._listens
        lines: dict[str, str | int] = {
            "listeners.tcp.1": f"{LOOPBACK}:{ports.amqp}",
            "management.tcp.ip": LOOPBACK,
            "management.tcp.port": ports.api,
            "prometheus.tcp.ip": LOOPBACK,
            "prometheus.tcp.port": ports.prometheus,
            "stream.listeners.tcp.1": f"{LOOPBACK}:{ports.stream}",
            "default_user": self.username,
            "default_pass": self.password,
        }
        if self._peer is not None and self._peer._folder is not None:
            lines |= {
                "cluster_formation.peer_discovery_backend": "classic_config",
                "cluster_formation.classic_config.nodes.1": self._peer.node_name,
                "cluster_formation.classic_config.nodes.2": self.node_name,
            }
        return lines | self._config

    def _answers(self) -> bool:
        """Whether the API is up, is this node's own, and says that AMQP is up as well."""
        login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        connection = http.client.HTTPConnection(self.host, self.api_port, timeout=5)
        try:
            connection.request("GET", "/api/overview", headers={"Authorization": f"Basic {login}"})
            answer = connection.getresponse()
            overview: dict[str, Any] = json.loads(answer.read()) if answer.status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        ours = [one["port"] for one in overview.get("listeners", []) if one.get("node") == self.node_name]
        return self.port in ours and self.stream_port in ours


def _not_started() -> SandboxError:
    return SandboxError("the private node has not been started", hint="call start(), or use it in a with statement")


def _last_lines(log: str) -> str:
    lines = [line.rstrip()[:_LOG_WIDTH] for line in log.splitlines() if line.strip(" =")]
    # After the node's own account of why it failed comes Erlang's: a hundred lines that hide the first.
    told = next((number for number, line in enumerate(lines, 1) if "Error during startup" in line), len(lines))
    return "\n".join(lines[:told][-_LOG_LINES:])
