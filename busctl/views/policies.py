"""Policies: which names they match, and what they set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns
from busctl.views.view import View

if TYPE_CHECKING:
    from busctl_lib.management.infos import PolicyInfo

POLICIES: View[PolicyInfo] = View(
    noun="policies",
    sort="name",
    columns=(
        columns.text("name", "NAME"),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("pattern", "PATTERN"),
        columns.text("apply_to", "APPLY TO"),
        columns.count("priority", "PRIORITY"),
        columns.text("definition", "DEFINITION", lambda info: columns.table(info.definition)),
    ),
)
