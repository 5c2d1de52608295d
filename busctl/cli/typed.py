"""What a command line has for the most part, taken without pydantic: typer would load it first, for 0.1 s a command."""

from __future__ import annotations

import enum
from typing import Any

import typer.core
from typer._coercion import RuntimeParam, build_runtime_param


class _Typed(RuntimeParam):
    """Takes texts, words of a choice and what has its type already; leaves the rest, and what is wrong, to typer."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        kind: Any = self.annotation
        if kind is str and isinstance(value, str) and _is_text(value):
            return value
        if kind == list[str] and all(isinstance(each, str) and _is_text(each) for each in value):
            return list(value)
        if isinstance(kind, type) and issubclass(kind, enum.StrEnum) and value in list(kind):
            return kind(value)
        if kind in (int, float) and type(value) is kind:
            return value
        return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def take_over() -> None:
    """Take the values of all parameters of all commands so, the ones that typer makes itself among them."""
    typer.core.build_runtime_param = lambda descriptor: _Typed(descriptor.parameter_info, descriptor.annotation)  # type: ignore[attr-defined]
