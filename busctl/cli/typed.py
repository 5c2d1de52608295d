"""What a command line has for the most part, taken without pydantic: typer would load it first, for 0.1 s a command."""

from __future__ import annotations

import contextlib
import enum
from typing import Any

import typer.core


def take_over() -> None:
    """Take the values of all parameters of all commands so, the ones that typer makes itself among them.

    It reaches into typer 0.2x; another typer is left as it is, and takes its time.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from typer._coercion import RuntimeParam, build_runtime_param

        class Typed(RuntimeParam):
            """Takes what is plain; leaves the rest, and what is wrong, to typer."""

            def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
                kind: Any = self.annotation
                if is_plain(value, kind):
                    return list(value) if kind == list[str] else kind(value)
                return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)

        _ = typer.core.build_runtime_param  # type: ignore[attr-defined]
        typer.core.build_runtime_param = lambda descriptor: Typed(descriptor.parameter_info, descriptor.annotation)  # type: ignore[attr-defined]


def is_plain(value: Any, kind: Any) -> bool:
    """Whether a value is a text, texts, a word of a choice or a number that has its type already."""
    if kind is str:
        return isinstance(value, str) and _is_text(value)
    if kind == list[str]:
        return isinstance(value, list | tuple) and all(isinstance(each, str) and _is_text(each) for each in value)
    if _is_choice(kind):
        return value in list(kind)
    return kind in (int, float) and type(value) is kind


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.StrEnum)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
