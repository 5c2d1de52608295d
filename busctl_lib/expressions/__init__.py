"""Expressions: jq, the one language to filter, project and edit documents.

::

    big = Expression(".body.quantity > 100")          # compiled at once; a mistake raises ExpressionInvalid
    big.matches(document)                             # an error of the expression on this value is no match
    with GuardedExpression(big) as guarded:           # for live flows: another process, with a deadline
        guarded.decide([question(delivery), ...])     # True, False, or None: it reads what could not be read

jq holds the interpreter while it runs, and an expression may run for ever (`last(repeat(1))`): what a user typed runs
on a flow of messages in a process of its own, which the kernel ends when it has used up its time.

jq's numbers are doubles: integers above 2**53 lose digits, and 150.0 becomes 150.
"""

from __future__ import annotations

from busctl_lib.expressions.compiled import Expression as Expression
from busctl_lib.expressions.guarded import BATCH_BYTES as BATCH_BYTES
from busctl_lib.expressions.guarded import BATCH_MESSAGES as BATCH_MESSAGES
from busctl_lib.expressions.guarded import DEADLINE_S as DEADLINE_S
from busctl_lib.expressions.guarded import GuardedExpression as GuardedExpression
from busctl_lib.expressions.undecided import Undecided as Undecided
from busctl_lib.expressions.undecided import in_words as in_words
from busctl_lib.questions import Question as Question
