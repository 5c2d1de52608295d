"""Templates: what changes from one message to the next of a load: `{{n}} {{uuid}} {{now}} {{rand 1 100}}`."""

from __future__ import annotations

import random
import re
import uuid
from datetime import UTC, datetime

from busctl_lib.errors import ConfigError

_VARIABLE = re.compile(r"\{\{\s*(?P<name>n|uuid|now|rand)(?P<numbers>(?:\s+-?\d+)*)\s*\}\}")


def check(text: str) -> None:
    """Raise ConfigError for a variable with the wrong arguments."""
    for found in _VARIABLE.finditer(text):
        numbers = _numbers(found)
        if len(numbers) != (2 if found["name"] == "rand" else 0) or (numbers and numbers[0] > numbers[1]):
            raise ConfigError(f"{found[0]} is no variable", hint="{{n}} {{uuid}} {{now}} {{rand 1 100}}, or --raw")


def render(text: str, number: int) -> str:
    """Fill a template in.

    Args:
        text: The template; `check` it first.
        number: Which message it is, from 1.
    """

    def value(found: re.Match[str]) -> str:
        match found["name"]:
            case "n":
                return str(number)
            case "uuid":
                return str(uuid.uuid4())
            case "now":
                return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            case _:
                return str(random.randint(*_numbers(found)))  # noqa: S311

    return _VARIABLE.sub(value, text)


def _numbers(found: re.Match[str]) -> list[int]:
    return [int(number) for number in found["numbers"].split()]
