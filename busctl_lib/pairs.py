"""NAME=TEXT and NAME:=JSON: how the fields of an object are typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from busctl_lib.errors import ConfigError

PAIR = re.compile(r"^(?P<name>[A-Za-z_][\w.-]*)(?P<sign>:=|=)(?P<text>.*)$", re.DOTALL)
"""A word that is meant as a pair where it could be something else: a body, or an argument by its place."""


def object_of(words: Iterable[str], before: str = "") -> dict[str, Any]:
    """Make an object of words that can only be pairs: any name will do.

    Args:
        words: NAME=TEXT and NAME:=JSON.
        before: What stands before a complaint: the option that the words belong to.

    Raises:
        ConfigError: a word is no pair or no text, or a name comes twice.
    """
    made: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition("=")
        is_json, name = name.endswith(":"), name.removesuffix(":")
        if not sign or not name:
            raise ConfigError(f"{before}{_cut(word)!r} is neither NAME=TEXT nor NAME:=JSON")
        if not _is_text(word):
            raise ConfigError(f"{before}{_cut(word)!r} is not valid UTF-8")
        if name in made:
            raise ConfigError(f"{before}{name} is given twice")
        try:
            made[name] = json_of(text) if is_json else text
        except ValueError:
            hint = f"for text write {name}=..."
            raise ConfigError(f"{before}{name}: {_cut(text)!r} is not JSON", hint=hint) from None
    return made


def json_of(text: str) -> Any:
    """Read JSON; ValueError for what is none, NaN and nesting without end among it."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
