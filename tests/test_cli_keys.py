"""`busctl keys`: made for their owner only, rotated, listed without being shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from busctl.cli.main import run
from busctl.keyfile import key_path, load_keys
from busctl_lib.codecs import Keyring


def test_generate_makes_a_key_for_its_owner_only_and_rotates(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_keys() is None
    assert run(["keys", "generate"]) == 0
    assert stat.S_IMODE(key_path().stat().st_mode) == 0o600
    first = Keyring.from_file(key_path()).key("k1")
    assert run(["keys", "generate"]) == 0
    assert run(["keys", "generate", "2027-01"]) == 0
    held = load_keys()
    assert held is not None
    assert (held.ids, held.current, held.key("k1")) == (["k1", "k2", "2027-01"], "2027-01", first)
    capsys.readouterr()
    assert run(["keys", "list"]) == 0
    assert capsys.readouterr().out == "k1\nk2\n2027-01 *\n"


def test_a_taken_or_impossible_id_is_refused_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run(["keys", "generate"])
    before = key_path().read_text()
    assert run(["keys", "generate", "k1"]) == 2
    assert run(["keys", "generate", "two words"]) == 2
    assert key_path().read_text() == before
    key_path().chmod(0o640)
    assert run(["keys", "generate"]) == 2
    assert "can be read by others" in capsys.readouterr().err


def test_a_command_may_print_the_keys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(["keys", "generate", "--stdout", "a"]) == 0
    stored = tmp_path / "secret"
    stored.write_text(capsys.readouterr().out)
    monkeypatch.setenv("BUSCTL_KEY_COMMAND", f"cat {stored}")
    held = load_keys()
    assert held is not None
    assert held.ids == ["a"]
    assert run(["keys", "generate"]) == 2
    assert not key_path().exists()
