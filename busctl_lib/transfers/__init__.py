"""Transfers: replay, move, copy, park, discard and undo, by one engine that plans first and loses nothing."""

from busctl_lib.transfers.plans import Plan as Plan
from busctl_lib.transfers.plans import Target as Target
from busctl_lib.transfers.plans import read_plan as read_plan
from busctl_lib.transfers.requests import Account as Account
from busctl_lib.transfers.requests import CameBack as CameBack
from busctl_lib.transfers.requests import Progress as Progress
from busctl_lib.transfers.requests import Request as Request
from busctl_lib.transfers.resume import audit as audit
from busctl_lib.transfers.transfer import Transfer as Transfer
from busctl_lib.transfers.transfer import lock_name as lock_name
