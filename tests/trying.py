"""Command lines: run in this process; and found where a page prints them."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from busctl.cli.main import run

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"exit (\d+)")
_SHELL = set("|>;&`$")


class Ended(NamedTuple):
    """How a command line ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Busctl:
    """Runs command lines as the program would, in this process: to load the program takes longer than most of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._patch = monkeypatch
        self._capfd = capfd

    def __call__(self, *words: str, stdin: bytes = b"", **environment: str) -> Ended:
        self._capfd.readouterr()
        with self._patch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, value in environment.items():
                patch.setenv(name, value)
            code = run(words)
        return Ended(code, *self._capfd.readouterr())


class Printed(NamedTuple):
    """A command line of a page."""

    line: str
    code: int
    """How it says that it ends: `# ... exit 9`; else 0."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)


def command_lines(text: str) -> Iterator[Printed]:
    """What stands behind a $ in the console blocks of a page, without the comment."""
    for block in _BLOCK.findall(text):
        for typed in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            line, _, comment = typed.partition("   # ")
            told = _EXIT.search(comment)
            yield Printed(line.strip(), int(told.group(1)) if told else 0)


def try_out(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command line in this process where no shell is needed; returns its code and all that it printed."""
    program, *words = shlex.split(line)
    capfd.readouterr()
    if program == "busctl" and not set("".join(words)) & _SHELL:
        code = run(words)
        return code, "".join(capfd.readouterr())
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr
