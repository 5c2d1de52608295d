"""Commands that list by themselves and have verbs beside: `policies [GLOB]`, `policies set NAME ...`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

DEFAULT = "list"


class ListGroup(TyperGroup):
    """Runs its hidden command `list` where the first word is none of its verbs; options may stand before the verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb in front, where click looks for it."""
        at = first_word(self, args)
        if at is not None and args[at] in self.commands:
            args = [args[at], *args[:at], *args[at + 1 :]]
        elif not any(help_name in args for help_name in self.get_help_option_names(ctx)):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def first_word(group: TyperGroup, args: list[str]) -> int | None:
    """Where the first word stands that is neither an option nor the value of one; None where there is none."""
    valued = {
        name
        for command in (group, *group.commands.values())
        for option in command.params
        if not getattr(option, "is_flag", False)
        for name in option.opts
    }
    skip = False
    for index, word in enumerate(args):
        if word == "--":
            return None
        if skip or word.startswith("-"):
            skip = not skip and word in valued
        else:
            return index
    return None
