"""Who runs an operation, and under which name it is written down."""

from __future__ import annotations

import fcntl
import getpass
import os
from pathlib import Path
from typing import Any

import pytest

from busctl_lib.errors import GuardRefused
from busctl_lib.journal import Journal, Operation, claims
from busctl_lib.journal.claims import Claims


def test_a_user_without_a_name_has_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with Journal(tmp_path / "journal.sqlite") as journal:
        made = journal.begin(Operation(id="aa", kind="purge", source="q"))
    assert made.who.startswith(f"{os.getuid()}@")


def test_a_claim_on_a_file_that_its_owner_has_just_deleted_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = Claims(tmp_path), Claims(tmp_path), Claims(tmp_path)
    first.take("aa")
    genuine = fcntl.flock

    def let_go_first(file: Any, how: int) -> None:
        monkeypatch.setattr(claims.fcntl, "flock", genuine)
        first.release("aa")
        genuine(file, how)

    monkeypatch.setattr(claims.fcntl, "flock", let_go_first)
    second.take("aa")
    with pytest.raises(GuardRefused):
        third.take("aa")
