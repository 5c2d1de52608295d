"""The journal: what busctl changed on a bus, in SQLite; written before each step, so that a kill loses no knowledge.

An operation has a row; a batch that is about to be sent is written with all its messages before it goes out (an *open
batch*) and replaced by one line a message when its outcome is known. What is found open after a kill is looked at by
whoever resumes the operation. A lock on a file tells an operation that runs from one that was killed.
"""

from busctl_lib.journal.records import Intent as Intent
from busctl_lib.journal.records import Line as Line
from busctl_lib.journal.records import OpenBatch as OpenBatch
from busctl_lib.journal.records import Operation as Operation
from busctl_lib.journal.records import Outcome as Outcome
from busctl_lib.journal.records import State as State
from busctl_lib.journal.records import Verdict as Verdict
from busctl_lib.journal.records import identity as identity
from busctl_lib.journal.records import identity_of as identity_of
from busctl_lib.journal.records import steady as steady
from busctl_lib.journal.records import steady_header as steady_header
from busctl_lib.journal.records import unpack as unpack
from busctl_lib.journal.store import Journal as Journal
from busctl_lib.journal.store import journal_path as journal_path
