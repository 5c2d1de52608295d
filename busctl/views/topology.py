"""The topology as a tree: bindings, alternate exchanges, dead letters; one line a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from busctl.views import formats
from busctl.views.exchanges import shown_name
from busctl.views.formats import safe_text
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from busctl_lib.topology_map import Branch

_AGAIN = {"cycle": "↻ goes round", "shown": "… as shown above", "deep": "… goes on"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a tree; both parts are safe to show."""

    guides: str
    """The lines that lead to it."""
    text: str
    tone: Tone = Tone.NORMAL
    branch: Branch | None = None
    """The place; None where the line only says something."""
    path: tuple[str, ...] = ()
    """What tells the line from the others of its tree: the ways from the root to it."""


def forth(tree: Branch) -> Iterator[Line]:
    """Draw what can be reached from a place."""
    yield Line("", place(tree), tone(tree), tree, (tree.kind, tree.name))
    if not tree.branches and tree.kind == "exchange":
        yield Line("└─ ", "nothing: what is published to it is lost, or goes back to its publisher", Tone.WARN)
    yield from _below(tree, "", (tree.kind, tree.name), back=False)


def back(tree: Branch) -> Iterator[Line]:
    """Draw what feeds a place."""
    yield Line("", place(tree), tone(tree), tree, (tree.kind, tree.name))
    if not tree.branches:
        only = "only who names it, through the default exchange" if tree.kind == "queue" else "only who publishes to it"
        yield Line("└─ ", only, Tone.MUTED)
    yield from _below(tree, "", (tree.kind, tree.name), back=True)


def _below(tree: Branch, guides: str, path: tuple[str, ...], *, back: bool) -> Iterator[Line]:
    for number, branch in enumerate(tree.branches, 1):
        last = number == len(tree.branches)
        text = f"{way(branch)} {'←' if back else '→'} {place(branch)}"
        here = (*path, way(branch), branch.kind, branch.name)
        yield Line(f"{guides}{'└─ ' if last else '├─ '}", text, tone(branch), branch, here)
        yield from _below(branch, f"{guides}{'   ' if last else '│  '}", here, back=back)


def way(branch: Branch) -> str:
    """Say how one comes to a place from the one above it."""
    if branch.way == "alternate":
        return "not routed"
    if branch.way == "dead-letter":
        return "dead letters" + (f" with key {_quoted(branch.key)}" if branch.key is not None else "")
    told = ", ".join(f"{name}={value}" for name, value in (branch.arguments or {}).items())
    return " ".join(part for part in (_quoted(branch.key or ""), formats.safe_text(told, 80)) if part)


def place(branch: Branch) -> str:
    """Name a place and say what it is."""
    if branch.missing:
        return f"{shown_name(branch.name)} (no such {branch.kind}: messages are lost)"
    facts = [" ".join(part for part in (branch.type, branch.kind) if part)]
    if branch.messages:
        facts.append(f"{formats.count(branch.messages)} message{'s' if branch.messages != 1 else ''}")
    if branch.consumers is not None:
        facts.append(f"{branch.consumers or 'no'} consumer{'s' if branch.consumers != 1 else ''}")
    if branch.way == "dead-letter" and not branch.name and branch.key is None:
        facts.append("to the queue that its own key names")
    again = f" {_AGAIN[branch.again]}" if branch.again is not None else ""
    return f"{shown_name(branch.name)} ({formats.safe_text(', '.join(facts))}){again}"


def tone(branch: Branch) -> Tone:
    """What the colour of a place says: dead letters go there, or into nothing."""
    if branch.missing:
        return Tone.BAD
    if branch.way in ("alternate", "dead-letter"):
        return Tone.WARN
    return Tone.MUTED if branch.again is not None else Tone.NORMAL


def _quoted(key: str) -> str:
    return repr(formats.safe_text(key, 80)).replace("\\\\", "\\")


class _LineView(View[Line]):
    def json(self, info: Line) -> Any:
        """Give the place of a line, without what lies behind it."""
        found = msgspec.to_builtins(info.branch) if info.branch is not None else {}
        return {name: value for name, value in found.items() if name != "branches"}


TOPOLOGY: View[Line] = _LineView(
    noun="topology",
    sort="tree",
    columns=(
        Column(
            name="tree",
            title="WHO CAN REACH WHAT",
            value=lambda line: line.text,
            text=lambda line: safe_text(line.guides + line.text),
            tone=lambda line: line.tone,
        ),
    ),
)
