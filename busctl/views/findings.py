"""Findings: what a check found, whether that is well, and how to mend it."""

from __future__ import annotations

import enum

import msgspec

from busctl.views.formats import safe_text
from busctl.views.view import Column, Tone, View


class State(enum.StrEnum):
    """How well it is."""

    OK = "ok"
    WARN = "warn"
    """It works, with less than there could be."""
    BAD = "bad"
    """Something will not work."""


class Finding(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one check found."""

    check: str
    state: State
    found: str
    mend: str | None = None
    """What to do about it; none where it is well."""


TONES = {State.OK: Tone.GOOD, State.WARN: Tone.WARN, State.BAD: Tone.BAD}

FINDINGS: View[Finding] = View(
    noun="findings",
    sort="check",
    columns=(
        Column(
            name="state",
            title="STATE",
            value=lambda info: info.state.value,
            text=lambda info: info.state.value,
            tone=lambda info: TONES[info.state],
        ),
        Column(name="check", title="CHECK", value=lambda info: info.check, text=lambda info: safe_text(info.check)),
        Column(name="found", title="FOUND", value=lambda info: info.found, text=lambda info: safe_text(info.found)),
        Column(
            name="mend",
            title="TO MEND IT",
            value=lambda info: info.mend,
            text=lambda info: safe_text(info.mend or ""),
        ),
    ),
)
