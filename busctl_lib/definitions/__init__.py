"""Definitions of a broker: exported whole, compared, made to fit another broker, rewritten for quorum queues.

Two brokers' exports differ in what is noise here: versions, order, what one version adds (`explanation`, `type`),
defaults that one writes out and another leaves away.
Source: https://www.rabbitmq.com/docs/definitions.
"""

from busctl_lib.definitions.differences import Change as Change
from busctl_lib.definitions.differences import Difference as Difference
from busctl_lib.definitions.differences import diff as diff
from busctl_lib.definitions.exporting import Export as Export
from busctl_lib.definitions.exporting import export as export
from busctl_lib.definitions.fitting import Fitted as Fitted
from busctl_lib.definitions.fitting import Target as Target
from busctl_lib.definitions.fitting import fit as fit
from busctl_lib.definitions.fitting import keep_vhosts as keep_vhosts
from busctl_lib.definitions.fitting import target_of as target_of
from busctl_lib.definitions.kinds import KINDS as KINDS
from busctl_lib.definitions.kinds import Remark as Remark
from busctl_lib.definitions.quorum import for_quorum as for_quorum
from busctl_lib.definitions.reading import is_of_cluster as is_of_cluster
from busctl_lib.definitions.reading import of_vhost as of_vhost
from busctl_lib.definitions.reading import parse as parse
from busctl_lib.definitions.reading import vhosts_of as vhosts_of
