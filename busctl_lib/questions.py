"""What is put to an expression."""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """A JSON object that an expression is asked about."""

    document: bytes
    """On one line."""
    hidden: frozenset[str] = frozenset()
    """Fields whose value is not known, and that it therefore has not: an expression that reads one cannot decide."""
    why: str = ""
    """Why they are not known."""
