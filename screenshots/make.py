"""Draw the console's screens into screenshots/*.svg, on the sample bus.

    python screenshots/make.py [--warm-up SECONDS] [--only NAME ...]

The bus runs for a while first, so that charts and dead letters have something to show. The scenes story-1 to story-7
are one story, in order: a queue grows, why, what died, what a replay would do, and what became of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from busctl.config import Flags, resolve
from busctl.demo.runner import Demo
from busctl.session import Session
from busctl.tui.app import ConsoleApp
from busctl.tui.screens.tail import TailScreen
from busctl.tui.widgets.table import LiveTable
from busctl_lib import MessageBroker

FOLDER = Path(__file__).parent
SIZE = (130, 36)
SEED = 7


class Camera:
    """A console on the sample bus, and its pictures."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[None], demo: Demo) -> None:
        self.app = app
        self.pilot = pilot
        self.demo = demo

    async def command(self, line: str) -> None:
        """Give a command behind `:`."""
        await self.pilot.press("colon")
        self.app.screen.query_one("#prompt-text", Input).value = line
        await self.pilot.press("enter")

    async def shows(self, *texts: str, timeout: float = 30) -> None:
        """Wait until all of these stand on the screen."""
        deadline = time.monotonic() + timeout
        while not all(text in self.text() for text in texts):
            if time.monotonic() > deadline:
                raise SystemExit(f"the console never showed {texts}:\n{self.text()}")
            await asyncio.sleep(0.05)

    def text(self) -> str:
        """The screen as text."""
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    async def save(self, name: str) -> None:
        """Write the picture of what is shown."""
        await self.pilot.pause()
        path = FOLDER / f"{name}.svg"
        path.write_text(self.app.export_screenshot(title="busctl"), "utf-8")
        print(path.relative_to(FOLDER.parent))


async def overview(camera: Camera) -> None:
    await camera.shows("Needs attention", "ready", "/1 node")


async def queues(camera: Camera) -> None:
    await camera.command("queues")
    await camera.shows("obs_requests", "READY▾")


async def queue(camera: Camera) -> None:
    await camera.command("queue obs_requests")
    await camera.shows("Depth, last 10 min", "CONSUMER", "obs_requests", "(default)")


async def tail(camera: Camera) -> None:
    await camera.command("tail obs_responses")
    await camera.shows("FOLLOWING", "obs_responses  ")
    screen = camera.app.screen
    assert isinstance(screen, TailScreen)
    while screen.seen < 60:
        await asyncio.sleep(0.05)
    await camera.pilot.press("enter")
    await camera.shows("Properties and headers", "correlation_id")


async def rpc(camera: Camera) -> None:
    await camera.command("overview")
    await camera.command("rpc get_orderbook AAPL")
    await camera.pilot.press("enter")
    await camera.shows("● replied in")


async def exchanges(camera: Camera) -> None:
    await camera.command("exchanges")
    await camera.shows("market_data", "topic")


async def dead(camera: Camera) -> None:
    await camera.command("dead tes_requests.dead")
    await camera.shows("cause", "in all", "LAST HOUR")


async def dead_message(camera: Camera) -> None:
    await camera.pilot.press("enter")
    await camera.shows("Error and where it came from", "reason")


async def plan(camera: Camera) -> None:
    await camera.command("replay tes_requests.dead --to tes_requests --canary 2 --watch 3s --limit 20")
    await camera.shows("enter start")


async def account(camera: Camera) -> None:
    await camera.pilot.press("enter")
    await camera.shows("came back", timeout=60)


async def operations(camera: Camera) -> None:
    await camera.command("operations")
    await camera.shows("replay", "tes_requests.dead")


async def events(camera: Camera) -> None:
    await camera.command("events")
    await camera.shows("FOLLOWING")
    with MessageBroker(url=camera.demo.amqp_url, client_name="desk") as broker:
        broker.declare_queue("settlements", exclusive=True)
        broker.bind_queue("settlements", "trade_events", "")
        await camera.shows("queue.created", "binding.created")
    await camera.shows("connection.closed", "queue.deleted")


async def topology(camera: Camera) -> None:
    await camera.command("topology trade_events")
    await camera.shows("queue trade_events leads to", "exchange trade_events leads to")


async def calls(camera: Camera) -> None:
    await camera.command("calls obs_requests")
    await camera.shows("answered", "P95", timeout=60)
    table = camera.app.screen.query_one("#calls-table", LiveTable)
    while len(table.rows) < 30:
        await asyncio.sleep(0.05)
    await camera.pilot.press("enter")
    await camera.shows("Request: ", " later")


async def growing(camera: Camera) -> None:
    """A consumer hangs: it holds all it may, and takes nothing more."""
    await camera.pilot.press("escape")  # whatever stands in front
    await camera.command("overview")
    os.kill(camera.demo.pids["analytics"], signal.SIGSTOP)
    matters = camera.app.screen.query_one("#overview-matters", LiveTable)
    while not any(matter.name == "trade_events" and "growing" in matter.text for matter in matters.rows):
        await asyncio.sleep(0.05)
    await camera.shows("trade_events", "growing")


async def which(camera: Camera) -> None:
    await camera.command("queues /=.messages > 0")
    await camera.shows("trade_events", "growing", timeout=60)


async def why(camera: Camera) -> None:
    await camera.command("queue trade_events")
    await camera.shows("growing", "▲ saturated", timeout=60)
    os.kill(camera.demo.pids["analytics"], signal.SIGCONT)


async def help_(camera: Camera) -> None:
    await camera.pilot.press("escape")
    await camera.command("queues")
    await camera.pilot.press("question_mark")
    await camera.shows("This screen")


SCENES: dict[str, Callable[[Camera], Awaitable[None]]] = {
    "overview": overview,
    "queues": queues,
    "queue": queue,
    "tail": tail,
    "exchanges": exchanges,
    "dead": dead,
    "dead_message": dead_message,
    "plan": plan,
    "account": account,
    "operations": operations,
    "events": events,
    "topology": topology,
    "calls": calls,
    "rpc": rpc,
    "help": help_,
    "story-1-a-queue-grows": growing,
    "story-2-which": which,
    "story-3-why": why,
    "story-4-what-died": dead,
    "story-5-one-message": dead_message,
    "story-6-the-plan": plan,
    "story-7-the-account": account,
}


async def shoot(session: Session, demo: Demo, names: list[str]) -> None:
    """Go through the scenes."""
    app = ConsoleApp(session)
    async with app.run_test(size=SIZE) as pilot:
        camera = Camera(app, pilot, demo)
        await camera.shows("no alarms")
        for name in names:
            await SCENES[name](camera)
            await camera.save(name)


def main() -> int:
    """Start the bus, wait, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--warm-up", type=float, default=90.0, metavar="SECONDS", help="how long the bus runs first")
    parser.add_argument("--only", nargs="+", choices=SCENES, default=list(SCENES), metavar="NAME")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, Demo(seed=SEED) as demo:
        os.environ["XDG_STATE_HOME"] = home  # operations of the pictures are nobody's
        print(f"the bus runs for {chosen.warm_up:g} s first ...", file=sys.stderr)
        time.sleep(chosen.warm_up)
        settings = resolve(Flags(amqp_url=demo.amqp_url, api_url=demo.api_url), {})
        with Session(replace(settings, context="demo")) as session:
            assert session.broker is not None
            asyncio.run(shoot(session, demo, chosen.only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
