"""The bus file, `bus.toml`: what a team writes down about its bus, beside its code.

::

    [methods.get_orderbook]                 # `busctl rpc get_orderbook AAPL`
    queue = "obs_requests"                  # or: exchange = "..." and key = "..."
    [methods.get_orderbook.arguments]
    symbol = "string"
    depth = { type = "integer", minimum = 1, default = 10 }

    [filters]
    failed = '.headers["busctl-error"] != null'     # `--where @failed`

It is looked for in the working folder and then upwards. Mistakes are told by file, line and key.
"""

from __future__ import annotations

from busctl.busfile.model import BusFile as BusFile
from busctl.busfile.model import Decoder as Decoder
from busctl.busfile.reading import FILE_NAME as FILE_NAME
from busctl.busfile.reading import find as find
from busctl.busfile.reading import load as load
from busctl.busfile.reading import parse as parse
