"""The console under Pilot: opened on a real broker, looked at as text, waited for by conditions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from textual.pilot import Pilot
from textual.widgets import Input

from busctl.config import Flags, resolve
from busctl.contexts import ConsoleConfig
from busctl.session import Session
from busctl.tui.app import ConsoleApp
from busctl_lib.pytest_plugin import TestBroker

T = TypeVar("T")
KEYS = {" ": "space", ":": "colon", "/": "slash", "_": "underscore", "*": "asterisk", "?": "question_mark"}
KEYS |= {".": "full_stop", "!": "exclamation_mark", "^": "circumflex_accent", "$": "dollar_sign"}


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Console:
    """A running console."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    def text(self) -> str:
        """The screen as a terminal would show it."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*(KEYS.get(key, key) for key in keys))

    async def type(self, text: str) -> None:
        await self.press(*text)

    async def command(self, line: str) -> None:
        """Give a command, without typing its letters one by one."""
        await self.press(":")
        self.app.screen.query_one("#prompt-text", Input).value = line
        await self.press("enter")

    async def until(self, condition: Callable[[], T], what: str = "", timeout: float = 30) -> T:
        deadline = time.monotonic() + timeout
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:g} s: {what or condition}\n{self.text()}")
            await asyncio.sleep(0.05)  # to draw the screen once more is not for nothing

    async def shows(self, *texts: str, timeout: float = 30) -> str:
        """Wait until all of these stand on the screen."""

        def shown() -> str:
            screen = self.text()
            return screen if all(text in screen for text in texts) else ""

        return await self.until(shown, f"shows {texts}", timeout)

    async def hides(self, *texts: str, timeout: float = 30) -> str:
        """Wait until none of these stands on the screen."""

        def without() -> str:
            screen = self.text()
            return "" if any(text in screen for text in texts) else screen

        return await self.until(without, f"hides {texts}", timeout)


@contextlib.asynccontextmanager
async def opened(
    broker: TestBroker,
    size: tuple[int, int] = (120, 40),
    *,
    api_url: str | None = None,
    amqp_url: str | None = None,
    context: str | None = None,
    console: ConsoleConfig | None = None,
    bus_file: Path | None = None,
) -> AsyncIterator[Console]:
    """Open the console on a virtual host, or on a context of the config file."""
    flags = Flags(amqp_url=amqp_url or broker.amqp_url, api_url=api_url or broker.api_url)
    with Session(resolve(Flags(context=context) if context else flags), bus_file=bus_file) as session:
        assert session.broker is not None
        app = ConsoleApp(session, console)
        async with app.run_test(size=size, notifications=True) as pilot:
            yield Console(app, pilot)
        app.stop_jobs()
        app.held.wait(20)
        app.close_sessions()
