"""Contexts: which brokers have a name, without their passwords."""

from __future__ import annotations

from typing import Any

import msgspec

from busctl.views.formats import safe_text
from busctl.views.view import Column, Tone, View


class ContextInfo(msgspec.Struct, kw_only=True):
    """A named broker as it may be shown."""

    name: str
    address: str
    """Without password and vhost."""
    vhost: str
    current: bool = False
    previous: bool = False
    production: bool = False
    read_only: bool = False
    running_demo: bool = False
    password: str | None = None
    """Where it comes from; None where it stands in the address, or none is needed."""
    color: str | None = None


class _ContextView(View[ContextInfo]):
    def json(self, info: ContextInfo) -> Any:
        """Give a context as JSON values; absent is absent."""
        return {name: value for name, value in msgspec.to_builtins(info).items() if value is not None}


def marks(info: ContextInfo) -> str:
    """Say what to know before one works there."""
    said = {
        "production": info.production,
        "read-only": info.read_only,
        "demo": info.running_demo,
        "previous": info.previous,
    }
    return ", ".join(word for word, true in said.items() if true)


CONTEXTS: View[ContextInfo] = _ContextView(
    noun="contexts",
    sort="name",
    columns=(
        Column(
            name="current",
            title="",
            value=lambda info: "current" if info.current else "",
            text=lambda info: "●" if info.current else "",
            tone=lambda info: Tone.GOOD,
        ),
        Column(name="name", title="CONTEXT", value=lambda info: info.name, text=lambda info: safe_text(info.name)),
        Column(
            name="address", title="ADDRESS", value=lambda info: info.address, text=lambda info: safe_text(info.address)
        ),
        Column(name="vhost", title="VHOST", value=lambda info: info.vhost, text=lambda info: safe_text(info.vhost)),
        Column(
            name="marks",
            title="MARKS",
            value=marks,
            text=marks,
            tone=lambda info: Tone.WARN if info.production else Tone.NORMAL,
        ),
        Column(
            name="password",
            title="PASSWORD",
            value=lambda info: info.password,
            text=lambda info: safe_text(info.password or ""),
            wide=True,
        ),
    ),
)
