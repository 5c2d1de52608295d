"""Calls: one reply, the figures of many, and what was seen of other parties' calls. Every text is safe to show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from busctl.views import columns, formats, messages
from busctl.views.formats import safe_text
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from busctl_lib.envelope import Delivery
    from busctl_lib.rpc.load import LoadReport
    from busctl_lib.rpc.pairs import MethodFigures, SpiedCall

_WIDTH = 100
_BAR = 40
_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
_TONES = {"answered": Tone.GOOD, "orphan": Tone.BAD, "unasked": Tone.MUTED}


def harmless(text: str) -> str:
    """Escape what JSON lets through and a terminal acts on; it is still the same JSON."""
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def pretty(value: Any, indent: str = "") -> str:
    """Lay JSON out for reading: what fits on a line stays on it."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {pretty(item, inner)}" for key, item in value.items()]
        opening, closing = "{", "}"
    else:
        parts = [pretty(item, inner) for item in value]
        opening, closing = "[", "]"
    lines = ",\n".join(inner + part for part in parts)
    return f"{opening}\n{lines}\n{indent}{closing}"


# --- many calls


def load_json(report: LoadReport, strays: dict[str, int]) -> dict[str, Any]:
    """Give the figures of many calls as JSON values; times are seconds."""
    found: dict[str, Any] = {"planned": report.planned, "replied": report.replied}
    if report.failed:
        found["failed"] = report.failed
    found["elapsed_s"] = round(report.elapsed_s, 6)
    if report.per_s is not None:
        found |= {"per_s": round(report.per_s, 3), "min_s": round(report.latencies_s[0], 6)}
        found |= {f"{name}_s": round(report.percentile(share) or 0.0, 6) for name, share in _SHARES}
        found["max_s"] = round(report.latencies_s[-1], 6)
        found["histogram"] = [{"up_to_s": bar.up_to_s, "count": bar.count} for bar in report.histogram()]
    if any(strays.values()):
        found["strays"] = {name: number for name, number in strays.items() if number}
    return found


def load_lines(report: LoadReport, concurrency: int, strays: dict[str, int]) -> list[str]:
    """Show the figures of many calls: what became of them, percentiles, a histogram."""
    failed = ", ".join(f"{number} {kind}" for kind, number in sorted(report.failed.items()))
    missing = report.planned - report.done
    parts = [f"{report.replied} of {report.planned} replied in {formats.duration(report.elapsed_s)}"]
    parts += [f"failed: {failed}"] * bool(failed) + [f"{missing} not made"] * bool(missing)
    lines = [f"{'; '.join(parts)} ({formats.rate(report.per_s)}/s, {concurrency} at once)"]
    odd = [f"{number} {name}" for name, number in strays.items() if number]
    lines += [f"replies that belong to no call: {', '.join(odd)}"] * bool(odd)
    if report.latencies_s:
        shown = [f"{name} {milliseconds(report.percentile(share))}" for name, share in _SHARES]
        ends = [f"min {milliseconds(report.latencies_s[0])}", f"max {milliseconds(report.latencies_s[-1])}"]
        lines.append("  ".join([ends[0], *shown, ends[1]]))
        lines += _bars(report)
    return lines


def _bars(report: LoadReport) -> list[str]:
    bars = report.histogram()
    most = max(bar.count for bar in bars)
    return [
        f"  to {milliseconds(bar.up_to_s):>9}  {'█' * round(_BAR * bar.count / most):<{_BAR}}  {bar.count}".rstrip()
        for bar in bars
    ]


def milliseconds(seconds: float | None) -> str:
    """Show a short time with three figures: 0.41 ms, 4.1 ms, 41 ms, 4.1 s."""
    if seconds is None:
        return formats.UNKNOWN
    value, unit = (seconds * 1000, "ms") if seconds < 0.9995 else (seconds, "s")
    return f"{value:.2f} {unit}" if value < 1 else f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


# --- calls of others


def spied_json(call: SpiedCall) -> dict[str, Any]:
    """Give what was seen of a call as JSON values; request and reply are documents."""
    from busctl_lib.documents import document, iso_time

    found: dict[str, Any] = {"state": call.state, "method": call.method, "queue": call.queue, "at": iso_time(call.at)}
    found |= {"correlation_id": call.correlation_id} if call.correlation_id is not None else {}
    found |= {"latency_s": round(call.latency_s, 6)} if call.latency_s is not None else {}
    found |= {"error": call.error} if call.error is not None else {}
    for name in ("request", "reply"):
        delivery = getattr(call, name)
        if delivery is not None:
            found[name] = document(delivery)
    return found


def spied_line(call: SpiedCall) -> tuple[str, Tone]:
    """Show what was seen of a call on a line: time, state, method, latency, queue, error."""
    error = f"  {safe_text(call.error, 60)}" if call.error is not None else ""
    line = (
        f"{formats.clock(call.at)}  {call.state:<12}  {safe_text(call.method, 32):<24}  "
        f"{milliseconds(call.latency_s):>8}  {safe_text(call.queue, 48)}{error}"
    )
    return line, _tone(call)


def _tone(call: SpiedCall) -> Tone:
    return Tone.WARN if call.error is not None else _TONES.get(call.state, Tone.WARN)


def _count(name: str, title: str) -> Column[MethodFigures]:
    return Column(
        name=name,
        title=title,
        value=lambda info: getattr(info, name),
        text=lambda info: str(getattr(info, name)),
        align="right",
    )


def _share(name: str, share: float) -> Column[MethodFigures]:
    return Column(
        name=name,
        title=name.upper(),
        value=lambda info: info.percentile(share),
        text=lambda info: milliseconds(info.percentile(share)),
        align="right",
    )


FIGURES: View[MethodFigures] = View(
    noun="methods",
    sort="-answered",
    columns=(
        Column(name="method", title="METHOD", value=lambda info: info.method, text=lambda info: safe_text(info.method)),
        *(_count(name, name.upper()) for name in ("answered", "errors", "orphans", "late", "duplicates")),
        *(_share(name, share) for name, share in _SHARES),
    ),
)


class _CallView(View["SpiedCall"]):
    def json(self, info: SpiedCall) -> Any:
        """Request and reply as documents."""
        return spied_json(info)


def _half(name: str, title: str, get: Callable[[SpiedCall], Delivery | None]) -> Column[SpiedCall]:
    def text(call: SpiedCall) -> str:
        half = get(call)
        return messages.one_line(half, 400) if half is not None else formats.UNKNOWN

    return Column(name=name, title=title, value=text, text=text)


CALLS: View[SpiedCall] = _CallView(
    noun="calls",
    sort="-at",
    columns=(
        Column(
            name="at",
            title="TIME",
            value=lambda call: call.at,
            text=lambda call: formats.clock(call.at),
            tone=lambda _: Tone.MUTED,
        ),
        Column(
            name="state",
            title="STATE",
            value=lambda call: call.state,
            text=lambda call: f"{call.state}, error" if call.error is not None else call.state,
            tone=_tone,
        ),
        Column(
            name="latency",
            title="TOOK",
            value=lambda call: call.latency_s,
            text=lambda call: milliseconds(call.latency_s),
            align="right",
        ),
        columns.text("method", "METHOD"),
        columns.text("queue", "QUEUE", wide=True),
        _half("request", "REQUEST", lambda call: call.request),
        _half("reply", "REPLY", lambda call: call.reply),
        columns.text("error", "ERROR", wide=True),
    ),
)
