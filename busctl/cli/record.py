"""`busctl record`: keep what several taps see in one capture."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from busctl.cli import exits, flags, lists, selecting, watching
from busctl.cli.confirm import YesOption
from busctl.cli.moving import AcceptDelayOption
from busctl.cli.progress import Progress
from busctl.cli.tail import (
    AcceptLossOption,
    AllOption,
    ExchangeOption,
    ForOption,
    KeyOption,
    NumberOption,
    SinceOption,
    Via,
    ViaOption,
    expression,
    targets_of,
)
from busctl.keyfile import load_keys
from busctl_lib.errors import ConfigError

_SIZE = re.compile(r"(\d+)(?:([kKMG])i?)?B?", re.ASCII)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def record(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new .jsonl or .jsonl.zst file.", show_default=False)],
    queues: Annotated[
        list[str] | None, typer.Argument(metavar="QUEUE", help="The queues to watch.", show_default=False)
    ] = None,
    via: ViaOption = Via.AUTO,
    number: NumberOption = None,
    for_: ForOption = None,
    exchange: ExchangeOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    since: SinceOption = None,
    where: selecting.WhereOption = None,
    undecided: selecting.UndecidedOption = selecting.Undecided.HIDE,
    rotate: Annotated[
        str | None, typer.Option("--rotate", metavar="SIZE", help="Begin another file at 100MB, 2GB ...")
    ] = None,
    accept_loss: AcceptLossOption = False,
    accept_delay: AcceptDelayOption = False,
    yes: YesOption = False,
) -> int:
    """Keep the messages of queues in a capture, exactly as they are; `busctl play` publishes them again."""
    from busctl.views import formats
    from busctl_lib.captures import CaptureWriter

    targets = targets_of(queues, exchange, key, everything=everything, via=via, since=since)
    targets = replace(targets, accept_loss=accept_loss, accept_delay=accept_delay)
    if via is Via.CONSUME and where is not None:
        raise ConfigError("--via consume takes every message away: --where would lose what it does not keep")
    seconds = None if for_ is None else lists.seconds(for_, "--for")
    size = None if rotate is None else _bytes(rotate)
    with flags.open_session(ctx) as session:
        shows = undecided is selecting.Undecided.SHOW
        chosen = selecting.Selection(expression(session, where, "--where"), keys=load_keys(), undecided=shows)
        session.broker.connect()
        plans = watching.plan_all(session, targets, explain=False)
        watching.allow(session, plans, yes=yes)
        with CaptureWriter(file, rotate_bytes=size) as capture, Progress() as progress:
            doing = watching.Watch(
                selection=chosen,
                show=lambda _: progress.show(f"{capture.count:,} messages in {capture.paths[-1]}"),
                number=number,
                seconds=seconds,
                capture=capture,
                watch_stdout=False,
            )
            try:
                return watching.watch(session, plans, doing)
            finally:
                files = ", ".join(map(str, capture.paths))
                exits.note(f"{formats.counted(capture.count, 'message')} kept in {files}")


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text)
    size = int(found[1]) * _UNITS[(found[2] or "").lower()] if found is not None else 0
    if size < 1:
        raise ConfigError(f"--rotate: {text!r} is not a size", hint="for example 100MB")
    return size
