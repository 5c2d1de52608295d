"""`busctl topology`: who can reach what."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from busctl.cli import flags, output
from busctl.cli.lists import OutputOption
from busctl.views import topology as view
from busctl.views.exchanges import shown_name
from busctl.views.formats import safe_text
from busctl_lib.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from busctl_lib.topology_map import Place, TopologyMap


class Kind(enum.StrEnum):
    """What a name is of."""

    QUEUE = "queue"
    EXCHANGE = "exchange"


def topology(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="QUEUE|EXCHANGE", help="What to look at; everything if none is named.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Which one, where both have that name.")] = None,
    form: OutputOption = None,
) -> None:
    """Draw who can reach what as a tree: bindings, alternate exchanges, dead letters; cycles are cut."""
    from busctl_lib import topology_map

    with flags.open_session(ctx) as session:
        found = topology_map.read(session.management, session.vhost)
        vhost = session.vhost
    if form is output.Format.TSV:
        steps = found.steps
        if name is not None:
            place = _place(found, name, kind, vhost)
            steps = [step for step in steps if place in (step.source, step.target)]
        _write_tsv(steps)
    elif name is not None:
        _write_one(found, _place(found, name, kind, vhost), vhost, form)
    elif form in (None, output.Format.TABLE):
        for tree in found.forest():
            _write_lines(view.forth(tree))
    else:
        trees = msgspec.to_builtins(found.forest())
        if form is output.Format.JSON:
            output.write_json(trees)
        else:
            for tree in trees:
                output.write_jsonl(tree)


def _place(found: TopologyMap, name: str, kind: Kind | None, vhost: str) -> Place:
    from busctl_lib.schemas import nearest
    from busctl_lib.topology_map import Place

    kinds = (kind,) if kind is not None else (Kind.QUEUE, Kind.EXCHANGE)
    places = [place for each in kinds if found.has(place := Place(each.value, name))]
    if len(places) > 1:
        text = f"{name!r} is a queue and an exchange"
        raise ConfigError(text, hint="choose with --kind queue or --kind exchange")
    if not places:
        near = nearest(name, sorted({*found.queues, *found.exchanges}))
        hint = f"did you mean {near}?" if near else "`busctl topology` draws everything"
        what = kind.value if kind is not None else "queue or exchange"
        raise NotFound(f"no {what} {name!r} in vhost {vhost!r}", hint=hint, code=404, text="Not Found")
    return places[0]


def _write_one(found: TopologyMap, place: Place, vhost: str, form: output.Format | None) -> None:
    fed_by, leads_to = found.fed_by(place), found.leads_to(place)
    if form in (None, output.Format.TABLE):
        output.write(f"{shown_name(place.name)} in vhost {safe_text(vhost)} is fed by\n")
        _write_lines(view.back(fed_by))
        output.write(f"\n{shown_name(place.name)} leads to\n")
        _write_lines(view.forth(leads_to))
        return
    answer: dict[str, Any] = msgspec.to_builtins(leads_to)
    answer["vhost"] = vhost
    answer["leads_to"] = answer.pop("branches", [])
    answer["fed_by"] = msgspec.to_builtins(fed_by.branches)
    output.write_value(answer, form)


def _write_lines(lines: Iterable[view.Line]) -> None:
    for line in lines:
        output.write(line.guides + output.paint(line.text, line.tone) + "\n")


def _write_tsv(steps: Iterable[Any]) -> None:
    output.write("source_kind\tsource\tway\tkey\ttarget_kind\ttarget\n")
    for step in steps:
        cells = (step.source.kind, step.source.name, step.way, step.key or "", step.target.kind, step.target.name)
        output.write("\t".join(map(output.tsv_text, cells)) + "\n")
