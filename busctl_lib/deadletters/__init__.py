"""Dead letters: which queues hold them, why they died, and what has one cause.

::

    for found in dead_letter_queues(management, "/"):          # by dead-letter exchanges and names
        print(found.name, found.messages, found.sources)
    triaged, messages = triage(broker, management, "/", "orders.dead")
    for group in triaged.groups:                               # one cause each, with an id that stays
        print(group.id, group.count, group.cause)
"""

from busctl_lib.deadletters.dialects import Failure as Failure
from busctl_lib.deadletters.dialects import failure_of as failure_of
from busctl_lib.deadletters.finding import DeadLetterQueue as DeadLetterQueue
from busctl_lib.deadletters.finding import dead_letter_queues as dead_letter_queues
from busctl_lib.deadletters.fingerprints import cause as cause
from busctl_lib.deadletters.fingerprints import fingerprint as fingerprint
from busctl_lib.deadletters.fingerprints import mask as mask
from busctl_lib.deadletters.grounds import Grounds as Grounds
from busctl_lib.deadletters.triage import Group as Group
from busctl_lib.deadletters.triage import Triage as Triage
from busctl_lib.deadletters.triage import group as group
from busctl_lib.deadletters.triage import triage as triage
