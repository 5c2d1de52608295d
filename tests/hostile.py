"""Objects whose every text is hostile to a terminal, to Rich or to Textual, wherever a type has room for one."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import importlib
import pkgutil
import sys
import types
import typing
import unicodedata
from datetime import UTC, datetime
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

import busctl.views
import busctl_lib

TEXT = "\x1b]0;owned\x07\x1b[31m[bold red]x[/]\u202e\u200b\ufeff\x9b2J\r\n\ty\u2028[@click=app.quit]z"
"""Escape sequences, C1, bidirectional override, zero width, line breaks, markup of Rich and Textual."""
ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def acting(shown: str, *, keep_lines: bool = False) -> set[str]:
    """The characters of a shown text that act on a terminal."""
    found = {char for char in shown if unicodedata.category(char) in ACTING}
    return found - {"\n"} if keep_lines else found


def modules(package: Any) -> list[Any]:
    """All modules of a package that can be imported here."""
    found = [package]
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "pytest_plugin" not in module.name and not module.name.endswith("__main__"):
            found.append(importlib.import_module(module.name))
    return found


def _names() -> dict[str, Any]:
    """Every class and alias of ours by name, so that annotations for type checkers are understood."""
    names: dict[str, Any] = {**vars(typing), **vars(collections.abc)}
    for module in [*modules(busctl_lib), *modules(busctl.views)]:
        names.update({name: value for name, value in vars(module).items() if not name.startswith("__")})
    return names


class Maker:
    """Makes hostile objects of any of our types."""

    def __init__(self) -> None:
        self.names = _names()

    def make(self, kind: Any, depth: int = 0) -> Any:
        """One object of a type, with every optional part there, down to a depth."""
        if isinstance(kind, str):
            kind = eval(kind, self.names)
        origin, parts = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            return self._one_of(parts, depth)
        if origin is Literal:
            return parts[0]
        if origin is not None:
            return self._of_many(origin, parts, depth)
        if kind in _PLAIN:
            return _PLAIN[kind]
        if isinstance(kind, enum.EnumMeta):
            return next(iter(kind))
        if isinstance(kind, type) and (hints := self._fields(kind)):
            return kind(**{name: self.make(hint, depth + 1) for name, hint in hints.items()})
        return TEXT

    def _one_of(self, parts: tuple[Any, ...], depth: int) -> Any:
        chosen = next((part for part in parts if part is str), parts[0])
        return None if depth > 6 and type(None) in parts else self.make(chosen, depth)

    def _of_many(self, origin: Any, parts: tuple[Any, ...], depth: int) -> Any:
        if issubclass(origin, collections.abc.Mapping):
            key, value = parts or (str, str)
            return {self.make(key, depth): self.make(value, depth + 1)}
        if issubclass(origin, tuple) and not (len(parts) == 2 and parts[1] is ...):
            return tuple(self.make(part, depth) for part in parts)
        if issubclass(origin, collections.abc.Iterable):
            items = [self.make(parts[0], depth + 1)] if depth < 6 else []
            return origin(items) if origin in (list, set, frozenset, tuple) else items
        return self.make(origin, depth)

    def _fields(self, kind: type) -> dict[str, Any]:
        near = {**self.names, **vars(sys.modules[kind.__module__])}
        hints = typing.get_type_hints(kind, near, near)
        if issubclass(kind, msgspec.Struct):
            return {name: hints[name] for name in kind.__struct_fields__}
        if dataclasses.is_dataclass(kind):
            return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return {name: hints[name] for name in kind._fields}
        return {}


_PLAIN: dict[Any, Any] = {
    str: TEXT,
    int: 3,
    float: 2.5,
    bool: True,
    bytes: TEXT.encode("utf-8", "replace") + b"\xff",
    type(None): None,
    type: None,
    datetime: datetime(2026, 1, 2, tzinfo=UTC),
    object: {TEXT: [TEXT, {TEXT: TEXT}]},
    Any: {TEXT: [TEXT, {TEXT: TEXT}]},
}
