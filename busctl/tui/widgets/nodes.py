"""NodeBars: one line a node: memory as a bar, disk, file descriptors, time since its start."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

from busctl.views import formats, nodes
from busctl_lib.management.infos_cluster import NodeInfo

_BAR = 10


class NodeBars(Widget):
    """The nodes of the cluster."""

    DEFAULT_CSS = """
    NodeBars { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._infos: Sequence[NodeInfo] | None = ()
        self._nothing = "asking the broker …"
        """What stands there while no node is known."""

    def show(self, infos: Sequence[NodeInfo] | None) -> None:
        """Show these; None: not known."""
        changed = len(infos or ()) != len(self._infos or ())
        self._infos = infos
        self.refresh(layout=changed)

    def show_unknown(self) -> None:
        """The broker was asked in vain."""
        self._nothing = "not known yet"
        self.refresh()

    def render(self) -> RenderResult:
        """Draw a line for each."""
        if self._infos is None:
            return Content.assemble(
                ("needs the monitoring tag; ask for: rabbitmqctl set_user_tags USER monitoring", "$muted")
            )
        if not self._infos:
            return Content.assemble((self._nothing, "$muted"))
        width = min(max(len(formats.safe_text(info.name)) for info in self._infos), max(self.size.width - 44, 12))
        return Content("\n").join([self._line(info, width) for info in self._infos])

    def _line(self, info: NodeInfo, width: int) -> Content:
        problems = nodes.problems(info)
        name = formats.safe_text(info.name, width)
        mark = ("✖ ", "bold $text-error") if problems else ("● ", "$text-success")
        if info.running is False:
            return Content.assemble(mark, (f"{name:<{width}}", "bold"), ("  down", "bold $text-error"))
        tail = f"  up {formats.duration(info.uptime / 1000 if info.uptime is not None else None)}"
        parts = [
            mark,
            (f"{name:<{width}}", "bold"),
            ("  mem ", "$muted"),
            *_bar(info.mem_used, info.mem_limit, alarm=bool(info.mem_alarm)),
            (f" {formats.percent(info.mem_used, info.mem_limit):>4}", ""),
            ("  disk ", "$muted"),
            (formats.size(info.disk_free), "bold $text-error" if info.disk_free_alarm else ""),
            ("  fd ", "$muted"),
            (formats.percent(info.fd_used, info.fd_total), ""),
        ]
        used = sum(len(text) for text, _ in parts)
        if used + len(tail) <= self.size.width:
            parts.append((tail, "$muted"))
        if problems:
            parts.append((f"  {', '.join(problems)}", "bold $text-error"))
        return Content.assemble(*parts)


def _bar(used: float | None, limit: float | None, *, alarm: bool) -> list[tuple[str, str]]:
    share = used / limit if used is not None and limit else 0.0
    full = min(round(share * _BAR), _BAR)
    style = "$text-error" if alarm or share > 0.9 else "$text-warning" if share > 0.7 else "$text-success"
    return [("━" * full, style), ("─" * (_BAR - full), "$muted")]
