"""TOML files that people write: read, and their mistakes told by file, line, key and the nearest right key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from busctl_lib.errors import ConfigError


def read_text(path: Path) -> str:
    """Give the text of a file; one that is not there is empty. Raises ConfigError."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {why}", path=str(path)) from error


class Source:
    """The text of a TOML file that is checked, to tell where in it a mistake is."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def check_keys(self, table: Mapping[str, Any], known: Iterable[str], at: tuple[str, ...]) -> None:
        """Refuse keys that are not known; the hint names the nearest."""
        known = list(known)
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise self.error((*at, key), f"unknown key {'.'.join((*at, key))}", hint)

    def convert(self, value: object, kind: type[Any], at: tuple[str, ...]) -> Any:
        """Read a value as a type, or say where it is not one."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            text, _, place = str(error).partition(" - at `$")
            text = text.replace(" | null", "").replace("`object`", "`table`")  # TOML has no null
            found = (*at, *(part for part in place.rstrip("`").split(".") if part))
            raise self.error(found, f"{'.'.join(found)}: {text.lower()}", None) from error

    def error(self, key: tuple[str, ...], text: str, hint: str | None) -> ConfigError:
        """Make the error for a key: with file and line."""
        line = _line_of(self._text, key)
        place = str(self._path) if line is None else f"{self._path}, line {line}"
        return ConfigError(f"{place}: {text}", hint=hint, path=str(self._path), key=".".join(key), line=line)


def _line_of(text: str, wanted: tuple[str, ...]) -> int | None:
    """Find the line of a key or a table; in an inline table, the line where that begins."""
    table: tuple[str, ...] = ()
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+([^\[\]]+)\]+", line)
        key = re.match(r"""\s*((?:[^=#"'\[]|"[^"]*"|'[^']*')+)=""", line)
        if header:
            found = table = _dotted(header[1])
        elif key:
            found = (*table, *_dotted(key[1]))
        else:
            continue
        if found[: len(wanted)] == wanted:  # its own line, or that of the first table in it
            return number
        if wanted[: len(found)] == found and len(found) > best[0]:
            best = (len(found), number)
    return best[1]


def _dotted(text: str) -> tuple[str, ...]:
    """Read a key such as `contexts."a.b".vhost`."""
    try:
        value: Any = tomllib.loads(f"{text.strip()} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts: list[str] = []
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        parts.append(name)
    return tuple(parts)
