"""Users: what the broker lets each of them see and do beyond the messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns
from busctl.views.view import Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos_access import AccountInfo


def tags(info: AccountInfo) -> str:
    """Its tags; a user without one cannot use the management API."""
    return ", ".join(info.tag_names)


def _tone(info: AccountInfo) -> Tone:
    return Tone.WARN if "administrator" in info.tag_names else Tone.NORMAL


USERS: View[AccountInfo] = View(
    noun="users",
    sort="name",
    columns=(
        columns.text("name", "NAME"),
        columns.text("tags", "TAGS", tags, tone=_tone),
        columns.text("limits", "LIMITS", lambda info: columns.table(info.limits)),
    ),
)
