"""`busctl completion`: what makes a shell ask us after each Tab. What is answered is in completing.py."""

from __future__ import annotations

from typing import Annotated

import typer

from busctl.cli import output
from busctl.cli.completing import LINE, VARIABLE
from busctl_lib.errors import ConfigError

_PROGRAMS = ("busctl", "mbusctl")
_SCRIPTS = {
    "bash": f"""
_PROGRAM_completion() {{
  local IFS=$'\n'
  COMPREPLY=($({LINE}="${{COMP_LINE:0:COMP_POINT}}" {VARIABLE}=bash "$1"))
}}
complete -o default -F _PROGRAM_completion PROGRAM
""",
    "zsh": f"""
#compdef PROGRAM
_PROGRAM_completion() {{
  eval "$({LINE}="${{words[1,$CURRENT]}}" {VARIABLE}=zsh PROGRAM)"
}}
compdef _PROGRAM_completion PROGRAM
""",
    "fish": f"""
function _PROGRAM_completion
    set -l found (env {LINE}=(commandline -cp | string collect) {VARIABLE}=fish PROGRAM)
    and test (count $found) -gt 0
    and printf '%s\\n' $found
    or __fish_complete_path (commandline -ct)
end
complete --command PROGRAM --no-files --arguments '(_PROGRAM_completion)'
""",
}
"""Files are offered where there is nothing of ours."""


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell to print the script for.")],
) -> None:
    """Print what makes a shell complete commands, and names from the live broker."""
    script = _SCRIPTS.get(shell)
    if script is None:
        raise ConfigError(f"no completion for {shell!r}", hint=f"there is one for: {', '.join(_SCRIPTS)}")
    for program in _PROGRAMS:
        output.write_line(script.replace("PROGRAM", program).strip())
