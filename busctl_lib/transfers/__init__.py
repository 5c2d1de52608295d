"""Transfers: replay, move, copy, park, discard and undo, by one engine that plans first and loses nothing."""

from busctl_lib.transfers.plans import Plan as Plan
from busctl_lib.transfers.plans import Target as Target
from busctl_lib.transfers.plans import read_plan as read_plan
from busctl_lib.transfers.reading import lock_name as lock_name
from busctl_lib.transfers.requests import Account as Account
from busctl_lib.transfers.requests import CameBack as CameBack
from busctl_lib.transfers.requests import Progress as Progress
from busctl_lib.transfers.requests import Request as Request
from busctl_lib.transfers.resume import audit as audit
from busctl_lib.transfers.transfer import Transfer as Transfer
from busctl_lib.transfers.trash import TRASH_MESSAGES as TRASH_MESSAGES
from busctl_lib.transfers.trash import Trash as Trash
from busctl_lib.transfers.trash import definition_of as definition_of
from busctl_lib.transfers.trash import empty_into_trash as empty_into_trash
from busctl_lib.transfers.trash import trash_folder as trash_folder
from busctl_lib.transfers.undo import Restore as Restore
from busctl_lib.transfers.undo import mark_undone as mark_undone
from busctl_lib.transfers.undo import undo_of as undo_of
