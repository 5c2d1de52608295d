"""Is this installation in order? Each check looks at one thing of this machine; no broker is asked."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from busctl import busfile, keyfile, passwords
from busctl.config import Flags, address, resolve, without_password
from busctl.contexts import ConfigFile, ContextConfig, config_path, load
from busctl.views.findings import Finding, State
from busctl_lib.errors import BusError, ConfigError
from busctl_lib.journal import journal_path
from busctl_lib.sandbox.installation import find

PROGRAMS = ("busctl", "mbusctl")
LEAST_COLUMNS, LEAST_LINES = 80, 24
"""What the console needs."""
_REQUIREMENT = re.compile(r"([\w.-]+)\s*([^;]*)")
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")
_COMPLETIONS = {
    "bash": (".bashrc", ".bash_profile", ".local/share/bash-completion/completions/busctl"),
    "zsh": (".zshrc", ".zfunc/_busctl"),
    "fish": (".config/fish/config.fish", ".config/fish/completions/busctl.fish"),
}
"""Where each shell's user would have put it, below the home folder."""
_TO_COMPLETE = {
    "bash": "echo 'source <(busctl completion bash)' >> ~/.bashrc",
    "zsh": "echo 'source <(busctl completion zsh)' >> ~/.zshrc",
    "fish": "busctl completion fish > ~/.config/fish/completions/busctl.fish",
}


def findings(flags: Flags) -> Iterator[Finding]:
    """Check everything, in the order in which one would mend it."""
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        _program,
        _dependencies,
        _name_on_path,
        _terminal,
        _completion,
        lambda: _configuration(flags),
        _bus_file,
        _keyring,
        _state_folder,
        _server,
    )
    for check in checks:
        yield from check()


def _ok(check: str, found: str) -> Finding:
    return Finding(check=check, state=State.OK, found=found)


def _warn(check: str, found: str, mend: str) -> Finding:
    return Finding(check=check, state=State.WARN, found=found, mend=mend)


def _bad(check: str, found: str, mend: str | None) -> Finding:
    return Finding(check=check, state=State.BAD, found=found, mend=mend)


def _program() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield _ok("program", f"busctl {importlib.metadata.version('busctl')}, Python {python} in {sys.prefix}")


def _dependencies() -> Iterator[Finding]:
    """Look at what the package says that it needs; extras are not needed."""
    wrong: list[str] = []
    needed: list[str] = []
    right: list[str] = []
    for requirement in importlib.metadata.requires("busctl") or ():
        match = _REQUIREMENT.match(requirement)
        if match is None or "extra ==" in requirement:
            continue
        name, wanted = match.group(1), match.group(2).strip()
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if version and fits(version, wanted):
            right.append(f"{name} {version}")
        else:
            wrong.append(f"{name} is {version or 'not installed'} ({wanted} is needed)")
            needed.append(f"'{name}{wanted}'")
    if wrong:
        yield _bad("dependencies", ", ".join(wrong), _to_install(needed))
    else:
        yield _ok("dependencies", ", ".join(sorted(right, key=str.casefold)))


def _to_install(requirements: list[str]) -> str:
    """What puts these beside this program, by what installed it."""
    if _by_pipx():
        return "pipx reinstall busctl"
    if _by_uv():
        return "uv tool upgrade --reinstall busctl"
    return f"{sys.executable} -m pip install {' '.join(requirements)}"


def fits(version: str, wanted: str) -> bool:
    """Whether a version lies within bounds such as ">=1.4,<1.5"."""
    have = _numbers(version)
    bounds = [(sign, _numbers(text)) for sign, text in _BOUND.findall(wanted)]
    return all(have >= bound if sign == ">=" else have < bound for sign, bound in bounds)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _name_on_path() -> Iterator[Finding]:
    """See which program answers to each of our names: systemd has a busctl as well."""
    here = _scripts()
    places = {name: shutil.which(name) for name in PROGRAMS}
    first, second = places["busctl"], places["mbusctl"]
    if first and _is_in(here, first):
        yield _ok("name", f"busctl is this program ({first})")
        return
    found = "there is no busctl on PATH"
    if first:
        what = "another installation" if is_ours(Path(first)) else "another program, systemd's?"
        found = f"busctl is {what} ({first})"
    if second and _is_in(here, second):
        yield _warn("name", f"{found}; this one is mbusctl ({second})", "type mbusctl, or put its folder first in PATH")
    else:
        yield _warn("name", f"{found}; this one is in {here}", _to_reach(here))


def _scripts() -> Path:
    """The folder that this installation put its start scripts into."""
    for file in importlib.metadata.files("busctl") or ():
        if file.name == PROGRAMS[0] and file.parent.name == "bin":
            return Path(os.fspath(file.locate())).resolve().parent
    return Path(sysconfig.get_path("scripts")).resolve()


def _is_in(folder: Path, program: str) -> bool:
    """Whether a program on PATH is the one of a folder, or a link to it: pipx and uv link theirs."""
    return Path(program).resolve().parent == folder


def is_ours(program: Path) -> bool:
    """Whether a file on PATH is a start script of this program; systemd's is a binary."""
    try:
        return b"busctl.__main__" in program.read_bytes()[:4096]
    except OSError:
        return False


def _to_reach(folder: Path) -> str:
    """What puts the programs of this installation on PATH, by what installed it."""
    if _by_pipx():
        return "pipx ensurepath, then open another shell"
    if _by_uv():
        return "uv tool update-shell, then open another shell"
    activate = folder / "activate"
    return f"source {activate}" if activate.exists() else f"export PATH={folder}:$PATH"


def _by_pipx() -> bool:
    return (Path(sys.prefix) / "pipx_metadata.json").exists()


def _by_uv() -> bool:
    return (Path(sys.prefix) / "uv-receipt.toml").exists()


def _terminal() -> Iterator[Finding]:
    if not sys.stdout.isatty():
        yield _ok("terminal", "not looked at: standard output is none")
    else:
        yield from _screen()
    encoding = (sys.stdout.encoding or "").lower()
    if encoding.replace("-", "") == "utf8":
        yield _ok("unicode", "UTF-8")
    else:
        yield _warn(
            "unicode",
            f"{encoding or 'nothing'}: marks and charts are shown by plain characters",
            "export LC_ALL=C.UTF-8",
        )


def _screen() -> Iterator[Finding]:
    columns, lines = os.get_terminal_size(sys.stdout.fileno())
    if columns < LEAST_COLUMNS or lines < LEAST_LINES:
        needed = f"make it {LEAST_COLUMNS}x{LEAST_LINES} or larger"
        yield _warn("terminal", f"{columns}x{lines} is too small for the console", needed)
    else:
        yield _ok("terminal", f"{columns}x{lines}")
    kind = os.environ.get("TERM", "")
    if kind in ("", "dumb"):
        yield _warn("colour", f"TERM is {kind or 'not set'}", "export TERM=xterm-256color")
    elif os.environ.get("NO_COLOR"):
        yield _ok("colour", "none, as NO_COLOR asks")
    elif os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        yield _ok("colour", f"16 million ({kind})")
    elif "256color" in kind:
        yield _ok("colour", f"256 ({kind}); COLORTERM=truecolor gives all, where the terminal has them")
    else:
        yield _warn("colour", f"few ({kind})", "export TERM=xterm-256color, if the terminal is one")
    if os.environ.get("TMUX") and _of_tmux("set-clipboard") != "on":
        yield _warn("clipboard", "tmux keeps what is copied to itself", "tmux set -g set-clipboard on")
    else:
        yield _ok("clipboard", "by OSC 52: the terminal takes it, or ignores it; nothing tells which")


def _of_tmux(option: str) -> str:
    try:
        asked = ["tmux", "show-options", "-gv", option]
        return subprocess.run(asked, capture_output=True, text=True, timeout=2, check=False).stdout.strip()  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _completion() -> Iterator[Finding]:
    shell = Path(os.environ.get("SHELL", "")).name
    if shell not in _COMPLETIONS:
        yield _ok("completion", f"there is none for {shell or 'an unknown shell'}: bash, zsh and fish have it")
        return
    for name in _COMPLETIONS[shell]:
        path = Path.home() / name
        if _mentions(path, "busctl completion") or _mentions(path, "_BUSCTL_COMPLETE"):
            yield _ok("completion", f"{shell}, in {path}")
            return
    yield _warn("completion", f"{shell} does not complete names of the bus", _TO_COMPLETE[shell])


def _mentions(path: Path, text: str) -> bool:
    try:
        return text in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _configuration(flags: Flags) -> Iterator[Finding]:
    path = config_path()
    try:
        file = load(path)
    except ConfigError as error:
        yield _bad("config", str(error), error.hint or f"mend {path}")
        return
    yield _readers(path, file) if path.exists() else _ok("config", f"{path} is not there, and need not be")
    yield from _contexts(file)
    try:
        settings = resolve(flags)
    except ConfigError as error:
        yield _bad("broker", str(error), error.hint or "busctl contexts")
        return
    source = settings.sources.get("amqp_url", "default")
    yield _ok("broker", f"{without_password(settings.amqp_url)} ({source}); `busctl contexts check` tries it")


def _readers(path: Path, file: ConfigFile) -> Finding:
    secret = any(without_password(each.amqp_url or "") != (each.amqp_url or "") for each in file.contexts.values())
    if secret and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return _warn("config", f"{path} holds passwords, and others may read it", f"chmod 600 {path}")
    return _ok("config", str(path))


def _contexts(file: ConfigFile) -> Iterator[Finding]:
    wrong = [name for name, context in file.contexts.items() if not _readable(context)]
    if wrong:
        yield _bad("contexts", f"the address of {', '.join(wrong)} cannot be read", "amqp://user@host:5672/vhost")
    elif file.contexts:
        current = f"; {file.current} is current" if file.current else "; none is current: -c NAME names one"
        yield _ok("contexts", f"{', '.join(file.contexts)}{current}")
    else:
        yield _ok("contexts", "none; `busctl contexts add NAME --amqp-url URL` gives a broker a name")


def _readable(context: ContextConfig) -> bool:
    try:
        address(context)
    except ConfigError:
        return False
    return True


def _bus_file() -> Iterator[Finding]:
    try:
        found = busfile.load()
    except ConfigError as error:
        yield _bad("bus file", str(error), error.hint or "busctl bus check")
        return
    yield _ok("bus file", str(found.path) if found.path else "none here or above; `busctl bus init` writes one")


def _keyring() -> Iterator[Finding]:
    """See whether the contexts that keep their password in the keyring can have it; and the key file."""
    try:
        users = [name for name, context in load(config_path()).contexts.items() if context.password_keyring]
    except ConfigError:
        users = []
    try:
        passwords.keyring_backend()
        yield _ok("keyring", "the package keyring is installed")
    except ConfigError as error:
        if users:
            yield _bad("keyring", f"{', '.join(users)}: {error}", error.hint)
        else:
            yield _ok("keyring", "not installed, and no context asks for it")
    path = keyfile.key_path()
    if path.exists() and not os.environ.get(keyfile.COMMAND_VARIABLE):
        try:
            keyfile.load_keys()
            yield _ok("keys", str(path))
        except BusError as error:
            yield _bad("keys", str(error), error.hint)


def _state_folder() -> Iterator[Finding]:
    """See whether the journal, the trash and the marks of borrowed things can be written."""
    journal = journal_path()
    existing = next(path for path in (journal.parent, *journal.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK) or not existing.is_dir():
        yield _bad(
            "state folder",
            f"{existing} cannot be written: no journal, no trash, nothing that changes the bus",
            f"chown it to yourself, or set XDG_STATE_HOME (for {journal.parent})",
        )
        return
    free_mb = shutil.disk_usage(existing).free // 1_000_000
    if free_mb < 100:
        yield _warn("state folder", f"{journal.parent}: {free_mb} MB are left on its disk", "make room for the trash")
    else:
        yield _ok("state folder", str(journal.parent))
    if journal.exists():
        yield _journal(journal)


def _journal(path: Path) -> Finding:
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            (count,) = connection.execute("SELECT count(*) FROM operations").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return _bad(
            "journal", f"{path}: {error}", "move it away; a new one is made (the old operations are lost to ops)"
        )
    return _ok("journal", f"{count} operations")


def _server() -> Iterator[Finding]:
    try:
        yield _ok("demo", f"RabbitMQ is here ({find().scripts}): `busctl demo` works")
    except BusError as error:
        yield _warn("demo", f"{error}; only the demo and test brokers need it", error.hint or "install RabbitMQ")
