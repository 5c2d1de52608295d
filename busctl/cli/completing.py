"""Completion in the shell: what may come next on a command line, in 0.3 s or not at all.

A shell waits for the answer after each Tab. Loading the commands would take longer than that, so what they are called
and take is read from a table that `make docs` writes from them. Names come from the live broker until the time is up,
counted from the start of the process, and every failure is silent. Nobody is asked for a password, and no command or
keyring is: names are not worth that.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

if TYPE_CHECKING:
    from busctl.config import Settings
    from busctl_lib.names import Noun

VARIABLE = "_BUSCTL_COMPLETE"
"""Where a shell says that it wants completions, and which one it is."""
LINE = "_BUSCTL_LINE"
"""The command line up to the cursor."""
TABLE = Path(__file__).with_suffix(".json")
BUDGET_S = 0.28  # the rest of 0.3 s is for the shell to start us and to read the answer
_BEGAN = time.monotonic() - time.process_time()
_SAFE = re.compile(r"[\w./:@+][\w./:@%+,=-]*")
"""Names of which a shell makes nothing else. Anyone may name a queue `$(reboot)`: such names are not offered."""


class Candidate(NamedTuple):
    """What the word being typed could become."""

    text: str
    help: str = ""


def main() -> NoReturn:
    """Answer the shell that asks; the process ends whatever still waits for an answer."""
    try:
        said = answer(os.environ, _BEGAN + BUDGET_S)
        sys.stdout.buffer.write(os.fsencode(said + "\n" if said else ""))  # it comes back as an argument
        sys.stdout.buffer.flush()
    except Exception:  # noqa: BLE001, S110 - whatever is wrong, a prompt is no place to say so
        pass
    finally:
        os._exit(0)


def answer(environment: Mapping[str, str], ends_at: float) -> str:
    """Say in a shell's own way what may come next.

    Args:
        environment: What the shell tells: which one it is, and the line up to the cursor.
        ends_at: When the time for asking the broker is up, by `time.monotonic()`.
    """
    shell, line = environment.get(VARIABLE), environment.get(LINE, "")
    words, incomplete = _words(line)
    found = list(_candidates(words[1:], incomplete, ends_at))
    if shell == "bash":
        cut = _before_last_break(line, incomplete)
        return "\n".join(each.text[cut:] for each in found)
    if shell == "fish":
        return "\n".join(f"{each.text}\t{each.help}".rstrip("\t") for each in found)
    if shell == "zsh":
        listed = "\n".join(map(_for_zsh, found))
        return f"_arguments '*: :(({listed}))'" if found else "_files"
    return ""


def _words(line: str) -> tuple[list[str], str]:
    """Split a line as a shell does, also one that ends within quotes: whole words, and the one being typed."""
    import shlex

    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:  # a quote is still open
        words.append(lexer.token)
    else:
        if not line or line[-1].isspace():
            words.append("")
    return words[:-1], words[-1]


def _before_last_break(line: str, incomplete: str) -> int:
    """How much of a word bash leaves alone: to it a word begins after each of its breaks, unless it is quoted."""
    is_plain = line.endswith(incomplete) and not line.rsplit(maxsplit=1)[-1].removesuffix(incomplete)
    return max(incomplete.rfind(":"), incomplete.rfind("=")) + 1 if is_plain else 0


def _for_zsh(candidate: Candidate) -> str:
    # It is read twice: within single quotes first, then within double ones.
    texts = [text for text in candidate if text]
    marked = [re.sub(r'([\\"$`])', r"\\\1", text).replace(":", r"\\:").replace("'", r"'\''") for text in texts]
    return ":".join(f'"{text}"' for text in marked)


# --- the command line so far


class _Line:
    """Reads a command line up to the word that is being typed."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.everywhere = table["everywhere"]
        self.command = table
        self.given: dict[str, str] = {}
        """Values by the option's last name."""
        self.waiting: dict[str, Any] | None = None
        """The option whose value comes next."""
        self.literal = False
        """After `--` nothing is an option."""
        self.arguments = 0

    @property
    def options(self) -> list[dict[str, Any]]:
        """Those of the command and of every command."""
        return [*self.command.get("options", ()), *self.everywhere]

    def take(self, word: str) -> None:
        """Go on by one word."""
        if self.waiting is not None:
            self.given[self.waiting["names"][-1]], self.waiting = word, None
        elif self.literal or not word.startswith("-") or word == "-":
            self._take_word(word)
        elif word == "--":
            self.literal = True
        else:
            self._take_option(word)

    def _take_word(self, word: str) -> None:
        commands = self.command.get("commands")
        if commands and word in commands:
            self.command = commands[word]
            return
        if commands and (default := self.command.get("default")):
            self.command = commands[default]
        self.arguments += 1

    def _take_option(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            name, value = word[:2], word[2:]
        default = self.command.get("commands", {}).get(self.command.get("default"), {})
        known = [*self.options, *default.get("options", ())]
        option = next((each for each in known if name in each["names"]), None)
        if option is None:
            return
        if option.get("flag") or equals or value:
            self.given[option["names"][-1]] = value
        else:
            self.waiting = option

    def argument(self) -> dict[str, Any] | None:
        """The argument that comes next."""
        arguments = self.command.get("arguments", [])
        if self.arguments < len(arguments):
            return cast(dict[str, Any], arguments[self.arguments])
        return arguments[-1] if arguments and arguments[-1].get("many") else None


def _candidates(words: list[str], incomplete: str, ends_at: float) -> Iterator[Candidate]:
    line = _Line(json.loads(TABLE.read_bytes()))
    for word in words:
        line.take(word)
    if line.waiting is None and incomplete.startswith("-") and not line.literal:
        name, equals, value = incomplete.partition("=")
        option = next((each for each in line.options if name in each["names"]), None)
        if equals and option is not None:
            yield from (Candidate(f"{name}={each}") for each in _values(option, value, line, ends_at))
        else:
            yield from _option_names(line, incomplete)
        return
    commands = line.command.get("commands", {}) if line.waiting is None else {}
    for name, command in commands.items():
        if name.startswith(incomplete) and name != line.command.get("default"):
            yield Candidate(name, command["help"])
    taker = line.waiting or (line.command if commands else line.argument())
    if taker is not None:
        yield from map(Candidate, _values(taker, incomplete, line, ends_at))


def _option_names(line: _Line, incomplete: str) -> Iterator[Candidate]:
    for option in line.options:
        if option.get("many") or option["names"][-1] not in line.given:
            for name in option["names"]:
                if name.startswith(incomplete):
                    yield Candidate(name, option["help"])


def _values(taker: Mapping[str, Any], incomplete: str, line: _Line, ends_at: float) -> list[str]:
    """What an option or argument may be, that begins as it was typed."""
    found = [*taker.get("words", ())]
    if live := taker.get("live"):
        # A name server, a config file on a dead disk: whatever it waits for, it has until the time is up.
        asking = threading.Thread(target=_find, args=(live, incomplete, line.given, ends_at, found), daemon=True)
        asking.start()
        asking.join(max(0.0, ends_at - time.monotonic()))
    return [
        name for name in list(found) if name.startswith(incomplete) and _SAFE.fullmatch(name) and _can_be_typed(name)
    ]


def _can_be_typed(name: str) -> bool:
    """Whether a name fits into an argument in this locale."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


# --- live names


def _find(live: list[str], prefix: str, given: Mapping[str, str], ends_at: float, found: list[str]) -> None:
    try:
        if live == ["contexts"]:
            found += _contexts()
        elif live == ["methods"]:
            found += _methods(given.get("--bus-file"))
        elif (settings := _settings(given)) is not None:
            for noun in live:
                found += _of_broker(settings, cast("Noun", noun), prefix, ends_at - time.monotonic())
    except Exception:  # noqa: BLE001 - whatever is wrong, a prompt is no place to say so
        return


def _contexts() -> list[str]:
    from busctl.contexts import config_path, load_with_demos

    return sorted(load_with_demos(config_path()).contexts)


def _methods(named: str | None) -> list[str]:
    from busctl.busfile import load

    path = named or os.environ.get("BUSCTL_BUS_FILE")
    return sorted(load(Path(path) if path else None).methods())


def _settings(given: Mapping[str, str]) -> Settings | None:
    """The broker that is meant, where it can be asked without a question to anyone."""
    from busctl.config import Flags, resolve

    typed = {name: given.get(f"--{name.replace('_', '-')}") for name in Flags.__struct_fields__}
    settings = resolve(Flags(**typed))
    silent = settings.password is None or settings.password.kind == "environment"
    if not silent or settings.token is not None or settings.api_lacks_login:
        return None
    return settings.with_password()


def _of_broker(settings: Settings, noun: Noun, prefix: str, left_s: float) -> list[str]:
    from busctl_lib.names import names

    if left_s <= 0:
        return []
    return names(settings.api_url, noun, settings.vhost, prefix, timeout_s=left_s, tls=settings.tls)
