"""The calls of this session: what was asked, what became of it, how long it took."""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from busctl.views import formats
from busctl.views.formats import safe_text
from busctl.views.view import Column, Tone, View
from busctl_lib.rpc.load import percentile

KEPT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One call."""

    number: int
    words: tuple[str, ...]
    outcome: str
    """"replied", or why not."""
    took_s: float | None
    at: float = field(default_factory=time.time)

    @property
    def line(self) -> str:
        """What was typed."""
        return shlex.join(self.words)


CALLS: View[Called] = View(
    noun="calls",
    sort="-number",
    columns=(
        Column(
            name="number",
            title="#",
            value=lambda call: call.number,
            text=lambda call: str(call.number),
            align="right",
            tone=lambda _: Tone.MUTED,
        ),
        Column(name="call", title="CALL", value=lambda call: call.line, text=lambda call: safe_text(call.line)),
        Column(
            name="outcome",
            title="OUTCOME",
            value=lambda call: call.outcome,
            text=lambda call: safe_text(("● " if call.outcome == "replied" else "✖ ") + call.outcome),
            tone=lambda call: Tone.GOOD if call.outcome == "replied" else Tone.BAD,
        ),
        Column(
            name="took",
            title="TOOK",
            value=lambda call: call.took_s,
            text=lambda call: formats.duration(call.took_s),
            align="right",
        ),
    ),
)


class RpcHistory:
    """The last calls, the newest last."""

    def __init__(self) -> None:
        self._calls: deque[Called] = deque(maxlen=KEPT)
        self._count = 0

    @property
    def calls(self) -> Sequence[Called]:
        """Oldest first."""
        return list(self._calls)

    def add(self, words: Sequence[str], outcome: str, took_s: float | None) -> None:
        """Remember a call."""
        self._count += 1
        self._calls.append(Called(number=self._count, words=tuple(words), outcome=outcome, took_s=took_s))

    def figures(self, method: str) -> str:
        """Say in one line how the calls of a method went; "" before the first."""
        calls = [call for call in self._calls if call.words[:1] == (method,)]
        times = [call.took_s for call in calls if call.took_s is not None and call.outcome == "replied"]
        failed = sum(call.outcome != "replied" for call in calls)
        if not calls:
            return ""
        ascending = sorted(times)
        parts = [formats.counted(len(calls), "call")]
        if failed:
            parts.append(f"{failed} failed")
        parts += [
            f"{name} {formats.duration(percentile(ascending, share))}"
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            if ascending
        ]
        line = formats.sparkline(times[-30:])
        return "  ".join(parts) + (f"  {line}" if len(times) > 1 else "")
