"""`busctl definitions`: what a broker has declared, as a file: exported, compared, imported."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from busctl import privatefile
from busctl.cli import changing, confirm, exits, flags, output
from busctl.cli.lists import AllVhostsOption
from busctl.views.blast import listed
from busctl.views.formats import counted, safe_text
from busctl.views.view import Tone
from busctl_lib.errors import BusError, ConfigError

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.definitions import Difference

definitions = typer.Typer(
    add_completion=False,
    help="Export, compare and import what is declared: of a virtual host, or with -A of the cluster.",
)
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_TONES = {"added": Tone.GOOD, "removed": Tone.BAD, "changed": Tone.WARN}
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A file of definitions; - is standard input.")]


@definitions.command("export")
def export(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where to; standard output by default.", show_default=False)
    ] = None,
    all_vhosts: AllVhostsOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the definitions as JSON: with -A users and their password hashes too, so the file is its owner's alone."""
    with flags.open_session(ctx) as session:
        found = session.management.definitions(None if all_vhosts else session.vhost)
    text = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    if file is None or file == "-":
        output.write_json_text(text)
        return
    _write(Path(file), text, force=force)
    exits.note(f"{file} has {_counted(found)}")


def _write(path: Path, text: bytes, *, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already", hint="--force replaces it")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no file", hint="without a name it goes to standard output")
    try:
        privatefile.write(path, text)
    except OSError as error:
        raise BusError(f"{path} cannot be written: {error.strerror}") from error


def _counted(found: dict[str, Any]) -> str:
    counts = [f"{kind}: {len(value):,}" for kind, value in found.items() if isinstance(value, list) and value]
    return ", ".join(counts) or "nothing"


@definitions.command("diff")
def diff(
    ctx: typer.Context, file: FileArgument, all_vhosts: AllVhostsOption = False, form: changing.OutputOption = None
) -> int:
    """Compare a file with the broker: + is in the file alone, - on the broker alone, ~ differs.

    Exit code 0 when they agree, 1 when they differ, as `diff` has it.
    """
    wanted = _read(file)
    with flags.open_session(ctx) as session:
        _, found = _compared(session, wanted, all_vhosts=all_vhosts, file=file)
    if form is output.Format.JSON:
        output.write_json(found)
    elif form is output.Format.JSONL:
        output.write_json_text(b"".join(msgspec.json.encode(each) + b"\n" for each in found))
    elif form is output.Format.TSV:
        cells = [(each.change, each.kind, each.vhost or "", each.name) for each in found]
        rows = ["\t".join(map(output.tsv_text, row)) for row in cells]
        output.write("\n".join(["change\tkind\tvhost\tname", *rows]) + "\n")
    else:
        output.write("".join(_line(each) + "\n" for each in found))
        if not found:
            exits.note(f"{file} and the broker agree")
    return exits.ExitCode.FAILED if found else exits.ExitCode.DONE


@definitions.command("import")
def import_(
    ctx: typer.Context,
    file: FileArgument,
    all_vhosts: AllVhostsOption = False,
    yes: confirm.YesOption = False,
    form: changing.OutputOption = None,
) -> None:
    """Import a file: adds what is absent, replaces policies, parameters, users and permissions, deletes nothing."""
    wanted = _read(file)
    with flags.open_session(ctx) as session:
        part, found = _compared(session, wanted, all_vhosts=all_vhosts, file=file)
        changes = [each for each in found if each.import_changes]
        where = "the cluster" if all_vhosts else f"vhost {session.vhost!r}"
        change = confirm.Change(
            does=f"import {file} into {where}", name=file if file != "-" else session.vhost, hits=_hits(found)
        )
        confirm.allow(session.settings, change, yes=yes)
        name = "the cluster" if all_vhosts else session.vhost
        done = f"{counted(len(changes), 'definition')} of {file} imported into {where}"
        with changing.operation(
            session, "definitions import", name, form, done=done, planned=len(changes), target=file
        ) as made:
            session.management.import_definitions(part, None if all_vhosts else session.vhost)
            made.moved = len(changes)


def _read(file: str) -> dict[str, Any]:
    from busctl_lib.definitions import parse

    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    return parse(text, "standard input" if file == "-" else file)


def _compared(
    session: Session, wanted: dict[str, Any], *, all_vhosts: bool, file: str
) -> tuple[dict[str, Any], list[Difference]]:
    """The part of a file that is meant, and how the broker differs from it."""
    from busctl_lib.definitions import diff, is_of_cluster, of_vhost

    if not all_vhosts:
        part = of_vhost(wanted, session.vhost)
        return part, diff(of_vhost(session.management.definitions(session.vhost), session.vhost), part)
    if not is_of_cluster(wanted):
        raise ConfigError(f"{file} is of one virtual host", hint="leave -A out, and name another vhost with --vhost")
    return wanted, diff(session.management.definitions(), wanted)


def _hits(found: list[Difference]) -> list[tuple[str, str]]:
    def names(wanted: list[Difference]) -> str:
        kinds = Counter(each.kind for each in wanted)
        counts = ", ".join(counted(count, kind) for kind, count in kinds.items())
        return f"{counts}: {listed([each.name for each in wanted])}"

    added = [each for each in found if each.change == "added"]
    changed = [each for each in found if each.change == "changed" and each.import_changes]
    kept = [each for each in found if each.change == "changed" and not each.import_changes]
    hits = [("adds", names(added) if added else "nothing")]
    if changed:
        hits.append(("replaces", names(changed)))
    if kept:
        hits.append(("leaves", f"{names(kept)} (there already, otherwise declared)"))
    return hits


def _line(each: Difference) -> str:
    where = f" in {each.vhost}" if each.vhost is not None else ""
    what = ""
    if each.change == "changed":
        live, file = each.live or {}, each.file or {}
        what = ": " + ", ".join(f"{name} {_short(live.get(name))} -> {_short(file.get(name))}" for name in each.fields)
    text = safe_text(f"{_SIGNS[each.change]} {each.kind} {each.name}{where}{what}")
    return output.paint(text, _TONES[each.change])


def _short(value: Any) -> str:
    return safe_text(msgspec.json.encode(value, order="sorted").decode(), 200) if value is not None else "(none)"
