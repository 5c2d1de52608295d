"""StateLine: the line on top that never lies: where we are, whether it is well, and how old all this is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from textual.app import RenderResult
from textual.color import Color, ColorParseError
from textual.content import Content
from textual.widget import Widget

from busctl.views import formats, missing, nodes, overview

if TYPE_CHECKING:
    from busctl_lib.errors import BusError
    from busctl_lib.poller import Snapshot


class _Part(NamedTuple):
    """A piece of the line."""

    text: str
    style: str
    rank: int
    """The highest goes first when room is short."""


class StateLine(Widget):
    """One line of state.

    Args:
        context: What the broker is called here.
        where: The virtual host, when it is worth saying.
        guard: "production" or "read-only", or nothing.
        color: The colour of its context, if it has one.
    """

    DEFAULT_CSS = """
    StateLine {
        height: 1;
        background: $panel;
        color: $foreground;
        &.-lost { background: $error 30%; }
    }
    """
    OLD_S = 12.0
    """What is older is said to be."""

    clock = staticmethod(time.monotonic)

    def __init__(self, context: str, *, where: str = "", guard: str = "", color: str | None = None) -> None:
        super().__init__()
        self._called = formats.safe_text(context, 30)
        self._where = formats.safe_text(where, 24)
        self._guard = guard
        self._color = context_color(color)
        self._snapshot: Snapshot | None = None

    def on_mount(self) -> None:
        """The age grows by itself."""
        self.set_interval(1.0, self._grow_older)

    def _grow_older(self) -> None:
        if self.screen.is_current:  # below another screen it would be drawn for nobody
            self.refresh()

    def show(self, snapshot: Snapshot) -> None:
        """Show another snapshot."""
        self._snapshot = snapshot
        self.set_class(snapshot.error is not None, "-lost")
        self.refresh()

    def render(self) -> RenderResult:
        """Put as much as fits on the line; the age stands at its end."""
        snapshot = self._snapshot
        if snapshot is None or (snapshot.taken_at is None and snapshot.error is None):
            return Content.assemble((f" ○ {self._called}", "bold"), ("  asking the broker …", "$muted"))
        if snapshot.error is not None:
            return self._lost(snapshot, snapshot.error)
        age, old = formats.age(self._age_s(snapshot)), self._is_old(snapshot)
        age = f"▲ {age}" if old else age
        parts = self._parts(snapshot)
        room = self.size.width - cell_len(age) - 3
        kept = _that_fit(parts, room)
        gap = room - sum(cell_len(part.text) for part in kept)
        return Content.assemble(
            *((part.text, part.style) for part in kept),
            " " * max(gap + 2, 1),
            (age, "bold $text-warning" if old else "$muted"),
            " ",
        )

    def _age_s(self, snapshot: Snapshot) -> float | None:
        return None if snapshot.taken_at is None else max(0.0, self.clock() - snapshot.taken_at)

    def _is_old(self, snapshot: Snapshot) -> bool:
        """Whether nobody can tell how it stands by now."""
        age_s = self._age_s(snapshot)
        return age_s is not None and age_s >= self.OLD_S

    def _lost(self, snapshot: Snapshot, error: BusError) -> Content:
        age_s = self._age_s(snapshot)
        seen = f"last seen {formats.age(age_s)}" if age_s is not None else "never seen yet"
        wait_s = max(0.0, snapshot.next_at - self.clock()) if snapshot.next_at is not None else 0.0
        again = f", next try in {wait_s:.0f} s" if wait_s >= 1 else ", trying now"
        reason = formats.safe_text(str(error.facts.get("reason") or error))
        head = f" ✖ {self._called}  "
        room = self.size.width - cell_len(head) - cell_len(seen) - cell_len(again) - 3
        if cell_len(reason) > room:
            reason = formats.safe_text(reason, max(room, 8))
        hint = f"  {formats.safe_text(error.hint)}" if error.hint else ""
        if cell_len(reason) + cell_len(hint) > room:
            hint = ""
        return Content.assemble((head, "bold $text-error"), (f"{seen}: {reason}{again}", "bold"), hint)

    def _parts(self, snapshot: Snapshot) -> list[_Part]:
        info = snapshot.overview
        assert info is not None
        problems = overview.alarms(snapshot.nodes or ())
        mark = _Part(" ◌ ", "bold $text-warning", 0) if self._is_old(snapshot) else _Part(" ● ", "$text-success", 0)
        mark = _Part(" ✖ ", "bold $text-error", 0) if problems else mark
        name = _Part(f" {self._called} ", f"bold {self._color}", 0) if self._color else _Part(self._called, "bold", 0)
        parts = [mark, name]
        if self._where:
            parts.append(_Part(f" {self._where}", "$muted", 4))
        if self._guard:
            parts.append(
                _Part(f" {self._guard}", "bold $text-error" if self._guard == "production" else "bold $text-warning", 0)
            )
        if info.node and len(snapshot.nodes or ()) <= 1:
            parts.append(_Part(f"  {formats.safe_text(info.node, 30)}", "", 7))
        parts.append(_Part(f"  {formats.safe_text(info.rabbitmq_version or formats.UNKNOWN, 16)}", "$muted", 5))
        parts += self._health(snapshot, problems)
        if snapshot.missing:
            parts.append(_Part(f"  ▲ {missing.no_news(snapshot.missing)}", "bold $text-warning", 0))
            parts.append(_Part(f": {missing.why(snapshot.missing)}", "$text-warning", 3))
        totals = info.queue_totals
        ready = totals.messages_ready if totals else None
        unacked = totals.messages_unacknowledged if totals else None
        parts += [
            _Part(f"   ▲ {formats.rate(overview.rate_in(info))}/s", "$text-primary", 1),
            _Part(" in", "$muted", 8),
            _Part(f"  ▼ {formats.rate(overview.rate_out(info))}/s", "$text-secondary", 1),
            _Part(" out", "$muted", 8),
            _Part(f"   {formats.count(ready)} ready", "", 2),
            _Part(f"  {formats.count(unacked)} unacked", "", 6),
        ]
        return parts

    def _health(self, snapshot: Snapshot, problems: list[str]) -> list[_Part]:
        if snapshot.nodes is None and "nodes" in snapshot.missing:
            return []
        if snapshot.nodes is None:
            return [_Part("  nodes: needs the monitoring tag", "$muted", 3)]
        up = sum(node.running is not False for node in snapshot.nodes)
        total = len(snapshot.nodes)
        parts = [_Part(f"  {up}/{total} node{'s' if total != 1 else ''}", "" if up == total else "bold $text-error", 2)]
        if not problems:
            return [*parts, _Part("  no alarms", "$muted", 3)]
        words = sorted({problem for node in snapshot.nodes for problem in nodes.problems(node)})
        return [*parts, _Part(f"  {', '.join(words)}", "bold $text-error", 0)]


def context_color(name: str | None) -> str:
    """Give the style of a context's colour: its ground, and letters that can be read on it; "" for none."""
    if not name:
        return ""
    try:
        color = Color.parse(name)
    except ColorParseError:
        return ""
    return f"{color.get_contrast_text(1.0).hex} on {color.hex}"


def _that_fit(parts: list[_Part], room: int) -> list[_Part]:
    kept = list(parts)
    while kept and sum(cell_len(part.text) for part in kept) > room:
        highest = max(part.rank for part in kept)
        if highest == 0:
            break
        last = max(index for index, part in enumerate(kept) if part.rank == highest)
        del kept[last]
    return kept
