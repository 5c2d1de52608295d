"""The program: `busctl`, `mbusctl` and `python -m busctl`.

Loading the command line takes a tenth of a second, and Ctrl-C counts from the first line on.
"""

from __future__ import annotations

# What `signal` stands on, without the modules that it would have to load first.
import _signal as signal  # type: ignore[import-not-found]
import gc
import os


def _leave_quietly(*_: object) -> None:
    os._exit(130)  # nothing is open yet that would have to be given back


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave_quietly)

gc.set_threshold(50_000)  # what is loaded and listed stays: to search it again and again is a tenth of the time

if "_BUSCTL_COMPLETE" in os.environ:  # a shell waits after a Tab: this must not load the commands
    from busctl.cli.completing import main
else:
    from busctl.cli.main import main

if __name__ == "__main__":
    main()
