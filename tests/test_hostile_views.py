"""Hostile names, headers, client properties and payloads in every place of every view: none acts on a terminal."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hostile import TEXT, Maker, acting, modules

import busctl.views
from busctl.cli import output
from busctl.cli.output import Format
from busctl.views import messages, overview, queue_detail, topology
from busctl.views.view import View
from busctl_lib import envelope

MAKER = Maker()


def all_views() -> Iterator[tuple[str, Any, str]]:
    """Name, view and type of every view there is; a new one is walked without being named here."""
    for module in modules(busctl.views):
        for name, annotation in getattr(module, "__annotations__", {}).items():
            view = getattr(module, name, None)
            if isinstance(view, View):
                yield f"{module.__name__}.{name}", view, annotation.removeprefix("View[").removesuffix("]")


VIEWS = {name: (view, kind) for name, view, kind in all_views()}


def texts(shown: Any) -> Iterator[str]:
    """Every text in what a view gives."""
    if isinstance(shown, str):
        yield shown
    elif isinstance(shown, Iterable):
        yield from itertools.chain.from_iterable(texts(part) for part in shown)
    elif hasattr(shown, "text"):
        yield shown.text


def test_all_views_are_found() -> None:
    assert len(VIEWS) >= 15


@pytest.mark.parametrize("name", VIEWS)
def test_a_row_of_hostile_texts_is_harmless(name: str) -> None:
    view, kind = VIEWS[name]
    info = MAKER.make(kind)
    for column in view.select(wide=True):
        cell = column.cell(info)
        assert not acting(cell.text), f"{column.name}: {cell.text!r}"
    assert view.sorted([info, info])


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("name", VIEWS)
def test_a_printed_list_of_hostile_texts_is_harmless(
    name: str, form: Format, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    view, kind = VIEWS[name]
    output.write_list(view, [MAKER.make(kind)], form, view.select(wide=True))
    out = capfdbinary.readouterr().out.decode()
    if form in (Format.JSON, Format.JSONL):
        assert "\x1b" not in out
        assert json.loads(out)
    else:
        assert not acting(out.replace("\t", ""), keep_lines=True)
        assert len(out.splitlines()) <= 2


LINES: dict[str, Callable[[], Any]] = {
    "queue detail": lambda: queue_detail.lines(MAKER.make("QueueInfo"), MAKER.make("QueueDetail"), 600.0),
    "topology, forth": lambda: topology.forth(MAKER.make("Branch")),
    "topology, back": lambda: topology.back(MAKER.make("Branch")),
    "overview": lambda: overview.facts(MAKER.make("OverviewInfo"), [MAKER.make("NodeInfo")]),
    "attention": lambda: [
        (item.name, item.text) for item in overview.attention([MAKER.make("QueueInfo")], [MAKER.make("NodeInfo")])
    ],
    "message": lambda: messages.row(MAKER.make(envelope.Delivery)),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_of_hostile_texts_are_harmless(name: str) -> None:
    shown = list(texts(LINES[name]()))
    assert shown
    for text in shown:
        assert not acting(text), repr(text)
    assert any("owned" in text for text in shown), "the hostile text was not shown at all"


def test_the_hostile_text_is_hostile() -> None:
    assert len(acting(TEXT)) >= 9
