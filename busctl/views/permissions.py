"""Permissions: which queues and exchanges a user may declare, write to and read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import formats
from busctl.views.columns import text
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from busctl_lib.management.infos_access import PermissionInfo

NOTHING = "(nothing)"
"""How a pattern is shown that allows nothing: the broker writes "" for it."""


def _pattern(name: str, title: str, get: Callable[[PermissionInfo], str | None]) -> Column[PermissionInfo]:
    return Column(
        name=name,
        title=title,
        value=get,
        text=lambda info: NOTHING if get(info) == "" else formats.safe_text(get(info) or formats.UNKNOWN),
        tone=lambda info: Tone.MUTED if not get(info) else Tone.NORMAL,
    )


PERMISSIONS: View[PermissionInfo] = View(
    noun="permissions",
    sort="user",
    columns=(
        text("user", "USER"),
        text("vhost", "VHOST"),
        _pattern("configure", "CONFIGURE", lambda info: info.configure),
        _pattern("write", "WRITE", lambda info: info.write),
        _pattern("read", "READ", lambda info: info.read),
    ),
)
