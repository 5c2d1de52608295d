"""Numbers, times and foreign text for human eyes; durations from human hands.

"Not known" is always the same mark, never 0.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

UNKNOWN = "\u2013"
"""Shown for what is not known."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Control characters (C0, DEL, C1), everything Unicode calls a format character (bidirectional overrides, zero width,
# tags ...), separators of lines and paragraphs, and lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
_SKEW_S = 2.0
"""By how much another machine's clock may be ahead of ours."""
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def safe_text(text: str, limit: int | None = None, *, keep_lines: bool = False) -> str:
    r"""Make text from the bus harmless for a terminal: what could act on it is written out, as in `\x1b`.

    Args:
        text: Anything: a payload, a header, the name of a queue.
        limit: At most this many characters of result; a cut ends with "…".
        keep_lines: Leave newlines alone (for places of several lines); a tab becomes two spaces then.
    """
    if limit is not None and len(text) > limit:
        text = text[: max(limit, 0) + 1]
    if not text.isprintable():
        if keep_lines:
            text = text.replace("\r\n", "\n").replace("\t", "  ")
        text = _UNSAFE.sub(lambda match: _written_out(match[0], keep_lines=keep_lines), text)
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…" if limit > 0 else ""
    return text


def _written_out(character: str, *, keep_lines: bool) -> str:
    if character == "\n" and keep_lines:
        return character
    code = ord(character)
    if code <= 0xFF:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def cell_width(text: str) -> int:
    """How many terminal cells a safe text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def count(number: float | None) -> str:
    """Show a count in at most five characters: 7, 999, 1.2k, 12.3k, 123k, 4.5M."""
    if number is None:
        return UNKNOWN
    if abs(number) < 999.5:
        return f"{number:.0f}"
    return _scaled(number, ("k", "M", "G", "T", "P"))


def counted(number: int, noun: str) -> str:
    """Show a number of things: 1 message, 2,100 messages, 2 policies."""
    many = f"{noun[:-1]}ies" if noun.endswith("cy") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"


def rate(per_s: float | None) -> str:
    """Show a rate per second: 0, 0.2, 41, 1.2k."""
    if per_s is None:
        return UNKNOWN
    if 0 < abs(per_s) < 9.95:
        shown = f"{per_s:.1f}"
        return "<0.1" if shown == "0.0" else ">-0.1" if shown == "-0.0" else shown
    return count(per_s)


def size(n_bytes: float | None) -> str:
    """Show a number of bytes: 0 B, 87 B, 1.2 kB, 61 GB (thousands of 1,000)."""
    if n_bytes is None:
        return UNKNOWN
    if abs(n_bytes) < 999.5:
        return f"{n_bytes:.0f} B"
    number = _scaled(n_bytes, ("kB", "MB", "GB", "TB", "PB"))
    return re.sub(r"(?<=\d)(?=[kMGTP])", " ", number)


def _scaled(number: float, units: Sequence[str]) -> str:
    for unit in units:
        number /= 1000
        if abs(number) < 99.95:
            return f"{number:.1f}{unit}"
        if abs(number) < 999.5:
            return f"{number:.0f}{unit}"
    return f"{number:.0f}{units[-1]}"


def percent(part: float | None, whole: float | None) -> str:
    """Show a share: 48%."""
    return UNKNOWN if part is None or not whole else f"{100 * part / whole:.0f}%"


def duration(seconds: float | None) -> str:
    """Show a length of time in its largest unit: 41 ms, 4 s, 40 m, 3 h, 4 d."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"
    for unit, length in (("s", 60), ("m", 60), ("h", 48)):
        if seconds < length:
            return f"{max(int(seconds), 1)} {unit}"
        seconds /= 60 if unit != "h" else 24
    return f"{int(seconds)} d"


def age(seconds: float | None) -> str:
    """Show how old data is: 0.4 s ago, 14 s ago, 2 h ago."""
    if seconds is None:
        return "never"
    return f"{seconds:.1f} s ago" if seconds < 9.95 else f"{duration(seconds)} ago"


def ago(moment: float | None) -> str:
    """Show how long ago a moment was (seconds since 1970); what lies ahead, by a clock gone wrong, has no age."""
    if moment is None or (passed := time.time() - moment) < -_SKEW_S:
        return UNKNOWN
    return age(max(0.0, passed))


def clock(seconds: float) -> str:
    """Show the local time of day of a moment (seconds since 1970), to the millisecond: 14:03:07.250."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")[11:23]


def parse_duration(text: str) -> float:
    """Read `500ms`, `30s`, `5m`, `2h`, `1d`, `1h30m` or a bare number of seconds.

    Raises:
        ValueError: it is not one; the text says what is.
    """
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{safe_text(text, 40)!r} is not a duration: write 500ms, 30s, 5m or 2h")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def buckets(samples: Iterable[tuple[float, float]], width: int, span_s: float, now: float) -> list[float | None]:
    """Bring samples on an even grid that ends now: one value a cell, None where nothing is known yet.

    Args:
        samples: (time, value), oldest first.
        width: How many cells.
        span_s: How much time they cover.
        now: The end, in the clock of the samples.
    """
    step = span_s / width
    start = now - span_s
    cells: list[float | None] = [None] * width
    before: float | None = None
    for at, value in samples:
        if at <= start:
            before = value
        else:
            cells[min(int((at - start) / step), width - 1)] = value
    # A value holds until the next sample says otherwise.
    for index, cell in enumerate(cells):
        before = cells[index] = before if cell is None else cell
    return cells


def sparkline(values: Sequence[float | None], top: float | None = None) -> str:
    """Draw values as a line of blocks; a blank where nothing is known.

    Args:
        values: One a cell.
        top: What the full block stands for, so that lines of a column can be compared; the largest value if None.
    """
    known = [value for value in values if value is not None]
    highest = top if top is not None else max(known, default=0)
    return "".join(_block(value, highest) for value in values)


def _block(value: float | None, highest: float) -> str:
    if value is None:
        return " "
    if value <= 0 or highest <= 0:
        return _BLOCKS[0]
    # Any message at all stands above the ground line.
    return _BLOCKS[min(max(round(value / highest * 7), 1), 7)]
