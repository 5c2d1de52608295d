"""`busctl doctor`: is all in order, and if not, what to do."""

from __future__ import annotations

import typer

from busctl.cli import flags, output
from busctl.cli.exits import ExitCode
from busctl.cli.lists import OutputOption

doctor = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Check this installation, and say how to mend it."
)


@doctor.callback()
def root() -> None:
    """Check this installation, and say how to mend it."""


@doctor.command("self")
def self_(ctx: typer.Context, form: OutputOption = None) -> None:
    """Check the program, its dependencies, the terminal, the settings and the folders it writes to.

    No broker is asked: `busctl contexts check` does that. Exit code 1 when something is bad, 0 with warnings alone.
    """
    from busctl.selfcheck import findings
    from busctl.views.findings import FINDINGS, TONES, State
    from busctl.views.formats import safe_text

    assert isinstance(ctx.obj, flags.GlobalFlags)
    found = list(findings(ctx.obj))
    if form in (None, output.Format.TABLE):
        for each in found:
            mark = output.paint(f"{each.state.value:<4}", TONES[each.state])
            output.write_line(f"{mark}  {each.check:<12}  {safe_text(each.found)}")
            if each.mend:
                output.write_line(f"{'':<20}→ {safe_text(each.mend)}")
    else:
        output.write_list(FINDINGS, found, form)
    if any(each.state is State.BAD for each in found):
        raise typer.Exit(ExitCode.FAILED)
