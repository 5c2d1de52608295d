"""The console in a real terminal: started as a user does, typed at, resized, its broker killed and back, then left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from victims import Victim
from waiting import wait_until

from busctl_lib import MessageBroker, MessagePublisher

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
BACK_S = 90
PROMPT = "clean>"
MODES = ("alternate_on", "mouse_any_flag", "mouse_sgr_flag", "keypad_flag", "keypad_cursor_flag")


class Terminal:
    """A terminal with a shell in it, which tmux keeps."""

    def __init__(self, folder: Path, width: int, height: int, **environment: str) -> None:
        self._socket = str(folder / "tmux")
        shell = ["env", f"PS1={PROMPT}", "ENV=", "sh", "-i"]
        size = ["-x", str(width), "-y", str(height)]
        self._tmux("new-session", "-d", "-c", str(folder), *size, *shell, env={**os.environ, **environment})

    def _tmux(self, *words: str, env: dict[str, str] | None = None) -> str:
        command = ["tmux", "-S", self._socket, "-f", os.devnull, *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=30).stdout

    def close(self) -> None:
        self._tmux("kill-server")

    def type(self, text: str) -> None:
        """Type a text, letter by letter."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    def modes(self) -> dict[str, str]:
        """What the program in it has switched on."""
        told = self._tmux("display-message", "-p", " ".join(f"#{{{mode}}}" for mode in (*MODES, "cursor_flag")))
        return dict(zip((*MODES, "cursor_flag"), told.split(), strict=True))

    def shows(self, *texts: str, timeout: float = 30) -> str:
        """Wait until all of these stand on the screen."""

        def shown() -> str:
            screen = self.text()
            missing = [text for text in texts if text not in screen]
            assert not missing, f"{missing} not on the screen:\n{screen}"
            return screen

        return wait_until(shown, timeout, every_s=0.2)


@pytest.fixture
def terminal(victim: Victim, tmp_path: Path) -> Iterator[Terminal]:
    where = {"BUSCTL_AMQP_URL": victim.amqp_url, "BUSCTL_API_URL": victim.api_url}
    opened = Terminal(tmp_path, 120, 36, **where, COLORTERM="truecolor", LANG="C.UTF-8")
    yield opened
    opened.close()


def test_it_is_typed_at_resized_loses_its_broker_and_leaves_the_terminal_clean(
    victim: Victim, terminal: Terminal
) -> None:
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.declare_queue("orders")
        MessagePublisher(broker).publish("orders", {"n": 1})
    victim.keep()
    terminal.shows(PROMPT)
    modes = terminal.modes()
    terminal.type(f"stty -g > before; {sys.executable} -m busctl")
    terminal.press("Enter")
    terminal.shows("● local", "Needs attention", timeout=BACK_S)
    assert terminal.modes()["alternate_on"] == "1"
    terminal.type(":queues ord*")
    terminal.press("Enter")
    terminal.shows("overview › queues", "orders")
    terminal.resize(80, 24)
    screen = terminal.shows("overview › queues", "orders", "? help")
    assert len(screen.splitlines()) <= 24
    victim.kill()
    terminal.shows("✖ local", "last seen", "orders", timeout=BACK_S)
    terminal.press("Enter")
    terminal.shows("queues › orders", "last seen")
    terminal.resize(140, 40)
    terminal.shows("queues › orders", "Depth, last 10 min")
    victim.start(2 * BACK_S)
    terminal.shows("● local", "queues › orders", timeout=BACK_S)
    terminal.type("q")
    left = terminal.shows(PROMPT)
    assert "Traceback" not in left
    assert terminal.modes() == modes, "as it was before"
    terminal.type("stty -g | cmp before - && echo unchanged: $?")
    terminal.press("Enter")
    terminal.shows("unchanged: 0")


def test_a_terminal_that_carries_ascii_only_gets_its_frames_in_ascii(victim: Victim, terminal: Terminal) -> None:
    with MessageBroker(url=victim.amqp_url) as broker:
        broker.declare_queue("caf\xe9")
    terminal.shows(PROMPT)
    terminal.type(f"PYTHONIOENCODING=ascii {sys.executable} -m busctl")
    terminal.press("Enter")
    screen = terminal.shows("* local", "+- Needs attention -", timeout=BACK_S)
    drawn = [line for line in screen.splitlines() if line.startswith(("+", "|"))]
    assert len({len(line) for line in drawn}) == 1, "every cell is in its place"
    terminal.type(":queues")
    terminal.press("Enter")
    assert terminal.shows("overview > queues", "caf?").isascii()
    terminal.type("q")
    assert "Traceback" not in terminal.shows(PROMPT)
