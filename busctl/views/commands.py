"""The command line of an action: what does the same in a shell."""

from __future__ import annotations

import shlex


def command_line(*words: str, context: str | None = None) -> str:
    """Write a command line, quoted for a shell.

    Args:
        words: The command and its arguments, as the shell would hand them over.
        context: The broker it is for, when that has a name.
    """
    return shlex.join(["busctl", *(["-c", context] if context else []), *words])
