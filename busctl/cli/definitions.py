"""`busctl definitions`: what a broker has declared, as a file: exported, compared, imported."""

from __future__ import annotations

import enum
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from busctl import privatefile
from busctl.cli import changing, confirm, exits, flags, output
from busctl.cli.lists import AllVhostsOption
from busctl.views.blast import listed
from busctl.views.formats import counted, safe_text
from busctl.views.view import Tone
from busctl_lib.errors import ApiError, BrokerRefused, BusError, ConfigError

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.definitions import Difference, Remark

definitions = typer.Typer(
    add_completion=False,
    help="Export, compare and import what is declared: of a virtual host, or with -A of the cluster.",
)


class Transform(enum.StrEnum):
    """How definitions are rewritten."""

    QUORUM = "quorum"


class _Rewritten(NamedTuple):
    """Definitions for other queues, and what was changed in them."""

    definitions: dict[str, Any]
    remarks: list[Remark]


TransformOption = Annotated[
    Transform | None,
    typer.Option(
        "--transform", help="Make quorum queues of the classic ones, leaving out what they refuse; each change is said."
    ),
]
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
    transform: TransformOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the definitions as JSON: with -A users and their password hashes too, so the file is its owner's alone.

    What an import would be refused for is left out and said: exclusive queues, which live with their connection, and
    bindings to what is not there.
    """
    from busctl_lib import definitions as library

    with flags.open_session(ctx) as session:
        found, left_out = library.export(session.management, None if all_vhosts else session.vhost)
    rewritten = _transformed(found, transform)
    text = msgspec.json.format(msgspec.json.encode(rewritten.definitions), indent=2) + b"\n"
    if file is None or file == "-":
        output.write_json_text(text)
    else:
        _write(Path(file), text, force=force)
        exits.note(f"{file} has {_counted(rewritten.definitions)}")
    _say("left out", left_out)
    _say(f"for {transform} queues" if transform else "", rewritten.remarks)


def _transformed(found: dict[str, Any], transform: Transform | None) -> _Rewritten:
    from busctl_lib.definitions import for_quorum

    return _Rewritten(*for_quorum(found)) if transform is Transform.QUORUM else _Rewritten(found, [])


def _say(what: str, remarks: Sequence[Remark]) -> None:
    for each in remarks:
        exits.note(f"{what}: {_told(each)}")


def _told(each: Remark) -> str:
    where = f" in {each.vhost}" if each.vhost is not None else ""
    return safe_text(f"{each.kind} {each.name}{where}: {each.text}")


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
    from busctl_lib.definitions import KINDS

    counts = [f"{kind}: {len(found[kind]):,}" for kind in KINDS if found.get(kind)]
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
        part, others, live = _compared(session, wanted, all_vhosts=all_vhosts, file=file)
    found = _diff(live, part)
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
    if others:
        exits.note(f"not compared: what {file} says of {listed(others)} (-A compares all, --vhost another)")
    return exits.ExitCode.FAILED if found else exits.ExitCode.DONE


@definitions.command("import")
def import_(
    ctx: typer.Context,
    file: FileArgument,
    all_vhosts: AllVhostsOption = False,
    transform: TransformOption = None,
    yes: confirm.YesOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Import a file: adds what is absent, replaces policies, parameters, users and permissions, deletes nothing.

    What this version of the broker does not take is left out and said beforehand. Afterwards the broker is compared
    with the file: exit code 8 when something of it is not there.
    """
    wanted = _read(file)
    with flags.open_session(ctx) as session:
        session.management.guard_change(f"importing {file}")
        plan = _plan(session, wanted, all_vhosts=all_vhosts, file=file, transform=transform)
        name = file if file != "-" else session.vhost
        change = confirm.Change(does=f"import {file} into {plan.where}", name=name, hits=plan.hits)
        confirm.allow(session.settings, change, yes=yes)
        return _import(session, plan, file, form)


def _import(session: Session, plan: _Plan, file: str, form: output.Format | None) -> int:
    """Import, and tell what of it is there: a broker that finds a mistake has taken what stood before it."""
    name = "the cluster" if plan.vhost is None else plan.vhost
    planned = len(plan.changes)
    trouble: BusError | None = None
    missing: list[Difference] = []
    with changing.operation(
        session,
        "definitions import",
        name,
        form,
        done=lambda: plan.done(file, made.moved),
        planned=planned,
        target=file,
    ) as made:
        try:
            session.management.import_definitions(plan.sent, plan.vhost)
        except (BrokerRefused, ApiError) as error:
            trouble = error
        try:
            missing = plan.only_changes(_diff(_live(session, plan.vhost), plan.part))
        except BusError as error:  # the file may have given us another password
            trouble = trouble or BusError(f"the broker took the file; what is there now is not known: {error}")
        made.moved = planned - len(missing)
        if trouble is not None and missing and not made.moved:
            raise trouble
        if trouble or missing or plan.refused:
            made.state = "partial"
    if trouble is not None:
        exits.note(f"busctl: {trouble}")
    for each in missing:
        exits.note(f"not there now: {_line(each, plain=True)}")
    return exits.ExitCode.PARTLY if made.state == "partial" else exits.ExitCode.DONE


def _read(file: str) -> dict[str, Any]:
    from busctl_lib.definitions import parse

    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    return parse(text, "standard input" if file == "-" else file)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What an import would do."""

    vhost: str | None
    """None: the cluster."""
    part: dict[str, Any]
    """Of the file, as this broker takes it."""
    found: list[Difference]
    remarks: list[tuple[str, list[Remark]]]
    refused: list[Remark]
    others: list[str]
    """Virtual hosts of the file that are not meant."""
    me: str | None
    """Who we are to the broker."""

    @property
    def where(self) -> str:
        return "the cluster" if self.vhost is None else f"vhost {self.vhost!r}"

    @property
    def sent(self) -> dict[str, Any]:
        """What the broker is given: into one vhost nothing about that itself, which it would not take."""
        return {key: value for key, value in self.part.items() if self.vhost is None or key != "vhosts"}

    def only_changes(self, found: list[Difference]) -> list[Difference]:
        return [each for each in found if each.import_changes and (self.vhost is None or each.kind != "vhost")]

    @property
    def changes(self) -> list[Difference]:
        return self.only_changes(self.found)

    def done(self, file: str, count: int) -> str:
        return f"{counted(count, 'definition')} of {file} imported into {self.where}"

    @property
    def hits(self) -> list[tuple[str, str]]:
        changes = self.changes
        added = [each for each in changes if each.change == "added"]
        changed = [each for each in changes if each.change == "changed"]
        kept = [each for each in self.found if each.change == "changed" and each not in changes]
        hits = [("adds", _names(added) if added else "nothing")]
        if changed:
            hits.append(("replaces", _names(changed)))
        if kept:
            hits.append(("leaves", f"{_names(kept)} (there already, otherwise declared)"))
        if self.me is not None and self.me in [each.name for each in changed if each.kind == "user"]:
            hits.append(("careful", f"{safe_text(self.me)} is who does this: its password and its tags are replaced"))
        if self.others:
            hits.append(("not meant", f"what the file says of {listed(self.others)}: -A imports all, --vhost another"))
        for what, remarks in (*self.remarks, ("refused", self.refused)):
            hits += [(what, _told(each)) for each in remarks]
        return hits


def _plan(
    session: Session, wanted: dict[str, Any], *, all_vhosts: bool, file: str, transform: Transform | None
) -> _Plan:
    from busctl_lib import definitions as library

    part, others, live = _compared(session, wanted, all_vhosts=all_vhosts, file=file)
    vhost = None if all_vhosts else session.vhost
    rewritten = _transformed(part, transform)
    fitted = library.fit(rewritten.definitions, library.target_of(session.management, vhost))
    library.keep_vhosts(fitted.definitions, live)
    return _Plan(
        vhost=vhost,
        part=fitted.definitions,
        found=library.diff(live, fitted.definitions),
        remarks=[("rewrites", rewritten.remarks), ("left out", fitted.left_out), ("notes", fitted.noted)],
        refused=fitted.refused,
        others=others,
        me=session.management.username,
    )


def _compared(
    session: Session, wanted: dict[str, Any], *, all_vhosts: bool, file: str
) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """The part of a file that is meant, the vhosts that are not, and what the broker has."""
    from busctl_lib.definitions import is_of_cluster, of_vhost, vhosts_of

    of_cluster = is_of_cluster(wanted)
    if all_vhosts:
        if not of_cluster:
            hint = "leave -A out, and name another vhost with --vhost"
            raise ConfigError(f"{file} is of one virtual host", hint=hint)
        return wanted, [], _live(session, None)
    vhost, named = session.vhost, vhosts_of(wanted) if of_cluster else []
    if of_cluster and vhost not in named:
        hint = f"it has {listed(named)}: name one with --vhost, or take all with -A"
        raise ConfigError(f"{file} says nothing of vhost {vhost!r}", hint=hint)
    return of_vhost(wanted, vhost), [name for name in named if name != vhost], _live(session, vhost)


def _live(session: Session, vhost: str | None) -> dict[str, Any]:
    from busctl_lib.definitions import export, of_vhost

    found = export(session.management, vhost).definitions
    return found if vhost is None else of_vhost(found, vhost)


def _names(wanted: list[Difference]) -> str:
    kinds = Counter(each.kind for each in wanted)
    counts = ", ".join(counted(count, kind) for kind, count in kinds.items())
    return f"{counts}: {listed([each.name for each in wanted])}"


def _diff(live: dict[str, Any], part: dict[str, Any]) -> list[Difference]:
    from busctl_lib.definitions import diff

    return diff(live, part)


def _line(each: Difference, *, plain: bool = False) -> str:
    where = f" in {each.vhost}" if each.vhost is not None else ""
    what = ""
    if each.change == "changed":
        live, file = each.live or {}, each.file or {}
        what = ": " + ", ".join(f"{name} {_short(live.get(name))} -> {_short(file.get(name))}" for name in each.fields)
    text = safe_text(f"{_SIGNS[each.change]} {each.kind} {each.name}{where}{what}")
    return text if plain else output.paint(text, _TONES[each.change])


def _short(value: Any) -> str:
    return safe_text(msgspec.json.encode(value, order="sorted").decode(), 200) if value is not None else "(none)"
