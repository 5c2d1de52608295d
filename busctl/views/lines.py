"""Labelled lines: how one object is shown in full."""

from __future__ import annotations

from typing import NamedTuple

from busctl.views.view import Tone


class Line(NamedTuple):
    """A label and a text, safe to show; a line without a label goes on with the one above."""

    label: str
    text: str
    tone: Tone = Tone.NORMAL


def labelled(label: str, found: list[Line]) -> list[Line]:
    """Put a label before the first of some lines."""
    return [line._replace(label=label if index == 0 else "") for index, line in enumerate(found)]
