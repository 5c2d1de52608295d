"""Missing: what a beat did not bring, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from busctl.views.formats import safe_text

if TYPE_CHECKING:
    from busctl_lib.errors import BusError

_WORDS = {"overview": "totals", "rates": "some rates"}


def no_news(missing: Mapping[str, BusError]) -> str:
    """Name the parts; "" where nothing is missing."""
    return f"no news of {', '.join(_WORDS.get(part, part) for part in missing)}" if missing else ""


def why(missing: Mapping[str, BusError]) -> str:
    """Say why the first of them did not come."""
    error = next(iter(missing.values()))
    said = f"{error.facts.get('status')}: {text}" if (text := error.facts.get("text")) else str(error)
    return safe_text(str(error.facts.get("reason") or said), 120)
