"""Write docs/cli.md, the reference of all commands, and the table for shells, from the program: `make docs`."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

from rich.text import Text
from typer.core import TyperArgument, TyperGroup

from busctl.cli import examples, flags
from busctl.cli.completing import TABLE
from busctl.cli.main import TASKS, program

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# All commands

Written from the program by `make docs`; a test fails when it is stale. The examples are for the bus of `busctl demo`.

Everywhere: `-o json|jsonl|tsv` is for scripts (JSON keys are those of RabbitMQ's API), data goes to stdout and talk to
stderr, durations read `500ms 30s 5m 2h`, and [exit codes](exit-codes.md) have one meaning each.
"""

LIVE_BY_METAVAR = {
    "QUEUE": ["queues"],
    "QUEUE MESSAGE": ["queues"],
    "TARGET": ["queues"],
    "EXCHANGE": ["exchanges"],
    "VHOST": ["vhosts"],
    "QUEUE|EXCHANGE": ["queues", "exchanges"],
    "METHOD": ["methods"],
}
"""Which live names a shell offers, by what an argument or option is called in the help."""
LIVE_BY_COMMAND = {
    **{f"{noun} name": [noun] for noun in ("queues", "exchanges", "vhosts", "nodes", "users")},
    **{f"policies {verb} name": ["policies"] for verb in ("list", "set", "clear")},
    **{f"contexts {verb} name": ["contexts"] for verb in ("use", "remove", "check")},
}
"""By command and parameter, where that says too little."""
LIVE_BY_PARAMETER = {
    "context": ["contexts"],
    "exchange": ["exchanges"],
    "vhost": ["vhosts"],
    "queue": ["queues"],
}


def reference() -> str:
    """Print every command with its examples, arguments and options."""
    root = program()
    parts = [HEAD, _contents(), "## Flags of every command\n\n" + _table(_shown(root.params))]
    for task, commands in TASKS.items():
        parts.append(f"## {task}\n")
        for name in commands:
            parts += _command(root.commands[name].load(), name)
    return "\n".join(parts)


def _contents() -> str:
    rows = [
        f"- **{task}**: {', '.join(f'[{name}](#busctl-{name})' for name in commands)}"
        for task, commands in TASKS.items()
    ]
    return "\n".join(rows) + "\n"


def _command(command: Any, path: str) -> list[str]:
    first, *others = [part for part in inspect.cleandoc(command.help).split("\n\n") if not part.startswith("[dim]#")]
    shown = examples.of(path)
    block = "".join(f"$ {line}   # {does}\n" for line, does in shown)
    parts = [f"### busctl {path}\n", _plain(first) + "\n"]
    parts += [f"```console\n{block}```\n"] if block else []
    parts += [_plain(other) + "\n" for other in others]
    own = _shown(command.params, but={parameter.name for parameter in flags.parameters()})
    parts += [_table(own)] if own else []
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            if not below.hidden:
                parts += _command(below, f"{path} {name}")
    return parts


def _shown(parameters: Any, but: Any = ()) -> list[Any]:
    return [each for each in parameters if not getattr(each, "hidden", False) and each.name not in {*but, "help"}]


def _table(parameters: list[Any]) -> str:
    rows = [f"| {_name(each)} | {_cell(_plain(each.help or ''))}{_default(each)} |" for each in parameters]
    return "\n".join(["| | |", "| --- | --- |", *rows]) + "\n"


def _name(parameter: Any) -> str:
    if isinstance(parameter, TyperArgument):
        name = str(parameter.metavar or parameter.name.upper())
        many = "..." if parameter.nargs == -1 else ""
        return f"`{name if parameter.required else f'[{name}]'}{many}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} `{_cell(_value(parameter))}`"


def _value(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    choices = parameter.type_descriptor.choices
    if choices:
        return "|".join(str(getattr(choice, "value", choice)) for choice in choices)
    return "N" if parameter.bare_type() in ("int", "float") else "TEXT"


def _default(parameter: Any) -> str:
    default = getattr(parameter.default, "value", parameter.default)
    if isinstance(getattr(parameter, "show_default", None), str):
        return f" Default: {parameter.show_default}."
    told = isinstance(default, str | int | float) and not isinstance(default, bool)
    return f" Default: `{default}`." if told else ""


def _plain(text: str) -> str:
    return re.sub(r"\\\[", "[", " ".join(text.split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def table() -> str:
    """Print what shells need to know of every command: see completing.py, which reads it."""
    root = program()
    every = flags.parameters()
    names = {parameter.name for parameter in every}
    commands = {name: _known(root.commands[name].load(), name, names) for _, tasks in TASKS.items() for name in tasks}
    help_flag = {"names": ["--help"], "help": "Show this message and exit.", "flag": True}
    lines = [f"{json.dumps(name)}: {json.dumps(known, ensure_ascii=False)}" for name, known in commands.items()]
    head = {"everywhere": [*(_taker(each, "") for each in every), help_flag], "options": _options(root, "", names)}
    return json.dumps(head).removesuffix("}") + ',\n"commands": {\n' + ",\n".join(lines) + "\n}}\n"


def _known(command: Any, path: str, everywhere: set[str]) -> dict[str, Any]:
    first = _unmarked(inspect.cleandoc(command.help).partition("\n\n")[0])
    known: dict[str, Any] = {"help": first, "options": _options(command, path, everywhere)}
    if isinstance(command, TyperGroup):
        below = {name: _known(each, f"{path} {name}", everywhere) for name, each in command.commands.items()}
        # What a group does by itself is a hidden command.
        default = next((name for name, each in command.commands.items() if each.hidden), None)
        live = ["methods"] if path == "rpc" else below.get(default, {}).get("arguments", [{}])[0].get("live")
        return (
            known | {"commands": below} | ({"default": default} if default else {}) | ({"live": live} if live else {})
        )
    arguments = [_taker(each, path) for each in command.params if isinstance(each, TyperArgument)]
    return known | ({"arguments": arguments} if arguments else {})


def _options(command: Any, path: str, everywhere: set[str]) -> list[dict[str, Any]]:
    shown = [each for each in command.params if not isinstance(each, TyperArgument) and not each.hidden]
    return [_taker(each, path) for each in shown if each.name not in everywhere]


def _taker(parameter: Any, path: str) -> dict[str, Any]:
    """What a shell must know of an option or argument."""
    known: dict[str, Any] = {}
    if not isinstance(parameter, TyperArgument):
        known = {"names": [*parameter.opts, *parameter.secondary_opts], "help": _unmarked(parameter.help or "")}
        known |= {"flag": True} if parameter.is_flag else {}
        known |= {"many": True} if parameter.multiple else {}
    elif parameter.nargs == -1 and parameter.metavar != "QUEUE MESSAGE":  # where only the first word is a name
        known = {"many": True}
    if words := [str(getattr(each, "value", each)) for each in parameter.type_descriptor.choices or ()]:
        known["words"] = words
    elif parameter.metavar == "bash|zsh|fish":
        known["words"] = parameter.metavar.split("|")
    live = LIVE_BY_METAVAR.get(parameter.metavar or "") or LIVE_BY_COMMAND.get(f"{path} {parameter.name}")
    live = live or LIVE_BY_PARAMETER.get(parameter.name)
    return known | ({"live": live} if live and not known.get("flag") else {})


def _unmarked(text: str) -> str:
    return Text.from_markup(" ".join(text.split())).plain


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")
    sys.stderr.write(f"{PAGE} and {TABLE} are written\n")
