"""`busctl doctor self`: what is wrong with an installation is found, and how to mend it said."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from busctl import passwords, selfcheck
from busctl.cli.main import run
from busctl.config import config_path
from busctl_lib.errors import ConfigError
from busctl_lib.journal import journal_path

Check = Callable[[], tuple[int, dict[str, dict[str, str]]]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Check:
    """The exit code, and the findings by name, of an installation with a program of ours on PATH and an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def call() -> tuple[int, dict[str, dict[str, str]]]:
        capfd.readouterr()
        code = run(["doctor", "self", "-o", "json"])
        return code, {finding["check"]: finding for finding in json.loads(capfd.readouterr().out)}

    return call


def test_what_is_well_is_said_and_exits_with_zero(check: Check, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("source <(busctl completion bash)\n")
    code, found = check()
    assert code == 0
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert f"pika {importlib.metadata.version('pika')}" in found["dependencies"]["found"]
    assert all("mend" not in finding for finding in found.values())


def test_the_table_says_how_to_mend_and_warnings_alone_are_no_failure(
    check: Check, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "self"]) == 0
    out = capfd.readouterr().out
    assert "warn  completion    bash does not complete" in out
    assert "→ echo 'source <(busctl completion bash)' >> ~/.bashrc" in out


def test_systemds_busctl_is_told_from_ours(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "bin" / "busctl"
    theirs.parent.mkdir()
    theirs.write_bytes(b"\x7fELF")
    theirs.chmod(0o755)
    ours = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{theirs.parent}:{ours}")
    name = check()[1]["name"]
    assert name["state"] == "warn"
    assert str(theirs) in name["found"]
    assert "mbusctl" in name["mend"]


@pytest.mark.parametrize(
    ("mark", "mend"),
    [("pipx_metadata.json", "pipx ensurepath"), ("uv-receipt.toml", "uv tool update-shell"), (None, "activate")],
)
def test_a_program_that_is_not_on_path_is_said_to_be_there_with_what_puts_it_on_path(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str | None, mend: str
) -> None:
    here = Path(sys.executable).parent.resolve()
    if not (here / "activate").exists():
        pytest.skip("not in a virtual environment")
    monkeypatch.setenv("PATH", str(tmp_path))
    if mark is not None:
        (tmp_path / mark).touch()
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
    name = check()[1]["name"]
    assert name["state"] == "warn"
    assert name["found"] == f"there is no busctl on PATH; this one is in {here}"
    assert mend in name["mend"]


def test_a_link_to_this_program_is_this_program_and_another_installation_is_not(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Path(sys.executable).with_name("busctl")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "busctl").symlink_to(ours)
    assert check()[1]["name"]["state"] == "ok"
    (tmp_path / "busctl").unlink()
    (tmp_path / "busctl").write_bytes(ours.read_bytes())
    (tmp_path / "busctl").chmod(0o755)
    name = check()[1]["name"]
    assert (name["state"], "another installation" in name["found"]) == ("warn", True)


def test_settings_that_cannot_be_used_are_bad(check: Check, tmp_path: Path) -> None:
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text("[contexts.a]\namqp_url = 'http://wrong'\n")
    (tmp_path / "bus.toml").write_text("[metods]\n")
    code, found = check()
    assert code == 1
    assert (found["contexts"]["state"], found["bus file"]["state"]) == ("bad", "bad")
    assert "methods" in found["bus file"]["mend"]
    path.write_text("curent = 'a'\n")
    code, found = check()
    assert (code, found["config"]["state"]) == (1, "bad")
    assert str(path) in found["config"]["found"]


def test_a_password_that_others_can_read_is_told(check: Check) -> None:
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text("[contexts.a]\namqp_url = 'amqp://u:secret@h'\n")
    path.chmod(0o644)
    _, found = check()
    assert (found["config"]["state"], found["config"]["mend"]) == ("warn", f"chmod 600 {path}")
    assert "secret" not in str(found)


def test_a_context_that_needs_the_keyring_where_there_is_none(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ConfigError("not installed", hint="pip install keyring")

    monkeypatch.setattr(passwords, "keyring_backend", absent)
    assert check()[1]["keyring"]["state"] == "ok"
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text("[contexts.a]\namqp_url = 'amqp://u@h'\npassword_keyring = true\n")
    code, found = check()
    assert (code, found["keyring"]["state"]) == (1, "bad")


def test_folders_and_files_that_cannot_be_used(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_path()
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"not a database at all")
    code, found = check()
    assert (code, found["journal"]["state"]) == (1, "bad")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert check()[1]["state folder"]["state"] == "bad"


def test_a_whole_journal_is_counted(check: Check) -> None:
    journal_path().parent.mkdir(parents=True)
    with sqlite3.connect(journal_path()) as connection:
        connection.execute("CREATE TABLE operations (id TEXT)")
    connection.close()
    assert check()[1]["journal"]["found"] == "0 operations"


def test_a_dependency_that_is_missing_or_too_new_is_bad(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: ["pika<1.0,>=0.9", "no-such-thing>=1", "keyring>=25; extra == 'x'"]
    )
    code, found = check()
    assert code == 1
    assert "pika is" in found["dependencies"]["found"]
    assert "no-such-thing is not installed" in found["dependencies"]["found"]
    assert found["dependencies"]["mend"].endswith("-m pip install 'pika<1.0,>=0.9' 'no-such-thing>=1'")
    assert "keyring" not in found["dependencies"]["found"]


@pytest.mark.parametrize(
    ("version", "wanted", "well"),
    [("1.4.4", ">=1.4,<1.5", True), ("1.5.0", ">=1.4,<1.5", False), ("1.3", ">=1.4", False), ("10.0", ">=9.1", True)],
)
def test_versions_are_compared_as_numbers(version: str, wanted: str, well: bool) -> None:
    assert selfcheck.fits(version, wanted) is well


def test_a_small_dumb_terminal_is_told() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "busctl", "doctor", "self", "-o", "tsv"], stdout=theirs, env=environment, timeout=60
    )
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    for text in ("warn\tterminal\t0x0 is too small", "warn\tcolour\tTERM is dumb", "warn\tunicode\tascii"):
        assert text in said
