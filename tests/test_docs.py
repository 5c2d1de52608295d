"""The pages and the help tell the truth: the reference is what the program says, examples are commands it has."""

from __future__ import annotations

import ast
import contextlib
import importlib
import itertools
import re
import runpy
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from trying import ROOT, command_lines
from typer.core import TyperGroup

from busctl.cli import examples, flags
from busctl.cli.main import COMMANDS, program

WRITTEN = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "cli.md")]
PAGES = [path.relative_to(ROOT).as_posix() for path in WRITTEN]
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def all_commands() -> Iterator[tuple[str, Any]]:
    """Every command that help shows, by its path; the root is ""."""
    root = program()
    yield "", root
    for name in COMMANDS:
        command = root.commands[name].load()
        yield name, command
        if isinstance(command, TyperGroup):
            yield from ((f"{name} {below}", each) for below, each in command.commands.items() if not each.hidden)


def words_of(line: str) -> list[str]:
    """The words of the first program of a line, without where its output goes."""
    return list(itertools.takewhile(lambda word: word not in (">", "|", "&&"), shlex.split(line)))


def parse(words: list[str]) -> None:
    """Let the program read a command line, and run nothing. Raises what is wrong with it."""
    command, context, rest = program(), None, words[1:]
    while True:
        context = command.make_context("busctl", list(rest), parent=context, obj=flags.GlobalFlags())
        if isinstance(context.command, TyperGroup) and context._protected_args:
            left = [*context._protected_args, *context.args]
            _, command, rest = context.command.resolve_command(context, left)
        else:
            return


def test_the_reference_is_what_the_program_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make.py"))
    assert (ROOT / "docs" / "cli.md").read_text() == made["reference"](), "stale: run `make docs`"


def test_every_command_has_examples_and_each_is_one_that_the_program_reads() -> None:
    paths = dict(all_commands())
    assert [path for path in paths if not examples.of(path)] == []
    assert [path for path in examples._EXAMPLES if path not in {*paths, "ops show"}] == [], "of no command"
    for path, command in paths.items():
        for line, does in examples.of(path):
            assert does
            parse(words_of(line))
        shown = examples.of(path)[0].line.replace("[", r"\[")
        assert shown in command.help.split("\n\n")[1], "examples stand first"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one_that_the_program_reads(page: str) -> None:
    for printed in command_lines((ROOT / page).read_text()):
        if printed.words[0] == "busctl":
            with contextlib.suppress(typer.Exit):  # help, and the version
                parse(words_of(printed.line))


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_imports_and_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    for block in _PYTHON.findall(text):
        for statement in ast.walk(ast.parse(block)):
            if isinstance(statement, ast.ImportFrom):
                module = importlib.import_module(str(statement.module))
                assert [each.name for each in statement.names if not hasattr(module, each.name)] == []
    for file, place in _LINK.findall(text):
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), file
        if place:
            assert place in anchors(target.read_text()), f"{file}#{place}"


def anchors(text: str) -> set[str]:
    """The names that a page's headings have in links."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
