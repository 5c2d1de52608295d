"""What the console says of a look that was refused: its keys instead of a command's flags."""

from __future__ import annotations

from busctl_lib.errors import BusError, GuardRefused


def hint_of(error: BusError) -> str:
    """What to do next."""
    if isinstance(error, GuardRefused) and "least_ms" in error.facts:
        return "D goes on"
    return error.hint or ""
