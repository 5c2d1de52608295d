"""Whoever uses the library finds each public name explained where it is."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import busctl_lib

NOT_FOR_USERS = {"amqp"}
"""Behind the one door: MessageBroker is what users open."""
MODULES = ["busctl_lib"] + [
    f"busctl_lib.{module.name}"
    for module in pkgutil.iter_modules(busctl_lib.__path__)
    if module.name not in NOT_FOR_USERS
]


def public(module: ModuleType) -> Iterator[str]:
    """The names a module gives to its users: what __all__ says, else what it defines; of a package, what it imports."""
    if hasattr(module, "__all__"):
        yield from module.__all__
        return
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None) or module.__name__
        inside = home.startswith(module.__name__) if hasattr(module, "__path__") else home == module.__name__
        if not name.startswith("_") and inside and not isinstance(value, ModuleType):
            yield name


def undocumented(module: ModuleType, name: str) -> Iterator[str]:
    value = getattr(module, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        yield from (f"{home.__name__}.{name}" for home in homes(module) if explained(home).get(name) is False)
        return
    if not has_docstring(value):
        yield f"{value.__module__}.{value.__qualname__}"
    for below, member in vars(value).items() if inspect.isclass(value) else ():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not below.startswith("_") and inspect.isfunction(function) and not has_docstring(function):
            yield f"{value.__module__}.{value.__qualname__}.{below}"


def homes(module: ModuleType) -> Iterator[ModuleType]:
    """Where a constant of a module may be assigned: there, or of a package in one of its modules."""
    yield module
    for below in pkgutil.iter_modules(getattr(module, "__path__", ())) if module is not busctl_lib else ():
        yield importlib.import_module(f"{module.__name__}.{below.name}")


def has_docstring(value: Any) -> bool:
    """One of its own: not its parent's, nor what dataclasses and enums are given."""
    own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    return bool(own and own.strip()) and not own.startswith(f"{value.__name__}(")


@functools.cache
def explained(module: ModuleType) -> dict[str, bool]:
    """The constants and aliases that a module assigns, and whether a string stands behind each."""
    body = ast.parse(inspect.getsource(module)).body
    found = {}
    for statement, follower in zip(body, [*body[1:], None], strict=True):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        told = isinstance(follower, ast.Expr) and isinstance(follower.value, ast.Constant)
        found |= {target.id: told for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [lacking for each in sorted(public(module)) for lacking in undocumented(module, each)] == []
