"""Captures: messages in a file, exactly as they were, to keep, to edit by hand and to publish again.

A capture is JSON lines (`.jsonl`, or `.jsonl.zst` compressed), one document a message with every AMQP header type kept,
the wire body, and a hash over all of it::

    with CaptureWriter(Path("orders.jsonl.zst")) as capture:
        capture.write(delivery)                  # from a subscription with exact=True, for exact header types
        capture.sync()                           # on disk from here on, whatever happens

    reader = CaptureReader(Path("orders.jsonl.zst"))
    for delivery in reader: ...                  # also of rabtap's folders, and of what `tail -o jsonl` printed
    reader.warnings                              # what was skipped: a last line that was cut by a crash
"""

from __future__ import annotations

from busctl_lib.captures.lines import delivery_of as delivery_of
from busctl_lib.captures.lines import line_of as line_of
from busctl_lib.captures.reader import CaptureReader as CaptureReader
from busctl_lib.captures.writer import CaptureWriter as CaptureWriter

__all__ = ["CaptureReader", "CaptureWriter", "delivery_of", "line_of"]
