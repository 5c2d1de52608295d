"""Publishers: each publish is confirmed by the broker and refused loudly when no queue takes it."""

from __future__ import annotations

from busctl_lib.publishers.outcomes import Publishing as Publishing
from busctl_lib.publishers.outcomes import PublishReport as PublishReport
from busctl_lib.publishers.outcomes import Receipt as Receipt
from busctl_lib.publishers.outcomes import Unconfirmed as Unconfirmed
from busctl_lib.publishers.outcomes import failure_of as failure_of
from busctl_lib.publishers.publisher import REPUBLISHED_HEADER as REPUBLISHED_HEADER
from busctl_lib.publishers.publisher import MessagePublisher as MessagePublisher
from busctl_lib.publishers.publisher import OrderPublisher as OrderPublisher
