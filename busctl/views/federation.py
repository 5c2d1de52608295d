"""Federation links: which exchanges and queues are fed from other brokers, and whether they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns, formats
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from busctl_lib.management.infos_links import FederationLinkInfo

_TONES = {
    "running": (Tone.GOOD, ""),
    "starting": (Tone.WARN, "▲ "),
    "shutdown": (Tone.BAD, "✖ "),
    "error": (Tone.BAD, "✖ "),
}


def status_tone(info: FederationLinkInfo) -> Tone:
    """What the colour of its state says."""
    return _TONES.get(info.status or "", (Tone.MUTED, ""))[0]


def _status_text(info: FederationLinkInfo) -> str:
    return formats.safe_text(_TONES.get(info.status or "", (Tone.MUTED, ""))[1] + (info.status or formats.UNKNOWN))


FEDERATION: View[FederationLinkInfo] = View(
    noun="federation",
    sort="name",
    columns=(
        columns.text("name", "NAME"),
        columns.text("vhost", "VHOST", wide=True),
        columns.text("type", "TYPE"),
        columns.text("upstream", "UPSTREAM"),
        Column(
            name="status",
            title="STATUS",
            value=lambda info: info.status,
            text=_status_text,
            tone=status_tone,
        ),
        columns.text("from", "FROM", lambda info: info.uri),
        columns.text("upstream_name", "UPSTREAM NAME", lambda info: info.upstream_exchange or info.upstream_queue),
        columns.text("since", "SINCE", lambda info: info.timestamp),
        columns.text("error", "ERROR", tone=lambda _: Tone.BAD),
        columns.text("id", "ID", wide=True),
        columns.text("node", "NODE", wide=True),
    ),
)
