"""`busctl demo`: the sample trading bus, with the console on it or for others to use."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags, output
from busctl.cli.lists import require_above_0, seconds
from busctl.views import formats
from busctl_lib.errors import BusError

if TYPE_CHECKING:
    from pathlib import Path

    from busctl.demo.runner import Demo
    from busctl_lib.management import ManagementClient

_TELL_EVERY_S = 5.0
_LOOK_EVERY_S = 0.25
_DEFAULT_RATE = 20.0


def demo(
    ctx: typer.Context,
    headless: Annotated[bool, typer.Option("--headless", help="Without the console, also on a terminal.")] = False,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="End after that long; without the console.")
    ] = None,
    rate: Annotated[
        float, typer.Option(metavar="PER_S", help="Orders a second, on average; each makes about eight messages.")
    ] = _DEFAULT_RATE,
    seed: Annotated[int | None, typer.Option(help="Of the order flow; the same seed sends the same orders.")] = None,
) -> None:
    """Start a private RabbitMQ with a live trading bus, and the console on it.

    Without a terminal: when the bus answers, one JSON object with amqp_url and api_url on stdout, then the queues on
    stderr every few seconds. Everything it started ends with it.
    """
    assert isinstance(ctx.obj, flags.GlobalFlags)
    require_above_0(rate, "--rate")
    for_s = None if for_ is None else seconds(for_, "--for")
    from busctl.demo.registry import registered
    from busctl.demo.runner import Demo

    with_console = sys.stdin.isatty() and sys.stdout.isatty() and not headless and for_s is None
    exits.note("starting a private RabbitMQ and the trading bus ...")
    running = Demo(rate=rate, seed=seed, on_event=None if with_console else exits.note)
    with running, registered(running.amqp_url, running.api_url or "") as name:
        if with_console:
            _open_console(running, name, ctx.obj.bus_path)
        else:
            _headless(running, name, for_s)


def _open_console(running: Demo, name: str, bus_file: Path | None) -> None:
    from busctl.config import Flags, resolve
    from busctl.session import Session
    from busctl.tui.app import run_console

    settings = resolve(Flags(amqp_url=running.amqp_url, api_url=running.api_url))
    with Session(replace(settings, context=name), bus_file=bus_file) as session:
        for left_behind in run_console(session):
            exits.note(f"busctl: {left_behind}")


def _headless(running: Demo, name: str, for_s: float | None) -> None:
    """Say where the bus is, and look after it until it is time or somebody ends it."""
    output.write_jsonl({"amqp_url": running.amqp_url, "api_url": running.api_url, "context": name})
    began = told = time.monotonic()
    exits.note(f"the bus runs (seed {running.seed}); in another terminal: busctl -c {name} queues")
    for variable, value in (("BUSCTL_AMQP_URL", running.amqp_url), ("BUSCTL_API_URL", running.api_url)):
        exits.note(f"export {variable}={shlex.quote(value or '')}")
    from busctl_lib.management import ManagementClient

    try:
        with ManagementClient(running.api_url or "") as api:
            while (for_s is None or time.monotonic() < began + for_s) and not output.reader_gone():
                if time.monotonic() >= told + _TELL_EVERY_S:
                    told += _TELL_EVERY_S
                    _tell(api, told - began)
                time.sleep(_LOOK_EVERY_S)
    except (KeyboardInterrupt, exits.Terminated):
        # The way to end a demo: what was asked for is done.
        exits.note("ending the demo")


def _tell(api: ManagementClient, age_s: float) -> None:
    """Write the queues to stderr."""
    from busctl.views.queues import rate_in, rate_out

    try:
        queues = api.queues_with_rates("/")
    except BusError as error:
        exits.note(f"after {formats.duration(age_s)}: {error}")
        return
    head = f"after {formats.duration(age_s)}:"
    exits.note(f"{head:<36} {'ready':>6} {'unacked':>8} {'cons':>5} {'in/s':>6} {'out/s':>6}")
    for info in sorted(queues, key=lambda info: info.name):
        exits.note(
            f"  {info.name:<34} {formats.count(info.messages_ready):>6}"
            f" {formats.count(info.messages_unacknowledged):>8} {formats.count(info.consumers):>5}"
            f" {formats.rate(rate_in(info)):>6} {formats.rate(rate_out(info)):>6}"
        )
