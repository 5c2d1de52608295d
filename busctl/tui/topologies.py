"""The topology as a list of the console: everything, or what feeds one place and where that leads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.message import Message

from busctl.tui.messages import OpenList, OpenQueue, OpenTopology
from busctl.tui.nouns import Noun
from busctl.views.exchanges import shown_name
from busctl.views.topology import TOPOLOGY, Line, back, forth
from busctl.views.view import Tone
from busctl_lib.errors import NotFound

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.topology_map import TopologyMap


def topology_noun(name: str = "", *, vhost: str) -> Noun[Line]:
    """Make the list: of one place, or of everything if none is named."""
    return Noun(
        view=TOPOLOGY,
        fetch=lambda session: _of_one(session, name) if name else _of_all(session),
        key=lambda line: line.path,
        label=lambda line: line.text,
        opens=lambda line: _place(line, vhost),
        jumps={"topology": _centre},
        sort=None,
        empty="No exchanges or queues here.",
        first=("tree",),
        least={"tree": 20},
        most=1000,
        kept=False,
        counted="lines",
        words=(name,) if name else (),
    )


def _place(line: Line, vhost: str) -> Message | None:
    """Go to the queue or the exchange of a line."""
    branch = line.branch
    if branch is None or branch.missing:
        return None
    if branch.kind == "queue":
        return OpenQueue(vhost, branch.name)
    name = branch.name
    return OpenList("exchanges", shown_name(name), lambda exchange: exchange.name == name)


def _centre(line: Line) -> Message | None:
    """See the topology from the place of a line."""
    return OpenTopology(line.branch.name) if line.branch is not None and line.branch.name else None


def _read(session: Session) -> TopologyMap:
    from busctl_lib import topology_map

    return topology_map.read(session.management, session.vhost)


def _of_all(session: Session) -> Sequence[Line]:
    return [line for tree in _read(session).forest() for line in forth(tree)]


def _of_one(session: Session, name: str) -> Sequence[Line]:
    found = _read(session)
    lines = list(around(found, name))
    if not lines:
        from busctl_lib.schemas import nearest

        near = nearest(name, sorted({*found.queues, *found.exchanges}))
        hint = f"did you mean {near}?" if near else ":topology draws everything"
        text = f"no queue or exchange {name!r} in vhost {session.vhost!r}"
        raise NotFound(text, hint=hint, code=404, text="Not Found")
    return lines


def around(found: TopologyMap, name: str) -> Iterator[Line]:
    """Draw what feeds the places of a name, and where they lead."""
    from busctl_lib.topology_map import Kind, Place

    kinds: tuple[Kind, Kind] = ("queue", "exchange")
    for place in (Place(kind, name) for kind in kinds):
        if not found.has(place):
            continue
        for title, tree, draw in (
            ("is fed by", found.fed_by(place), back),
            ("leads to", found.leads_to(place), forth),
        ):
            head = f"{place.kind} {shown_name(name)} {title}"
            yield Line("", head, Tone.MUTED, tree, (head,))
            yield from (replace(line, guides=f"  {line.guides}", path=(title, *line.path)) for line in draw(tree))
