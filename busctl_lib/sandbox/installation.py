"""Where rabbitmq-server is on this machine, and how its scripts are called."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from busctl_lib.errors import SandboxError

_SCRIPT_FOLDERS = (
    "usr/lib/rabbitmq/bin",
    "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "opt/rabbitmq/sbin",
    "opt/rabbitmq_server-*/sbin",
    "opt/homebrew/opt/rabbitmq/sbin",
    "usr/local/opt/rabbitmq/sbin",
    "home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin",
)
_PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "opt/homebrew/bin")
_EPMD_PLACES = (
    "usr/lib/erlang/erts-*/bin/epmd",
    "usr/local/lib/erlang/erts-*/bin/epmd",
    "opt/erlang/lib/erlang/erts-*/bin/epmd",
    "opt/homebrew/lib/erlang/erts-*/bin/epmd",
    "home/linuxbrew/.linuxbrew/lib/erlang/erts-*/bin/epmd",
)


@dataclass(frozen=True)
class Installation:
    """The RabbitMQ found in a root directory. Paths are as seen from inside that root."""

    root: Path
    scripts: Path
    """The folder of the real scripts: the ones in sbin of a package change user and folder."""
    epmd: Path

    def command(self, program: Path | str, *arguments: str) -> list[str]:
        """Return the command line that runs a program of this installation: a path, or the name of a script."""
        call = [str(program if isinstance(program, Path) else self.scripts / program), *arguments]
        return call if self.root == Path("/") else ["chroot", str(self.root), *call]

    @property
    def path(self) -> str:
        """The PATH its scripts need: they look for erl there."""
        own = [f"/{folder}" for folder in _PROGRAM_FOLDERS]
        given = os.environ.get("PATH", "").split(os.pathsep) if self.root == Path("/") else []
        return os.pathsep.join(dict.fromkeys([folder for folder in given if folder] + own))


def find(root: Path | str | None = None) -> Installation:
    """Find RabbitMQ on this machine, or in a root directory prepared for chroot.

    Raises:
        SandboxError: it is not installed, or the root directory cannot be entered.
    """
    top = Path(root).resolve() if root else Path("/")
    scripts, epmd = _scripts(top), _epmd(top)
    if scripts is None:
        raise SandboxError(f"rabbitmq-server is not installed{_inside(top)}", hint=_how_to_install())
    if epmd is None:
        raise SandboxError(f"Erlang's epmd was not found{_inside(top)}", hint=_how_to_install())
    if top != Path("/") and os.geteuid() != 0:
        raise SandboxError(f"only root can start a node in {top} (it needs chroot)")
    return Installation(top, Path("/") / scripts.relative_to(top), Path("/") / epmd.relative_to(top))


def _scripts(top: Path) -> Path | None:
    found = [folder for pattern in _SCRIPT_FOLDERS for folder in _newest_first(top, pattern)]
    on_path = shutil.which("rabbitmq-server") if top == Path("/") else None
    if on_path:
        found.append(Path(on_path).resolve().parent)
    # rabbitmq-env lies beside the real script and not beside a wrapper.
    usable = (
        folder for folder in found if all((folder / name).exists() for name in ("rabbitmq-server", "rabbitmq-env"))
    )
    return next(usable, None)


def _epmd(top: Path) -> Path | None:
    on_path = shutil.which("epmd") if top == Path("/") else None
    found = [Path(on_path)] if on_path else []
    found += [path for pattern in _EPMD_PLACES for path in _newest_first(top, pattern)]
    erl = shutil.which("erl") if top == Path("/") else None
    if erl:
        found += Path(erl).resolve().parent.parent.glob("erts-*/bin/epmd")
    return next(iter(found), None)


def _newest_first(top: Path, pattern: str) -> list[Path]:
    return sorted(
        top.glob(pattern), key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))], reverse=True
    )


def _inside(top: Path) -> str:
    return "" if top == Path("/") else f" in {top}"


def _how_to_install() -> str:
    if sys.platform == "darwin":
        return "install it: brew install rabbitmq"
    if shutil.which("apt-get"):
        return "install it: apt-get install rabbitmq-server (`make demo` does it with its system service held back)"
    return "install it: https://www.rabbitmq.com/docs/download"
