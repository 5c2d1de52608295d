"""Completion in the shell: commands and options by typer, names from the live broker by us, or nothing at all.

A shell waits for the answer after each Tab, so names have a deadline counted from the start of the process, and every
failure is silent. Nobody is asked for a password, and no command or keyring is: names are not worth that.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from busctl.cli import flags, output
from busctl.config import resolve
from busctl_lib.errors import BusError, ConfigError

if TYPE_CHECKING:
    from busctl.config import Settings
    from busctl_lib.names import Noun

VARIABLE = "_BUSCTL_COMPLETE"
BUDGET_S = 0.3
_PROGRAMS = ("busctl", "mbusctl")
_SAFE = re.compile(r"[\w./:@+][\w./:@%+,=-]*")
"""Names of which a shell makes nothing else. Anyone may name a queue `$(reboot)`: such names are not offered."""
_NOUNS: dict[str, tuple[Noun, ...]] = {
    "QUEUE": ("queues",),
    "QUEUE...": ("queues",),
    "QUEUE MESSAGE": ("queues",),
    "TARGET": ("queues",),
    "EXCHANGE": ("exchanges",),
    "VHOST": ("vhosts",),
    "[QUEUE|EXCHANGE]": ("queues", "exchanges"),
}
"""By the name that an argument or option has in the help."""
_BY_COMMAND: dict[tuple[str, str], tuple[Noun, ...]] = {
    **{(noun, "name"): (noun,) for noun in ("queues", "exchanges", "vhosts", "policies", "nodes", "users")},
    **{(verb, "name"): ("policies",) for verb in ("list", "set", "clear")},
}
"""By command and parameter, where the help's name says too little."""
_BY_PARAMETER: dict[str, tuple[Noun, ...]] = {"exchange": ("exchanges",), "vhost": ("vhosts",), "queue": ("queues",)}
_CONTEXT_COMMANDS = ("use", "remove", "check")


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell to print the script for.")],
) -> None:
    """Print what makes a shell complete commands, and names from the live broker."""
    from typer._completion_shared import get_completion_script

    if shell not in ("bash", "zsh", "fish"):
        raise ConfigError(f"no completion for {shell!r}", hint="there is one for: bash, zsh, fish")
    for program in _PROGRAMS:
        output.write_line(get_completion_script(prog_name=program, complete_var=VARIABLE, shell=shell))


def prepare(root: Any) -> None:
    """Let typer answer its shells, and the flags that stand before a command complete names."""
    from typer._completion_classes import completion_init

    completion_init()
    attach(root)


def attach(command: Any) -> None:
    """Let the parameters of a loaded command complete live names."""
    for each in getattr(command, "commands", {}).values():
        attach(each)
    for parameter in command.params:
        if parameter.name == "context" or (command.name in _CONTEXT_COMMANDS and parameter.name == "name"):
            parameter.shell_complete = _completer(_contexts)
        elif parameter.metavar in ("METHOD", "[METHOD]..."):
            parameter.shell_complete = _completer(_methods)
        elif nouns := _nouns_of(str(command.name), parameter):
            parameter.shell_complete = _completer(_of_broker(nouns), once=parameter.metavar == "QUEUE MESSAGE")


def _nouns_of(command: str, parameter: Any) -> tuple[Noun, ...]:
    by_help = _NOUNS.get(parameter.metavar or "", ())
    return by_help or _BY_COMMAND.get((command, parameter.name), ()) or _BY_PARAMETER.get(parameter.name, ())


def _completer(find: Callable[[Any, str], Sequence[str]], *, once: bool = False) -> Any:
    """Wrap a source of names as click has it.

    Args:
        find: From the context of the command line and the prefix.
        once: Only for the first word.
    """

    def complete(ctx: Any, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem

        if once and ctx.params.get("words"):
            return []
        found = find(ctx, incomplete)
        return [CompletionItem(name) for name in found if name.startswith(incomplete) and _SAFE.fullmatch(name)]

    return complete


def _contexts(ctx: Any, prefix: str) -> list[str]:
    from busctl.contexts import config_path, load_with_demos

    try:
        return sorted(load_with_demos(config_path()).contexts)
    except BusError:
        return []


def _methods(ctx: Any, prefix: str) -> list[str]:
    try:
        return sorted(flags.bus_file(ctx).methods())
    except BusError:
        return []


def _of_broker(nouns: tuple[Noun, ...]) -> Callable[[Any, str], list[str]]:
    def find(ctx: Any, prefix: str) -> list[str]:
        left_s = BUDGET_S - time.process_time()  # what loading took was spent on the processor
        settings = _settings(ctx)
        if settings is None or left_s <= 0:
            return []
        found: list[str] = []
        asking = threading.Thread(target=_ask, args=(settings, nouns, prefix, left_s, found), daemon=True)
        asking.start()
        asking.join(left_s)
        return list(found)

    return find


def _settings(ctx: Any) -> Settings | None:
    """The broker that is meant, where it can be asked without a question to anyone."""
    try:
        settings = resolve(ctx.find_object(flags.GlobalFlags) or flags.GlobalFlags())
        silent = settings.password is None or settings.password.kind == "environment"
        return settings.with_password() if silent else None
    except BusError:
        return None


def _ask(settings: Settings, nouns: tuple[Noun, ...], prefix: str, left_s: float, found: list[str]) -> None:
    from busctl_lib.names import names

    for noun in nouns:
        try:
            found += names(settings.api_url, noun, settings.vhost, prefix, timeout_s=left_s, tls=settings.tls)
        except Exception:  # noqa: BLE001, S112 - whatever is wrong, a prompt is no place to say so
            continue
