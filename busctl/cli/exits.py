"""How a command ends: the only writer of stderr, and the meaning of every exit code."""

from __future__ import annotations

import contextlib
import enum
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from busctl.views import plain
from busctl.views.formats import safe_text
from busctl_lib import errors


class ExitCode(enum.IntEnum):
    """What an exit code means; a contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """Wrong arguments or settings."""
    NO_CONNECTION = 3
    """Cannot connect or log in; an unknown vhost."""
    REFUSED = 4
    """The broker refused: absent, forbidden, precondition."""
    TIMED_OUT = 5
    UNROUTABLE = 6
    """No route, or nobody answers there."""
    REMOTE_ERROR = 7
    """The other side answered with an error."""
    PARTLY = 8
    GUARD = 9
    """One of our own guards refused; nothing was done."""
    INTERRUPTED = 130


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: unwind, so that everything is given back."""


class PipeClosed(BaseException):
    """Nobody reads stdout any more: unwind quietly."""


# The first that fits counts, so a subclass stands before its parent.
_CODES: tuple[tuple[type[errors.BusError], ExitCode], ...] = (
    (errors.ConfigError, ExitCode.USAGE),
    (errors.CannotConnect, ExitCode.NO_CONNECTION),
    (errors.BrokerRefused, ExitCode.REFUSED),
    (errors.Unroutable, ExitCode.UNROUTABLE),
    (errors.NeverSent, ExitCode.TIMED_OUT),
    (errors.NoConfirm, ExitCode.TIMED_OUT),
    (errors.PublishRefused, ExitCode.REFUSED),
    (errors.PublishFailed, ExitCode.FAILED),
    (errors.NoResponder, ExitCode.UNROUTABLE),
    (errors.ReplyTimeout, ExitCode.TIMED_OUT),
    (errors.RemoteError, ExitCode.REMOTE_ERROR),
    (errors.InvalidMessage, ExitCode.USAGE),
    (errors.TimedOut, ExitCode.TIMED_OUT),
    (errors.GuardRefused, ExitCode.GUARD),
    (errors.ApiUnreachable, ExitCode.NO_CONNECTION),
    (errors.ApiLoginRefused, ExitCode.NO_CONNECTION),
    (errors.ApiForbidden, ExitCode.REFUSED),
)


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def exit_code_for(error: BaseException) -> ExitCode:
    """Give the exit code of an error."""
    if isinstance(error, errors.PublishRefused) and "outcome" not in error.facts:
        return ExitCode.USAGE  # refused before it was sent: AMQP cannot carry it
    if isinstance(error, KeyboardInterrupt | Terminated):
        return ExitCode.INTERRUPTED
    if isinstance(error, PipeClosed):
        return ExitCode.DONE
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def report(error: BaseException, *, debug: bool = False) -> ExitCode:
    """Say on one line of stderr what went wrong, where, and what to do next; return the exit code."""
    code = exit_code_for(error)
    if debug and not isinstance(error, PipeClosed):
        import traceback

        _write("".join(traceback.format_exception(error)))
    if isinstance(error, errors.BusError):
        hints = [hint for hint in (error.hint, _next(error, code)) if hint]
        text, below = _parts(error)
        _line(f"{text} ({'; '.join(hints).replace('?;', '?')})" if hints else text)
        if below:
            _write(safe_text(below, keep_lines=True) + "\n")
        if isinstance(error, errors.ExpressionInvalid):
            _write(safe_text(error.picture, keep_lines=True) + "\n")
    elif isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        point_stdout_nowhere()
        _line(f"standard output cannot be written: {error.strerror}")  # help, which others print
    elif not isinstance(error, KeyboardInterrupt | Terminated | PipeClosed):
        hint = "" if debug else "; --debug shows where"
        _line(f"a fault of busctl itself: {type(error).__name__}: {error}{hint}")
    return code


def _parts(error: errors.BusError) -> tuple[str, str]:
    """The sentence of an error, and what stands below it: the log of a node that did not start."""
    text, _, log = str(error).partition("\n") if isinstance(error, errors.SandboxError) else (str(error), "", "")
    return text, log


def _next(error: errors.BusError, code: ExitCode) -> str | None:
    """What to do next where an error's own hint cannot know our commands."""
    if isinstance(error, errors.VhostNotFound):
        return "`busctl vhosts` lists what there is"
    if code is ExitCode.REFUSED and (isinstance(error, errors.AccessForbidden) or "ACCESS_REFUSED" in str(error)):
        return "ask for the permission: `busctl permissions` lists who has which, rabbitmqctl set_permissions gives it"
    if isinstance(error, errors.ApiForbidden) and not error.hint:
        return "`busctl contexts check` tells what this user may not"
    if code is not ExitCode.NO_CONNECTION:
        return None
    if _names_a_broker():
        return "`busctl contexts check` tells which address came from where"
    return "no broker is named: `busctl contexts add NAME --amqp-url URL` names one, `busctl demo` starts one to try"


def _names_a_broker() -> bool:
    """Whether the command line, the environment, the config file or a running demo does."""
    from busctl.contexts import config_path, load_with_demos

    if any(name.startswith(("BUSCTL_A", "--amqp-url", "--api-url")) for name in (*os.environ, *sys.argv)):
        return True
    try:
        return bool(load_with_demos(config_path()).contexts)
    except errors.ConfigError:
        return True


def usage(text: str) -> ExitCode:
    """Say what is wrong with the command line."""
    _line(text)
    return ExitCode.USAGE


def note(text: str) -> None:
    """Say something on stderr that is neither data nor an error."""
    _write(safe_text(text) + "\n")


def write_over(text: str) -> None:
    """Put a text on stderr's line in place of what stands there; for a terminal."""
    _write(f"\r\x1b[K{safe_text(text)}")


def ask(question: str) -> None:
    """Put a question on stderr; the answer is read beside it."""
    _write(safe_text(question))


def die_quietly_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the program like Ctrl-C does, so that clean-up runs.

    SIGINT counts also where a script started the program in its background, which makes a shell ignore it: what is
    borrowed must come back when somebody sends it. An ignored SIGHUP (nohup) stays ignored.
    """

    def unwind(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, unwind)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, unwind)


def leave_at_signals(code: int) -> None:
    """Let a signal end the program at once from here on: all is given back, and its code is known."""

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # it may strike while that is done anyway
            sys.stdout.flush()
        os._exit(code)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)


@contextlib.contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let what would end the program call a handler while the block runs; what is ignored (nohup) stays so.

    Signals come to the main thread: on another one nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if is_main else ()
    numbers = [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def fill_missing_streams() -> None:
    """Put the null device where stdin, stdout or stderr was closed before the program began (`>&-`, some daemons).

    Otherwise the next connection opened would get that number, and be taken for it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest free number is the one that is missing
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - open for as long as the program runs
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115


def let_streams_take_anything() -> None:
    """Let stdout and stderr put something in the place of what their encoding cannot carry, and stdin take any bytes.

    Whoever writes, typer's help among them, then needs no thought for the locale.
    """
    for stream, errors_ in ((sys.stdin, "surrogateescape"), (sys.stdout, plain.PLAIN), (sys.stderr, plain.PLAIN)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors_)


def point_stdout_nowhere() -> None:
    """Keep Python from writing to the closed pipe once more when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


def _line(text: str) -> None:
    _write(f"busctl: {safe_text(text)}\n")


def _write(text: str) -> None:
    # What went to stdout so far stands before it, also where both go to one place.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):  # nobody listens: there is nobody to tell
        sys.stderr.write(text)
        sys.stderr.flush()
