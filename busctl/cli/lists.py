"""What commands that list things share: their options, and showing a list once or again and again."""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, NoReturn, TypeVar

import typer

from busctl.cli import exits, flags, output
from busctl.views.formats import parse_duration
from busctl.views.view import Column, View
from busctl_lib.errors import BusError, ConfigError, NotFound

if TYPE_CHECKING:
    from busctl_lib.management import ManagementClient

T = TypeVar("T")
Lines = list[tuple[str, str]]
"""Labels and safe texts; a line without a label goes on with the one above."""

WATCH_LEAST_S = 0.5

OutputOption = Annotated[
    output.Format | None,
    typer.Option("-o", "--output", help="How to print.", show_default="table"),
]
SortOption = Annotated[
    str | None, typer.Option("--sort", metavar="COLUMN", help='Sort by a column; "-messages" puts the largest first.')
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="A,B", help="Which columns a table or TSV has.")
]
WatchOption = Annotated[
    str | None, typer.Option("--watch", metavar="DURATION", help="Print again every so often, until Ctrl-C.")
]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", metavar="JQ", help="Only those for which a jq expression over their JSON is true."),
]
AllVhostsOption = Annotated[
    bool, typer.Option("--all-vhosts", "-A", help="Look at every virtual host this user may see.")
]


class Asked(NamedTuple):
    """What was typed behind the name of a list command."""

    name: str | None
    form: output.Format | None
    sort: str | None
    columns: str | None
    watch: str | None
    where: str | None = None
    all_vhosts: bool = False

    @property
    def looks_at(self) -> Collection[str] | None:
        """The columns that are shown and sorted by; None: anything of the API's."""
        if self.where is not None:
            return None
        return {(self.sort or "").removeprefix("-"), *(column_names(self.columns) or ())} - {""}

    @property
    def as_table(self) -> bool:
        """Whether it is for people."""
        return self.form in (None, output.Format.TABLE)


class Detail(NamedTuple):
    """What is shown of one object beyond the fields it has in a list."""

    answer: dict[str, Any]
    """Goes into its JSON."""
    lines: Lines
    """All that people see of it."""


def _own_name(info: Any) -> tuple[str | None, ...]:
    return (info.name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[T]):
    """What a command lists, and where it comes from.

    It is of one vhost when its view has a column "vhost", else of the cluster.
    """

    view: View[T]
    singular: str
    fetch: Callable[[ManagementClient, str | None], list[T]]
    """All of a vhost, or of all vhosts (None)."""
    fetch_asked: Callable[[ManagementClient, str | None, Asked], list[T]] | None = None
    """The same, where it depends on what was asked how much is worth asking for."""
    names: Callable[[T], tuple[str | None, ...]] = _own_name
    """What an argument is compared with: its own name, then others by which it is found."""
    get: Callable[[ManagementClient, str, str], T] | None = None
    """(API, vhost, name) One by its own name, where the API says more of one than in the list."""
    detail: Callable[[ManagementClient, T], Detail] | None = None
    """How one is shown; all its columns if None."""

    def all(self, api: ManagementClient, vhost: str | None, asked: Asked) -> list[T]:
        """All of a vhost, or of all vhosts (None)."""
        return self.fetch_asked(api, vhost, asked) if self.fetch_asked is not None else self.fetch(api, vhost)

    @property
    def of_vhost(self) -> bool:
        """Whether each belongs to a vhost."""
        return any(column.name == "vhost" for column in self.view.columns)


def run(ctx: typer.Context, listing: Listing[T], asked: Asked) -> None:
    """Be a list command: fetch, match, sort, write; one object in detail for an exact name; again with --watch.

    Raises:
        ConfigError: no such column, a bad duration or expression, or a name that several have.
        NotFound: nothing has the exact name that was asked for.
    """
    view, everywhere = listing.view, asked.all_vhosts and listing.of_vhost
    typed = column_names(asked.columns)
    usual = [column.name for column in view.select()]
    chosen = view.select(typed or (["vhost", *(name for name in usual if name != "vhost")] if everywhere else None))
    view.column((asked.sort or view.sort).removeprefix("-"))  # a wrong name is told before anything is asked
    clear = asked.watch is not None and asked.as_table
    with _condition(listing, asked) as holds, flags.open_session(ctx) as session:
        api = session.management
        vhost = session.vhost if listing.of_vhost and not everywhere else None

        def once() -> None:
            found = _find(api, listing, vhost, asked)
            if not isinstance(found, list):
                if not holds([found]):
                    raise NotFound(f"{listing.singular} {asked.name!r} does not match --where", code=404)
                _write_one(api, listing, found, asked, view.select(typed, wide=True), clear=clear)
                return
            found = holds(found)
            if clear:
                output.clear_screen()
            columns = view.filled(chosen, found) if asked.as_table and not typed else chosen
            output.write_list(view, view.sorted(found, asked.sort), asked.form or output.Format.TABLE, columns)
            if not found and asked.as_table:
                exits.note(f"no {view.noun}{_wanted(asked)} in {_scope(listing, vhost)}")

        show(once, asked.watch)


@contextlib.contextmanager
def _condition(listing: Listing[T], asked: Asked) -> Iterator[Callable[[list[T]], list[T]]]:
    """Give what keeps those for which --where is true, in a process of its own: jq may run for ever."""
    if asked.where is None:
        yield lambda infos: infos
        return
    from busctl_lib.expressions import Expression, GuardedExpression

    with GuardedExpression(Expression(asked.where, "--where")) as guarded:

        def holds(infos: list[T]) -> list[T]:
            failed, guarded.trouble = guarded.failed, None
            verdicts = guarded.matches([listing.view.json_bytes(info) for info in infos])
            if guarded.failed > failed:
                exits.note(f"--where failed on {guarded.failed - failed} of {len(infos)}: {guarded.trouble}")
            return [info for info, true in zip(infos, verdicts, strict=True) if true]

        yield holds


def _wanted(asked: Asked) -> str:
    parts = [f"match {asked.name}" if asked.name else "", f"match --where {asked.where}" if asked.where else ""]
    text = " and ".join(part for part in parts if part)
    return f" {text}" if text else ""


def _find(api: ManagementClient, listing: Listing[T], vhost: str | None, asked: Asked) -> list[T] | T:
    """All that match, or the one whose own name was given."""
    name = asked.name
    if name is None:
        return listing.all(api, vhost, asked)
    glob = any(character in name for character in "*?[")
    if listing.get is not None and vhost is not None and not glob:
        try:
            return listing.get(api, vhost, name)
        except NotFound as error:
            with contextlib.suppress(BusError):
                error.hint = _hint(listing, name, listing.fetch(api, vhost))
            raise
    infos = listing.all(api, vhost, asked)
    own = [info for info in infos if listing.names(info)[0] == name]
    if own:  # a name may look like a pattern
        return _only(api, listing, own, name)
    others = [info for info in infos if _is_called(_labels(listing, info), name, glob=glob)]
    if not others and not glob:
        text = f"no {listing.singular} {name!r} in {_scope(listing, vhost)}"
        raise NotFound(text, hint=_hint(listing, name, infos), code=404, text="Not Found")
    return others


def _is_called(labels: list[str], name: str, *, glob: bool) -> bool:
    return name in labels or (glob and any(fnmatch.fnmatchcase(label, name) for label in labels))


def _only(api: ManagementClient, listing: Listing[T], own: list[T], name: str) -> T:
    info = own[0]
    homes = [str(listing.view.column("vhost").value(each)) for each in own] if listing.of_vhost else []
    what = f"{listing.singular} {name!r}"
    if len(set(homes)) > 1:
        raise ConfigError(f"{what} is in several vhosts: {', '.join(homes)}", hint="choose one with --vhost")
    if len(own) > 1:
        raise ConfigError(
            f"there are {len(own)} of the name {what}", hint=f"`busctl {listing.view.noun} '{name}*'` lists them"
        )
    return listing.get(api, homes[0], name) if listing.get is not None else info


def _labels(listing: Listing[T], info: T) -> list[str]:
    return [label for label in listing.names(info) if label is not None]


def _hint(listing: Listing[T], name: str, infos: Sequence[T]) -> str:
    from busctl_lib.schemas import nearest

    meant = nearest(name, sorted({label for info in infos for label in _labels(listing, info)}))
    return f"did you mean {meant}?" if meant else f"`busctl {listing.view.noun}` lists what there is"


def _scope(listing: Listing[Any], vhost: str | None) -> str:
    if not listing.of_vhost:
        return "the cluster"
    return "any vhost" if vhost is None else f"vhost {vhost!r}"


def _write_one(
    api: ManagementClient,
    listing: Listing[T],
    info: T,
    asked: Asked,
    columns: Sequence[Column[T]],
    *,
    clear: bool,
) -> None:
    detail = listing.detail(api, info) if listing.detail is not None else Detail({}, fields(columns, info))
    if clear:
        output.clear_screen()
    if asked.form is output.Format.TSV:
        output.write(output.tsv(columns, [info]))
    elif asked.as_table:
        width = max(10, *(len(label) for label, _ in detail.lines))
        output.write("".join(f"{label:<{width}} {text}".rstrip() + "\n" for label, text in detail.lines))
    else:
        output.write_value({**listing.view.json(info), **detail.answer}, asked.form)


def fields(columns: Sequence[Column[T]], info: T) -> Lines:
    """Show one info, a column a line."""
    cells = [(column.name.replace("_", " "), column.cell(info)) for column in columns]
    return [(name, output.paint(cell.text, cell.tone)) for name, cell in cells]


def column_names(text: str | None) -> list[str] | None:
    """Read the value of --columns."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def seconds(text: str, option: str) -> float:
    """Read a duration that was typed.

    Raises:
        ConfigError: it is not one.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def require_above_0(number: float | None, option: str) -> None:
    """Refuse a rate or factor that is none. Raises ConfigError."""
    if number is not None and not 0 < number < float("inf"):  # nan is not, either
        raise ConfigError(f"{option} must be above 0")


def show(once: Callable[[], None], watch: str | None) -> None:
    """Run `once`, or run it again and again; a broker that goes away meanwhile is told and waited for."""
    if watch is None:
        once()
    else:
        _show_again_and_again(once, max(seconds(watch, "--watch"), WATCH_LEAST_S))


def _show_again_and_again(once: Callable[[], None], every_s: float) -> NoReturn:
    shown = False
    while True:
        due = time.monotonic() + every_s
        try:
            once()
            shown = True
        except BusError as error:
            if not shown:  # what never worked is an error, what worked a moment ago comes back
                raise
            exits.note(f"busctl: {error}; next try in {every_s:g} s")
        while (rest := due - time.monotonic()) > 0:
            if output.reader_gone():
                raise exits.PipeClosed
            time.sleep(min(rest, 0.5))
