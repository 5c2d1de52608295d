"""Write docs/cli.md, the reference of all commands, from the program itself: `make docs`."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperGroup

from busctl.cli import examples, flags
from busctl.cli.main import TASKS, program

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# All commands

Written from the program by `make docs`; a test fails when it is stale. The examples are for the bus of `busctl demo`.

Everywhere: `-o json|jsonl|tsv` is for scripts (JSON keys are those of RabbitMQ's API), data goes to stdout and talk to
stderr, durations read `500ms 30s 5m 2h`, and [exit codes](exit-codes.md) have one meaning each.
"""


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
        return f"`{parameter.metavar or parameter.name.upper()}`"
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


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    sys.stderr.write(f"{PAGE} is written\n")
